package login

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
)

// An op is an OpenID Connect provider: it signs ID tokens, checks PKCE, codes, clients and redirect URIs,
// and rotates refresh tokens. Fields turn it hostile.
type op struct {
	t      *testing.T
	server *httptest.Server
	signer *jose.Signer
	clock  *clock
	name   string
	redir  string // the one redirect URI it knows

	mu       sync.Mutex
	sub      string
	claims   map[string]any // further claims of ID tokens
	meta     map[string]any // further metadata
	iss      bool           // send iss in answers, and say so
	gone     bool           // the person was removed
	down     bool           // answer 503
	noID     bool           // no ID token in renewals
	noFresh  bool           // no refresh tokens
	answer   url.Values     // replaces parameters of authorization answers
	tamper   func(map[string]any)
	codes    map[string]url.Values
	refresh  map[string]bool
	asked    []url.Values // authorization requests
	granted  []url.Values // token requests
	accesses map[string]bool
}

func newOP(t *testing.T, name string, clock *clock) *op {
	t.Helper()
	signer, err := jose.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	o := &op{
		t: t, signer: signer, clock: clock, name: name, sub: "u-1", claims: map[string]any{}, meta: map[string]any{}, iss: true,
		codes: map[string]url.Values{}, refresh: map[string]bool{}, accesses: map[string]bool{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", o.discovery)
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		set, err := signer.KeySet()
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(set)
	})
	mux.HandleFunc("GET /authorize", o.authorize)
	mux.HandleFunc("POST /token", o.token)
	mux.HandleFunc("GET /userinfo", o.userinfo)
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(o.server.Close)
	return o
}

// with makes the site know the provider.
func (o *op) with(change ...func(*Provider)) option {
	return func(cfg *Config, s *site) {
		file := filepath.Join(o.t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
			o.t.Fatal(err)
		}
		p := Provider{
			Name: o.name, Title: "Provider " + o.name, Issuer: o.server.URL, ClientID: "warder", Private: true,
			ClientSecret: secret.Ref{File: file}, Claims: Claims{Tenant: "tid"},
		}
		for _, f := range change {
			f(&p)
		}
		o.redir = s.url + "/login/callback/" + o.name
		cfg.Providers = append(cfg.Providers, p)
	}
}

// set changes the provider.
func (o *op) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func (o *op) discovery(w http.ResponseWriter, _ *http.Request) {
	doc := map[string]any{
		"issuer": o.server.URL, "authorization_endpoint": o.server.URL + "/authorize", "token_endpoint": o.server.URL + "/token",
		"jwks_uri": o.server.URL + "/jwks", "userinfo_endpoint": o.server.URL + "/userinfo",
		"end_session_endpoint": o.server.URL + "/logout", "scopes_supported": []string{"openid", "offline_access"},
		"id_token_signing_alg_values_supported": []string{"ES256"}, "code_challenge_methods_supported": []string{"S256"},
		"authorization_response_iss_parameter_supported": o.iss,
	}
	maps.Copy(doc, o.meta)
	o.reply(w, http.StatusOK, doc)
}

func (o *op) reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		o.t.Error(err)
	}
}

func (o *op) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o.asked = append(o.asked, q)
	if q.Get("client_id") != "warder" || q.Get("redirect_uri") != o.redir || q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	o.codes[code] = q
	answer := url.Values{"code": {code}, "state": {q.Get("state")}}
	if o.iss {
		answer.Set("iss", o.server.URL)
	}
	for k, v := range o.answer {
		if len(v) == 0 {
			answer.Del(k)
		} else {
			answer[k] = v
		}
	}
	http.Redirect(w, r, o.redir+"?"+answer.Encode(), http.StatusFound)
}

func (o *op) token(w http.ResponseWriter, r *http.Request) {
	fail := func(code string) { o.reply(w, http.StatusBadRequest, map[string]string{"error": code}) }
	if err := r.ParseForm(); err != nil {
		fail("invalid_request")
		return
	}
	o.granted = append(o.granted, r.PostForm)
	if user, pass, ok := r.BasicAuth(); (!ok || user != "warder" || pass != "s3cret") && r.PostForm.Get("client_assertion") == "" {
		fail("invalid_client")
		return
	}
	nonce := ""
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		q, ok := o.codes[r.PostForm.Get("code")]
		delete(o.codes, r.PostForm.Get("code"))
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") || r.PostForm.Get("redirect_uri") != q.Get("redirect_uri") {
			fail("invalid_grant")
			return
		}
		nonce = q.Get("nonce")
	case "refresh_token":
		if !o.refresh[r.PostForm.Get("refresh_token")] || o.gone {
			fail("invalid_grant")
			return
		}
		delete(o.refresh, r.PostForm.Get("refresh_token"))
	default:
		fail("unsupported_grant_type")
		return
	}
	o.grant(w, nonce)
}

func (o *op) grant(w http.ResponseWriter, nonce string) {
	now := o.clock.Now()
	claims := map[string]any{
		"iss": o.server.URL, "sub": o.sub, "aud": "warder", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "name": "Ada",
		"auth_time": now.Unix(), "email": "ada@example.com", "email_verified": true, "groups": []string{"staff"}, "sid": "op-1",
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	maps.Copy(claims, o.claims)
	if o.tamper != nil {
		o.tamper(claims)
	}
	id, err := o.signer.Sign("JWT", claims)
	if err != nil {
		o.t.Error(err)
	}
	access := rand.Text()
	o.accesses[access] = true
	out := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": id}
	if !o.noFresh {
		token := "rt-" + rand.Text()
		o.refresh[token] = true
		out["refresh_token"] = token
	}
	if o.noID && nonce == "" {
		delete(out, "id_token")
	}
	o.reply(w, http.StatusOK, out)
}

func (o *op) userinfo(w http.ResponseWriter, r *http.Request) {
	var token string
	if _, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &token); err != nil || !o.accesses[token] || o.gone {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	out := map[string]any{"sub": o.sub, "groups": []string{"staff"}}
	maps.Copy(out, o.claims)
	o.reply(w, http.StatusOK, out)
}

// begin goes from the login page of a path to the provider, and returns where the provider sends the
// browser.
func (b *browser) begin(path string, o *op) string {
	b.t.Helper()
	to := b.press(b.get(path), "provider-"+o.name).onward()
	v := b.get(to)
	if v.status != http.StatusFound {
		b.t.Fatalf("the provider answered %d to %s", v.status, to)
	}
	return v.header.Get("Location")
}

// federated logs in at a provider.
func (b *browser) federated(o *op) {
	b.t.Helper()
	v := b.get(b.begin("/oauth/account", o))
	if v.status != http.StatusOK || v.onward() != "/oauth/account" {
		b.t.Fatalf("login: status %d: %s", v.status, v.main())
	}
}

// keyFile writes a private key as PEM.
func keyFile(t *testing.T) (*jose.Signer, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	signer, err := jose.OpenSigner(root, "key.pem")
	if err != nil {
		t.Fatal(err)
	}
	return signer, filepath.Join(dir, "key.pem")
}
