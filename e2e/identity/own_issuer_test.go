package identity

import (
	"net/http"
	"testing"
	"time"
)

// TestOwnIssuer lets MCP clients that know OAuth find and use Warder's own authorization server.
func TestOwnIssuer(t *testing.T) {
	t.Parallel()
	ctx := within(t, 2*time.Minute)
	alpha, beta := newOrigin(t, "alpha"), newOrigin(t, "beta")
	s := newSite(t, "127.0.0.1")
	g := s.open(t, setup{
		issuer:  "login: {local: {enabled: true}}\ndcr: {mode: open}\n",
		servers: map[string]*origin{"alpha": alpha, "beta": beta},
	})
	ana := newPerson(t, "ana", "", "")
	if err := ana.enter(ctx, g, "people"); err != nil {
		t.Fatal(err)
	}
	t.Run("go-sdk registers itself", func(t *testing.T) {
		a := newAuthorizer(t, ana.walker(), registration{}, http.DefaultClient)
		session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		wants(ctx, t, session, "look", map[string]any{"topic": "sky"}, "alpha: look sky")
		if q := a.requests[0]; q.Get("resource") != s.mcp("alpha") || q.Get("code_challenge_method") != "S256" {
			t.Errorf("authorization request %v", q)
		}
		if r := post(ctx, t, s.mcp("beta"), "look", map[string]any{"topic": "x"}, bearer(a.last(t).AccessToken)); r.status != http.StatusUnauthorized || r.reason != "audience_mismatch" {
			t.Errorf("at the other server: %v", r)
		}
	})
}
