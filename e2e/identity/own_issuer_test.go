package identity

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// metadataHost serves client id metadata documents over https and returns the file of its authority.
func metadataHost(t *testing.T) (base, authority string) {
	t.Helper()
	var ts *httptest.Server
	ts = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"client_id": ts.URL + r.URL.Path, "client_name": "Documented client", "redirect_uris": []string{callback},
			"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token"},
			"response_types": []string{"code"}, "application_type": "native",
		})
	}))
	t.Cleanup(ts.Close)
	authority = filepath.Join(t.TempDir(), "authority.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw})
	if err := os.WriteFile(authority, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return ts.URL, authority
}

// form posts a form and returns status and JSON.
func form(ctx context.Context, t *testing.T, address string, values url.Values, header http.Header) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header.Clone()
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &m) // the status says it
	}
	return resp.StatusCode, m
}

// refusedSoon waits until a token is refused, at most two seconds, which is what a revocation may take.
func refusedSoon(ctx context.Context, t *testing.T, endpoint, token string) time.Duration {
	t.Helper()
	return refusedWithin(ctx, t, endpoint, token, 2*time.Second)
}

// refusedWithin waits until a token is refused and returns how long that took.
func refusedWithin(ctx context.Context, t *testing.T, endpoint, token string, most time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		r := post(ctx, t, endpoint, "look", map[string]any{"topic": "again"}, bearer(token))
		if r.status == http.StatusUnauthorized {
			return time.Since(began)
		}
		if time.Since(began) > most {
			t.Fatalf("the token is still good after %v: %v", time.Since(began), r)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestOwnIssuer lets MCP clients that know OAuth find and use Warder's own authorization server.
func TestOwnIssuer(t *testing.T) {
	ctx := bounded(t)
	alpha, beta := newOrigin(t, "alpha"), newOrigin(t, "beta")
	documents, authority := metadataHost(t)
	s := newSite(t, "127.0.0.1")
	g := s.open(t, setup{
		issuer:  cli + "login: {local: {enabled: true}}\ndcr: {mode: open}\ncimd: {allow: [127.0.0.1]}\nlifetimes: {access: 11s}\n",
		servers: map[string]*origin{"alpha": alpha, "beta": beta}, env: []string{"SSL_CERT_FILE=" + authority},
	})
	ana := newPerson(t, "ana", "", "")
	if err := ana.enter(ctx, g, "people"); err != nil {
		t.Fatal(err)
	}
	look := map[string]any{"topic": "sky"}
	login := func(t *testing.T, r registration) *authorizer {
		t.Helper()
		a := newAuthorizer(t, ana.walker(), r, http.DefaultClient)
		session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		wants(ctx, t, session, "look", look, "alpha: look sky")
		return a
	}
	t.Run("go-sdk registers itself", func(t *testing.T) {
		a := login(t, registration{})
		if q := a.requests[0]; q.Get("resource") != s.mcp("alpha") || q.Get("code_challenge_method") != "S256" {
			t.Errorf("authorization request %v", q)
		}
		if r := post(ctx, t, s.mcp("beta"), "look", look, bearer(a.last(t).AccessToken)); r.status != http.StatusUnauthorized || r.reason != "audience_mismatch" {
			t.Errorf("at the other server: %v", r)
		}
	})
	t.Run("go-sdk shows its document", func(t *testing.T) {
		a := login(t, registration{document: documents + "/client.json"})
		if a.clientID != documents+"/client.json" {
			t.Errorf("client id %q", a.clientID)
		}
	})
	t.Run("go-sdk refreshes", func(t *testing.T) { refreshes(ctx, t, s, login(t, registration{})) })
	t.Run("reuse of a refresh token ends them all", func(t *testing.T) { reuse(ctx, t, s, login(t, registration{})) })
	t.Run("revocation", func(t *testing.T) {
		a := login(t, registration{})
		token := a.last(t)
		if status, m := form(ctx, t, s.issuer()+"/revoke", url.Values{"token": {token.RefreshToken}, "client_id": {a.clientID}}, nil); status != http.StatusOK {
			t.Fatalf("revoke: status %d, %v", status, m)
		}
		t.Logf("the access token was refused after %v", refusedSoon(ctx, t, s.mcp("alpha"), token.AccessToken))
		if status, m := form(ctx, t, s.issuer()+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.RefreshToken}, "client_id": {a.clientID}}, nil); status != http.StatusBadRequest || m["error"] != "invalid_grant" {
			t.Errorf("refresh after revocation: status %d, %v", status, m)
		}
	})
	t.Run("signing out ends what was allowed, and the client asks again", func(t *testing.T) { signOut(ctx, t, g) })
	t.Run("pushed request with details, bound to a key", func(t *testing.T) { narrowed(ctx, t, s, ana, alpha) })
	for name, options := range map[string]map[string]any{
		"TypeScript SDK registers itself":                     {},
		"TypeScript SDK shows its document, bound to its key": {"document": documents + "/ts.json", "dpop": true},
		"TypeScript SDK opens a session":                      {"legacy": true, "dpop": true},
	} {
		t.Run(name, func(t *testing.T) {
			m, asked := tsCall(ctx, t, ana.walker(), nil, s.mcp("alpha"), "look", `{"topic":"sea"}`, options)
			if said(m) != "alpha: look sea" || asked.Get("resource") != s.mcp("alpha") {
				t.Fatalf("%v, asked for %v", m, asked)
			}
			if options["dpop"] != true {
				return
			}
			token, _ := m["token"].(string)
			if m["type"] != "DPoP" {
				t.Errorf("token type %v", m["type"])
			}
			if r := post(ctx, t, s.mcp("alpha"), "look", look, bearer(token)); r.status != http.StatusUnauthorized || !strings.Contains(r.challenge, "DPoP") {
				t.Errorf("a bound token without its key: %v %s", r, r.challenge)
			}
		})
	}
}

// narrowed asks for less than the person may do, and gets no more.
func narrowed(ctx context.Context, t *testing.T, s site, ana *person, alpha *origin) {
	t.Helper()
	c := &plain{id: "cli", metadata: metadata(ctx, t, s.issuer()), walk: ana.walker(), key: newHolder(t), push: true, more: url.Values{
		"authorization_details": {`[{"type":"mcp","server":"alpha","tools":["send"],"arguments":[{"pointer":"/to","equals":"zoe"},{"pointer":"/amount","max":10}],"max_calls":2}]`},
	}}
	token := text(c.login(ctx, t, s.mcp("alpha")), "access_token")
	send := func(to string, amount int) *reply {
		return post(ctx, t, s.mcp("alpha"), "send", map[string]any{"to": to, "amount": amount}, c.key.bound(t, s.mcp("alpha"), token))
	}
	for _, tt := range []struct {
		to     string
		amount int
		reason string
	}{{"zoe", 10, ""}, {"zoe", 11, "detail_argument"}, {"eve", 1, "detail_argument"}, {"zoe", 1, ""}, {"zoe", 2, "detail_calls_used_up"}} {
		r := send(tt.to, tt.amount)
		if done := alpha.times(fmt.Sprintf("send %s %d", tt.to, tt.amount)); r.reason != tt.reason || done != 0 != (tt.reason == "") {
			t.Errorf("send %s %d: %v, done %d times; want reason %q", tt.to, tt.amount, r, done, tt.reason)
		}
	}
	if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "sky"}, c.key.bound(t, s.mcp("alpha"), token)); r.reason != "detail_tool" {
		t.Errorf("another tool: %v", r)
	}
}

// signOut lets a person sign out at Warder while a client is connected, and sign in again.
func signOut(ctx context.Context, t *testing.T, g *gate) {
	t.Helper()
	leo := newPerson(t, "leo", "", "")
	if err := leo.enter(ctx, g, "people"); err != nil {
		t.Fatal(err)
	}
	a := newAuthorizer(t, leo.walker(), registration{}, http.DefaultClient)
	session, err := dial(ctx, t, g.mcp("alpha"), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	wants(ctx, t, session, "look", map[string]any{"topic": "door"}, "alpha: look door")
	_, _, page, err := leo.open(ctx, http.MethodGet, g.issuer()+"/logout", nil)
	if err != nil {
		t.Fatal(err)
	}
	leo.leaves = true
	action, values, found := leo.choose(page)
	leo.leaves = false
	if !found {
		t.Fatalf("no form to sign out: %s", words(page))
	}
	if status, _, page, err := leo.open(ctx, http.MethodPost, g.base+action, values); err != nil || status/100 > 3 {
		t.Fatalf("sign out: status %d, %v, %s", status, err, words(page))
	}
	refusedSoon(ctx, t, g.mcp("alpha"), a.last(t).AccessToken)
	if err := leo.enter(ctx, g, "people"); err != nil {
		t.Fatal(err)
	}
	wants(ctx, t, session, "look", map[string]any{"topic": "key"}, "alpha: look key")
	if len(a.requests) != 2 {
		t.Errorf("the client asked for authorization %d times, want 2", len(a.requests))
	}
}

// refreshes waits until the client believes its token to be too old, ten seconds before its end.
func refreshes(ctx context.Context, t *testing.T, s site, a *authorizer) {
	t.Helper()
	first := a.last(t)
	if first.RefreshToken == "" {
		t.Fatal("no refresh token")
	}
	time.Sleep(1200 * time.Millisecond)
	session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	wants(ctx, t, session, "look", map[string]any{"topic": "sun"}, "alpha: look sun")
	source, err := a.TokenSource(ctx)
	if err != nil {
		t.Fatal(err)
	}
	token, err := source.Token()
	if err != nil || token.AccessToken == first.AccessToken || token.RefreshToken == first.RefreshToken || len(a.requests) != 1 {
		t.Errorf("after its end: same access token %t, same refresh token %t, %d logins, %v",
			token.AccessToken == first.AccessToken, token.RefreshToken == first.RefreshToken, len(a.requests), err)
	}
}

// reuse lets a thief use a refresh token that the client has used already.
func reuse(ctx context.Context, t *testing.T, s site, a *authorizer) {
	t.Helper()
	first := a.last(t)
	refresh := func(token string) (int, map[string]any) {
		return form(ctx, t, s.issuer()+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {a.clientID}}, nil)
	}
	status, m := refresh(first.RefreshToken)
	next, _ := m["refresh_token"].(string)
	access, _ := m["access_token"].(string)
	if status != http.StatusOK || next == "" || next == first.RefreshToken {
		t.Fatalf("refresh: status %d, rotated %t", status, next != "" && next != first.RefreshToken)
	}
	if r := post(ctx, t, s.mcp("alpha"), "look", map[string]any{"topic": "ice"}, bearer(access)); r.text != "alpha: look ice" {
		t.Fatalf("with the refreshed token: %v", r)
	}
	if status, m := refresh(first.RefreshToken); status != http.StatusBadRequest || m["error"] != "invalid_grant" {
		t.Errorf("the thief: status %d, %v", status, m["error"])
	}
	if status, m := refresh(next); status != http.StatusBadRequest || m["error"] != "invalid_grant" {
		t.Errorf("the client after the thief: status %d, %v", status, m["error"])
	}
	refusedSoon(ctx, t, s.mcp("alpha"), access)
}
