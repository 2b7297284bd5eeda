package login

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

// federatedSite is a site with one provider.
func federatedSite(t *testing.T, change ...func(*Provider)) (*site, *op) {
	t.Helper()
	c := &clock{now: time.Now()}
	o := newOP(t, "corp", c)
	s := newSite(t, true, func(cfg *Config, s *site) {
		s.clock = c
		s.store.Memory = state.NewMemory(c.Now)
		o.with(change...)(cfg, s)
	})
	return s, o
}

func TestFederatedLogin(t *testing.T) {
	s, o := federatedSite(t, func(p *Provider) {
		p.GroupPrefix, p.Roles, p.Domains, p.Tenants = "corp/", map[string]string{"staff": "readers"}, []string{"Example.com"}, []string{"t1"}
	})
	o.claims = map[string]any{"tid": "t1", "groups": []string{"staff", "unknown"}, "acr": "gold", "amr": []string{"pwd", "mfa"}}
	b := s.browser(t)
	b.federated(o)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.jar.Cookies(u) {
		r.AddCookie(c)
	}
	got, ok := s.Current(r)
	if !ok {
		t.Fatal("nobody is logged in")
	}
	want := &issuer.User{
		Issuer: o.server.URL, Subject: "corp:u-1", Name: "Ada", Email: "ada@example.com", Tenant: "t1", Groups: []string{"corp/readers"},
		ACR: "gold", AMR: []string{"pwd", "mfa"}, AuthTime: time.Unix(o.clock.Now().Unix(), 0).UTC(), Session: got.Session,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}
	ask := o.asked[0]
	if got := ask.Get("scope"); got != "openid profile email offline_access" {
		t.Errorf("asked for the scopes %q", got)
	}
	if len(ask.Get("nonce")) != secretLength || len(ask.Get("state")) != secretLength || ask.Get("code_challenge") == "" {
		t.Errorf("authorization request lacks state, nonce or challenge: %v", ask)
	}
	byID, err := s.User(t.Context(), got.Session)
	if err != nil || byID == nil || byID.Subject != "corp:u-1" {
		t.Errorf("User(%q) = %v, %v", got.Session, byID, err)
	}
}

// TestSecretsAreSealed proves that what a provider gave cannot be read in the store.
func TestSecretsAreSealed(t *testing.T) {
	s, o := federatedSite(t)
	b := s.browser(t)
	b.begin("/oauth/account", o)
	b.federated(o)
	for _, kind := range []string{kindSession, kindFlow} {
		docs, err := s.store.List(t.Context(), state.Query{Kind: kind})
		if err != nil || len(docs) == 0 {
			t.Fatalf("no %s in the store: %v", kind, err)
		}
		for _, d := range docs {
			if text := string(d.Body) + d.ID; strings.Contains(text, "rt-") || strings.Contains(text, "eyJ") || strings.Contains(text, "verifier") {
				t.Errorf("%s holds a secret in the clear: %s", kind, text)
			}
			u, _ := url.Parse(s.url)
			for _, c := range b.jar.Cookies(u) {
				if strings.Contains(string(d.Body)+d.ID+d.Topic+d.Owner, c.Value) {
					t.Errorf("%s holds the cookie %s", kind, c.Name)
				}
			}
		}
	}
}

func TestPrivateKeyJWT(t *testing.T) {
	signer, file := keyFile(t)
	s, o := federatedSite(t, func(p *Provider) { p.ClientSecret, p.PrivateKey = secret.Ref{}, secret.Ref{File: file} })
	s.browser(t).federated(o)
	form := o.granted[0]
	if form.Get("client_secret") != "" || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Fatalf("token request: %v", form)
	}
	token, err := jose.Parse(form.Get("client_assertion"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := signer.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ParseKeySet(set)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := keys.Key(signer.KeyID())
	if err := token.Verify(key, []string{"ES256"}); err != nil {
		t.Error(err)
	}
	if aud, _ := token.Claims.Text("aud"); aud != o.server.URL+"/token" {
		t.Errorf("assertion for %q", aud)
	}
}

// TestProviderAttacks plays what a hostile provider, network or page can do to a login.
func TestProviderAttacks(t *testing.T) {
	other, err := jose.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name    string
		hostile func(*op)
		reason  string
	}{
		{"near_miss_honest", func(*op) {}, "login"},
		{"mixup_iss_of_another", func(o *op) { o.answer = url.Values{"iss": {"https://evil.example"}} }, "provider_mixup"},
		{"mixup_iss_missing", func(o *op) { o.answer = url.Values{"iss": nil} }, "provider_mixup"},
		{"mixup_iss_twice", func(o *op) { o.answer = url.Values{"iss": {o.server.URL, o.server.URL}} }, "provider_mixup"},
		{"mixup_iss_not_advertised", func(o *op) { o.iss, o.answer = false, url.Values{"iss": {"https://evil.example"}} }, "provider_mixup"},
		{"mixup_in_error", func(o *op) { o.answer = url.Values{"iss": {"https://evil.example"}, "error": {"access_denied"}} }, "provider_mixup"},
		{"error", func(o *op) { o.answer = url.Values{"error": {"access_denied"}} }, "provider_refused"},
		{"no_code", func(o *op) { o.answer = url.Values{"code": nil} }, "provider_refused"},
		{"foreign_code", func(o *op) { o.answer = url.Values{"code": {"stolen"}} }, "code_refused"},
		{"two_states", func(o *op) { o.answer = url.Values{"state": {"a", "b"}} }, "state_unknown"},
		{"foreign_key", func(o *op) { o.signer = other }, "id_token_refused"},
		{"nonce_of_another", func(o *op) { o.tamper = func(c map[string]any) { c["nonce"] = newSecret() } }, "id_token_refused"},
		{"nonce_missing", func(o *op) { o.tamper = func(c map[string]any) { delete(c, "nonce") } }, "id_token_refused"},
		{"issuer_of_another", func(o *op) { o.claims["iss"] = "https://evil.example" }, "id_token_refused"},
		{"issuer_with_slash", func(o *op) { o.claims["iss"] = o.server.URL + "/" }, "id_token_refused"},
		{"audience_of_another", func(o *op) { o.claims["aud"] = "other" }, "id_token_refused"},
		{"audiences_without_azp", func(o *op) { o.claims["aud"] = []string{"warder", "other"} }, "id_token_refused"},
		{"azp_of_another", func(o *op) { o.claims["azp"] = "other" }, "id_token_refused"},
		{"expired", func(o *op) { o.claims["exp"] = o.clock.Now().Add(-time.Minute).Unix() }, "id_token_refused"},
		{"from_the_future", func(o *op) { o.claims["iat"] = o.clock.Now().Add(time.Hour).Unix() }, "id_token_refused"},
		{"at_hash_of_another", func(o *op) { o.claims["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }, "id_token_refused"},
		{"no_subject", func(o *op) { o.claims["sub"] = "" }, "id_token_refused"},
		{"domain_of_another", func(o *op) { o.claims["email"] = "eve@evil.example" }, "not_allowed"},
		{"domain_not_verified", func(o *op) { o.claims["email_verified"] = false }, "not_allowed"},
		{"domain_verified_as_text", func(o *op) { o.claims["email_verified"] = "true" }, "not_allowed"},
		{"tenant_of_another", func(o *op) { o.claims["tid"] = "t2" }, "not_allowed"},
		{"subject_with_separator", func(o *op) { o.sub = "u-1\x1fadmin" }, "not_allowed"},
		{"tenant_as_list", func(o *op) { o.claims["tid"] = []string{"t1"} }, "not_allowed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, o := federatedSite(t, func(p *Provider) { p.Domains, p.Tenants = []string{"example.com"}, []string{"t1"} })
			o.claims["tid"] = "t1"
			c.hostile(o)
			b := s.browser(t)
			v := b.get(b.begin("/oauth/account", o))
			s.wantReason(t, c.reason)
			if c.reason == "login" {
				v.onward()
				return
			}
			v.wantCode(t, http.StatusForbidden, c.reason)
			if in := b.get("/oauth/account"); find(in.root, byID("subject")) != nil {
				t.Error("somebody is logged in")
			}
		})
	}
}

// TestDiscoveryIsBound proves that a provider whose document names another issuer is not used, and one that
// names plain addresses neither.
func TestDiscoveryIsBound(t *testing.T) {
	for name, change := range map[string]map[string]any{
		"issuer":    {"issuer": "https://evil.example"},
		"token":     {"token_endpoint": "http://evil.example/token"},
		"authorize": {"authorization_endpoint": "javascript:alert(1)"},
		"no_pkce":   {"code_challenge_methods_supported": []string{"plain"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, o := federatedSite(t)
			o.meta = change
			b := s.browser(t)
			b.press(b.get("/oauth/account"), "provider-corp").wantCode(t, http.StatusBadGateway, "provider_unreachable")
		})
	}
}

func TestStateIsUsedOnceByItsBrowser(t *testing.T) {
	s, o := federatedSite(t)
	b := s.browser(t)
	back := b.begin("/oauth/account", o)
	t.Run("deny_another_browser", func(t *testing.T) {
		thief := s.browser(t)
		thief.get("/oauth/account")
		thief.get(back).wantCode(t, http.StatusForbidden, "browser_mismatch") // login CSRF, intercepted code
		b.get(back).wantCode(t, http.StatusForbidden, "state_unknown")        // and the state is gone
	})
	t.Run("deny_replay", func(t *testing.T) {
		back := b.begin("/oauth/account", o)
		b.get(back).onward()
		b.get(back).wantCode(t, http.StatusForbidden, "state_unknown")
	})
	t.Run("deny_late", func(t *testing.T) {
		b := s.browser(t)
		back := b.begin("/oauth/account", o)
		s.clock.add(flowLife)
		b.get(back).wantCode(t, http.StatusForbidden, "state_unknown")
	})
	t.Run("deny_no_state_before_the_choice", func(t *testing.T) {
		docs, err := s.store.List(t.Context(), state.Query{Kind: kindFlow})
		if err != nil {
			t.Fatal(err)
		}
		s.browser(t).get("/oauth/account")
		after, err := s.store.List(t.Context(), state.Query{Kind: kindFlow})
		if err != nil || len(after) != len(docs) {
			t.Errorf("showing the page stored a state: %d, then %d (%v)", len(docs), len(after), err)
		}
	})
}

// TestTwoProviders proves that the answer of one provider is no answer of the other, and that equal
// subjects of two providers are two people.
func TestTwoProviders(t *testing.T) {
	c := &clock{now: time.Now()}
	one, two := newOP(t, "one", c), newOP(t, "two", c)
	s := newSite(t, true, func(cfg *Config, s *site) {
		s.clock, s.store.Memory = c, state.NewMemory(c.Now)
		one.with()(cfg, s)
		two.with()(cfg, s)
	})
	b := s.browser(t)
	back := b.begin("/oauth/account", one)
	b.get(strings.Replace(back, "/callback/one", "/callback/two", 1)).wantCode(t, http.StatusForbidden, "provider_mixup")
	b.federated(one)
	if got := b.get("/oauth/account").shown("subject"); got != "one:u-1" {
		t.Errorf("logged in as %q", got)
	}
	other := s.browser(t)
	other.federated(two)
	if got := other.get("/oauth/account").shown("subject"); got != "two:u-1" {
		t.Errorf("logged in as %q", got)
	}
}

func TestStepUpAtTheProvider(t *testing.T) {
	s, o := federatedSite(t)
	age := time.Minute
	s.need = issuer.Need{ACR: []string{"gold"}, MaxAge: &age, Prompt: "login"}
	b := s.browser(t)
	o.set(func() { o.claims["acr"] = "gold" })
	if v := b.get(b.get(b.begin("/oauth/authorize?x=1", o)).onward()); v.status != http.StatusFound {
		t.Errorf("after the login: status %d: %s", v.status, v.main())
	}
	ask := o.asked[0]
	if got := fmt.Sprint(ask.Get("acr_values"), ask.Get("max_age"), ask.Get("prompt")); got != "gold60login" {
		t.Errorf("asked for %q", got)
	}
	for name, claims := range map[string]map[string]any{
		"another_class": {"acr": "silver"},
		"old_login":     {"acr": "gold", "auth_time": s.clock.Now().Add(-time.Hour).Unix()},
		"no_auth_time":  {"acr": "gold", "auth_time": nil},
	} {
		t.Run(name, func(t *testing.T) {
			o.set(func() { o.claims = claims })
			b := s.browser(t)
			b.get(b.begin("/oauth/authorize?x=1", o)).wantCode(t, http.StatusForbidden, "login_insufficient")
		})
	}
}

// tick rechecks every session when it is due.
func (s *site) tick() {
	s.t.Helper()
	s.clock.add(31 * time.Second)
	if err := s.Recheck(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// only is the person of the only session; nil if there is none.
func (s *site) only() *issuer.User {
	s.t.Helper()
	var u *issuer.User
	if err := s.each(s.t.Context(), func(ss *session) error { u = &ss.User; return nil }); err != nil {
		s.t.Fatal(err)
	}
	return u
}

func TestRecheck(t *testing.T) {
	t.Run("still_there", func(t *testing.T) {
		s, o := federatedSite(t)
		s.browser(t).federated(o)
		for range 3 { // the refresh token rotates each time
			s.tick()
		}
		if s.only() == nil || len(s.revoked) > 0 {
			t.Errorf("the session ended; revoked %q", s.revoked)
		}
		if n := len(o.granted); n != 4 {
			t.Errorf("the provider was asked %d times, want 4", n)
		}
	})
	t.Run("removed", func(t *testing.T) {
		s, o := federatedSite(t)
		b := s.browser(t)
		b.federated(o)
		sid := s.only().Session
		o.set(func() { o.gone = true })
		s.tick()
		if diff := cmp.Diff([]string{sid}, s.revoked); diff != "" {
			t.Errorf("revoked sessions (-want +got):\n%s", diff)
		}
		if v := b.get("/oauth/account"); find(v.root, byID("subject")) != nil {
			t.Error("the person is still logged in")
		}
		s.wantReason(t, "provider_ended_login")
	})
	t.Run("groups_change", func(t *testing.T) {
		s, o := federatedSite(t)
		s.browser(t).federated(o)
		o.set(func() { o.claims["groups"] = []string{} })
		s.tick()
		if got := s.only().Groups; len(got) != 0 {
			t.Errorf("groups %q after all were taken away", got)
		}
	})
}

func TestRecheckFindsOutMore(t *testing.T) {
	t.Run("another_person", func(t *testing.T) {
		s, o := federatedSite(t)
		s.browser(t).federated(o)
		o.set(func() { o.sub = "u-2" })
		s.tick()
		if len(s.revoked) != 1 {
			t.Errorf("revoked %q, want one session", s.revoked)
		}
	})
	t.Run("without_id_token", func(t *testing.T) {
		s, o := federatedSite(t)
		s.browser(t).federated(o)
		o.set(func() { o.noID = true; o.claims["groups"] = []string{"new"} })
		s.tick()
		if got := s.only().Groups; !slices.Equal(got, []string{"new"}) {
			t.Errorf("groups %q, want those of userinfo", got)
		}
		o.set(func() { o.sub = "u-2" })
		s.tick()
		if len(s.revoked) != 1 {
			t.Errorf("revoked %q, want one session", s.revoked)
		}
	})
	t.Run("dependency_killed_provider_down", func(t *testing.T) {
		s, o := federatedSite(t)
		s.browser(t).federated(o)
		o.set(func() { o.down = true })
		s.tick()
		if len(s.revoked) > 0 {
			t.Fatal("a provider that does not answer ended the session at once")
		}
		s.clock.add(defaultGrace)
		s.tick()
		if len(s.revoked) != 1 {
			t.Errorf("revoked %q, want one session after %v", s.revoked, defaultGrace)
		}
	})
	t.Run("nothing_to_recheck_with", func(t *testing.T) {
		s, o := federatedSite(t)
		o.noFresh = true
		b := s.browser(t)
		b.federated(o)
		s.clock.add(uncheckable)
		if v := b.get("/oauth/account"); find(v.root, byID("subject")) != nil {
			t.Errorf("a login that cannot be rechecked lives longer than %v", uncheckable)
		}
	})
}

func TestEndRemote(t *testing.T) {
	s, o := federatedSite(t)
	s.browser(t).federated(o)
	if err := s.EndRemote(t.Context(), "https://other.example", "u-1", "", "test"); err != nil || len(s.revoked) != 0 {
		t.Errorf("another issuer ended %q, %v", s.revoked, err)
	}
	if err := s.EndRemote(t.Context(), o.server.URL, "", "", "test"); err == nil {
		t.Error("nobody named: no error")
	}
	if err := s.EndRemote(t.Context(), o.server.URL, "", "op-1", "test"); err != nil || len(s.revoked) != 1 {
		t.Errorf("the issuer ended %q, %v", s.revoked, err)
	}
}

func TestLogoutAtTheProvider(t *testing.T) {
	s, o := federatedSite(t)
	b := s.browser(t)
	b.federated(o)
	to, err := url.Parse(b.press(b.get("/oauth/logout"), "sign-out-confirm").onward())
	if err != nil {
		t.Fatal(err)
	}
	if to.Path != "/logout" || to.Query().Get("id_token_hint") == "" {
		t.Errorf("signing out goes on to %s", to)
	}
	if len(s.revoked) != 1 {
		t.Errorf("revoked %q, want one session", s.revoked)
	}
}
