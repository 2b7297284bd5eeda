package login

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/internal/passkey/passkeytest"
)

// hold puts a call of ada's in the way.
func (s *site) hold(id string, change ...func(*Pending)) {
	p := Pending{
		ID: id, Requester: s.url + "|local:ada", Server: "notes", Tool: "delete", Effect: "destructive", Final: true,
		Arguments: []byte(`{"id":7}`), Digest: "d1", Opened: s.clock.Now(), NotAfter: s.clock.Now().Add(time.Hour), Open: true,
		Approvers: []string{"group:approvers"}, Risk: 50,
	}
	for _, f := range change {
		f(&p)
	}
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	s.calls.all[id] = p
}

func TestApprove(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	s.hold("h1")
	b := s.browser(t)
	if v := b.get("/oauth/approve/h1"); find(v.root, byID("passkey-login")) == nil || strings.Contains(v.text, "destructive") {
		t.Fatalf("somebody who is not logged in sees the call: %s", v.main())
	}
	b.link("bob", "approvers")
	v := b.get("/oauth/approve/h1")
	for id, want := range map[string]string{"tool": "delete", "server": "notes", "digest": "d1", "parameters": "{\n  \"id\": 7\n}"} {
		if got := v.shown(id); got != want {
			t.Errorf("#%s shows %q, want %q", id, got, want)
		}
	}
	path, form := v.form("approve")
	form.Set("note", "as agreed")
	if v := b.post(path, form); v.status != http.StatusOK {
		t.Fatalf("status %d: %s", v.status, v.main())
	}
	if diff := cmp.Diff([]string{"h1 d1 local:bob true as agreed"}, s.calls.decided); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	b.post(path, form).wantCode(t, http.StatusConflict, "approval_over")
	s.hold("h2")
	b.press(b.get("/oauth/approve/h2"), "deny")
	if got := s.calls.decided[1]; got != "h2 d1 local:bob false " {
		t.Errorf("decided %q", got)
	}
}

func TestWhoMayApprove(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		user   string
		groups []string
		hold   func(*Pending)
		sees   bool
		may    bool
	}{
		{"approver", "bob", []string{"approvers"}, nil, true, true},
		{"stranger", "eve", []string{"others"}, nil, false, false},
		{"requester", "ada", []string{"approvers"}, nil, true, false},
		{"requester_allowed", "ada", nil, func(p *Pending) { p.Self = true }, true, true},
		{"named", "eve", nil, func(p *Pending) { p.Approvers = []string{strings.Split(p.Requester, "|")[0] + "|local:eve"} }, true, true},
		{"named_at_another_issuer", "eve", nil, func(p *Pending) { p.Approvers = []string{"https://idp.example|local:eve"} }, false, false},
		{"anyone_is_not_everybody", "eve", nil, func(p *Pending) { p.Approvers = []string{"*"} }, false, false},
		{"anyone_is_configured", "eve", []string{"ops"}, func(p *Pending) { p.Approvers = []string{"*"} }, true, true},
		{"nobody", "bob", []string{"approvers", "ops"}, func(p *Pending) { p.Approvers = nil }, false, false},
		{"cut", "bob", []string{"approvers"}, func(p *Pending) { p.Cut = true }, true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true, local, func(cfg *Config, _ *site) { cfg.Approvers = []string{"group:ops"} })
			s.hold("open") // somebody who may, for the token
			if c.hold != nil {
				s.hold("h1", c.hold)
			} else {
				s.hold("h1")
			}
			b := s.browser(t)
			b.link(c.user, c.groups...)
			v := b.get("/oauth/approve/h1")
			if c.sees != (find(v.root, byID("parameters")) != nil) {
				t.Errorf("sees it: %v, want %v: %s", !c.sees, c.sees, v.main())
			}
			if !c.sees {
				v.wantCode(t, http.StatusNotFound, "approval_unknown")
				unknown := b.get("/oauth/approve/none")
				if unknown.main() != v.main() {
					t.Error("a call of others and no call look different")
				}
			}
			if got := find(v.root, byID("approve")) != nil; got != c.may {
				t.Errorf("may approve: %v, want %v", got, c.may)
			}
			csrf := s.tokenFor(b, "/oauth/approve")
			b.post("/oauth/approve", map[string][]string{"csrf": {csrf}, "id": {"h1"}, "digest": {"d1"}, "decision": {"approve"}})
			if got := slices.Contains(s.calls.decided, "h1 d1 local:"+c.user+" true "); got != c.may {
				t.Errorf("decided: %v, want %v", got, c.may)
			}
			if got := find(b.get("/oauth/approve").root, func(n *htmlNode) bool { return attr(n, "href") == "/oauth/approve/h1" }) != nil; got != (c.sees && !c.may) {
				t.Errorf("listed: %v, want %v", got, c.sees && !c.may) // what was decided is not listed any more
			}
		})
	}
}

// tokenFor makes the token that a page would have carried, for attackers who have a page.
func (s *site) tokenFor(b *browser, path string) string {
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: s.cookies.browser, Value: b.cookie("browser")})
	r.AddCookie(&http.Cookie{Name: s.cookies.session, Value: b.cookie("session")})
	return s.csrf(nil, r, path)
}

func TestApprovalIsBoundToWhatWasShown(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	s.hold("h1")
	b := s.browser(t)
	b.link("bob", "approvers")
	path, form := b.get("/oauth/approve/h1").form("approve")
	s.hold("h1", func(p *Pending) { p.Arguments, p.Digest = []byte(`{"id":"*"}`), "d2" }) // changed after it was shown
	b.post(path, form).wantCode(t, http.StatusConflict, "approval_changed")
	form.Del("digest")
	b.post(path, form).wantCode(t, http.StatusConflict, "approval_changed")
	if len(s.calls.decided) > 0 {
		t.Errorf("decided %q", s.calls.decided)
	}
	s.wantReason(t, "approval_changed")
}

func TestApprovalStepUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	d := passkeytest.New(originOf(s))
	b := s.browser(t)
	b.link("bob", "approvers")
	b.register(d)
	s.hold("h1", func(p *Pending) { p.ACR, p.MaxAge = []string{ACRPasskey}, 5*time.Minute })
	v := b.get("/oauth/approve/h1")
	if find(v.root, byID("approve")) != nil {
		t.Fatal("a login with a link suffices")
	}
	if status, out := b.passkey("/oauth/approve/h1", d); status != http.StatusOK || out.To != "/oauth/approve/h1" {
		t.Fatalf("step-up: %d %+v", status, out)
	}
	path, form := b.get("/oauth/approve/h1").form("approve")
	s.clock.add(6 * time.Minute) // between reading and deciding
	if v := b.post(path, form); find(v.root, byID("passkey-login")) == nil || len(s.calls.decided) > 0 {
		t.Errorf("an old login decides: %s", v.main())
	}
	if status, out := b.passkey("/oauth/approve/h1", d); status != http.StatusOK {
		t.Fatalf("step-up: %d %+v", status, out)
	}
	b.press(b.get("/oauth/approve/h1"), "approve")
	if len(s.calls.decided) != 1 {
		t.Errorf("decided %q", s.calls.decided)
	}
}

// TestApprovalWantsWhatIsConfigured proves that the configuration asks for a stronger login where a call does not.
func TestApprovalWantsWhatIsConfigured(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local, func(cfg *Config, _ *site) { cfg.Approval.ACR = []string{ACRPasskey} })
	s.hold("h1")
	b := s.browser(t)
	b.link("bob", "approvers")
	if v := b.get("/oauth/approve/h1"); find(v.root, byID("approve")) != nil || find(v.root, byID("passkey-login")) == nil {
		t.Errorf("a login with a link suffices: %s", v.main())
	}
	b.post("/oauth/approve", map[string][]string{"csrf": {s.tokenFor(b, "/oauth/approve")}, "id": {"h1"}, "digest": {"d1"}, "decision": {"approve"}})
	if len(s.calls.decided) > 0 {
		t.Errorf("decided %q", s.calls.decided)
	}
}

// TestTooLongToRead proves that nobody approves parameters that the page does not show.
func TestTooLongToRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	b := s.browser(t)
	b.link("bob", "approvers")
	for name, arguments := range map[string]string{"long": `{"a":"` + strings.Repeat("x", maxShown) + `"}`, "absent": ""} {
		s.hold(name, func(p *Pending) { p.Arguments = []byte(arguments) })
		v := b.get("/oauth/approve/" + name)
		if find(v.root, byID("approve")) != nil {
			t.Errorf("%s: the page offers to approve", name)
		}
		path, form := v.form("deny")
		form.Set("decision", "approve")
		b.post(path, form).wantCode(t, http.StatusConflict, "approval_changed")
		b.press(v, "deny")
	}
	if got := len(s.calls.decided); got != 2 {
		t.Errorf("%d decisions, want two denials: %q", got, s.calls.decided)
	}
}

func TestApprovalsInOrder(t *testing.T) {
	s := newSite(t, true, local)
	s.hold("low", func(p *Pending) { p.Risk = 10 })
	s.hold("high", func(p *Pending) { p.Risk = 90 })
	s.hold("soon", func(p *Pending) { p.Risk, p.NotAfter = 90, s.clock.Now().Add(time.Minute) })
	s.hold("over", func(p *Pending) { p.Open = false })
	b := s.browser(t)
	b.link("bob", "approvers")
	var got []string
	find(b.get("/oauth/approve").root, func(n *htmlNode) bool {
		if id, ok := strings.CutPrefix(attr(n, "href"), "/oauth/approve/"); ok {
			got = append(got, id)
		}
		return false
	})
	if diff := cmp.Diff([]string{"soon", "high", "low"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	t.Run("dependency_killed", func(t *testing.T) {
		s.calls.mu.Lock()
		s.calls.err = errors.New("the store is gone")
		s.calls.mu.Unlock()
		b.get("/oauth/approve").wantCode(t, http.StatusServiceUnavailable, "unavailable")
	})
}
