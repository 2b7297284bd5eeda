package login

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/passkey/passkeytest"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

const (
	callback = "https://client.example/callback"
	notes    = "https://example.com/mcp/notes"
)

// whole is the site with the authorization server that it belongs to.
type whole struct {
	*site
	issuer *issuer.Issuer
}

func newWhole(t *testing.T, options ...option) *whole {
	t.Helper()
	w := &whole{}
	var endpoints http.Handler
	mount := func(_ *Config, s *site) {
		s.endpoints = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { endpoints.ServeHTTP(rw, r) })
		s.withdrawTo = func(subject, client string) error { return w.issuer.Withdraw(t.Context(), subject, client) }
	}
	w.site = newSite(t, true, append([]option{mount}, options...)...)
	var err error
	w.issuer, err = issuer.New(t.Context(), issuer.Config{
		URL: w.url, Clients: []issuer.ClientConfig{{ID: "app", Name: "App", RedirectURIs: []string{callback}}},
	}, issuer.Deps{
		State: w.store, Replays: w.store.Memory, Box: w.deps.Box, Record: w.record, Login: w.Service, Consent: w.Service, Session: w.User,
		Resources: func() []issuer.Resource { return []issuer.Resource{{URI: notes, Server: "notes"}} },
		Revoke:    func(context.Context, issuer.Revocation) error { return nil },
		Mode:      w.mode, Page: w.Page, Now: w.clock.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if endpoints, err = w.issuer.Handler(); err != nil {
		t.Fatal(err)
	}
	return w
}

// start is an authorization request, with further parameters in pairs, and its verifier.
func start(pairs ...string) (path, verifier string) {
	verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "resource": {notes}, "scope": {"a"}, "state": {"xyz"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return "/oauth/authorize?" + q.Encode(), verifier
}

// follow walks redirects and pages that lead on, within the site, until a page asks or the client is called.
func (b *browser) follow(v *view) *view {
	b.t.Helper()
	for range 10 {
		to := v.header.Get("Location")
		if to == "" && find(v.root, byID("onward")) != nil {
			to = v.onward()
		}
		if to == "" || strings.HasPrefix(to, callback) {
			return v
		}
		v = b.get(to)
	}
	b.t.Fatal("the browser is sent around in circles")
	return nil
}

// redeem changes the code that a view sends to the client for tokens.
func (b *browser) redeem(v *view, verifier string) map[string]any {
	b.t.Helper()
	to, err := url.Parse(v.header.Get("Location"))
	if err != nil || to.Query().Get("code") == "" || to.Query().Get("state") != "xyz" {
		b.t.Fatalf("status %d, to %q: %s", v.status, to, v.main())
	}
	return b.token(url.Values{
		"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier},
		"client_id": {"app"}, "resource": {notes},
	})
}

func (b *browser) token(form url.Values) map[string]any {
	b.t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(b.post("/oauth/token", form).text), &out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *browser) refresh(tokens map[string]any) map[string]any {
	b.t.Helper()
	text, _ := tokens["refresh_token"].(string)
	return b.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {text}, "client_id": {"app"}})
}

// TestWholeFlow goes from the request of a client to its tokens and back, through every page.
func TestWholeFlow(t *testing.T) {
	s := newWhole(t, local)
	d := passkeytest.New(originOf(s.site))
	first := s.browser(t)
	first.link("ada", "readers")
	first.register(d)

	b := s.browser(t)
	path, verifier := start()
	v := b.follow(b.get(path))
	status, done := b.passkeyOn(v, d)
	if status != http.StatusOK {
		t.Fatalf("passkey: %d %+v", status, done)
	}
	v = b.follow(b.press(b.follow(b.get(done.To)), "allow"))
	tokens := b.redeem(v, verifier)
	if tokens["access_token"] == nil || tokens["refresh_token"] == nil {
		t.Fatalf("tokens: %v", tokens)
	}
	flowAgain(t, s, b, d)
	t.Run("taken_back", func(t *testing.T) {
		tokens = b.refresh(tokens)
		if tokens["access_token"] == nil {
			t.Fatalf("refresh: %v", tokens)
		}
		list := find(b.get("/oauth/account").root, byID("consents"))
		get := func(name string) string {
			return attr(find(list, func(n *htmlNode) bool { return attr(n, "name") == name }), "value")
		}
		b.post("/oauth/account/consent", url.Values{"csrf": {get("csrf")}, "id": {get("id")}}).onward()
		if out := b.refresh(tokens); out["error"] != "invalid_grant" {
			t.Errorf("refresh: %v", out)
		}
	})
}

// flowAgain asks again for somebody who has logged in and agreed.
func flowAgain(t *testing.T, s *whole, b *browser, d *passkeytest.Device) {
	t.Helper()
	t.Run("again_without_a_page", func(*testing.T) {
		path, verifier := start()
		b.redeem(b.follow(b.get(path)), verifier)
	})
	t.Run("prompt_none", func(t *testing.T) {
		path, verifier := start("prompt", "none")
		b.redeem(b.follow(b.get(path)), verifier)
		stranger := s.browser(t)
		v := stranger.follow(stranger.get(path))
		if to := v.header.Get("Location"); !strings.Contains(to, "error=login_required") {
			t.Errorf("nobody is logged in: status %d, to %q", v.status, to)
		}
		path, _ = start("prompt", "none", "scope", "a b")
		if to := b.follow(b.get(path)).header.Get("Location"); !strings.Contains(to, "error=consent_required") {
			t.Errorf("wider: to %q", to)
		}
	})
	for name, pairs := range map[string][]string{
		"prompt_login": {"prompt", "login"}, "max_age_0": {"max_age", "0"}, "max_age_60": {"max_age", "60"}, "acr": {"acr_values", ACRPasskey, "max_age", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			s.clock.add(2 * time.Minute)
			path, verifier := start(pairs...)
			v := b.follow(b.get(path))
			s.clock.add(1700 * time.Millisecond) // people are slow
			status, done := b.passkeyOn(v, d)
			if status != http.StatusOK {
				t.Fatalf("passkey: %d %+v", status, done)
			}
			s.clock.add(700 * time.Millisecond)
			b.redeem(b.follow(b.get(done.To)), verifier)
		})
	}
	t.Run("prompt_consent", func(t *testing.T) {
		path, verifier := start("prompt", "consent")
		v := b.follow(b.get(path))
		if !asked(v) {
			t.Fatalf("nobody was asked: %s", v.main())
		}
		b.redeem(b.follow(b.press(v, "allow")), verifier)
	})
	t.Run("refused", func(t *testing.T) {
		path, _ := start("scope", "a b")
		v := b.follow(b.press(b.follow(b.get(path)), "refuse"))
		if to := v.header.Get("Location"); !strings.Contains(to, "error=access_denied") || !strings.Contains(to, "iss=") {
			t.Errorf("to %q", to)
		}
	})
}

// TestWholeFlowFederated proves that a person who was removed at the provider gets no new token.
func TestWholeFlowFederated(t *testing.T) {
	t.Parallel()
	o := newOP(t, "corp", &clock{now: time.Now()})
	s := newWhole(t, func(cfg *Config, s *site) {
		s.clock, s.store.Memory = o.clock, state.NewMemory(o.clock.Now)
		o.with()(cfg, s)
	})
	b := s.browser(t)
	path, verifier := start("prompt", "login", "max_age", "0")
	v := b.follow(b.get(path))
	s.clock.add(5 * time.Second)
	back := b.get(b.press(v, "provider-corp").onward()).header.Get("Location")
	v = b.follow(b.get(back))
	if !asked(v) {
		t.Fatalf("after the login: status %d: %s", v.status, v.main())
	}
	tokens := b.redeem(b.follow(b.press(v, "allow")), verifier)
	o.set(func() { o.claims["groups"] = []string{"others"} })
	s.clock.add(time.Minute)
	if err := s.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tokens = b.refresh(tokens); tokens["access_token"] == nil {
		t.Fatalf("refresh: %v", tokens)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens["access_token"].(string), ".")[1])
	if err != nil || !strings.Contains(string(payload), `"others"`) || !strings.Contains(string(payload), `"sub":"corp:u-1"`) {
		t.Errorf("claims %s, %v", payload, err)
	}
	o.set(func() { o.gone = true })
	s.clock.add(time.Minute)
	if err := s.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := b.refresh(tokens); out["error"] != "invalid_grant" {
		t.Errorf("refresh of somebody who was removed: %v", out)
	}
}
