package login

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/passkey/passkeytest"
	"github.com/warder-mcp/warder/issuer"
)

// fill makes a path of a pattern.
func fill(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	for _, name := range []string{"{provider}", "{secret}", "{id}"} {
		path = strings.ReplaceAll(path, name, "h1")
	}
	return method, path
}

// TestEveryRouteIsProtected walks all routes, logged in and not, with right and wrong methods.
func TestEveryRouteIsProtected(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	in := s.browser(t)
	in.link("ada")
	if len(s.Routes()) < 18 {
		t.Fatalf("only %d routes", len(s.Routes()))
	}
	want := map[string]string{
		"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	}
	routes := append(s.Routes(), "GET /oauth/none", "PUT /oauth/account", "GET /oauth/")
	for _, pattern := range routes {
		method, path := fill(pattern)
		for name, b := range map[string]*browser{"nobody": s.browser(t), "ada": in} {
			if pattern == "POST /oauth/logout" && name == "ada" {
				continue // last, below
			}
			r, err := http.NewRequestWithContext(t.Context(), method, b.absolute(path), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			v := b.do(r)
			for h, value := range want {
				if got := v.header.Get(h); got != value {
					t.Errorf("%s as %s: %s is %q, want %q", pattern, name, h, got, value)
				}
			}
			csp := v.header.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
				if !strings.Contains(csp, part) {
					t.Errorf("%s as %s: policy %q lacks %q", pattern, name, csp, part)
				}
			}
			if strings.Contains(csp, "unsafe") || v.header.Get("Permissions-Policy") == "" {
				t.Errorf("%s as %s: policy %q, permissions %q", pattern, name, csp, v.header.Get("Permissions-Policy"))
			}
			if v.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s as %s: shared with other origins", pattern, name)
			}
			if method == http.MethodPost && v.status < 400 {
				t.Errorf("%s as %s without a form: status %d", pattern, name, v.status)
			}
		}
	}
}

// TestForms sends every form that changes something without, with a foreign, and with a stale token, and
// from another site.
func TestForms(t *testing.T) {
	s := newSite(t, true, local)
	in, eve := s.browser(t), s.browser(t)
	in.link("ada")
	eve.link("eve")
	own := func(b *browser) string {
		_, form := b.get("/oauth/logout").form("sign-out-confirm")
		return form.Get("csrf")
	}
	good := own(in)
	t.Run("near_miss_honest", func(t *testing.T) {
		b := s.browser(t)
		b.link("bob")
		v := b.press(b.get("/oauth/logout"), "sign-out-confirm")
		if v.status != http.StatusOK {
			t.Errorf("status %d", v.status)
		}
	})
	site := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", value) }
	}
	origin := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", value) }
	}
	for _, pattern := range s.Routes() {
		method, path := fill(pattern)
		if method != http.MethodPost || strings.Contains(path, "/passkey/options") || strings.Contains(path, "/passkey/finish") {
			continue
		}
		cases := []struct {
			name, token string
			change      func(*http.Request)
		}{
			{"no_token", "", site("same-origin")},
			{"garbage", "w1.AAAA", site("same-origin")},
			{"token_of_another_session", own(eve), site("same-origin")},
			{"cross_site", good, site("cross-site")},
			{"same_site", good, site("same-site")}, // another port or subdomain
			{"foreign_origin", good, origin("https://evil.example")},
			{"null_origin_of_an_old_browser", good, origin("null")},
		}
		if path != "/oauth/logout" {
			cases = append(cases, struct {
				name, token string
				change      func(*http.Request)
			}{"token_of_another_form", good, site("same-origin")})
		}
		for _, c := range cases {
			t.Run(strings.ReplaceAll(path, "/", "_")+"/"+c.name, func(t *testing.T) {
				in.post(path, url.Values{"csrf": {c.token}}, c.change).wantCode(t, http.StatusForbidden, "form_forged")
			})
		}
	}
	if v := in.get("/oauth/account"); v.shown("subject") != "local:ada" {
		t.Error("one of the forged forms signed ada out")
	}
	s.wantReason(t, "form_forged")
	t.Run("late", func(t *testing.T) {
		s.clock.add(formLife)
		in.post("/oauth/logout", url.Values{"csrf": {good}}).wantCode(t, http.StatusForbidden, "form_forged")
	})
	t.Run("other_type", func(t *testing.T) {
		in.post("/oauth/logout", url.Values{"csrf": {own(in)}}, func(r *http.Request) {
			r.Header.Set("Content-Type", "text/plain")
		}).wantCode(t, http.StatusUnsupportedMediaType, "form_type")
	})
}

// cookie returns the value of a cookie of the browser.
func (b *browser) cookie(name string) string {
	u, err := url.Parse(b.s.url)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.jar.Cookies(u) {
		if strings.Contains(c.Name, name) {
			return c.Value
		}
	}
	return ""
}

func (b *browser) plant(cookies ...*http.Cookie) {
	u, err := url.Parse(b.s.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.jar.SetCookies(u, cookies)
}

func TestCookies(t *testing.T) {
	t.Run("https", func(t *testing.T) {
		s := newSite(t, true, local)
		b := s.browser(t)
		address, err := s.Link(t.Context(), Invite{User: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		v := b.press(b.get(address), "link-login")
		for _, line := range v.header.Values("Set-Cookie") {
			if !strings.HasPrefix(line, "__Host-") || !strings.Contains(line, "; Path=/;") || strings.Contains(line, "Domain=") ||
				!strings.Contains(line, "; HttpOnly; Secure; SameSite=Lax") {
				t.Errorf("cookie %q", line)
			}
		}
		if len(v.header.Values("Set-Cookie")) != 2 {
			t.Errorf("cookies %q", v.header.Values("Set-Cookie"))
		}
	})
	t.Run("loopback", func(t *testing.T) {
		s := newSite(t, false, local)
		v := s.browser(t).get("/oauth/account")
		for _, line := range v.header.Values("Set-Cookie") {
			if strings.HasPrefix(line, "__") || !strings.Contains(line, "; Path=/oauth; HttpOnly; SameSite=Lax") || !strings.Contains(line, "_"+v.url.Port()+"=") {
				t.Errorf("cookie %q", line)
			}
		}
	})
	t.Run("plain_http_elsewhere", func(t *testing.T) {
		if _, err := New(Config{}, newSite(t, true).atURL("http://gate.example.com/oauth")); err == nil {
			t.Error("New for a plain http site = nil error")
		}
	})
}

func TestSessionFixation(t *testing.T) {
	s := newSite(t, false, local)
	thief, victim := s.browser(t), s.browser(t)
	thief.link("eve")
	name := s.cookies.session
	planted := thief.cookie("session")
	victim.plant(&http.Cookie{Name: name, Value: planted, Path: "/oauth"})
	victim.link("ada") // which makes a new id
	if victim.cookie("session") == planted {
		t.Fatal("the planted id lives on")
	}
	if v := thief.get("/oauth/account"); find(v.root, byID("subject")) != nil {
		t.Errorf("whoever planted it is logged in as %q", v.shown("subject"))
	}
	t.Run("browser_id", func(t *testing.T) {
		thief, victim := s.browser(t), s.browser(t)
		thief.get("/oauth/account")
		planted := thief.cookie("browser")
		victim.plant(&http.Cookie{Name: s.cookies.browser, Value: planted, Path: "/oauth"})
		victim.link("ada")
		if victim.cookie("browser") == planted {
			t.Error("the planted browser id lives on")
		}
	})
	t.Run("two_cookies", func(t *testing.T) {
		b := s.browser(t)
		b.link("ada")
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.absolute("/oauth/account"), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: name, Value: planted})
		if v := b.do(r); find(v.root, byID("subject")) != nil {
			t.Error("a second cookie of the name was overlooked")
		}
	})
}

// loggedIn reports whether somebody is.
func (b *browser) loggedIn() bool {
	b.t.Helper()
	return find(b.get("/oauth/account").root, byID("subject")) != nil
}

func TestSessionEnds(t *testing.T) {
	t.Run("logout", func(t *testing.T) {
		s := newSite(t, true, local)
		b := s.browser(t)
		b.link("ada")
		kept := &http.Cookie{Name: s.cookies.session, Value: b.cookie("session"), Path: "/", Secure: true}
		b.press(b.get("/oauth/account"), "sign-out")
		b.plant(kept) // a copy of the cookie is worth nothing
		if b.loggedIn() || len(s.revoked) != 1 {
			t.Errorf("the cookie lives after signing out; revoked %q", s.revoked)
		}
		s.wantReason(t, "logout")
	})
	t.Run("idle", func(t *testing.T) {
		s := newSite(t, true, local)
		b := s.browser(t)
		b.link("ada")
		s.clock.add(defaultIdle - time.Second)
		if !b.loggedIn() {
			t.Fatal("ended too early")
		}
		s.clock.add(defaultIdle)
		if b.loggedIn() {
			t.Error("an idle session lives")
		}
	})
	t.Run("absolute", func(t *testing.T) {
		s := newSite(t, true, local)
		b := s.browser(t)
		b.link("ada")
		for range 4 {
			s.clock.add(6*time.Hour - time.Second)
			if !b.loggedIn() {
				t.Fatal("ended too early")
			}
		}
		s.clock.add(5 * time.Second)
		if b.loggedIn() {
			t.Error("a session lives longer than its maximum")
		}
	})
}

func TestSessionIsEnded(t *testing.T) {
	t.Run("by_its_person", func(t *testing.T) {
		s := newSite(t, true, local)
		b, other := s.browser(t), s.browser(t)
		b.link("ada")
		other.link("ada")
		v := b.get("/oauth/account")
		list := find(v.root, byID("sessions"))
		get := func(name string) string {
			return attr(find(list, func(n *htmlNode) bool { return attr(n, "name") == name }), "value")
		}
		b.post("/oauth/account/session", url.Values{"csrf": {get("csrf")}, "id": {get("id")}}).onward()
		if other.loggedIn() || !b.loggedIn() || len(s.revoked) != 1 {
			t.Errorf("the other session lives, or the own ended; revoked %q", s.revoked)
		}
	})
	t.Run("not_of_another", func(t *testing.T) {
		s := newSite(t, true, local)
		b, eve := s.browser(t), s.browser(t)
		b.link("ada")
		eve.link("eve")
		var sid string
		if err := s.each(t.Context(), func(ss *session) error {
			if ss.User.Subject == "local:ada" {
				sid = ss.User.Session
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		second := s.browser(t) // eve has a form for sessions when she has two
		second.link("eve")
		list := find(eve.get("/oauth/account").root, byID("sessions"))
		csrf := attr(find(list, func(n *htmlNode) bool { return attr(n, "name") == "csrf" }), "value")
		eve.post("/oauth/account/session", url.Values{"csrf": {csrf}, "id": {sid}}).wantCode(t, http.StatusNotFound, "session_unknown")
		if !b.loggedIn() {
			t.Error("eve ended ada's session")
		}
	})
	t.Run("another_person_in_the_browser", func(t *testing.T) {
		s := newSite(t, true, local)
		b := s.browser(t)
		b.link("ada")
		b.link("bob")
		if len(s.revoked) != 1 {
			t.Errorf("revoked %q, want ada's session", s.revoked)
		}
	})
	t.Run("too_many", func(t *testing.T) {
		s := newSite(t, true, local)
		first := s.browser(t)
		first.link("ada")
		for range maxSessions {
			s.clock.add(10 * time.Second)
			s.browser(t).link("ada")
		}
		if first.loggedIn() || len(s.revoked) != 1 {
			t.Errorf("the oldest session lives; revoked %d", len(s.revoked))
		}
	})
}

func TestOwnPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/": true, "/oauth/authorize?continue=a%2Fb": true, "/a//b": true,
		"": false, "x": false, "//evil.example": false, "/\\evil.example": false, "/\t/evil.example": false, "/a\\b": false,
		"https://evil.example/": false, "javascript:alert(1)": false, "/\n/evil.example": false, "/ü": false, "/%zz": false,
		"/" + strings.Repeat("a", 9<<10): false,
	} {
		if got := ownPath(path); got != want {
			t.Errorf("ownPath(%.40q) = %v, want %v", path, got, want)
		}
	}
}

// TestOpenRedirect proves that a way back that leads away is replaced.
func TestOpenRedirect(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	d := passkeytest.New(originOf(s))
	b := s.browser(t)
	b.link("ada")
	b.register(d)
	n := s.needOf(issuer.Need{Back: "//evil.example/x"})
	if n.Back != "/oauth/account" {
		t.Errorf("back to %q", n.Back)
	}
	stranger := s.browser(t)
	page := stranger.get("/oauth/account")
	if status, out := stranger.call("/oauth/login/passkey/finish", keyRequest{
		CSRF: page.data("passkey-login", "csrf"), Need: "w1." + strings.Repeat("A", 300),
	}); status != http.StatusBadRequest || out.Code != "login_expired" {
		t.Errorf("a forged way back: %d %+v", status, out)
	}
}

func TestForeignHost(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, local)
	b := s.browser(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.absolute("/oauth/account"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "rebound.evil.example"
	b.do(r).wantCode(t, http.StatusMisdirectedRequest, "host_unknown")
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	b := s.browser(t)
	var last *view
	for range attemptsPerMinute + 1 {
		last = b.get("/oauth/login/link/" + newSecret())
	}
	last.wantCode(t, http.StatusTooManyRequests, "rate_limited")
	if last.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for range requestsPerMinute {
		last = b.get("/oauth/none")
	}
	last.wantCode(t, http.StatusTooManyRequests, "rate_limited")
	s.clock.add(time.Minute)
	b.get("/oauth/login/link/x").wantCode(t, http.StatusNotFound, "link_unknown")
}

// TestFailsClosed proves that without the store, or the trail, nobody gets in.
func TestFailsClosed(t *testing.T) {
	s := newSite(t, true, local)
	in := s.browser(t)
	in.link("ada")
	t.Run("store", func(t *testing.T) {
		s.store.fail(errors.New("the store is gone"))
		defer s.store.fail(nil)
		in.get("/oauth/account").wantCode(t, http.StatusServiceUnavailable, "unavailable")
		in.get("/oauth/authorize").wantCode(t, http.StatusServiceUnavailable, "unavailable")
	})
	t.Run("trail", func(t *testing.T) {
		b := s.browser(t)
		address, err := s.Link(t.Context(), Invite{User: "bob"})
		if err != nil {
			t.Fatal(err)
		}
		v := b.get(address)
		s.mu.Lock()
		s.trail = errors.New("the disk is full")
		s.mu.Unlock()
		b.press(v, "link-login").wantCode(t, http.StatusServiceUnavailable, "unavailable")
		if _, err := s.Link(t.Context(), Invite{User: "bob"}); err == nil {
			t.Error("a link without a record")
		}
		s.mu.Lock()
		s.trail = nil
		s.mu.Unlock()
		if v := b.get("/oauth/account"); find(v.root, byID("subject")) != nil {
			t.Error("a login without a record")
		}
	})
}

// TestSessionOfAForgottenProvider proves that taking a provider out of the configuration ends its sessions.
func TestSessionOfAForgottenProvider(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	b := s.browser(t)
	b.link("ada")
	s.cfg.Local.Enabled = false
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: s.cookies.session, Value: b.cookie("session")})
	if u, ok := s.Current(r); ok {
		t.Errorf("still logged in: %+v", u)
	}
}

func TestUserFollowsTheAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	b := s.browser(t)
	b.link("ada", "operators")
	var sid string
	if err := s.each(t.Context(), func(ss *session) error { sid = ss.User.Session; return nil }); err != nil {
		t.Fatal(err)
	}
	s.browser(t).link("ada", "readers")
	u, err := s.User(t.Context(), sid)
	if err != nil || u == nil || len(u.Groups) != 1 || u.Groups[0] != "readers" {
		t.Errorf("User = %+v, %v", u, err)
	}
	if u, err := s.User(t.Context(), "none"); u != nil || err != nil {
		t.Errorf("User of a session that is not there = %+v, %v", u, err)
	}
}
