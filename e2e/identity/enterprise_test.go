package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// ask sends JSON to the administrative address of hydra and returns what it answers.
func ask(ctx context.Context, method, address string, body any) (map[string]any, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var m map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("hydra: %s %s: status %d, %v: %w", method, address, resp.StatusCode, m, err)
	}
	return m, nil
}

// hydraPages are the login and consent pages that whoever runs hydra writes: everybody is ana of the
// engineers, and consents.
func hydraPages(t *testing.T) (base string, admin *string) {
	t.Helper()
	admin = new(string)
	accept := func(w http.ResponseWriter, r *http.Request, kind string, body map[string]any) {
		m, err := ask(r.Context(), http.MethodPut, *admin+"/admin/oauth2/auth/requests/"+kind+"/accept?"+url.Values{kind + "_challenge": {r.URL.Query().Get(kind + "_challenge")}}.Encode(), body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		http.Redirect(w, r, text(m, "redirect_to"), http.StatusFound)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		accept(w, r, "login", map[string]any{"subject": "ana", "acr": "mfa"})
	})
	mux.HandleFunc("GET /consent", func(w http.ResponseWriter, r *http.Request) {
		groups := map[string]any{"groups": []string{"engineers"}}
		accept(w, r, "consent", map[string]any{"grant_scope": []string{"openid", "offline_access"}, "session": map[string]any{"id_token": groups, "access_token": groups}})
	})
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	return ts.URL, admin
}

func openHydra(ctx context.Context, t *testing.T) *kit.HydraProvider {
	t.Helper()
	needFixture(t, "hydra", filepath.Join(kit.Root(), ".cache", "bin", "hydra"))
	pages, admin := hydraPages(t)
	p, err := kit.Hydra(ctx, postgresURL(t), pages+"/login", pages+"/consent")
	if err != nil {
		t.Fatal(err)
	}
	stop(t, &p.Provider)
	*admin = p.Admin
	return p
}

func openDex(ctx context.Context, t *testing.T, clients ...kit.DexClient) *kit.Provider {
	t.Helper()
	needFixture(t, "dex", filepath.Join(kit.Root(), ".cache", "bin", "dex"))
	p, err := kit.Dex(ctx, t.TempDir(), clients...)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, p)
	return p
}

// secretFile holds a secret for the configuration.
func secretFile(t *testing.T, value string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const cli = `clients: [{id: cli, name: Command line, native: true, redirect_uris: ["http://127.0.0.1/callback"]}]` + "\n"

// TestFederation puts Warder's own authorization server before providers that know no RFC 8707, DPoP or
// CIMD: people log in there, and what clients get is a short token for one server, bound to their key.
func TestFederation(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	provider := func(_ site, name, issuer, more string) setup {
		return setup{
			issuer: cli + fmt.Sprintf("login:\n  recheck: 5s\n  providers:\n    - {name: %s, issuer: %q, client_id: warder, client_secret: {file: %q}, private: true%s}\n",
				name, issuer, secretFile(t, "federation-secret"), more),
			policies: everybody + ` @id("not even they") forbid (principal, action, resource == Warder::Tool::"alpha/purge");`,
		}
	}
	t.Run("dex", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, "127.0.0.1")
		p := openDex(ctx, t, kit.DexClient{ID: "warder", Secret: "federation-secret", Redirects: []string{s.issuer() + "/login/callback/dex"}})
		set := provider(s, "dex", p.Issuer, ", scopes: [openid, profile, email, groups, offline_access], roles: {engineers: people}")
		federated(ctx, t, s, set, newPerson(t, "ana@example.test", "password", "dex"))
	})
	t.Run("hydra", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, "127.0.0.1")
		p := openHydra(ctx, t)
		if _, err := ask(ctx, http.MethodPost, p.Admin+"/admin/clients", map[string]any{
			"client_id": "warder", "client_secret": "federation-secret", "grant_types": []string{"authorization_code", "refresh_token"},
			"response_types": []string{"code"}, "scope": "openid offline_access", "redirect_uris": []string{s.issuer() + "/login/callback/hydra"},
		}); err != nil {
			t.Fatal(err)
		}
		set := provider(s, "hydra", p.Issuer, ", scopes: [openid, offline_access], roles: {engineers: people}")
		federated(ctx, t, s, set, newPerson(t, "ana", "", "hydra"))
	})
}

// federated logs in at a provider through Warder and calls a server with the token that comes of it.
func federated(ctx context.Context, t *testing.T, s site, set setup, person *person) {
	t.Helper()
	alpha, beta := newOrigin(t, "alpha"), newOrigin(t, "beta")
	set.servers = map[string]*origin{"alpha": alpha, "beta": beta}
	g := s.open(t, set)
	c := &plain{id: "cli", metadata: metadata(ctx, t, s.issuer()), walk: person.walker(), key: newHolder(t)}
	m := c.login(ctx, t, s.mcp("alpha"))
	token := text(m, "access_token")
	if life, _ := m["expires_in"].(float64); text(m, "token_type") != "DPoP" || life <= 0 || life > 300 {
		t.Errorf("token type %v, lives %v s", m["token_type"], m["expires_in"])
	}
	if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "sky"}, c.key.bound(t, s.mcp("alpha"), token)); r.text != "alpha: look sky" {
		t.Errorf("call: %v", r)
	}
	if r := post(ctx, t, s.mcp("beta"), "look", map[string]any{"topic": "sky"}, c.key.bound(t, s.mcp("beta"), token)); r.reason != "audience_mismatch" {
		t.Errorf("at the other server: %v", r)
	}
	if r := post(ctx, t, s.mcp("alpha"), "purge", map[string]any{"name": "x"}, c.key.bound(t, s.mcp("alpha"), token)); r.reason != "not_found" {
		t.Errorf("forbidden by policy: %v", r)
	}
	if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "sky"}, bearer(token)); r.status != http.StatusUnauthorized {
		t.Errorf("without the key: %v", r)
	}
	_, _, page, err := person.open(ctx, http.MethodGet, g.issuer()+"/account", nil)
	if shown := words(page); err != nil || !strings.Contains(shown, "people") || strings.Contains(shown, "engineers") {
		t.Errorf("account page: %v, %.300s", err, shown)
	}
	rechecked(ctx, t, s, c, m, person)
}

// rechecked waits until Warder has asked the provider twice whether the person still has access, with refresh
// tokens that the provider rotates, and expects the login to live on.
func rechecked(ctx context.Context, t *testing.T, s site, c *plain, m map[string]any, person *person) {
	t.Helper()
	time.Sleep(13 * time.Second)
	status, _, page, err := person.open(ctx, http.MethodGet, s.issuer()+"/account", nil)
	if err != nil || status != http.StatusOK || !strings.Contains(page, `id="subject"`) {
		t.Errorf("the login ended: status %d, %v, %.300s", status, err, words(page))
	}
	at := s.issuer() + "/token"
	status, m = form(ctx, t, at, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {text(m, "refresh_token")}, "client_id": {c.id}}, c.header(t, at))
	token := text(m, "access_token")
	if status != http.StatusOK {
		t.Fatalf("refresh: status %d, %v", status, m)
	}
	if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "sun"}, c.key.bound(t, s.mcp("alpha"), token)); r.text != "alpha: look sun" {
		t.Errorf("with the refreshed token: %v", r)
	}
}

// TestAudienceRule accepts the tokens of plain enterprise providers as they are, by a rule for each of them
// that says which audience means which server.
func TestAudienceRule(t *testing.T) {
	ctx := bounded(t)
	look := map[string]any{"topic": "sky"}
	t.Run("dex, a client for each server", func(t *testing.T) {
		p := openDex(ctx, t, kit.DexClient{ID: "for-alpha", Secret: "a", Redirects: []string{callback}}, kit.DexClient{ID: "for-beta", Secret: "b", Redirects: []string{callback}})
		s := newSite(t, "127.0.0.1")
		s.open(t, setup{
			foreign: true, servers: map[string]*origin{"alpha": newOrigin(t, "alpha"), "beta": newOrigin(t, "beta")},
			identity: fmt.Sprintf("issuers: [{url: %q, types: [\"\", JWT], audience: {servers: {alpha: for-alpha, beta: for-beta}}}]\n", p.Issuer),
			policies: `@id("engineers") permit (principal in Warder::Group::"engineers", action, resource);`,
		})
		c := &plain{id: "for-alpha", secret: "a", metadata: metadata(ctx, t, p.Issuer), walk: newPerson(t, "ana@example.test", "password", "").walker(), more: url.Values{"scope": {"openid groups"}}}
		token := text(c.login(ctx, t, ""), "access_token")
		if r := post(ctx, t, s.mcp("alpha"), "look", look, bearer(token)); r.text != "alpha: look sky" {
			t.Errorf("call: %v", r)
		}
		if r := post(ctx, t, s.mcp("beta"), "look", look, bearer(token)); r.reason != "audience_mismatch" {
			t.Errorf("at the other server: %v", r)
		}
	})
	t.Run("hydra, an audience for each server", func(t *testing.T) {
		p := openHydra(ctx, t)
		if _, err := ask(ctx, http.MethodPost, p.Admin+"/admin/clients", map[string]any{
			"client_id": "batch", "client_secret": "batch-secret-0123456789", "grant_types": []string{"client_credentials"}, "token_endpoint_auth_method": "client_secret_post",
			"audience": []string{"api://alpha", "api://beta"},
		}); err != nil {
			t.Fatal(err)
		}
		s := newSite(t, "127.0.0.1")
		strict, claimed := newSite(t, "127.0.0.1"), newSite(t, "127.0.0.1")
		rule := "issuers: [{url: %q, types: [JWT], audience: {servers: {alpha: \"api://alpha\", beta: \"api://beta\"}}%s}]\n"
		origins := map[string]*origin{"alpha": newOrigin(t, "alpha"), "beta": newOrigin(t, "beta")}
		policy := `@id("batch") permit (principal, action, resource) when { principal.subject == "batch" };`
		s.open(t, setup{foreign: true, servers: origins, identity: fmt.Sprintf(rule, p.Issuer, ", bearer_clients: true"), policies: policy})
		strict.open(t, setup{foreign: true, servers: origins, identity: fmt.Sprintf(rule, p.Issuer, ""), policies: policy})
		claimed.open(t, setup{
			foreign: true, servers: origins, policies: policy,
			identity: fmt.Sprintf("issuers: [{url: %q, types: [JWT], audience: {claim: client_id, servers: {alpha: batch, beta: another}}, bearer_clients: true}]\n", p.Issuer),
		})
		get := func(audience string) string {
			status, m := form(ctx, t, text(metadata(ctx, t, p.Issuer), "token_endpoint"), url.Values{
				"grant_type": {"client_credentials"}, "client_id": {"batch"}, "client_secret": {"batch-secret-0123456789"}, "audience": {audience},
			}, nil)
			if status != http.StatusOK {
				t.Fatalf("hydra: status %d, %v", status, m)
			}
			return text(m, "access_token")
		}
		token := get("api://alpha")
		if r := post(ctx, t, s.mcp("alpha"), "look", look, bearer(token)); r.text != "alpha: look sky" {
			t.Errorf("call: %v", r)
		}
		if r := post(ctx, t, s.mcp("beta"), "look", look, bearer(token)); r.reason != "audience_mismatch" {
			t.Errorf("at the other server: %v", r)
		}
		if r := post(ctx, t, s.mcp("alpha"), "look", look, bearer(get("api://alpha api://beta"))); r.reason != "audience_not_alone" {
			t.Errorf("with both audiences: %v", r)
		}
		if r := post(ctx, t, claimed.mcp("alpha"), "look", look, bearer(token)); r.text != "alpha: look sky" {
			t.Errorf("by another claim: %v", r)
		}
		if r := post(ctx, t, claimed.mcp("beta"), "look", look, bearer(token)); r.reason != "audience_mismatch" {
			t.Errorf("by another claim, at the other server: %v", r)
		}
		if r := post(ctx, t, strict.mcp("alpha"), "look", look, bearer(token)); r.reason != "client_bearer" {
			t.Errorf("where clients must hold a key: %v", r)
		}
	})
}
