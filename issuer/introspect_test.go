package issuer

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/internal/jose"
)

func TestIntrospect(t *testing.T) {
	t.Parallel()
	w, key, platform := machine(t)
	user := w.login()
	ask := func(token string) reply {
		return w.post("introspect", asserted(t, w, key, "robot", w.url, url.Values{"token": {token}}))
	}
	r := ask(user.text("access_token"))
	if r.json["active"] != true || r.text("sub") != "ada" || r.text("aud") != notes || r.text("scope") != "a b" || r.text("client_id") != "app" {
		t.Errorf("%d %s", r.status, r.body)
	}
	inactive := map[string]any{"active": false}
	for name, token := range map[string]string{
		"refresh token": user.text("refresh_token"), "nothing": "", "noise": "a.b.c", "tampered": user.text("access_token") + "A",
	} {
		if diff := cmp.Diff(inactive, ask(token).json); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	now := w.clock.now()
	pod := sign(t, platform, "JWT", claimsWith(map[string]any{
		"iss": "https://cluster.example", "sub": "system:serviceaccount:ns:pod", "aud": w.url, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}))
	r = w.post("introspect", url.Values{"token": {user.text("access_token")}, "client_assertion": {pod}, "client_assertion_type": {jose.AssertionType}})
	if diff := cmp.Diff(inactive, r.json); diff != "" || r.status != 200 {
		t.Errorf("a client that may not ask about others, status %d (-want +got):\n%s", r.status, diff)
	}
	w.wants("a public client", w.post("introspect", url.Values{"token": {user.text("access_token")}, "client_id": {"app"}}), 401, "invalid_client", "client_public")
	if r := w.post("revoke", url.Values{"token": {user.text("access_token")}, "client_id": {"native"}}); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if ask(user.text("access_token")).json["active"] != true {
		t.Error("another client revoked the token")
	}
	if r := w.post("revoke", url.Values{"token": {user.text("access_token")}, "client_id": {"app"}}); r.status != 200 || w.log.last().Reason != "token_revoked" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if diff := cmp.Diff(inactive, ask(user.text("access_token")).json); diff != "" {
		t.Errorf("revoked (-want +got):\n%s", diff)
	}
	w.clock.move(defaultAccess)
	fresh := w.login()
	w.clock.move(defaultAccess)
	if diff := cmp.Diff(inactive, ask(fresh.text("access_token")).json); diff != "" {
		t.Errorf("expired (-want +got):\n%s", diff)
	}
}

func TestRevokeRefreshToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.login()
	for range 2 { // twice is no error
		if got := w.post("revoke", url.Values{"token": {r.text("refresh_token")}, "client_id": {"app"}, "token_type_hint": {"access_token"}}); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	w.wants("refresh", w.post("token", refreshForm(r.text("refresh_token"))), 400, "invalid_grant", "refresh_dead")
	if _, f := w.is.verify(t.Context(), r.text("access_token")); f == nil {
		t.Error("the access token of the family still works")
	}
	if got := w.post("revoke", url.Values{"token": {"noise"}, "client_id": {"app"}}); got.status != 200 {
		t.Errorf("an unknown token is no error: %d", got.status)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) { c.DCR.Mode = "open" })
	host := w.url[:len(w.url)-len("/issuer")]
	var first string
	for _, path := range []string{
		"/.well-known/oauth-authorization-server/issuer", "/.well-known/openid-configuration/issuer",
		"/issuer/.well-known/oauth-authorization-server", "/issuer/.well-known/openid-configuration",
	} {
		r := w.get(host + path)
		if r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "*" || r.text("issuer") != w.url {
			t.Fatalf("%s: %d %s", path, r.status, r.body)
		}
		if first == "" {
			first = r.body
		}
		if r.body != first {
			t.Errorf("%s differs", path)
		}
	}
	var m metadata
	if err := json.Unmarshal([]byte(first), &m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"S256"}, m.PKCE); diff != "" {
		t.Errorf("PKCE (-want +got):\n%s", diff)
	}
	want := []string{"none", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}
	if diff := cmp.Diff(want, m.TokenAuth); diff != "" {
		t.Errorf("authentication (-want +got):\n%s", diff)
	}
	if !m.ResponseIssuer || !m.CIMD || m.Registration != w.url+"/register" || m.PAR != w.url+"/par" || m.DetailTypes[0] != "mcp" || m.GrantProfiles != nil {
		t.Errorf("%+v", m)
	}
	for path, open := range map[string]bool{
		"/jwks.json": true, "/token": true, "/authorize": false, "/par": false, "/register": false, "/introspect": false, "/revoke": false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, w.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://app.example")
		r := w.do(req)
		if got := r.header.Get("Access-Control-Allow-Origin") != ""; got != open {
			t.Errorf("%s: CORS %v, want %v", path, got, open)
		}
	}
	e := newEnterprise(t)
	if got := e.is.describe().GrantProfiles; len(got) != 1 || got[0] != profileIDJAG {
		t.Errorf("grant profiles: %v", got)
	}
	root := w.cfg
	root.URL = host
	is, err := New(t.Context(), root, w.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := is.Handler(); err != nil {
		t.Errorf("an issuer without a path: %v", err)
	}
	silent := w.deps
	silent.Login = nil
	if is, err = New(t.Context(), w.cfg, silent); err != nil {
		t.Fatal(err)
	}
	if m := is.describe(); m.Authorization != "" || len(m.ResponseTypes) != 0 {
		t.Errorf("nobody can log in: %+v", m)
	}
}
