package issuer

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// TestGoSDKClient logs the MCP Go SDK's client in, with each way of registration.
func TestGoSDKClient(t *testing.T) {
	t.Parallel()
	for name, configure := range map[string]func(*auth.AuthorizationCodeHandlerConfig){
		"document": func(c *auth.AuthorizationCodeHandlerConfig) {
			c.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: docID}
		},
		"config": func(c *auth.AuthorizationCodeHandlerConfig) {
			c.PreregisteredClient = &oauthex.ClientCredentials{ClientID: "app"}
		},
		"dynamic": func(c *auth.AuthorizationCodeHandlerConfig) {
			c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{
				Metadata: &oauthex.ClientRegistrationMetadata{ClientName: "SDK", RedirectURIs: []string{back}},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w *world
			var resource string
			mcp := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(rw).Encode(map[string]any{"resource": resource, "authorization_servers": []string{w.url}, "scopes_supported": []string{"a"}})
			}))
			t.Cleanup(mcp.Close)
			resource = mcp.URL + "/mcp/notes"
			w, _ = documents(t, func(c *Config, d *Deps) {
				c.DCR.Mode = "open"
				d.Resources = func() []Resource { return []Resource{{URI: resource, Server: "notes"}} }
			})
			config := &auth.AuthorizationCodeHandlerConfig{
				RedirectURL: back,
				AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
					q := w.location(w.get(args.URL))
					return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
				},
			}
			configure(config)
			h, err := auth.NewAuthorizationCodeHandler(config)
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, resource, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp := &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: http.NoBody}
			resp.Header.Set("WWW-Authenticate", `Bearer resource_metadata="`+mcp.URL+`/.well-known/oauth-protected-resource/mcp/notes"`)
			if err := h.Authorize(t.Context(), req, resp); err != nil {
				t.Fatal(err)
			}
			source, err := h.TokenSource(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			token, err := source.Token()
			if err != nil {
				t.Fatal(err)
			}
			if c := w.claims(token.AccessToken); c["aud"] != resource || c["scope"] != "a" {
				t.Errorf("claims: %v", c)
			}
		})
	}
}

// TestOAuth2Client logs golang.org/x/oauth2 in, which also refreshes.
func TestOAuth2Client(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := oauth2.Config{
		ClientID: "app", RedirectURL: back, Scopes: []string{"a"},
		Endpoint: oauth2.Endpoint{AuthURL: w.url + "/authorize", TokenURL: w.url + "/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	secret := oauth2.GenerateVerifier()
	r := w.get(c.AuthCodeURL("s", oauth2.S256ChallengeOption(secret), oauth2.SetAuthURLParam("resource", notes)))
	q := w.location(r)
	token, err := c.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(secret), oauth2.SetAuthURLParam("resource", notes))
	if err != nil {
		t.Fatal(err)
	}
	next, err := c.TokenSource(t.Context(), &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
	if err != nil {
		t.Fatal(err)
	}
	if next.AccessToken == token.AccessToken || next.RefreshToken == token.RefreshToken || w.claims(next.AccessToken)["sub"] != "ada" {
		t.Errorf("refreshed: %+v", next.Type())
	}
}
