package identity

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// native is a public client of oidc-provider on the person's computer.
func native(id string, more map[string]any) map[string]any {
	c := map[string]any{
		"client_id": id, "token_endpoint_auth_method": "none", "application_type": "native", "redirect_uris": []string{callback},
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
	}
	maps.Copy(c, more)
	return c
}

// TestDirect uses npm's oidc-provider as the authorization server itself: it knows resource indicators, DPoP,
// rich authorization requests and metadata documents, so clients get their tokens from it.
func TestDirect(t *testing.T) {
	needNode(t)
	ctx := bounded(t)
	alpha, beta, gamma := newOrigin(t, "alpha"), newOrigin(t, "beta"), newOrigin(t, "gamma")
	documents, authority := metadataHost(t)
	s := newSite(t, "127.0.0.1")
	idp, err := kit.OIDCProvider(ctx, map[string]any{
		"cimd": true, "scopes": []string{"mcp"}, "resources": map[string]any{
			s.mcp("alpha"): map[string]any{"scope": "mcp"}, s.mcp("beta"): map[string]any{"scope": "mcp"}, s.mcp("gamma"): map[string]any{"scope": "mcp", "format": "opaque"},
		},
		"clients": []any{native("cli", map[string]any{"authorization_details_types": []string{"mcp"}}), map[string]any{
			"client_id": "warder", "client_secret": "for-introspection-only", "redirect_uris": []string{}, "grant_types": []string{}, "response_types": []string{},
		}},
	}, "NODE_EXTRA_CA_CERTS="+authority)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, &idp.Provider)
	keyed := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(keyed, []byte("for-introspection-only"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.open(t, setup{
		foreign:  true,
		identity: fmt.Sprintf("scopes_supported: [mcp]\nissuers: [{url: %q, introspection: {client_id: warder, client_secret: {file: %q}}}]\n", idp.Issuer, keyed),
		servers:  map[string]*origin{"alpha": alpha, "beta": beta, "gamma": gamma},
	})
	look := map[string]any{"topic": "sky"}
	client := func(t *testing.T, user string) *plain {
		t.Helper()
		return &plain{id: "cli", metadata: metadata(ctx, t, idp.Issuer), walk: newPerson(t, user, "x", "").walker(), more: url.Values{"scope": {"mcp"}}}
	}
	t.Run("JWT for one server", func(t *testing.T) {
		a := newAuthorizer(t, newPerson(t, "ana", "x", "").walker(), registration{id: "cli"}, http.DefaultClient)
		session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		wants(ctx, t, session, "look", look, "alpha: look sky")
		if r := post(ctx, t, s.mcp("beta"), "look", look, bearer(a.last(t).AccessToken)); r.status != http.StatusUnauthorized || r.reason != "audience_mismatch" {
			t.Errorf("at the other server: %v", r)
		}
	})
	t.Run("groups decide", func(t *testing.T) {
		token := text(client(t, "bob").login(ctx, t, s.mcp("alpha")), "access_token")
		if r := post(ctx, t, s.mcp("alpha"), "look", look, bearer(token)); r.reason != "not_found" {
			t.Errorf("of ops, who cannot see the tool: %v", r)
		}
	})
	t.Run("DPoP", func(t *testing.T) {
		c := client(t, "ana")
		c.key = newHolder(t)
		m := c.login(ctx, t, s.mcp("alpha"))
		token := text(m, "access_token")
		if text(m, "token_type") != "DPoP" {
			t.Fatalf("token type %v", m["token_type"])
		}
		header := c.key.bound(t, s.mcp("alpha"), token)
		if r := post(ctx, t, s.mcp("alpha"), "look", look, header); r.text != "alpha: look sky" {
			t.Fatalf("with a proof: %v", r)
		}
		for name, header := range map[string]http.Header{
			"proof again":           header,
			"proof for beta":        c.key.bound(t, s.mcp("beta"), token),
			"proof by another key":  newHolder(t).bound(t, s.mcp("alpha"), token),
			"no proof, as DPoP":     {"Authorization": {"DPoP " + token}},
			"no proof, as a bearer": bearer(token),
		} {
			if r := post(ctx, t, s.mcp("alpha"), "look", look, header); r.status != http.StatusUnauthorized || !strings.Contains(r.challenge, "DPoP") {
				t.Errorf("%s: %v", name, r)
			}
		}
	})
	t.Run("details narrow the token", func(t *testing.T) {
		c := client(t, "ana")
		c.push, c.more = true, url.Values{"scope": {"mcp"}, "authorization_details": {`[{"type":"mcp","server":"alpha","tools":["send"],"arguments":[{"pointer":"/amount","max":10}]}]`}}
		token := text(c.login(ctx, t, s.mcp("alpha")), "access_token")
		if r := post(ctx, t, s.mcp("alpha"), "send", map[string]any{"to": "eve", "amount": 10}, bearer(token)); r.text != "alpha: send eve 10" {
			t.Errorf("within the details: %v", r)
		}
		if r := post(ctx, t, s.mcp("alpha"), "send", map[string]any{"to": "eve", "amount": 11}, bearer(token)); r.reason != "detail_argument" {
			t.Errorf("beyond the bound: %v", r)
		}
		if r := post(ctx, t, s.mcp("alpha"), "look", look, bearer(token)); r.reason != "detail_tool" {
			t.Errorf("another tool: %v", r)
		}
		if alpha.times("send eve 11") != 0 {
			t.Error("the server did what was refused")
		}
	})
	t.Run("opaque token, and its person is removed", func(t *testing.T) {
		token := text(client(t, "ana").login(ctx, t, s.mcp("gamma")), "access_token")
		if strings.Contains(token, ".") {
			t.Fatal("the token is a JWT")
		}
		if r := post(ctx, t, s.mcp("gamma"), "look", look, bearer(token)); r.text != "gamma: look sky" {
			t.Fatalf("before: %v", r)
		}
		if r := post(ctx, t, s.mcp("alpha"), "look", look, bearer(token)); r.status != http.StatusUnauthorized {
			t.Errorf("at another server: %v", r)
		}
		if err := idp.Remove(ctx, "ana"); err != nil {
			t.Fatal(err)
		}
		r := post(ctx, t, s.mcp("gamma"), "look", look, bearer(token))
		if err := idp.Restore(ctx, "ana"); err != nil {
			t.Fatal(err)
		}
		if r.status != http.StatusUnauthorized {
			t.Errorf("the next request after: %v", r)
		}
	})
	t.Run("metadata document at the provider", func(t *testing.T) {
		id := documents + "/direct.json"
		a := newAuthorizer(t, newPerson(t, "ana", "x", "").walker(), registration{document: id}, http.DefaultClient)
		session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		wants(ctx, t, session, "look", look, "alpha: look sky")
		if a.clientID != id {
			t.Errorf("client %q", a.clientID)
		}
	})
	t.Run("TypeScript SDK with DPoP", func(t *testing.T) {
		m, _ := tsCall(ctx, t, newPerson(t, "ana", "x", "").walker(), nil, s.mcp("alpha"), "look", `{"topic":"sea"}`, map[string]any{"id": "cli", "dpop": true})
		if said(m) != "alpha: look sea" || m["type"] != "DPoP" {
			t.Errorf("%v", m)
		}
	})
}

// TestIDJAG lets the company's provider decide who may use which client for which server: an assertion of
// oidc-provider becomes a token of Warder's authorization server, and nobody is asked in a browser.
func TestIDJAG(t *testing.T) {
	needNode(t)
	ctx := bounded(t)
	alpha, beta := newOrigin(t, "alpha"), newOrigin(t, "beta")
	s := newSite(t, "127.0.0.1")
	const exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	idp, err := kit.OIDCProvider(ctx, map[string]any{"clients": []any{native("agent", map[string]any{"grant_types": []string{"authorization_code", exchange}})}})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, &idp.Provider)
	key := newHolder(t)
	s.open(t, setup{
		issuer: fmt.Sprintf("trust: [{issuer: %q, use: [id_jag], jwks_uri: %q, group_prefix: \"corp:\"}]\nclients: [{id: agent, grants: [%q], jwks: '%s'}]\n",
			idp.Issuer, text(metadata(ctx, t, idp.Issuer), "jwks_uri"), jwtBearer, key.jwks(t, "agent-1")),
		policies: `@id("company") permit (principal, action, resource) when { principal.subject == "` + idp.Issuer + `|ana" };`,
		servers:  map[string]*origin{"alpha": alpha, "beta": beta},
	})
	c := &plain{id: "agent", metadata: metadata(ctx, t, idp.Issuer), walk: newPerson(t, "ana", "x", "").walker(), more: url.Values{"scope": {"openid"}}}
	id := text(c.login(ctx, t, ""), "id_token")
	assert := func(t *testing.T) string {
		t.Helper()
		status, m := form(ctx, t, text(c.metadata, "token_endpoint"), url.Values{
			"grant_type": {exchange}, "client_id": {"agent"}, "requested_token_type": {"urn:ietf:params:oauth:token-type:id-jag"},
			"subject_token": {id}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"}, "audience": {s.issuer()}, "resource": {s.mcp("alpha")},
		}, nil)
		if status != http.StatusOK {
			t.Fatalf("exchange at the provider: status %d, %v", status, m)
		}
		return text(m, "access_token")
	}
	redeem := func(t *testing.T, assertion string) (int, map[string]any) {
		t.Helper()
		at := s.issuer() + "/token"
		return form(ctx, t, at, url.Values{
			"grant_type": {jwtBearer}, "assertion": {assertion}, "client_id": {"agent"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion": {key.sign(t, "JWT", "agent-1", map[string]any{
				"iss": "agent", "sub": "agent", "aud": s.issuer(), "jti": b64([]byte(time.Now().String())), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
			})},
		}, http.Header{"Dpop": {key.proof(t, http.MethodPost, at, "", "")}})
	}
	t.Run("assertion becomes a token for one server", func(t *testing.T) {
		assertion := assert(t)
		status, m := redeem(t, assertion)
		if status != http.StatusOK || m["refresh_token"] != nil {
			t.Fatalf("jwt-bearer: status %d, %v", status, m)
		}
		token := text(m, "access_token")
		if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "sky"}, key.bound(t, s.mcp("alpha"), token)); r.text != "alpha: look sky" {
			t.Errorf("with the token: %v", r)
		}
		if r := post(ctx, t, s.mcp("beta"), "look", map[string]any{"topic": "sky"}, key.bound(t, s.mcp("beta"), token)); r.reason != "audience_mismatch" {
			t.Errorf("at another server: %v", r)
		}
		if status, m := redeem(t, assertion); status != http.StatusBadRequest || m["error"] != "invalid_grant" {
			t.Errorf("assertion again: status %d, %v", status, m)
		}
	})
	t.Run("assertion itself is no token", func(t *testing.T) {
		if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "sky"}, bearer(assert(t))); r.status != http.StatusUnauthorized {
			t.Errorf("%v", r)
		}
	})
}
