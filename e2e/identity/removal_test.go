package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// corpProvider is oidc-provider as the company's provider, where Warder is a client that people log in
// through and that is told when a session ends.
func corpProvider(ctx context.Context, t *testing.T, s site) *kit.NodeProvider {
	t.Helper()
	needNode(t)
	p, err := kit.OIDCProvider(ctx, map[string]any{"refresh": true, "clients": []any{map[string]any{
		"client_id": "warder", "client_secret": "federation-secret", "redirect_uris": []string{s.issuer() + "/login/callback/corp"},
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"backchannel_logout_uri": s.base + "/signals/logout", "backchannel_logout_session_required": true,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, &p.Provider)
	return p
}

// corpLogin is the section of the issuer that lets people log in at it.
func corpLogin(t *testing.T, p *kit.NodeProvider) string {
	t.Helper()
	return fmt.Sprintf("login:\n  recheck: 5s\n  local: {enabled: true}\n  providers:\n    - {name: corp, title: The Company, issuer: %q, client_id: warder, client_secret: {file: %q}, private: true, scopes: [openid, profile, groups, offline_access]}\n",
		p.Issuer, secretFile(t, "federation-secret"))
}

// TestRemoval measures how soon somebody who logged in through a provider loses access there.
func TestRemoval(t *testing.T) {
	ctx := bounded(t)
	s := newSite(t, "127.0.0.1")
	idp := corpProvider(ctx, t, s)
	s.open(t, setup{
		issuer: cli + corpLogin(t, idp), servers: map[string]*origin{"alpha": newOrigin(t, "alpha")},
		rest: fmt.Sprintf("signals: {transmitters: [{issuer: %q, client: warder, jwks_url: %q}]}\n", idp.Issuer, text(metadata(ctx, t, idp.Issuer), "jwks_uri")),
	})
	login := func(t *testing.T) (*person, *plain, map[string]any) {
		t.Helper()
		p := newPerson(t, "ana", "x", "corp")
		c := &plain{id: "cli", metadata: metadata(ctx, t, s.issuer()), walk: p.walker()}
		m := c.login(ctx, t, s.mcp("alpha"))
		if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "sky"}, bearer(text(m, "access_token"))); r.text != "alpha: look sky" {
			t.Fatalf("before: %v", r)
		}
		return p, c, m
	}
	gone := func(t *testing.T, c *plain, m map[string]any, most time.Duration) {
		t.Helper()
		took := refusedWithin(ctx, t, s.mcp("alpha"), text(m, "access_token"), most)
		t.Logf("refused after %v", took.Round(time.Millisecond))
		if status, m := form(ctx, t, s.issuer()+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {text(m, "refresh_token")}, "client_id": {c.id}}, nil); status != http.StatusBadRequest {
			t.Errorf("refresh afterwards: status %d, %v", status, m)
		}
	}
	t.Run("logged out at the provider, which tells Warder", func(t *testing.T) {
		p, c, m := login(t)
		if _, page, err := p.walk(ctx, idp.Issuer+"/session/end", ""); err != nil {
			t.Fatalf("log out at the provider: %v, %s", err, words(page))
		}
		gone(t, c, m, 2*time.Second)
	})
	t.Run("removed at the provider, which Warder asks", func(t *testing.T) {
		_, c, m := login(t)
		if err := idp.Remove(ctx, "ana"); err != nil {
			t.Fatal(err)
		}
		gone(t, c, m, 12*time.Second)
		if err := idp.Restore(ctx, "ana"); err != nil {
			t.Fatal(err)
		}
		login(t) // whoever comes back logs in again
	})
}
