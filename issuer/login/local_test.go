package login

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestLink(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{true, false} {
		s := newSite(t, secure, local)
		b := s.browser(t)
		address, err := s.Link(t.Context(), Invite{User: "ada", Groups: []string{"operators"}, By: "console"})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(address, s.url+"/login/link/") {
			t.Errorf("link %q is not below %s", address, s.url)
		}
		for range 3 { // programs that look at links before people do
			s.browser(t).get(address)
		}
		v := b.press(b.get(address), "link-login")
		if got := v.onward(); got != "/oauth/account" {
			t.Errorf("the link leads to %q", got)
		}
		account := b.get("/oauth/account")
		if got := account.shown("subject"); got != "local:ada" {
			t.Errorf("logged in as %q, want local:ada", got)
		}
		if got := account.shown("groups"); got != "operators" {
			t.Errorf("groups %q, want operators", got)
		}
		other := s.browser(t)
		other.get(address).wantCode(t, http.StatusNotFound, "link_unknown") // once
		s.wantReason(t, "login")
		s.wantReason(t, "link_made")
	}
}

func TestLinkEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	address, err := s.Link(t.Context(), Invite{User: "ada", TTL: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser(t)
	v := b.get(address)
	s.clock.add(5 * time.Minute)
	b.press(v, "link-login").wantCode(t, http.StatusNotFound, "link_unknown")
	for _, in := range []Invite{{User: ""}, {User: "../x"}, {User: "a b"}, {User: "ada", TTL: time.Hour}, {User: "ada", TTL: -1}} {
		if _, err := s.Link(t.Context(), in); err == nil {
			t.Errorf("Link(%+v) = nil error", in)
		}
	}
	if _, err := newSite(t, true).Link(t.Context(), Invite{User: "ada"}); err == nil {
		t.Error("Link without local accounts = nil error")
	}
}
