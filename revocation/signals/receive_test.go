package signals

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/internal/state/statetest"
	"github.com/warder-mcp/warder/revocation"
)

const (
	idp      = "https://idp.example"
	audience = "https://warder.example/signals"
	client   = "warder"
)

// A bench is an inbox with everything around it.
type bench struct {
	clock  *statetest.Clock
	store  *failing
	set    *revocation.Set
	inbox  *Inbox
	signer *jose.Signer
	mu     sync.Mutex
	events []warder.Event
	device []Device
}

// A failing store fails when it is told to.
type failing struct {
	state.Store
	fail atomic.Bool
}

func (f *failing) Put(ctx context.Context, docs ...state.Doc) ([]state.Doc, error) {
	if f.fail.Load() {
		return nil, errors.New("no store")
	}
	return f.Store.Put(ctx, docs...)
}

func (b *bench) record(_ context.Context, e warder.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	return nil
}

func newBench(tb testing.TB, change func(*Transmitter, *Deps)) *bench {
	tb.Helper()
	signer, err := jose.NewSigner()
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := signer.KeySet()
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "jwks.json")
	if err := os.WriteFile(file, keys, 0o600); err != nil {
		tb.Fatal(err)
	}
	b := &bench{clock: statetest.NewClock(), signer: signer}
	b.store = &failing{Store: state.NewMemory(b.clock.Now)}
	if b.set, err = revocation.New(tb.Context(), revocation.Deps{State: b.store, Record: b.record, Now: b.clock.Now}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.set.Close() }) // never fails
	t := Transmitter{Issuer: idp, Audience: audience, Client: client, JWKSFile: file}
	deps := Deps{Revocations: b.set, State: b.store, Record: b.record, Now: b.clock.Now}
	if change != nil {
		change(&t, &deps)
	}
	if b.inbox, err = NewInbox(tb.Context(), []Transmitter{t}, deps); err != nil {
		tb.Fatal(err)
	}
	return b
}

// claims are those of a security event token about ada, changed as told.
func (b *bench) claims(event string, change map[string]any) map[string]any {
	c := map[string]any{
		"iss": idp, "aud": audience, "jti": "jti-1", "iat": b.clock.Now().Unix(),
		"sub_id": ada(), "events": map[string]any{event: map[string]any{}},
	}
	for name, value := range change {
		if value == nil {
			delete(c, name)
			continue
		}
		c[name] = value
	}
	return c
}

func ada() map[string]any { return map[string]any{"format": "iss_sub", "iss": idp, "sub": "ada"} }

func (b *bench) sign(tb testing.TB, typ string, claims any) string {
	tb.Helper()
	token, err := b.signer.Sign(typ, claims)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// push pushes a token and returns the status and the code of the answer.
func (b *bench) push(tb testing.TB, token string, header ...string) (int, string) {
	tb.Helper()
	req := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/events", strings.NewReader(token))
	req.Header.Set("Content-Type", "application/secevent+jwt")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.serve(tb, req)
}

func (b *bench) serve(tb testing.TB, req *http.Request) (int, string) {
	tb.Helper()
	w := httptest.NewRecorder()
	b.inbox.Handler().ServeHTTP(w, req)
	var answer struct {
		Err   string `json:"err"`
		Error string `json:"error"`
	}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			tb.Errorf("answer %q: %v", w.Body, err)
		}
	}
	return w.Code, answer.Err + answer.Error
}

// revoked lists what is revoked, shortly.
func (b *bench) revoked(tb testing.TB) string {
	tb.Helper()
	list, err := b.set.List(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for _, e := range list {
		text := string(e.Kind) + " " + e.Value
		if !e.Before.IsZero() {
			text += " before " + fmt.Sprint(int(b.clock.Now().Sub(e.Before).Round(time.Second).Seconds()))
		}
		if e.Renewed {
			text += " renewed"
		}
		if e.NotAfter.IsZero() {
			text += " for ever"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestEvents(t *testing.T) {
	t.Parallel()
	now := statetest.NewClock().Now()
	object := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	opaque := func(id string) map[string]any { return object("format", "opaque", "id", id) }
	for _, c := range []struct {
		name   string
		event  string
		about  map[string]any // nil: ada
		detail map[string]any
		want   string
		status int
	}{
		{"all sessions", caep + "session-revoked", nil, nil, "principal https://idp.example|ada before 0", 202},
		{"at a time", caep + "session-revoked", nil, object("event_timestamp", now.Unix()-60), "principal https://idp.example|ada before 60", 202},
		{"one session", caep + "session-revoked", object("format", "complex", "session", opaque("s1")), nil, "session https://idp.example|s1", 202},
		{"one session of ada", caep + "session-revoked", object("format", "complex", "session", opaque("s1"), "user", ada()), nil, "session https://idp.example|s1", 202},
		{"one session, opaque", caep + "session-revoked", opaque("s1"), nil, "session https://idp.example|s1", 202},
		{"one token", caep + "session-revoked", object("format", "jwt_id", "iss", idp, "jti", "t1"), nil, "token https://idp.example|t1", 202},
		{"opaque user", caep + "credential-change", opaque("u1"), object("change_type", "revoke"), "principal https://idp.example|u1 before 0", 202},
		{"password updated", caep + "credential-change", nil, object("change_type", "update"), "principal https://idp.example|ada before 0", 202},
		{"passkey added", caep + "credential-change", nil, object("change_type", "create"), "", 202},
		{"claims changed", caep + "token-claims-change", nil, nil, "principal https://idp.example|ada before 0 renewed", 202},
		{"assurance lower", caep + "assurance-level-change", nil, object("change_direction", "decrease"), "principal https://idp.example|ada before 0 renewed", 202},
		{"assurance higher", caep + "assurance-level-change", nil, object("change_direction", "increase"), "", 202},
		{"assurance unsaid", caep + "assurance-level-change", nil, nil, "principal https://idp.example|ada before 0 renewed", 202},
		{"device lost", caep + "device-compliance-change", object("format", "complex", "user", ada(), "device", opaque("d1")), object("current_status", "not-compliant"), "principal https://idp.example|ada before 0", 202},
		{"device well", caep + "device-compliance-change", object("format", "complex", "user", ada(), "device", opaque("d1")), object("current_status", "compliant"), "", 202},
		{"device of nobody", caep + "device-compliance-change", opaque("d1"), object("current_status", "not-compliant"), "", 400},
		{"account disabled", risc + "account-disabled", nil, nil, "principal https://idp.example|ada for ever", 202},
		{"account purged", risc + "account-purged", nil, nil, "principal https://idp.example|ada for ever", 202},
		{"sessions revoked", risc + "sessions-revoked", nil, nil, "principal https://idp.example|ada before 0", 202},
		{"credential known to others", risc + "credential-compromise", nil, nil, "principal https://idp.example|ada before 0", 202},
		{"verification", ssf + "verification", opaque("stream"), nil, "", 202},
		{"unknown", "https://example.com/event", nil, nil, "", 202},

		{"somebody else's user", caep + "session-revoked", object("format", "iss_sub", "iss", "https://other.example", "sub", "ada"), nil, "", 400},
		{"somebody else's token", caep + "session-revoked", object("format", "jwt_id", "iss", "https://other.example", "jti", "1"), nil, "", 400},
		{"email", caep + "session-revoked", object("format", "email", "email", "ada@example.com"), nil, "", 400},
		{"phone", caep + "session-revoked", object("format", "phone_number", "phone_number", "+1"), nil, "", 400},
		{"aliases", caep + "session-revoked", object("format", "aliases", "identifiers", []any{ada()}), nil, "", 400},
		{"no format", caep + "session-revoked", object("iss", idp, "sub", "ada"), nil, "", 400},
		{"member too many", caep + "session-revoked", object("format", "iss_sub", "iss", idp, "sub", "ada", "tenant", "x"), nil, "", 400},
		{"member too few", caep + "session-revoked", object("format", "iss_sub", "iss", idp), nil, "", 400},
		{"empty member", caep + "session-revoked", object("format", "iss_sub", "iss", idp, "sub", ""), nil, "", 400},
		{"narrower than we know", caep + "session-revoked", object("format", "complex", "user", ada(), "tenant", opaque("t")), nil, "", 400},
		{"complex about nothing", caep + "session-revoked", object("format", "complex"), nil, "", 400},
		{"disabled session", risc + "account-disabled", object("format", "complex", "user", ada(), "session", opaque("s1")), nil, "", 400},
		{"time as text", caep + "session-revoked", nil, object("event_timestamp", "now"), "", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			b.clock.Add(now.Sub(b.clock.Now()))
			change := map[string]any{}
			if c.about != nil {
				change["sub_id"] = c.about
			}
			if c.detail != nil {
				change["events"] = map[string]any{c.event: c.detail}
			}
			status, _ := b.push(t, b.sign(t, "secevent+jwt", b.claims(c.event, change)))
			if got := b.revoked(t); status != c.status || got != c.want {
				t.Errorf("status %d, revoked %q, want %d, %q", status, got, c.status, c.want)
			}
		})
	}
}

func TestEventsRefused(t *testing.T) {
	t.Parallel()
	event := caep + "session-revoked"
	for _, c := range []struct {
		name   string
		typ    string
		change map[string]any
		want   string
	}{
		{"ID token", "JWT", nil, invalidRequest},
		{"access token", "at+jwt", nil, invalidRequest},
		{"logout token", "logout+jwt", nil, invalidRequest},
		{"unknown issuer", "secevent+jwt", map[string]any{"iss": "https://idp.example/"}, invalidIssuer},
		{"no issuer", "secevent+jwt", map[string]any{"iss": nil}, invalidIssuer},
		{"other audience", "secevent+jwt", map[string]any{"aud": audience + "/"}, invalidAudience},
		{"audience of logout tokens", "secevent+jwt", map[string]any{"aud": client}, invalidAudience},
		{"no audience", "secevent+jwt", map[string]any{"aud": nil}, invalidAudience},
		{"no jti", "secevent+jwt", map[string]any{"jti": nil}, invalidRequest},
		{"no iat", "secevent+jwt", map[string]any{"iat": nil}, invalidRequest},
		{"of the future", "secevent+jwt", map[string]any{"iat": time.Now().Add(time.Hour).Unix()}, invalidRequest},
		{"old", "secevent+jwt", map[string]any{"iat": time.Now().Add(-25 * time.Hour).Unix()}, invalidRequest},
		{"expired", "secevent+jwt", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, invalidRequest},
		{"no events", "secevent+jwt", map[string]any{"events": nil}, invalidRequest},
		{"events is a list", "secevent+jwt", map[string]any{"events": []string{event}}, invalidRequest},
		{"event is null", "secevent+jwt", map[string]any{"events": map[string]any{event: nil}}, invalidRequest},
		{"event is text", "secevent+jwt", map[string]any{"events": map[string]any{event: "yes"}}, invalidRequest},
		{"no subject", "secevent+jwt", map[string]any{"sub_id": nil}, invalidRequest},
		{"two subjects", "secevent+jwt", map[string]any{"events": map[string]any{event: map[string]any{"subject": ada()}}}, invalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			status, code := b.push(t, b.sign(t, c.typ, b.claims(event, c.change)))
			if status != http.StatusBadRequest || code != c.want || b.revoked(t) != "" {
				t.Errorf("status %d, %q, revoked %q, want 400, %q and nothing", status, code, b.revoked(t), c.want)
			}
			if len(b.events) != 1 || b.events[0].Outcome != warder.OutcomeRefused {
				t.Errorf("events = %+v, want one refusal", b.events)
			}
		})
	}
	t.Run("other keys", func(t *testing.T) {
		t.Parallel()
		b, other := newBench(t, nil), newBench(t, nil)
		status, code := b.push(t, other.sign(t, "secevent+jwt", b.claims(event, nil)))
		if status != http.StatusBadRequest || code != invalidKey || b.revoked(t) != "" {
			t.Errorf("status %d, %q, revoked %q", status, code, b.revoked(t))
		}
	})
	t.Run("form", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		good := b.sign(t, "secevent+jwt", b.claims(event, nil))
		for name, push := range map[string]func() (int, string){
			"changed":      func() (int, string) { return b.push(t, good[:len(good)-4]+"AAAA") },
			"cut":          func() (int, string) { return b.push(t, good[:len(good)/2]) },
			"empty":        func() (int, string) { return b.push(t, "") },
			"large":        func() (int, string) { return b.push(t, strings.Repeat("a", maxBody+1)) },
			"another type": func() (int, string) { return b.push(t, good, "Content-Type", "application/jwt") },
		} {
			if status, _ := push(); status != http.StatusBadRequest || b.revoked(t) != "" {
				t.Errorf("%s: status %d, revoked %q", name, status, b.revoked(t))
			}
		}
		if w := httptest.NewRecorder(); true {
			b.inbox.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", http.NoBody))
			if w.Code != http.StatusMethodNotAllowed {
				t.Errorf("GET: status %d", w.Code)
			}
		}
	})
}

// TestEventsAreReplayProtected sends one token again after what it did was lifted.
func TestEventsAreReplayProtected(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	token := b.sign(t, "secevent+jwt", b.claims(risc+"account-disabled", nil))
	if status, _ := b.push(t, token); status != http.StatusAccepted {
		t.Fatalf("status %d", status)
	}
	if err := b.set.Lift(t.Context(), revocation.KindPrincipal, idp+"|ada", "operator"); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, time.Hour, 23*time.Hour + 59*time.Minute, time.Minute, time.Hour} {
		b.clock.Add(later)
		status, _ := b.push(t, token)
		if got := b.revoked(t); got != "" {
			t.Errorf("%v later: status %d, revoked %q, want nothing", later, status, got)
		}
	}
}

// TestEventsSurviveAnOutage proves that a token that came while the store was away counts when it comes
// again.
func TestEventsSurviveAnOutage(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	token := b.sign(t, "secevent+jwt", b.claims(risc+"account-disabled", nil))
	b.store.fail.Store(true)
	if status, _ := b.push(t, token); status != http.StatusServiceUnavailable {
		t.Errorf("status %d without a store, want 503", status)
	}
	b.store.fail.Store(false)
	if status, _ := b.push(t, token); status != http.StatusAccepted || b.revoked(t) == "" {
		t.Errorf("status %d, revoked %q after the store is back", status, b.revoked(t))
	}
}

// TestAccountEnabled proves that a transmitter restores what it disabled, and nothing else.
func TestAccountEnabled(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	say := func(event, jti string) {
		t.Helper()
		if status, _ := b.push(t, b.sign(t, "secevent+jwt", b.claims(event, map[string]any{"jti": jti}))); status != http.StatusAccepted {
			t.Fatalf("%s: status %d", event, status)
		}
	}
	say(risc+"account-disabled", "1")
	say(risc+"account-enabled", "2")
	if got := b.revoked(t); got != "" {
		t.Errorf("revoked %q after it was enabled", got)
	}
	say(risc+"account-disabled", "3")
	if err := b.set.Revoke(t.Context(), revocation.Entry{Kind: revocation.KindPrincipal, Value: idp + "|ada", By: "operator"}); err != nil {
		t.Fatal(err)
	}
	say(risc+"account-enabled", "4")
	if got := b.revoked(t); got == "" {
		t.Error("a signal restored what an operator revoked")
	}
}

func TestBearer(t *testing.T) {
	t.Setenv("TRANSMITTER_TOKEN", "s3cret")
	b := newBench(t, func(c *Transmitter, _ *Deps) { c.Token = secret.Ref{Env: "TRANSMITTER_TOKEN"} })
	token := b.sign(t, "secevent+jwt", b.claims(caep+"session-revoked", nil))
	for _, header := range [][]string{nil, {"Authorization", "Bearer "}, {"Authorization", "Bearer s3cret2"}, {"Authorization", "s3cret"}} {
		if status, code := b.push(t, token, header...); status != http.StatusUnauthorized || code != authFailed {
			t.Errorf("%q: status %d, %q", header, status, code)
		}
	}
	if status, _ := b.push(t, token, "Authorization", "Bearer s3cret"); status != http.StatusAccepted {
		t.Errorf("status %d with the token", status)
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.inbox.deps.Principals = func(_ context.Context, issuer, sub string) ([]string, error) {
		if sub == "stranger" {
			return nil, nil
		}
		return []string{"https://warder.example|" + sub + "@" + issuer}, nil
	}
	b.inbox.deps.ByEmail = func(_ context.Context, _, email string) ([]string, error) {
		return []string{strings.TrimSuffix(email, "@example.com")}, nil
	}
	b.inbox.deps.Device = func(_ context.Context, d Device) error {
		b.device = append(b.device, d)
		return nil
	}
	for i, c := range []map[string]any{
		{"sub_id": map[string]any{"format": "email", "email": "ada@example.com"}},
		{"sub_id": map[string]any{"format": "iss_sub", "iss": idp, "sub": "stranger"}},
		{
			"sub_id": map[string]any{"format": "complex", "user": ada(), "device": map[string]any{"format": "opaque", "id": "d1"}},
			"events": map[string]any{caep + "device-compliance-change": map[string]any{"current_status": "not-compliant"}},
		},
	} {
		c["jti"] = fmt.Sprint(i)
		if status, _ := b.push(t, b.sign(t, "secevent+jwt", b.claims(caep+"session-revoked", c))); status != http.StatusAccepted {
			t.Errorf("%d: status %d", i, status)
		}
	}
	if got := b.revoked(t); got != "principal https://warder.example|ada@https://idp.example before 0" {
		t.Errorf("revoked %q", got)
	}
	want := []Device{{Issuer: idp, ID: "d1", Principal: "https://warder.example|ada@https://idp.example", At: b.clock.Now().Truncate(time.Second)}}
	if diff := cmp.Diff(want, b.device); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		typ    string
		change map[string]any
		want   string
		status int
	}{
		{"session", "logout+jwt", nil, "session https://idp.example|s1", 200},
		{"without a type of its own", "JWT", nil, "session https://idp.example|s1", 200},
		{"person", "logout+jwt", map[string]any{"sid": nil}, "principal https://idp.example|ada before 0", 200},
		{"nobody", "logout+jwt", map[string]any{"sid": nil, "sub": nil}, "", 400},
		{"nonce", "logout+jwt", map[string]any{"nonce": "n"}, "", 400},
		{"no end", "logout+jwt", map[string]any{"exp": nil}, "", 400},
		{"no event", "logout+jwt", map[string]any{"events": nil}, "", 400},
		{"another event", "logout+jwt", map[string]any{"events": map[string]any{caep + "session-revoked": map[string]any{}}}, "", 400},
		{"two events", "logout+jwt", map[string]any{"events": map[string]any{logout: map[string]any{}, "x": map[string]any{}}}, "", 400},
		{"audience of events", "logout+jwt", map[string]any{"aud": audience}, "", 400},
		{"access token", "at+jwt", nil, "", 400},
		{"event token", "secevent+jwt", nil, "", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			claims := b.claims(logout, map[string]any{"aud": client, "sub_id": nil, "sub": "ada", "sid": "s1", "exp": b.clock.Now().Add(time.Minute).Unix()})
			maps.Copy(claims, c.change)
			maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
			form := url.Values{"logout_token": {b.sign(t, c.typ, claims)}}
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/logout", strings.NewReader(form.Encode()))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			status, _ := b.serve(t, req)
			if got := b.revoked(t); status != c.status || got != c.want {
				t.Errorf("status %d, revoked %q, want %d, %q", status, got, c.status, c.want)
			}
		})
	}
}

func TestTransmitterValidate(t *testing.T) {
	t.Parallel()
	good := Transmitter{Issuer: idp, Audience: audience, JWKSURL: "https://idp.example/jwks"}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	for name, change := range map[string]func(*Transmitter){
		"no issuer":   func(c *Transmitter) { c.Issuer = "" },
		"no audience": func(c *Transmitter) { c.Audience = "" },
		"two keys":    func(c *Transmitter) { c.JWKSFile = "x" },
		"no keys":     func(c *Transmitter) { c.JWKSURL = "" },
		"symmetric":   func(c *Transmitter) { c.Algorithms = []string{"HS256"} },
		"short":       func(c *Transmitter) { c.Keep = time.Minute },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: Validate accepted it", name)
		}
	}
	for _, address := range []string{"http://idp.example/jwks", "https://user@idp.example/jwks", "file:///etc/passwd"} {
		c := good
		c.JWKSURL = address
		if _, err := c.prepare(t.Context(), &Deps{HTTP: &http.Client{}}); err == nil {
			t.Errorf("%s was accepted", address)
		}
	}
}

// FuzzSet feeds claims to everything behind the signature: it must not panic, and may revoke only what
// belongs to the transmitter.
func FuzzSet(f *testing.F) {
	b := newBench(f, nil)
	for _, change := range []map[string]any{nil, {"sub_id": map[string]any{"format": "complex", "user": ada()}}, {"events": map[string]any{risc + "account-disabled": map[string]any{}}}} {
		text, err := json.Marshal(b.claims(caep+"session-revoked", change))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"iss":"https://idp.example","aud":["x"],"jti":"1","iat":1e300,"events":{"":{"subject":{"format":"complex","user":{}}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var claims json.RawMessage = text
		if !json.Valid(bytes.TrimSpace(text)) {
			return
		}
		token, err := b.signer.Sign("secevent+jwt", claims)
		if err != nil {
			return
		}
		spy := &spy{}
		inbox := &Inbox{deps: b.inbox.deps, transmitters: b.inbox.transmitters, slots: make(chan struct{}, 1)}
		inbox.deps.Revocations, inbox.deps.State = spy, state.NewMemory(b.clock.Now)
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/events", strings.NewReader(token))
		req.Header.Set("Content-Type", "application/secevent+jwt")
		w := httptest.NewRecorder()
		inbox.Handler().ServeHTTP(w, req)
		if !slices.Contains([]int{http.StatusAccepted, http.StatusBadRequest}, w.Code) {
			t.Errorf("status %d", w.Code)
		}
		for _, e := range spy.entries {
			if !strings.HasPrefix(e.Value, idp+"|") || e.By != "signal:"+idp || !slices.Contains([]revocation.Kind{revocation.KindPrincipal, revocation.KindSession, revocation.KindToken}, e.Kind) {
				t.Errorf("revoked %+v", e)
			}
		}
	})
}

// A spy is told what would be revoked.
type spy struct{ entries []revocation.Entry }

func (s *spy) Revoke(_ context.Context, e revocation.Entry) error {
	s.entries = append(s.entries, e)
	return nil
}

func (s *spy) Lift(_ context.Context, kind revocation.Kind, value, by string) error {
	s.entries = append(s.entries, revocation.Entry{Kind: kind, Value: value, By: by})
	return nil
}

func (*spy) Find(revocation.Kind, string) (revocation.Entry, bool) { return revocation.Entry{}, false }
