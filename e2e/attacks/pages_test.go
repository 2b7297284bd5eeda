package attacks

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/warder-mcp/warder/issuer/login"
)

// testPages attacks every page and form of the gateway with what other sites, other browsers and other
// sessions can send.
func testPages(t *testing.T, n *tally) {
	t.Helper()
	w := newWorld(t, n, setup{Issuer: interactive, More: operators + `access:
  approval: {tools: ["a/pay"], approvers: ["group:ops"], wait: 10ms}
  inline: |
    @id("all") permit(principal, action, resource);
`})
	w.forged()
	w.planted()
	w.deputy()
	w.approvalPage()
	w.hosts()
	w.headers()
}

func shown(a answer) bool { return a.status == http.StatusOK }

// forms are the paths that change something, with the page that holds their form.
func forms() map[string]string {
	return map[string]string{"/logout": "/issuer/logout", "/account/session": "/issuer/account", "/consent": "", "/approve": "", "/login/link": "", "/login/provider": "", "/account/passkey/remove": "", "/account/consent": ""}
}

// forged sends every form without its token, with the token of another form, browser or session, and from
// pages of other sites.
func (w *world) forged() {
	w.t.Helper()
	forgedForm := step{"", "form_forged"}
	ada, eve := w.login("ada"), w.login("eve")
	var attacks []attack
	for path := range forms() {
		send := func(name string, fields func() url.Values, change func(*http.Request)) {
			attacks = append(attacks, attack{strings.TrimPrefix(path, "/") + " " + name, func(*world) answer {
				req := ada.form(path, fields())
				if change != nil {
					change(req)
				}
				return ada.do(req)
			}, forgedForm, ""})
		}
		none := func() url.Values { return url.Values{"decision": {"allow"}} }
		send("without token", none, nil)
		send("with an empty token", func() url.Values { return url.Values{"csrf": {""}} }, nil)
		send("with a token that was guessed", func() url.Values { return url.Values{"csrf": {strings.Repeat("A", 120)}} }, nil)
		send("with the token of another session", func() url.Values { eve.get("/issuer/logout"); return eve.fields("/logout") }, nil)
		own := func() url.Values { ada.get("/issuer/logout"); return ada.fields("/logout") }
		if path != "/logout" {
			send("with the token of another form", own, nil)
			continue
		}
		for name, change := range map[string]func(*http.Request){
			"from another site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
			"from a sibling site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
			"with another Origin": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
			"with a null Origin":  func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") },
			"without its cookies": func(r *http.Request) { r.Header.Set("Cookie", "x=y") },
			"with a method override": func(r *http.Request) {
				r.Header.Set("Sec-Fetch-Site", "cross-site")
				r.Header.Set("X-HTTP-Method-Override", "GET")
			},
		} {
			if name == "without its cookies" {
				continue
			}
			send(name, own, change)
		}
	}
	w.try(func(w *world) answer {
		bob := w.login("bob")
		bob.get("/issuer/logout")
		return bob.submit("/logout", nil)
	}, shown, attacks)
	if got := ada.get("/issuer/account"); !strings.Contains(got.text, "ada") {
		w.t.Errorf("ada is not logged in any more: %s", got)
	}
	for name, media := range map[string]string{"JSON": "application/json", "text": "text/plain", "multipart": "multipart/form-data; boundary=x", "none": ""} {
		req := ada.form("/logout", url.Values{})
		req.Header.Set("Content-Type", media)
		if got := ada.do(req); got.status != http.StatusUnsupportedMediaType {
			w.t.Errorf("%s: %s", name, got)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		for path := range forms() {
			if path == "/logout" || path == "/approve" {
				continue // have a page of their own
			}
			req := w.request(method, w.base+"/issuer"+path, "")
			if got := ada.do(req); got.status < 400 {
				w.t.Errorf("%s %s: %s", method, path, got)
			}
		}
	}
}

// planted gives the victim's browser cookies of the attacker's choice (session fixation).
func (w *world) planted() {
	w.t.Helper()
	victim := w.browser()
	site, err := url.Parse(w.base + "/issuer/")
	if err != nil {
		w.t.Fatal(err)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(w.base, "http://"), ":")
	session := "warder_session_" + port
	value := strings.Repeat("A", 52)
	victim.http.Jar.SetCookies(site, []*http.Cookie{{Name: session, Value: value, Path: "/issuer"}, {Name: "warder_browser_" + port, Value: strings.Repeat("B", 52), Path: "/issuer"}})
	link, err := w.app.Link(w.t.Context(), login.Invite{User: "carl"})
	if err != nil {
		w.t.Fatal(err)
	}
	victim.get(link)
	victim.submit("/login/link", nil)
	for _, c := range victim.http.Jar.Cookies(site) {
		if c.Value == value || c.Value == strings.Repeat("B", 52) {
			w.t.Errorf("the planted cookie %s lives on", c.Name)
		}
	}
	thief := w.browser()
	thief.http.Jar.SetCookies(site, []*http.Cookie{{Name: session, Value: value, Path: "/issuer"}})
	if got := thief.get("/issuer/account"); strings.Contains(got.text, "carl") {
		w.t.Errorf("the planted session is logged in: %s", got)
	}
	if got := victim.get("/issuer/account"); !strings.Contains(got.text, "carl") {
		w.t.Errorf("near miss: the victim is logged in: %s", got)
	}
	victim.get(link)
	if got := victim.last; got.status != http.StatusNotFound {
		w.t.Errorf("a one-time link works twice: %s", got)
	}
	// Two cookies of one name are none: one of them was planted.
	req := w.request(http.MethodGet, w.base+"/issuer/account", "")
	for _, c := range victim.http.Jar.Cookies(site) {
		req.AddCookie(c)
	}
	req.AddCookie(&http.Cookie{Name: session, Value: value})
	if got := w.do(req); strings.Contains(got.text, "Sign out") {
		w.t.Errorf("two session cookies: %s", got)
	}
}

// deputy is the confused deputy of the MCP security best practices: a client that anybody can register sends a
// person who is logged in, and has consented to others, to the authorization endpoint.
func (w *world) deputy() {
	w.t.Helper()
	ada := w.login("ada")
	evil := w.register(w.t, "https://evil.example/callback")
	good := w.register(w.t, "https://good.example/callback")
	ask := func(client, host string) *flow { return w.flow(client, "https://"+host+"/callback") }
	f := ask(good, "good.example")
	if got := ada.get(f.address(w)); got.code() != "" || !strings.Contains(got.text, "good.example") {
		w.t.Fatalf("nobody is asked: %s", got)
	}
	first := ada.submit("/consent", url.Values{"decision": {"allow"}})
	if first.code() == "" {
		w.t.Fatalf("near miss: consent: %s", first)
	}
	if got := ada.get(ask(good, "good.example").address(w)); got.code() == "" {
		w.t.Errorf("near miss: consented before: %s", got)
	}
	for name, change := range map[string]func(*flow){
		"another client": func(f *flow) {
			f.ask.Set("client_id", evil)
			f.ask.Set("redirect_uri", "https://evil.example/callback")
		},
		"another server": func(f *flow) { f.ask.Set("resource", w.resource("b")) },
		"further scopes": func(f *flow) { f.ask.Set("scope", "admin") },
		"prompt consent": func(f *flow) { f.ask.Set("prompt", "consent") },
	} {
		f := ask(good, "good.example")
		change(f)
		w.tally.tried++
		if got := ada.get(f.address(w)); got.code() != "" || !strings.Contains(got.text, `action="/issuer/consent"`) {
			w.t.Errorf("confused deputy, %s: %s", name, got)
		} else {
			w.tally.refused++
		}
	}
	w.try(func(w *world) answer { return ada.get(ask(good, "good.example").address(w)) }, answer.granted, w.consents(ada, evil, ask))
}

// consents are answers to the question about the evil client that the person did not give.
func (w *world) consents(ada *browser, evil string, ask func(client, host string) *flow) []attack {
	page := func() url.Values { ada.get(ask(evil, "evil.example").address(w)); return ada.fields("/consent") }
	forgedForm, forged := step{"", "form_forged"}, step{"AUT-05", "consent_forged"}
	with := func(name string, want step, fields func() url.Values) attack {
		return attack{name, func(*world) answer {
			f := fields()
			f.Set("decision", "allow")
			return ada.follow(ada.form("/consent", f))
		}, want, ""}
	}
	return []attack{
		{"silent request of a client nobody agreed to", func(w *world) answer {
			f := ask(evil, "evil.example")
			f.ask.Set("prompt", "none")
			return ada.get(f.address(w))
		}, step{"", "consent_required"}, `location ""`},
		with("consent without token", forgedForm, func() url.Values { f := page(); f.Del("csrf"); return f }),
		with("consent without question", forged, func() url.Values { f := page(); f.Del("question"); return f }),
		with("consent to a changed question", forged, func() url.Values {
			f := page()
			q := f.Get("question")
			f.Set("question", q[:len(q)-8]+"AAAAAAAA")
			return f
		}),
		with("consent with the question of another person", forged, func() url.Values {
			bob := w.login("bob")
			bob.get(ask(evil, "evil.example").address(w))
			f := page()
			f.Set("question", bob.fields("/consent").Get("question"))
			return f
		}),
		with("consent answered twice", step{"AUT-05", "consent_replayed"}, func() url.Values {
			f := page()
			refused := url.Values{"csrf": f["csrf"], "question": f["question"], "decision": {"refuse"}}
			ada.do(ada.form("/consent", refused))
			return f
		}),
	}
}

// approvalPage decides on calls at the page, as the wrong person or about another call.
func (w *world) approvalPage() {
	w.t.Helper()
	boss, eve, ada := w.login("boss", "ops"), w.login("eve"), w.login("ada", "ops")
	n := 0
	held := func() string {
		n++
		w.send(call{token: w.mint(claimsOf("local:ada")), tool: "pay", text: strings.Repeat("x", n)})
		return w.waiting()[0].ID
	}
	w.try(func(*world) answer {
		boss.get("/issuer/approve/" + held())
		return boss.submit("/approve", url.Values{"decision": {"approve"}})
	}, shown, []attack{
		{"seen by somebody else", func(*world) answer { got := eve.get("/issuer/approve/" + held()); w.clear(); return got }, step{"", "approval_unknown"}, ""},
		{"an id that was guessed", func(*world) answer { return boss.get("/issuer/approve/AAAA") }, step{"", "approval_unknown"}, ""},
		{"approved by who asked", func(w *world) answer {
			w.send(call{token: w.mint(claimsOf("local:bob")), tool: "pay", text: "of bob"})
			ada.get("/issuer/approve/" + w.waiting()[0].ID)
			f := ada.fields("/approve") // which ada may send
			boss.get("/issuer/approve/" + w.waiting()[0].ID)
			w.clear()
			id := held()
			boss.get("/issuer/approve/" + id)
			f.Set("id", id)
			f.Set("digest", boss.fields("/approve").Get("digest"))
			f.Set("decision", "approve")
			got := ada.do(ada.form("/approve", f))
			w.clear()
			return got
		}, step{"", "approval_forbidden"}, ""},
		{"approved with the digest of another call", func(*world) answer {
			boss.get("/issuer/approve/" + held())
			old := boss.fields("/approve").Get("digest")
			w.clear()
			boss.get("/issuer/approve/" + held())
			got := boss.submit("/approve", url.Values{"decision": {"approve"}, "digest": {old}})
			w.clear()
			return got
		}, step{"", "approval_changed"}, ""},
		{"decided on after somebody else did", func(w *world) answer {
			boss.get("/issuer/approve/" + held())
			w.clear()
			return boss.submit("/approve", url.Values{"decision": {"approve"}})
		}, step{"", "approval_over"}, ""},
		{"approved by a form of another site", func(*world) answer {
			boss.get("/issuer/approve/" + held())
			f := boss.fields("/approve")
			f.Set("decision", "approve")
			req := boss.form("/approve", f)
			req.Header.Set("Sec-Fetch-Site", "cross-site")
			got := boss.do(req)
			w.clear()
			return got
		}, step{"", "form_forged"}, ""},
	})
}

// hosts asks under other names for this address (DNS rebinding), and with headers of proxies.
func (w *world) hosts() {
	w.t.Helper()
	for _, host := range []string{"evil.example", "localhost", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example"} {
		for _, path := range []string{"/issuer/account", "/issuer/logout", "/issuer/approve"} {
			req := w.request(http.MethodGet, w.base+path, "")
			req.Host = host
			if got := w.do(req); got.status != http.StatusMisdirectedRequest || len(got.header["Set-Cookie"]) > 0 {
				w.t.Errorf("%s as %s: %s", path, host, got)
			}
		}
	}
	for _, name := range []string{"X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-Url", "X-Rewrite-Url"} {
		for _, path := range []string{"/issuer/account", "/.well-known/oauth-authorization-server/issuer", "/.well-known/oauth-protected-resource/mcp/a"} {
			req := w.request(http.MethodGet, w.base+path, "")
			req.Header.Set(name, "evil.example")
			if got := w.do(req); strings.Contains(got.text, "evil.example") || strings.Contains(got.String(), "evil.example") {
				w.t.Errorf("%s with %s: %s", path, name, got)
			}
		}
	}
}

// headers are those that every page must have.
func (w *world) headers() {
	w.t.Helper()
	ada := w.login("ada")
	f := w.flow("web", webBack)
	f.ask.Set("redirect_uri", "https://evil.example")
	for _, path := range []string{
		"/issuer/account", "/issuer/logout", "/issuer/approve", "/issuer/login/link/" + strings.Repeat("A", 52), "/issuer/nothing", "/issuer/login/callback/x",
		"/issuer/oauth/connect/a", "/issuer/oauth/connect/nothing", "/issuer/oauth/callback", strings.TrimPrefix(f.address(w), w.base),
	} {
		got := ada.do(w.request(http.MethodGet, w.base+path, ""))
		csp := got.header.Get("Content-Security-Policy")
		for name, ok := range map[string]bool{
			"frame-ancestors":        strings.Contains(csp, "frame-ancestors 'none'") || got.header.Get("Location") != "",
			"no unsafe scripts":      !strings.Contains(csp, "script-src 'unsafe") && strings.Contains(csp, "default-src 'none'"),
			"base-uri":               strings.Contains(csp, "base-uri 'none'"),
			"X-Frame-Options":        got.header.Get("X-Frame-Options") == "DENY",
			"X-Content-Type-Options": got.header.Get("X-Content-Type-Options") == "nosniff",
			"Referrer-Policy":        got.header.Get("Referrer-Policy") == "no-referrer" || got.header.Get("Referrer-Policy") == "same-origin",
			"Cache-Control":          strings.Contains(got.header.Get("Cache-Control"), "no-store"),
			"no CORS":                got.header.Get("Access-Control-Allow-Origin") == "",
			"Content-Type":           strings.HasPrefix(got.header.Get("Content-Type"), "text/html; charset=utf-8"),
		} {
			if !ok {
				w.t.Errorf("%s: %s: %v", path, name, got.header)
			}
		}
		for _, c := range got.header["Set-Cookie"] {
			if !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") {
				w.t.Errorf("%s: cookie %s", path, c)
			}
		}
	}
}

// register registers a client that nobody knows (RFC 7591).
func (w *world) register(t *testing.T, redirect string) string {
	t.Helper()
	req := w.request(http.MethodPost, w.base+"/issuer/register", `{"client_name":"Nice Client","redirect_uris":["`+redirect+`"],"token_endpoint_auth_method":"none","logo_uri":"http://127.0.0.1:1/logo.png"}`)
	req.Header.Set("Content-Type", "application/json")
	got := w.do(req)
	if got.member("client_id") == "" {
		t.Fatalf("register: %s", got)
	}
	return got.member("client_id")
}
