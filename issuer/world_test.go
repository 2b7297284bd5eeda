package issuer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
)

const (
	notes = "https://gate.example/mcp/notes"
	files = "https://gate.example/mcp/files"
	back  = "https://app.example/callback"
)

// clock is a clock that only moves when a test moves it.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// trail remembers events; it can be broken.
type trail struct {
	mu     sync.Mutex
	events []warder.Event
	broken error
}

func (l *trail) record(_ context.Context, e warder.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	l.events = append(l.events, e)
	return nil
}

func (l *trail) last() warder.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == 0 {
		return warder.Event{}
	}
	return l.events[len(l.events)-1]
}

func (l *trail) has(reason warder.Reason) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.events, func(e warder.Event) bool { return e.Reason == reason })
}

// revoked remembers revocations and applies them as package revocation does.
type revoked struct {
	mu      sync.Mutex
	entries []Revocation
}

func (v *revoked) revoke(_ context.Context, r Revocation) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.entries = append(v.entries, r)
	return nil
}

func (v *revoked) check(p *warder.Principal) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.entries, func(r Revocation) bool {
		switch r.Kind {
		case "token":
			return r.Value == p.Issuer+"|"+p.TokenID
		case "principal":
			return r.Value == p.Issuer+"|"+p.Subject
		case "issuer":
			return r.Value == p.Issuer && !p.IssuedAt.After(r.Before)
		default:
			return false
		}
	})
}

// people logs in whoever the test says, without a page.
type people struct {
	mu      sync.Mutex
	user    *User
	consent string // "", "yes", "no"
	needs   []Need
	asked   []Question
}

func (p *people) Authenticate(w http.ResponseWriter, _ *http.Request, n Need) (*User, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.needs = append(p.needs, n)
	if p.user == nil && n.Prompt != "none" {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "log in, then go to "+n.Back)
		return nil, false
	}
	return p.user, true
}

func (p *people) Ask(w http.ResponseWriter, _ *http.Request, q Question) (granted, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, q)
	if p.consent == "" && q.Prompt != "none" {
		_, _ = io.WriteString(w, "consent, then go to "+q.Back)
		return false, true
	}
	return p.consent == "yes", false
}

// flaky is a store that fails when told to.
type flaky struct {
	*state.Memory

	mu  sync.Mutex
	err error
}

func (f *flaky) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *flaky) failing() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *flaky) Get(ctx context.Context, kind, id string) (state.Doc, error) {
	if err := f.failing(); err != nil {
		return state.Doc{}, err
	}
	return f.Memory.Get(ctx, kind, id)
}

func (f *flaky) Put(ctx context.Context, docs ...state.Doc) ([]state.Doc, error) {
	if err := f.failing(); err != nil {
		return nil, err
	}
	return f.Memory.Put(ctx, docs...)
}

func (f *flaky) Take(ctx context.Context, kind, id string) (state.Doc, error) {
	if err := f.failing(); err != nil {
		return state.Doc{}, err
	}
	return f.Memory.Take(ctx, kind, id)
}

func (f *flaky) Add(ctx context.Context, id string, until time.Time) (bool, error) {
	if err := f.failing(); err != nil {
		return false, err
	}
	return f.Memory.Add(ctx, id, until)
}

// world is a running authorization server and all around it.
type world struct {
	t     *testing.T
	clock *clock
	store *flaky
	log   *trail
	rev   *revoked
	who   *people
	is    *Issuer
	cfg   Config
	deps  Deps
	url   string
	http  *http.Client
	mu    sync.Mutex
	modes map[warder.ControlID]Mode
}

// mode switches a control.
func (w *world) mode(id warder.ControlID, m Mode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.modes[id] = m
}

func newWorld(t *testing.T, change ...func(*Config, *Deps)) *world {
	t.Helper()
	w := &world{
		t: t, clock: &clock{t: time.Unix(1_800_000_000, 0)}, log: &trail{}, rev: &revoked{}, modes: map[warder.ControlID]Mode{},
		who: &people{consent: "yes"},
	}
	w.who.user = &User{
		Issuer: "https://idp.example", Subject: "ada", Name: "Ada", Groups: []string{"dev"}, ACR: "urn:pwd", AMR: []string{"pwd"},
		AuthTime: w.clock.now().Add(-time.Hour), Session: "s1",
	}
	w.store = &flaky{Memory: state.NewMemory(w.clock.now)}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + listener.Addr().String() + "/issuer"
	box, err := seal.New(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{
		URL: w.url, CIMD: CIMD{Allow: []string{"*"}},
		Clients: []ClientConfig{
			{ID: "app", Name: "App", RedirectURIs: []string{back}},
			{ID: "native", RedirectURIs: []string{"http://127.0.0.1/cb"}, Native: true},
		},
		Limits: Limits{PerAddress: 100_000, PerClient: 100_000, Register: 1000},
	}
	w.deps = Deps{
		State: w.store, Replays: w.store, Box: box, Record: w.log.record, Login: w.who, Consent: w.who,
		Resources: func() []Resource {
			return []Resource{{URI: notes, Server: "notes"}, {URI: files, Server: "files", Scopes: []string{"read", "write"}}}
		},
		Revoke: w.rev.revoke, Revoked: w.rev.check, Now: w.clock.now, Log: slog.New(slog.DiscardHandler),
		Mode: func(id warder.ControlID) Mode {
			w.mu.Lock()
			defer w.mu.Unlock()
			if m, ok := w.modes[id]; ok {
				return m
			}
			return Enforce
		},
	}
	for _, c := range change {
		c(&w.cfg, &w.deps)
	}
	if w.is, err = New(t.Context(), w.cfg, w.deps); err != nil {
		t.Fatal(err)
	}
	h, err := w.is.Handler()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	_ = srv.Listener.Close()
	srv.Listener = listener
	srv.Start()
	t.Cleanup(srv.Close)
	w.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return w
}

// reply is what the server answered.
type reply struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (r reply) text(name string) string {
	s, _ := r.json[name].(string)
	return s
}

func (w *world) do(req *http.Request) reply {
	w.t.Helper()
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	out := reply{status: resp.StatusCode, header: resp.Header, body: string(body)}
	_ = json.Unmarshal(body, &out.json) // pages are not JSON
	return out
}

func (w *world) get(address string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.do(req)
}

// post sends a form; header pairs follow.
func (w *world) post(endpoint string, form url.Values, header ...string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/"+endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return w.do(req)
}

const verifier = "a-verifier-of-at-least-forty-three-characters-0"

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// with makes form values of pairs; an empty value deletes.
func with(base url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, v := range base {
		out[k] = slices.Clone(v)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		out.Del(pairs[i])
		if pairs[i+1] != "" {
			out.Set(pairs[i], pairs[i+1])
		}
	}
	return out
}

// authRequest are the parameters of a good authorization request.
func authRequest(pairs ...string) url.Values {
	return with(url.Values{
		"client_id": {"app"}, "redirect_uri": {back}, "response_type": {"code"}, "state": {"st&1"},
		"code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"}, "resource": {notes}, "scope": {"a b"},
	}, pairs...)
}

// authorize asks for a code and returns what came to the redirect URI.
func (w *world) authorize(form url.Values) url.Values {
	w.t.Helper()
	r := w.get(w.url + "/authorize?" + form.Encode())
	if r.status != http.StatusSeeOther {
		w.t.Fatalf("authorize: status %d: %s", r.status, r.body)
	}
	return w.location(r)
}

func (w *world) location(r reply) url.Values {
	w.t.Helper()
	u, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusSeeOther {
		w.t.Fatalf("status %d, location %q: %v", r.status, r.header.Get("Location"), err)
	}
	return u.Query()
}

// code asks for a code and returns it.
func (w *world) code(pairs ...string) string {
	w.t.Helper()
	q := w.authorize(authRequest(pairs...))
	if q.Get("code") == "" {
		w.t.Fatalf("no code: %v", q)
	}
	return q.Get("code")
}

// redeemForm is a good token request for a code.
func redeemForm(code string, pairs ...string) url.Values {
	return with(url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"app"}, "code": {code}, "redirect_uri": {back},
		"code_verifier": {verifier}, "resource": {notes},
	}, pairs...)
}

func refreshForm(token string, pairs ...string) url.Values {
	return with(url.Values{"grant_type": {"refresh_token"}, "client_id": {"app"}, "refresh_token": {token}, "resource": {notes}}, pairs...)
}

// login gets tokens with a code.
func (w *world) login() reply {
	w.t.Helper()
	r := w.post("token", redeemForm(w.code()))
	if r.status != http.StatusOK {
		w.t.Fatalf("token: status %d: %s", r.status, r.body)
	}
	return r
}

// claims verifies an access token and returns what it says.
func (w *world) claims(raw string) jose.Claims {
	w.t.Helper()
	token, err := jose.Parse(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := w.is.Keys().Key(w.t.Context(), token.Header.KeyID)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(token.Verify(key, []string{"ES256"}), token.CheckType([]string{"at+jwt"})); err != nil {
		w.t.Fatal(err)
	}
	return token.Claims
}

// wants reports when a reply is not this refusal, or the trail does not say why.
func (w *world) wants(name string, r reply, status int, code string, reason warder.Reason) {
	w.t.Helper()
	if r.status != status || r.text("error") != code {
		w.t.Errorf("%s: status %d, error %q, want %d %q: %s", name, r.status, r.text("error"), status, code, r.body)
	}
	if got := w.log.last(); got.Reason != reason || got.Outcome == warder.OutcomeAllowed {
		w.t.Errorf("%s: the trail says %q (%s, %s), want %q", name, got.Reason, got.Outcome, got.Detail, reason)
	}
	if strings.Contains(r.body, "access_token") {
		w.t.Errorf("%s: a token was given", name)
	}
}

// signer is a foreign issuer or a client with a key.
func newSigner(t *testing.T) (s *jose.Signer, jwks string) {
	t.Helper()
	s, err := jose.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	return s, string(set)
}

func sign(t *testing.T, s *jose.Signer, typ string, claims map[string]any) string {
	t.Helper()
	raw, err := s.Sign(typ, claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// claimsWith copies claims and changes some; nil deletes.
func claimsWith(base map[string]any, pairs ...any) map[string]any {
	out := map[string]any{"jti": rand.Text()}
	maps.Copy(out, base)
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if out[name] = pairs[i+1]; pairs[i+1] == nil {
			delete(out, name)
		}
	}
	return out
}

func prover(t *testing.T, now func() time.Time) *jose.Prover {
	t.Helper()
	p, err := jose.NewProver(now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func proof(t *testing.T, p *jose.Prover, method, address, nonce string) string {
	t.Helper()
	raw, err := p.Proof(method, address, "", nonce)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
