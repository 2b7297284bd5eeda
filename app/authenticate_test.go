package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/jose"
)

const adminAudience = "https://admin.test/admin/v1"

// An operatorRig is a whole system with an issuer whose key the test holds.
type operatorRig struct {
	t      *testing.T
	app    *App
	signer *jose.Signer
	prover *jose.Prover
}

func newOperatorRig(t *testing.T) *operatorRig {
	t.Helper()
	dir := t.TempDir()
	r := &operatorRig{t: t}
	var err error
	if r.signer, err = jose.NewSigner(); err != nil {
		t.Fatal(err)
	}
	if r.prover, err = jose.NewProver(nil); err != nil {
		t.Fatal(err)
	}
	keys, err := r.signer.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	jwks := filepath.Join(dir, "jwks.json")
	if err := os.WriteFile(jwks, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("w.yaml", fmt.Appendf(nil, `version: 1
data: %s
identity:
  base_url: https://gate.test
  issuers: [{url: "https://idp.test", jwks: {file: %s}, audience: {allow_others: true}}]
access: {grants: {self: true}}
servers: [{name: files, url: "http://127.0.0.1:9/mcp"}]
record: {checkpoint: 100ms}
admin: {api: {audience: %q, roles: {owner: [owners], viewer: [staff]}}}
`, filepath.Join(dir, "data"), jwks, adminAudience))
	if err != nil {
		t.Fatal(err)
	}
	if r.app, err = Open(t.Context(), cfg, Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.app.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return r
}

// token signs claims of ana for the admin API, as change leaves them.
func (r *operatorRig) token(change func(map[string]any)) string {
	r.t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": "https://idp.test", "sub": "ana", "aud": adminAudience, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"jti": fmt.Sprint(now.UnixNano()), "client_id": "warder-cli", "groups": []string{"owners"},
	}
	change(claims)
	token, err := r.signer.Sign("at+jwt", claims)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *operatorRig) send(method, path, authorization, proof, body string) (int, string) {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), method, adminAudience+path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", authorization)
	if proof != "" {
		req.Header.Set("DPoP", proof)
	}
	w := httptest.NewRecorder()
	r.app.Admin().ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// TestTokensForTheAdminAPI shows the API tokens that are for it, and tokens that are not.
func TestTokensForTheAdminAPI(t *testing.T) {
	r := newOperatorRig(t)
	none := func(map[string]any) {}
	if code, body := r.send(http.MethodGet, "/me", "Bearer "+r.token(none), "", ""); code != http.StatusOK || !strings.Contains(body, `"https://idp.test|ana"`) || !strings.Contains(body, `"owner"`) {
		t.Fatalf("a token for the API: %d %s", code, body)
	}
	for name, change := range map[string]func(map[string]any){
		"for an MCP server":     func(c map[string]any) { c["aud"] = "https://gate.test/mcp/files" },
		"for both":              func(c map[string]any) { c["aud"] = []string{adminAudience, "https://gate.test/mcp/files"} },
		"for a prefix":          func(c map[string]any) { c["aud"] = "https://admin.test/admin" },
		"with a slash more":     func(c map[string]any) { c["aud"] = adminAudience + "/" },
		"for nobody":            func(c map[string]any) { delete(c, "aud") },
		"of another issuer":     func(c map[string]any) { c["iss"] = "https://evil.test" },
		"expired":               func(c map[string]any) { c["exp"] = time.Now().Add(-2 * time.Minute).Unix() },
		"bound, without proof":  func(c map[string]any) { c["cnf"] = map[string]any{"jkt": r.prover.Thumbprint()} },
		"bound to another key":  func(c map[string]any) { c["cnf"] = map[string]any{"jkt": strings.Repeat("A", 43)} },
		"that says it is local": func(c map[string]any) { c["iss"] = "local" },
	} {
		r.send(http.MethodGet, "/me", "Bearer "+r.token(none), "", "") // guesses are limited for one address; see below
		if code, body := r.send(http.MethodGet, "/me", "Bearer "+r.token(change), "", ""); code != http.StatusUnauthorized {
			t.Errorf("a token %s: %d %s, want 401", name, code, body)
		}
	}
}

// TestBoundTokensOfOperators proves the key with every request.
func TestBoundTokensOfOperators(t *testing.T) {
	r := newOperatorRig(t)
	token := r.token(func(c map[string]any) { c["cnf"] = map[string]any{"jkt": r.prover.Thumbprint()} })
	proof := func(method, url string) string {
		t.Helper()
		p, err := r.prover.Proof(method, url, token, "")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := proof(http.MethodGet, adminAudience+"/me")
	if code, body := r.send(http.MethodGet, "/me", "DPoP "+token, good, ""); code != http.StatusOK {
		t.Fatalf("proved: %d %s", code, body)
	}
	for name, p := range map[string]string{
		"replayed":            good,
		"for another address": proof(http.MethodGet, "https://gate.test/admin/v1/me"),
		"for another method":  proof(http.MethodPost, adminAudience+"/me"),
	} {
		if code, body := r.send(http.MethodGet, "/me", "DPoP "+token, p, ""); code != http.StatusUnauthorized {
			t.Errorf("proof %s: %d %s, want 401", name, code, body)
		}
	}
}

// TestOperatorsAreRevokedToo revokes an operator who then is heard no more.
func TestOperatorsAreRevokedToo(t *testing.T) {
	r := newOperatorRig(t)
	ana := "Bearer " + r.token(func(map[string]any) {})
	if code, body := r.send(http.MethodPost, "/revocations", ana, "", `{"kind":"principal","value":"https://idp.test|ana","reason":"test"}`); code != http.StatusOK {
		t.Fatalf("revoke: %d %s", code, body)
	}
	if code, body := r.send(http.MethodGet, "/me", ana, "", ""); code != http.StatusUnauthorized {
		t.Errorf("after it: %d %s, want 401", code, body)
	}
}

// TestOperatorsDecide goes through the real broker and the real revocations.
func TestOperatorsDecide(t *testing.T) {
	r := newOperatorRig(t)
	weak := "Bearer " + r.token(func(map[string]any) {})
	strong := "Bearer " + r.token(func(c map[string]any) { c["amr"], c["auth_time"] = []string{"hwk", "user"}, time.Now().Unix() })
	ask := func(authorization, method, path, body string, want int) string {
		t.Helper()
		code, answer := r.send(method, path, authorization, "", body)
		if code != want {
			t.Fatalf("%s %s: %d %s, want %d", method, path, code, answer, want)
		}
		return answer
	}
	var g admin.Grant
	if err := json.Unmarshal([]byte(ask(weak, http.MethodPost, "/grants", `{"server":"files","tools":["read"],"ttl_seconds":600,"uses":2,"arguments":[{"pointer":"/path","prefix":"/srv/"}],"reason":"test"}`, http.StatusOK)), &g); err != nil {
		t.Fatal(err)
	}
	if g.Status != "pending" || g.RequestedBy != "https://idp.test|ana" || g.Principal != g.RequestedBy || len(g.Arguments) != 1 {
		t.Errorf("grant = %+v", g)
	}
	if body := ask(weak, http.MethodPost, "/grants/"+g.ID+"/approve", "", http.StatusUnauthorized); !strings.Contains(body, "insufficient_user_authentication") {
		t.Errorf("the own request without a second factor: %s", body)
	}
	if body := ask(strong, http.MethodPost, "/grants/"+g.ID+"/approve", "", http.StatusOK); !strings.Contains(body, `"status":"active"`) {
		t.Errorf("approved: %s", body)
	}
	if body := ask(weak, http.MethodGet, "/grants?status=active", "", http.StatusOK); !strings.Contains(body, g.ID) {
		t.Errorf("list: %s", body)
	}
	ask(weak, http.MethodPost, "/grants/"+g.ID+"/approve", "", http.StatusUnauthorized)
	ask(weak, http.MethodPost, "/grants/"+g.ID+"/revoke", `{"reason":"done"}`, http.StatusOK)
	ask(weak, http.MethodGet, "/grants/nosuch", "", http.StatusNotFound)
	ask(weak, http.MethodPost, "/grants", `{"server":"files","ttl_seconds":0}`, http.StatusBadRequest)
	ask(weak, http.MethodPut, "/agents/bot", `{"owner":"ana","clients":["bot-client"],"tools":["files/*"]}`, http.StatusOK)
	ask(weak, http.MethodPut, "/agents/bot", `{"owner":"ana","clients":["bot-client"],"tools":["*/*"]}`, http.StatusUnauthorized)
	ask(weak, http.MethodPost, "/agents/bot/disable", "", http.StatusOK)
	ask(weak, http.MethodPost, "/agents/bot/enable", "", http.StatusUnauthorized)
	ask(strong, http.MethodPost, "/agents/bot/enable", "", http.StatusOK)
	if body := ask(weak, http.MethodPost, "/revocations", `{"kind":"tool","value":"files/read","ttl_seconds":60}`, http.StatusOK); !strings.Contains(body, "not_after") {
		t.Errorf("revoked: %s", body)
	}
	ask(weak, http.MethodPost, "/revocations", `{"kind":"tool","value":"nonsense"}`, http.StatusBadRequest)
	ask(weak, http.MethodPost, "/revocations/lift", `{"kind":"tool","value":"files/read"}`, http.StatusUnauthorized)
	ask(strong, http.MethodPost, "/revocations/lift", `{"kind":"tool","value":"files/read"}`, http.StatusNoContent)
	ask(strong, http.MethodPost, "/revocations/lift", `{"kind":"tool","value":"files/read"}`, http.StatusNotFound)
	var codes admin.RecoveryCodes
	if err := json.Unmarshal([]byte(ask(strong, http.MethodPost, "/recovery-codes", "", http.StatusOK)), &codes); err != nil {
		t.Fatal(err)
	}
	ask(strong, http.MethodPost, "/revocations", `{"kind":"all","value":"*"}`, http.StatusOK)
	ask(strong, http.MethodGet, "/status", "", http.StatusUnauthorized)
	var s admin.GlassSession
	if err := json.Unmarshal([]byte(ask("", http.MethodPost, "/break-glass", `{"code":"`+codes.Codes[0]+`","reason":"everything was revoked"}`, http.StatusOK)), &s); err != nil {
		t.Fatal(err)
	}
	glass := "Bearer " + s.Token
	if body := ask(glass, http.MethodGet, "/status", "", http.StatusOK); !strings.Contains(body, "EVERYTHING IS REVOKED") || !strings.Contains(body, "BREAK-GLASS is open") {
		t.Errorf("status: %s", body)
	}
	ask(glass, http.MethodPost, "/revocations/lift", `{"kind":"all","value":"*"}`, http.StatusNoContent)
	ask(strong, http.MethodGet, "/status", "", http.StatusOK)
	ask(glass, http.MethodPost, "/break-glass/end", `{}`, http.StatusNoContent)
	ask(glass, http.MethodGet, "/status", "", http.StatusUnauthorized)
}
