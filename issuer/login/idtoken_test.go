package login

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/issuer"
)

func TestIDToken(t *testing.T) {
	t.Parallel()
	s, o := federatedSite(t)
	s.browser(t).federated(o)
	u := *s.only()
	ask := func(user issuer.User, provider string) (string, error) {
		v, err := s.IDToken(t.Context(), user, provider)
		return string(v.Bytes()), err
	}
	first, err := ask(u, o.server.URL)
	if err != nil || strings.Count(first, ".") != 2 {
		t.Fatalf("id token %q, %v", first, err)
	}
	if again, err := ask(u, o.server.URL); err != nil || again != first || len(o.granted) != 1 {
		t.Errorf("asked again: same %t, %v, %d requests at the provider", again == first, err, len(o.granted))
	}
	other := u
	other.Subject = "local:mallory"
	for name, f := range map[string]func() (string, error){
		"another provider":        func() (string, error) { return ask(u, "https://other.example.com") },
		"another person":          func() (string, error) { return ask(other, o.server.URL) },
		"no session":              func() (string, error) { return ask(issuer.User{Subject: u.Subject}, o.server.URL) },
		"a session that is not":   func() (string, error) { return ask(issuer.User{Subject: u.Subject, Session: "x"}, o.server.URL) },
		"no provider is asked of": func() (string, error) { return ask(u, "") },
	} {
		if got, err := f(); got != "" || !errors.Is(err, ErrNoIdentity) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	s.clock.add(time.Hour - 10*time.Second)
	second, err := ask(u, o.server.URL)
	if err != nil || second == first || second == "" {
		t.Fatalf("shortly before its end: renewed %t, %v", second != first, err)
	}
	s.clock.add(2 * time.Hour)
	o.set(func() { o.noID = true })
	if got, err := ask(u, o.server.URL); got != "" || !errors.Is(err, ErrNoIdentity) {
		t.Errorf("a provider that renews without an id token: %q, %v", got, err)
	}
	o.set(func() { o.noID, o.down = false, true })
	if got, err := ask(u, o.server.URL); got != "" || err == nil {
		t.Errorf("an unreachable provider: %q, %v", got, err)
	}
	o.set(func() { o.down, o.gone = false, true })
	if got, err := ask(u, o.server.URL); got != "" || !errors.Is(err, ErrNoIdentity) || len(s.revoked) != 1 {
		t.Errorf("a person who was removed: %q, %v, revoked %q", got, err, s.revoked)
	}
}
