package login

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

// question is what an honest client asks.
func question() issuer.Question {
	return issuer.Question{
		Client:   issuer.Client{ID: "https://agents.example/client.json", Name: "Helpful Agent", Source: issuer.SourceDocument},
		Resource: "https://example.com/mcp/notes", Server: "notes", Scopes: []string{"notes:read"},
		RedirectURI: "https://agents.example/callback",
	}
}

func (s *site) setAsk(q issuer.Question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask = q
}

const authorize = "/oauth/authorize?continue=r1"

// asked reports whether a view is the consent page.
func asked(v *view) bool { return find(v.root, byID("allow")) != nil }

func TestAUT05(t *testing.T) {
	if got := (&consents{}).Control(); got != "AUT-05" {
		t.Errorf("Control() = %q", got)
	}
	t.Run("pass", consentPasses)
	t.Run("near_miss", consentNearMisses)
	t.Run("deny", consentDenies)
	t.Run("deny_answers", consentAnswers)
	t.Run("modes", consentModes)
	t.Run("dependency_killed", consentFailsClosed)
	t.Run("deny_published_attack", confusedDeputy)
}

func consentPasses(t *testing.T) {
	s := newSite(t, true, local)
	s.setAsk(question())
	b := s.browser(t)
	b.link("ada")
	v := b.get(authorize)
	for id, want := range map[string]string{
		"client-name": "Helpful Agent", "client-id": "https://agents.example/client.json", "client-host": "agents.example",
		"server": "notes", "resource": "https://example.com/mcp/notes", "scopes": "notes:read", "redirect-host": "agents.example",
	} {
		if got := v.shown(id); got != want {
			t.Errorf("#%s shows %q, want %q", id, got, want)
		}
	}
	if got := b.press(v, "allow").onward(); got != authorize {
		t.Fatalf("after the answer: %q", got)
	}
	if v := b.get(authorize); v.status != http.StatusFound {
		t.Fatalf("status %d: %s", v.status, v.main())
	}
	b.get("/oauth/authorize?continue=r2") // another request for the same: nobody is asked again
	if got := s.codes(); len(got) != 2 {
		t.Errorf("codes %q", got)
	}
	if !strings.Contains(b.get("/oauth/account").shown("consents"), "Helpful Agent") {
		t.Error("the account page does not list it")
	}
	for _, e := range s.events {
		if e.Reason == "consent_given" && (e.Control != "AUT-05" || e.Outcome != warder.OutcomeAllowed || e.Principal.Subject != "local:ada") {
			t.Errorf("event %+v", e)
		}
	}
	s.wantReason(t, "consent_given")
}

// consented is a site where ada agreed to the question.
func consentedSite(t *testing.T, q issuer.Question) (*site, *browser) {
	t.Helper()
	s := newSite(t, true, local, func(cfg *Config, _ *site) { cfg.Consent.Trusted = []string{"console"} })
	s.setAsk(q)
	b := s.browser(t)
	b.link("ada")
	b.press(b.get(authorize), "allow").onward()
	b.get(authorize)
	if len(s.codes()) != 1 {
		t.Fatal("no code after consent")
	}
	return s, b
}

func consentNearMisses(t *testing.T) {
	most := 5
	narrow := []warder.Detail{{Server: "notes", Tools: []string{"search", "read"}, MaxCalls: most}}
	cases := []struct {
		name   string
		before func(*issuer.Question)
		change func(*issuer.Question)
	}{
		{"fewer_scopes", func(q *issuer.Question) { q.Scopes = []string{"a", "b"} }, func(q *issuer.Question) { q.Scopes = []string{"b"} }},
		{"narrower_details", func(q *issuer.Question) { q.Details = narrow }, func(q *issuer.Question) {
			q.Details = []warder.Detail{{Server: "notes", Tools: []string{"read"}, MaxCalls: 1}}
		}},
		{"details_where_there_were_none", nil, func(q *issuer.Question) { q.Details = narrow }},
		{"another_path_at_the_host", nil, func(q *issuer.Question) { q.RedirectURI = "https://agents.example/other" }},
		{"trusted_client", nil, func(q *issuer.Question) { q.Client = issuer.Client{ID: "console", Source: issuer.SourceConfig} }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			q := question()
			if c.before != nil {
				c.before(&q)
			}
			s, b := consentedSite(t, q)
			c.change(&q)
			s.setAsk(q)
			if v := b.get("/oauth/authorize?continue=r2"); v.status != http.StatusFound {
				t.Errorf("asked again: status %d: %s", v.status, v.main())
			}
		})
	}
}

func consentDenies(t *testing.T) {
	cases := []struct {
		name   string
		change func(*issuer.Question)
	}{
		{"another_client", func(q *issuer.Question) { q.Client.ID = "https://evil.example/client.json" }},
		{"another_redirect_host", func(q *issuer.Question) { q.RedirectURI = "https://evil.example/callback" }},
		{"another_redirect_port", func(q *issuer.Question) { q.RedirectURI = "https://agents.example:8443/callback" }},
		{"another_resource", func(q *issuer.Question) { q.Resource = "https://example.com/mcp/mail" }},
		{"another_scope", func(q *issuer.Question) { q.Scopes = []string{"notes:write"} }},
		{"more_scopes", func(q *issuer.Question) { q.Scopes = append(q.Scopes, "notes:write") }},
		{"no_details", func(q *issuer.Question) { q.Details = nil }},
		{"wider_details", func(q *issuer.Question) { q.Details = []warder.Detail{{Server: "notes"}} }},
		{"program_on_this_computer", func(q *issuer.Question) { q.Client.Loopback = true }},
		{"asked_to_ask", func(q *issuer.Question) { q.Prompt = "consent" }},
		{"id_of_a_trusted_client_that_registered_itself", func(q *issuer.Question) {
			q.Client = issuer.Client{ID: "console", Source: issuer.SourceDynamic}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			q := question()
			q.Details = []warder.Detail{{Server: "notes", Tools: []string{"search"}}}
			s, b := consentedSite(t, q)
			c.change(&q)
			s.setAsk(q)
			if v := b.get("/oauth/authorize?continue=r2"); !asked(v) {
				t.Errorf("nobody was asked: status %d: %s", v.status, v.main())
			}
			if got := s.codes(); len(got) != 1 {
				t.Errorf("codes %q", got)
			}
		})
	}
}

func consentAnswers(t *testing.T) {
	t.Run("another_person", func(t *testing.T) {
		s, _ := consentedSite(t, question())
		b := s.browser(t)
		b.link("bob")
		if v := b.get(authorize); !asked(v) {
			t.Errorf("ada's answer counts for bob: %s", v.main())
		}
	})
	t.Run("refused", func(t *testing.T) {
		s := newSite(t, true, local)
		s.setAsk(question())
		b := s.browser(t)
		b.link("ada")
		b.press(b.get(authorize), "refuse").onward()
		if v := b.get(authorize); v.header.Get("Location") != "https://agents.example/callback?error=access_denied" {
			t.Errorf("status %d, to %q", v.status, v.header.Get("Location"))
		}
		if len(s.codes()) > 0 {
			t.Error("a code after a refusal")
		}
		if v := b.get("/oauth/authorize?continue=r2"); !asked(v) {
			t.Error("the refusal is kept for other requests")
		}
		s.wantReason(t, "consent_refused")
	})
	t.Run("silently", func(t *testing.T) {
		s := newSite(t, true, local)
		q := question()
		q.Prompt = "none"
		s.setAsk(q)
		b := s.browser(t)
		b.link("ada")
		if v := b.get(authorize); asked(v) || len(s.codes()) > 0 {
			t.Errorf("prompt none: status %d, codes %q", v.status, s.codes())
		}
	})
	t.Run("taken_back", func(t *testing.T) {
		s, b := consentedSite(t, question())
		list := find(b.get("/oauth/account").root, byID("consents"))
		get := func(name string) string {
			return attr(find(list, func(n *htmlNode) bool { return attr(n, "name") == name }), "value")
		}
		form := url.Values{"csrf": {get("csrf")}, "id": {get("id")}}
		b.post("/oauth/account/consent", form).onward()
		b.post("/oauth/account/consent", form).wantCode(t, http.StatusNotFound, "consent_unknown")
		if v := b.get("/oauth/authorize?continue=r2"); !asked(v) {
			t.Errorf("the answer still counts: %s", v.main())
		}
		if diff := cmp.Diff([]string{"local:ada https://agents.example/client.json"}, s.withdrawn); diff != "" {
			t.Errorf("withdrawn (-want +got):\n%s", diff)
		}
		s.wantReason(t, "consent_ended")
	})
	t.Run("ended", func(t *testing.T) {
		s, _ := consentedSite(t, question())
		s.clock.add(defaultKeep)
		b := s.browser(t)
		b.link("ada")
		if v := b.get(authorize); !asked(v) {
			t.Errorf("the answer counts after %v: %s", defaultKeep, v.main())
		}
	})
}

func consentModes(t *testing.T) {
	t.Run("monitored", func(t *testing.T) {
		s := newSite(t, true, local)
		s.modes["AUT-05"] = issuer.Monitor
		s.setAsk(question())
		b := s.browser(t)
		b.link("ada")
		b.get(authorize)
		if len(s.codes()) != 1 {
			t.Error("monitor mode enforces")
		}
		s.wantReason(t, "consent_missing")
	})
	t.Run("off", func(t *testing.T) { // the mutation check: without the control the attack works
		s := newSite(t, true, local)
		s.modes["AUT-05"] = issuer.Off
		s.setAsk(question())
		b := s.browser(t)
		b.link("ada")
		b.get(authorize)
		if len(s.codes()) != 1 {
			t.Error("the control refuses although it is off")
		}
	})
}

func consentFailsClosed(t *testing.T) {
	s, b := consentedSite(t, question())
	t.Run("store", func(t *testing.T) {
		s.store.fail(errors.New("the store is gone"))
		defer s.store.fail(nil)
		b.get("/oauth/authorize?continue=r2").wantCode(t, http.StatusServiceUnavailable, "unavailable")
	})
	t.Run("trail", func(t *testing.T) {
		q := question()
		q.Client.ID = "https://other.example/client.json"
		s.setAsk(q)
		v := b.get("/oauth/authorize?continue=r3")
		s.mu.Lock()
		s.trail = errors.New("the disk is full")
		s.mu.Unlock()
		b.press(v, "allow").wantCode(t, http.StatusServiceUnavailable, "unavailable")
		s.mu.Lock()
		s.trail = nil
		s.mu.Unlock()
		if v := b.get("/oauth/authorize?continue=r3"); !asked(v) {
			t.Error("an answer that was not recorded counts")
		}
	})
	if got := s.codes(); len(got) != 1 {
		t.Errorf("codes %q", got)
	}
}

// confusedDeputy replays the attack of the MCP security best practices ("Confused deputy problem", attack
// description) step by step, each with what an attacker tries when the step fails.
func confusedDeputy(t *testing.T) {
	o := newOP(t, "corp", &clock{now: time.Now()})
	s := newSite(t, true, func(cfg *Config, s *site) {
		s.clock, s.store.Memory = o.clock, state.NewMemory(o.clock.Now)
		o.with()(cfg, s)
	})
	honest := question()
	s.setAsk(honest)
	victim := s.browser(t)
	victim.federated(o) // 1: the person uses an honest client, the provider knows them and will not ask again
	victim.press(victim.get(authorize), "allow").onward()
	victim.get(authorize)

	evil := question() // 2: the attacker registers a client with a redirect URI of its own
	evil.Client = issuer.Client{ID: "dyn-666", Name: "Helpful Agent", Source: issuer.SourceDynamic}
	evil.RedirectURI = "https://attacker.example/callback"
	s.setAsk(evil)
	const attack = "/oauth/authorize?continue=evil"
	t.Run("step_1_a_link_with_the_cookies_of_the_victim", func(t *testing.T) { // 3: the person follows the attacker's link
		asks := len(o.asked)
		v := victim.get(attack)
		if !asked(v) || v.shown("redirect-host") != "attacker.example" || v.shown("client-id") != "dyn-666" {
			t.Fatalf("the person is not told who asks: %s", v.main())
		}
		if v.header.Get("Location") != "" || len(o.asked) != asks {
			t.Error("something was forwarded before consent")
		}
		if docs, err := s.store.List(t.Context(), state.Query{Kind: kindFlow}); err != nil || len(docs) != 0 {
			t.Errorf("a state was stored before consent: %d, %v", len(docs), err)
		}
	})
	t.Run("step_2_the_page_in_a_frame", func(t *testing.T) {
		v := victim.get(attack)
		if v.header.Get("X-Frame-Options") != "DENY" || !strings.Contains(v.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("the page can be framed: %v", v.header)
		}
	})
	t.Run("step_3_the_answer_from_the_attackers_page", func(t *testing.T) {
		attacker := s.browser(t)
		attacker.federated(o)
		_, form := attacker.get(attack).form("allow") // a form of the attacker's own session
		cross := func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Origin", "https://attacker.example")
		}
		victim.post("/oauth/consent", form, cross).wantCode(t, http.StatusForbidden, "form_forged")
		victim.post("/oauth/consent", form).wantCode(t, http.StatusForbidden, "form_forged")
		_, own := victim.get(attack).form("allow")
		own.Set("question", form.Get("question")) // the question of another session with the own token
		victim.post("/oauth/consent", own).wantCode(t, http.StatusForbidden, "consent_forged")
	})
	t.Run("step_4_the_answer_to_another_question", func(t *testing.T) { // the honest client is allowed, the evil one gets the code
		s.setAsk(honest)
		honestAgain := honest
		honestAgain.Prompt = "consent"
		s.setAsk(honestAgain)
		victim.press(victim.get(attack), "allow").onward()
		s.setAsk(evil)
		if v := victim.get(attack); !asked(v) {
			t.Errorf("the answer about the honest client counts for the other: %s", v.main())
		}
	})
	t.Run("step_5_the_answer_twice", func(t *testing.T) {
		path, form := victim.get(attack).form("refuse")
		victim.post(path, form).onward()
		form.Set("decision", "allow")
		victim.post(path, form).wantCode(t, http.StatusConflict, "consent_replayed")
	})
	t.Run("step_6_after_the_person_is_gone", func(t *testing.T) {
		b := s.browser(t)
		b.federated(o)
		path, form := b.get("/oauth/authorize?continue=evil2").form("allow")
		b.press(b.get("/oauth/logout"), "sign-out-confirm")
		b.post(path, form).wantCode(t, http.StatusForbidden, "form_forged")
	})
	if diff := cmp.Diff([]string{"corp:u-1 " + honest.Client.ID}, slices.Compact(s.codes())); diff != "" {
		t.Errorf("codes were issued for (-want +got):\n%s", diff)
	}
}

// TestNamesAreData shows names that try to be more than names on every page that shows them.
func TestNamesAreData(t *testing.T) {
	t.Parallel()
	const nasty = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>` + "{{.CSRF}}" + "pay\u202egpj.exe\u200b\u2066\u00ad\U000e0041\x00"
	s := newSite(t, true, local)
	q := question()
	q.Client.Name, q.Client.ID, q.Client.URI = nasty, "https://x.example/"+nasty, "javascript:alert(1)"
	q.Client.Loopback = true
	q.Resource, q.Server, q.Scopes = nasty, nasty, []string{nasty}
	q.RedirectURI = "http://127.0.0.1:1234/" + nasty
	q.Details = []warder.Detail{{Server: nasty, Tools: []string{nasty}, Purpose: nasty, Arguments: []warder.Bound{{Pointer: "/" + nasty, Prefix: nasty}}}}
	s.setAsk(q)
	s.calls.all["h1"] = Pending{
		ID: "h1", Requester: nasty, Name: nasty, Agent: nasty, Client: nasty, Server: nasty, Tool: nasty, Effect: nasty, Purpose: nasty, Why: nasty,
		Arguments: []byte(`{"a":"` + "x\u202ey\u200b" + `<script>alert(1)</script>"}`), Digest: "d", NotAfter: s.clock.Now().Add(time.Hour),
		Open: true, Approvers: []string{"group:g"}, Outcome: nasty,
	}
	b := s.browser(t)
	r := func(path string) *view {
		t.Helper()
		v := b.get(path)
		if find(v.root, func(n *htmlNode) bool { return n.Data == "script" && attr(n, "src") == "" || n.Data == "img" }) != nil {
			t.Errorf("%s: a name became markup:\n%s", path, v.text)
		}
		for _, c := range []string{"\u202e", "\u200b", "\u2066", "\u00ad", "\U000e0041", "\x00"} {
			if strings.Contains(v.text, c) {
				t.Errorf("%s: %q is there as it came", path, c)
			}
		}
		return v
	}
	b.link("ada", "g", nasty)
	v := r(authorize)
	for _, want := range []string{"U+202E", "U+200B", "U+2066", "U+00AD", "U+E0041"} {
		if !strings.Contains(v.shown("client-name"), want) && !strings.Contains(v.shown("client-id"), want) {
			t.Errorf("the consent page does not name %s: %s", want, v.shown("client-name"))
		}
	}
	if find(v.root, byID("loopback")) == nil {
		t.Error("no warning about a redirect to this computer")
	}
	if strings.Contains(v.text, "javascript:") && find(v.root, func(n *htmlNode) bool { return strings.HasPrefix(attr(n, "href"), "javascript:") }) != nil {
		t.Error("a link runs a script")
	}
	b.press(v, "allow").onward()
	r("/oauth/account")
	r("/oauth/approve")
	v = r("/oauth/approve/h1")
	if !strings.Contains(v.shown("parameters"), "xU+202Ey") {
		t.Errorf("parameters: %s", v.shown("parameters"))
	}
}
