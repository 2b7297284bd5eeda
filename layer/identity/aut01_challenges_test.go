package identity

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
)

func TestAUT01(t *testing.T) {
	t.Parallel()
	challenged := func(code warder.Code, reason warder.Reason, oauth string) outcome {
		return outcome{"AUT-01", warder.Challenge, code, reason, oauth}
	}
	tests := []struct {
		name string
		x    func(*bench) *warder.Exchange
		want outcome
	}{
		{"pass one bearer token", func(b *bench) *warder.Exchange { return exchange("Bearer " + good(b)) }, passed()},
		{"pass other query members", func(b *bench) *warder.Exchange {
			x := exchange("Bearer " + good(b))
			x.Conn.Query = "access=1&token=2"
			return x
		}, passed()},
		{
			"deny no token", func(*bench) *warder.Exchange { return exchange() },
			challenged(warder.CodeUnauthenticated, "token_missing", ""),
		},
		{
			"deny no token at an endpoint that does not exist", func(*bench) *warder.Exchange { return at(exchange(), "nowhere") },
			challenged(warder.CodeUnauthenticated, "token_missing", ""),
		},
		{"deny token in the query", func(b *bench) *warder.Exchange {
			x := exchange()
			x.Conn.Query = "access_token=" + good(b)
			return x
		}, challenged(warder.CodeInvalidRequest, "token_in_query", "invalid_request")},
		{"near_miss token in header and query", func(b *bench) *warder.Exchange {
			x := exchange("Bearer " + good(b))
			x.Conn.Query = "a=1&%61ccess_token=x"
			return x
		}, challenged(warder.CodeInvalidRequest, "token_in_query", "invalid_request")},
		{"near_miss query that cannot be read", func(b *bench) *warder.Exchange {
			x := exchange("Bearer " + good(b))
			x.Conn.Query = "a;access_token=x"
			return x
		}, challenged(warder.CodeInvalidRequest, "token_in_query", "invalid_request")},
		{
			"deny two headers", func(b *bench) *warder.Exchange { return exchange("Bearer "+good(b), "Bearer "+good(b)) },
			challenged(warder.CodeInvalidRequest, "token_ambiguous", "invalid_request"),
		},
		{
			"near_miss two tokens in one header", func(b *bench) *warder.Exchange { return exchange("Bearer " + good(b) + ", Bearer x") },
			challenged(warder.CodeUnauthenticated, "token_not_bearer", "invalid_request"),
		},
		{
			"near_miss basic", func(*bench) *warder.Exchange { return exchange("Basic YTpi") },
			challenged(warder.CodeUnauthenticated, "token_not_bearer", "invalid_request"),
		},
		{
			"near_miss scheme without token", func(*bench) *warder.Exchange { return exchange("Bearer ") },
			challenged(warder.CodeUnauthenticated, "token_not_bearer", "invalid_request"),
		},
		{"near_miss token in a cookie", func(b *bench) *warder.Exchange {
			x := exchange()
			x.Conn.Header.Set("Cookie", "Authorization="+good(b))
			return x
		}, challenged(warder.CodeUnauthenticated, "token_missing", "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			x := tt.x(b)
			d := b.connect(x)
			if diff := cmp.Diff(tt.want, outcomeOf(d)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if d.Verdict != warder.Challenge {
				return
			}
			want := &warder.Ask{
				Scheme: "Bearer", Error: tt.want.Error, Scopes: []string{testScopes},
				ResourceMetadata: base + "/.well-known/oauth-protected-resource/mcp/" + x.Endpoint,
			}
			if diff := cmp.Diff(want, d.Ask); diff != "" {
				t.Errorf("challenge (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("dependency_killed without AUT-01 a missing token is still refused", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		b.without("AUT-01")
		want := outcome{"ZTA-01", warder.Challenge, warder.CodeUnauthenticated, "principal_missing", ""}
		if diff := cmp.Diff(want, outcomeOf(b.connect(exchange()))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	cfg := Config{
		BaseURL: "https://gate.example/warder", ScopesSupported: []string{testScopes},
		Issuers: []Issuer{{URL: issuerURL}},
	}
	own := &warder.Server{Name: "own", Resource: "https://own.example/mcp"}
	h := Metadata(cfg, func(name string) (*warder.Server, bool) { return own, name == "own" })
	doc := func(resource, name string) map[string]any {
		m := map[string]any{
			"resource": resource, "authorization_servers": []any{issuerURL},
			"scopes_supported": []any{testScopes}, "bearer_methods_supported": []any{"header"},
			"authorization_details_types_supported": []any{"mcp"},
			"dpop_signing_alg_values_supported":     []any{"ES256", "EdDSA", "ES384", "ES512", "PS256", "RS256"},
		}
		if name != "" {
			m["resource_name"] = name
		}
		return m
	}
	const well = "/.well-known/oauth-protected-resource"
	tests := []struct {
		name, method, path string
		status             int
		want               map[string]any
	}{
		{"server", "GET", well + "/warder/mcp/own", 200, doc("https://own.example/mcp", "own")},
		{"unknown name looks the same", "GET", well + "/warder/mcp/ghost", 200, doc("https://gate.example/warder/mcp/ghost", "ghost")},
		{"gateway", "GET", well + "/warder", 200, doc("https://gate.example/warder", "")},
		{"name that cannot exist", "GET", well + "/warder/mcp/a__b", 404, nil},
		{"other path", "GET", well + "/mcp/own", 404, nil},
		{"preflight", "OPTIONS", well + "/warder/mcp/own", 204, nil},
		{"head", "HEAD", well + "/warder/mcp/own", 200, nil},
		{"post", "POST", well + "/warder/mcp/own", 405, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, http.NoBody))
			if w.Code != tt.status {
				t.Fatalf("status = %d, want %d", w.Code, tt.status)
			}
			if tt.status < 300 && w.Header().Get("Access-Control-Allow-Origin") != "*" {
				t.Error("browser clients cannot read the document")
			}
			if tt.want == nil {
				if tt.status < 300 && w.Body.Len() > 0 {
					t.Errorf("body %q, want none", w.Body)
				}
				return
			}
			var got map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("document (-want +got):\n%s", diff)
			}
		})
	}
	if got, want := cfg.MetadataURL("own"), "https://gate.example"+well+"/warder/mcp/own"; got != want {
		t.Errorf("metadata url = %q, want %q", got, want)
	}
}

func TestMetadataOfStrictEndpoints(t *testing.T) {
	t.Parallel()
	h := Metadata(Config{
		BaseURL: base, Issuers: []Issuer{{URL: issuerURL}, {URL: "spiffe://example.org"}}, Documentation: "https://docs.example/gate",
		DPoP:    DPoP{Policy: PolicyRequired, Endpoints: map[string]string{"mail": PolicyOptional}, Algorithms: []string{"ES256"}},
		Clients: Clients{Certificates: []Certificates{{Name: "mesh"}}},
	}, func(string) (*warder.Server, bool) { return nil, false })
	for name, only := range map[string]any{"files": true, "mail": nil} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/.well-known/oauth-protected-resource/mcp/"+name, http.NoBody))
		want := map[string]any{
			"resource": base + "/mcp/" + name, "resource_name": name, "resource_documentation": "https://docs.example/gate",
			"authorization_servers": []any{issuerURL}, "bearer_methods_supported": []any{"header"},
			"authorization_details_types_supported": []any{"mcp"}, "dpop_signing_alg_values_supported": []any{"ES256"},
			"tls_client_certificate_bound_access_tokens": true,
		}
		if only != nil {
			want["dpop_bound_access_tokens_required"] = only
		}
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	ok := Config{BaseURL: base, Issuers: []Issuer{{URL: issuerURL}}}
	if err := ok.Validate(); err != nil {
		t.Fatalf("valid configuration: %v", err)
	}
	if err := Default().Validate(); err != nil {
		t.Fatalf("default configuration: %v", err)
	}
	local := Config{BaseURL: base, LocalIssuer: base + "/issuer"}
	if err := local.Validate(); err != nil {
		t.Fatalf("local issuer: %v", err)
	}
	if diff := cmp.Diff([]Issuer{{URL: base + "/issuer", Claims: ClaimNames{Tenant: "tenant"}}}, local.accepted()); diff != "" {
		t.Errorf("issuers (-want +got):\n%s", diff)
	}
	for name, change := range map[string]func(*Config){
		"local beside another with the same group prefix": func(c *Config) { c.LocalIssuer = base + "/issuer" },
		"local over plain http":                           func(c *Config) { c.LocalIssuer = "http://gate.example" },
		"offline_access":                                  func(c *Config) { c.ScopesSupported = []string{"offline_access"} },
		"plain http issuer":                               func(c *Config) { c.Issuers[0].URL = "http://idp.example" },
		"issuer named local":                              func(c *Config) { c.Issuers[0].URL = "local" },
		"base with slash":                                 func(c *Config) { c.BaseURL = base + "/" },
		"base with fragment":                              func(c *Config) { c.BaseURL = base + "#" },
		"no base":                                         func(c *Config) { c.BaseURL = "" },
		"symmetric algorithm":                             func(c *Config) { c.Issuers[0].Algorithms = []string{"HS256"} },
		"no algorithm":                                    func(c *Config) { c.Issuers[0].Algorithms = []string{"none"} },
		"long cache":                                      func(c *Config) { c.CacheTTL = 61e9 },
		"long leeway":                                     func(c *Config) { c.Issuers[0].Leeway = 61e9 },
		"same issuer twice":                               func(c *Config) { c.Issuers = append(c.Issuers, Issuer{URL: issuerURL, GroupPrefix: "x"}) },
		"same group prefix":                               func(c *Config) { c.Issuers = append(c.Issuers, Issuer{URL: otherIDP}) },
		"lifetime over a day":                             func(c *Config) { c.Issuers[0].MaxLifetime = 25 * time.Hour },
		"two places of keys":                              func(c *Config) { c.Issuers[0].JWKS = JWKS{File: "a", URL: "https://a.example"} },
		"keys used for ever":                              func(c *Config) { c.Issuers[0].JWKS.MaxStale = 8 * 24 * time.Hour },
		"workload api without domain":                     func(c *Config) { c.Issuers[0].JWKS.WorkloadAPI = "unix:///run/a.sock" },
		"workload api elsewhere": func(c *Config) {
			c.Issuers[0] = Issuer{URL: "spiffe://a.example", JWKS: JWKS{WorkloadAPI: "tcp://10.0.0.1:1"}}
		},
		"trust domain without keys":     func(c *Config) { c.Issuers[0].URL = "spiffe://example.org" },
		"trust domain with a path":      func(c *Config) { c.Issuers[0] = Issuer{URL: "spiffe://example.org/x", JWKS: JWKS{File: "a"}} },
		"unknown policy":                func(c *Config) { c.DPoP.Policy = "always" },
		"unknown policy of an endpoint": func(c *Config) { c.DPoP.Endpoints = map[string]string{"a": "yes"} },
		"no policy of an endpoint":      func(c *Config) { c.DPoP.Endpoints = map[string]string{"a": ""} },
		"unknown policy of an issuer":   func(c *Config) { c.Issuers[0].DPoP = "maybe" },
		"symmetric proofs":              func(c *Config) { c.DPoP.Algorithms = []string{"HS256"} },
		"window over five minutes":      func(c *Config) { c.DPoP.Window = 6 * time.Minute },
		"certificates without name": func(c *Config) {
			c.Clients.Certificates = []Certificates{{CA: secret.Ref{File: "a"}, Endpoints: []string{"a"}}}
		},
		"certificates without authority": func(c *Config) { c.Clients.Certificates = []Certificates{{Name: "a", Endpoints: []string{"a"}}} },
		"certificates for no endpoint":   func(c *Config) { c.Clients.Certificates = []Certificates{{Name: "a", CA: secret.Ref{File: "a"}}} },
		"certificates of a bad domain": func(c *Config) {
			c.Clients.Certificates = []Certificates{{Name: "a", CA: secret.Ref{File: "a"}, Endpoints: []string{"a"}, TrustDomain: "spiffe://a"}}
		},
		"shared account without issuer": func(c *Config) { c.SharedAccounts = []string{"svc"} },
		"documentation over plain http": func(c *Config) { c.Documentation = "http://docs.example" },
		"introspection without secret":  func(c *Config) { c.Issuers[0].Introspection.ClientID = "warder" },
		"introspection without client":  func(c *Config) { c.Issuers[0].Introspection.Tokens = TokensAll },
		"introspection with two secrets": func(c *Config) {
			c.Issuers[0].Introspection = Introspection{ClientID: "w", Key: "k", ClientSecret: secret.Ref{Env: "S"}}
		},
		"introspection remembered long":   func(c *Config) { c.Issuers[0].Introspection = Introspection{ClientID: "w", Key: "k", Cache: time.Hour} },
		"introspection of unknown tokens": func(c *Config) { c.Issuers[0].Introspection = Introspection{ClientID: "w", Key: "k", Tokens: "some"} },
		"introspection over plain http": func(c *Config) {
			c.Issuers[0].Introspection = Introspection{ClientID: "w", Key: "k", URL: "http://idp.example/i"}
		},
		"introspection of a trust domain": func(c *Config) {
			c.Issuers[0] = Issuer{URL: "spiffe://a.example", JWKS: JWKS{File: "a"}, Introspection: Introspection{ClientID: "w", Key: "k"}}
		},
		"opaque tokens of two issuers": func(c *Config) {
			c.Issuers[0].Introspection = Introspection{ClientID: "w", Key: "k"}
			c.Issuers = append(c.Issuers, Issuer{URL: otherIDP, GroupPrefix: "x", Introspection: Introspection{ClientID: "w", Key: "k", Tokens: TokensAll}})
		},
		"shared audience map": func(c *Config) {
			c.Issuers[0].Audience.Servers = map[string]string{"a": "api://one", "b": "api://one"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{BaseURL: base, Issuers: []Issuer{{URL: issuerURL}}}
			change(&c)
			if err := c.Validate(); err == nil {
				t.Error("configuration was accepted")
			}
		})
	}
}
