// Package oauthtest is an authorization server and a protected MCP server for tests: small, but honest.
// It checks PKCE, redirect URIs, client authentication and resources, issues codes and refresh tokens
// that are good once, and knows every grant that package oauth speaks. It approves whatever a browser
// asks for.
package oauthtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Server is an authorization server on loopback. Fields may be changed before it is asked; Mu guards
// what it counts.
type Server struct {
	URL      string
	Metadata map[string]any        // overrides members of the metadata; nil values remove them
	Iss      func() (string, bool) // iss of authorization responses; nil: the issuer
	Answer   func(q url.Values)    // changes authorization responses; may be nil
	Lifetime int                   // expires_in of access tokens; 0: 3600
	NoScope  bool                  // token responses do not say the scope
	Body     string                // token responses are this text; empty: honest ones
	Status   int                   // status of token responses that are Body
	Down     bool                  // every request fails with 503
	Clients  map[string]string     // client id → secret; dynamic ones are added
	Subjects []string              // tokens that may be exchanged, and assertions that are grants

	Mu       sync.Mutex
	Requests []Request
	Issued   map[string]Issued // access token → what it is
	codes    map[string]code
	refresh  map[string]Issued
	pushed   map[string]url.Values
}

// A Request is one request to the server.
type Request struct {
	Path   string
	Form   url.Values
	Header http.Header
}

// Issued is one access token.
type Issued struct {
	Client, Resource, Scope string
	Revoked                 bool
}

type code struct {
	client, redirect, challenge, resource, scope string
}

// New starts a server that ends with the test.
func New(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{
		Clients: map[string]string{}, Issued: map[string]Issued{}, codes: map[string]code{}, refresh: map[string]Issued{}, pushed: map[string]url.Values{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /register", s.register)
	mux.HandleFunc("POST /par", s.par)
	mux.HandleFunc("POST /revoke", s.revoke)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		s.Mu.Lock()
		s.Requests = append(s.Requests, Request{Path: r.URL.Path, Form: r.Form, Header: r.Header.Clone()})
		down := s.Down
		s.Mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	tb.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Seen returns the requests to a path.
func (s *Server) Seen(path string) []Request {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	var out []Request
	for _, r := range s.Requests {
		if r.Path == path {
			out = append(out, r)
		}
	}
	return out
}

func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	m := map[string]any{
		"issuer": s.URL, "authorization_endpoint": s.URL + "/authorize", "token_endpoint": s.URL + "/token",
		"registration_endpoint": s.URL + "/register", "revocation_endpoint": s.URL + "/revoke", "code_challenge_methods_supported": []string{"S256"},
		"authorization_response_iss_parameter_supported": true, "response_types_supported": []string{"code"},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic", "client_secret_post"},
	}
	for k, v := range s.Metadata {
		if v == nil {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	write(w, http.StatusOK, m)
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.Form
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if uri := q.Get("request_uri"); uri != "" {
		q = s.pushed[uri]
		delete(s.pushed, uri)
	}
	if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("redirect_uri") == "" || q.Get("response_type") != "code" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	c := rand.Text()
	s.codes[c] = code{q.Get("client_id"), q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("resource"), q.Get("scope")}
	answer := url.Values{"code": {c}, "state": {q.Get("state")}, "iss": {s.URL}}
	if s.Iss != nil {
		iss, sent := s.Iss()
		answer.Set("iss", iss)
		if !sent {
			answer.Del("iss")
		}
	}
	if s.Answer != nil {
		s.Answer(answer)
	}
	w.Header().Set("Location", q.Get("redirect_uri")+"?"+answer.Encode())
	w.WriteHeader(http.StatusFound)
}

func (s *Server) par(w http.ResponseWriter, r *http.Request) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	uri := "urn:ietf:params:oauth:request_uri:" + rand.Text()
	s.pushed[uri] = r.PostForm
	write(w, http.StatusCreated, map[string]any{"request_uri": uri, "expires_in": 60})
}

func (s *Server) register(w http.ResponseWriter, _ *http.Request) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	id := "client-" + rand.Text()
	s.Clients[id] = ""
	write(w, http.StatusCreated, map[string]any{"client_id": id, "token_endpoint_auth_method": "none"})
}

// client authenticates the client.
func (s *Server) client(r *http.Request) (string, bool) {
	id, given, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		given, _ = url.QueryUnescape(given)
	} else {
		id, given = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	want, known := s.Clients[id]
	return id, known && want == given || strings.HasPrefix(id, "https://")
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.Body != "" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(max(s.Status, 200))
		_, _ = w.Write([]byte(s.Body))
		return
	}
	f := r.PostForm
	id, ok := s.client(r)
	grant := f.Get("grant_type")
	if !ok && grant != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		write(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	t := Issued{Client: id, Resource: f.Get("resource"), Scope: f.Get("scope")}
	extra := map[string]any{}
	valid := true
	switch grant {
	case "authorization_code":
		c, known := s.codes[f.Get("code")]
		delete(s.codes, f.Get("code"))
		sum := sha256.Sum256([]byte(f.Get("code_verifier")))
		valid = known && c.client == id && c.redirect == f.Get("redirect_uri") && c.resource == f.Get("resource") &&
			c.challenge == base64.RawURLEncoding.EncodeToString(sum[:])
		t.Scope = c.scope
		extra["refresh_token"] = s.newRefresh(t)
	case "refresh_token":
		old, known := s.refresh[f.Get("refresh_token")]
		delete(s.refresh, f.Get("refresh_token"))
		valid = known && old.Client == id && old.Resource == f.Get("resource")
		t = old
		extra["refresh_token"] = s.newRefresh(t)
	case "client_credentials":
	case "urn:ietf:params:oauth:grant-type:token-exchange":
		valid = slices.Contains(s.Subjects, f.Get("subject_token"))
		extra["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
		if want := f.Get("requested_token_type"); want != "" {
			extra["issued_token_type"] = want
		}
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		valid = slices.Contains(s.Subjects, f.Get("assertion"))
	default:
		write(w, http.StatusBadRequest, map[string]string{"error": "unsupported_grant_type"})
		return
	}
	if !valid {
		write(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": "SECRET-OF-THE-SERVER"})
		return
	}
	s.issue(w, t, extra)
}

// revoke is RFC 7009: a refresh token ends with the access tokens of its client and resource.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	id, ok := s.client(r)
	if !ok {
		write(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	token := r.PostForm.Get("token")
	old, known := s.refresh[token]
	delete(s.refresh, token)
	for k, t := range s.Issued {
		if t.Client == id && (k == token || known && t == old) {
			t.Revoked = true
			s.Issued[k] = t
		}
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) newRefresh(t Issued) string {
	token := "refresh-" + rand.Text()
	s.refresh[token] = t
	return token
}

func (s *Server) issue(w http.ResponseWriter, t Issued, extra map[string]any) {
	access := "access-" + rand.Text()
	s.Issued[access] = t
	extra["access_token"], extra["token_type"], extra["expires_in"] = access, "Bearer", 3600
	if s.Lifetime > 0 {
		extra["expires_in"] = s.Lifetime
	}
	if !s.NoScope {
		extra["scope"] = t.Scope
	}
	write(w, http.StatusOK, extra)
}

// Revoke makes every access token there is worthless; refresh tokens stay unless all is true.
func (s *Server) Revoke(all bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for k, t := range s.Issued {
		t.Revoked = true
		s.Issued[k] = t
	}
	if all {
		clear(s.refresh)
	}
}

// A Resource is a protected MCP server on loopback.
type Resource struct {
	URL string // of its endpoint
	Mu  sync.Mutex
	// Servers are its authorization servers, the first in its metadata; tokens of any are looked up.
	Servers  []*Server
	Metadata map[string]any // overrides members of the resource metadata
	Scopes   []string       // every one is needed, and challenged for
	Header   string         // header that must have the value of Key instead of a token; empty: tokens
	Key      string
	Requests []Request // Form is nil
	Bodies   []string
}

// NewResource starts a protected server that ends with the test.
func NewResource(tb testing.TB, servers ...*Server) *Resource {
	tb.Helper()
	r := &Resource{Servers: servers}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-protected-resource/mcp", r.metadata)
	mux.HandleFunc("POST /mcp", r.mcp)
	srv := httptest.NewServer(mux)
	tb.Cleanup(srv.Close)
	r.URL = srv.URL + "/mcp"
	return r
}

func (r *Resource) metadata(w http.ResponseWriter, _ *http.Request) {
	r.Mu.Lock()
	defer r.Mu.Unlock()
	m := map[string]any{"resource": r.URL, "authorization_servers": []string{r.Servers[0].URL}}
	maps.Copy(m, r.Metadata)
	write(w, http.StatusOK, m)
}

// mcp answers any request that has a good token, or the key.
func (r *Resource) mcp(w http.ResponseWriter, req *http.Request) {
	r.Mu.Lock()
	defer r.Mu.Unlock()
	body := make([]byte, 4096)
	n, _ := req.Body.Read(body)
	r.Requests = append(r.Requests, Request{Path: req.URL.Path, Header: req.Header.Clone()})
	r.Bodies = append(r.Bodies, string(body[:n]))
	if r.Header != "" {
		if req.Header.Get(r.Header) != r.Key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		write(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{}})
		return
	}
	challenge := `Bearer resource_metadata="` + strings.TrimSuffix(r.URL, "/mcp") + `/.well-known/oauth-protected-resource/mcp"`
	if len(r.Scopes) > 0 {
		challenge += `, scope="` + strings.Join(r.Scopes, " ") + `"`
	}
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	for i, s := range r.Servers {
		s.Mu.Lock()
		t, ok := s.Issued[token]
		s.Mu.Unlock()
		if !ok || t.Revoked || t.Resource != r.URL || i > 0 {
			continue
		}
		for _, want := range r.Scopes {
			if !slices.Contains(strings.Fields(t.Scope), want) {
				w.Header().Set("WWW-Authenticate", challenge+`, error="insufficient_scope"`)
				w.WriteHeader(http.StatusForbidden)
				return
			}
		}
		write(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{}})
		return
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
}
