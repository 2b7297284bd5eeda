package oauth_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/oauth/oauthtest"
)

// TestAUT03 plays the mix-up of RFC 9700 section 4.4 in its variants, and every other way in which one
// authorization server could pass for another.
func TestAUT03(t *testing.T) {
	t.Parallel()
	evil := func() (string, bool) { return "https://evil.example.com", true }
	tests := []struct {
		name    string
		server  func(s *oauthtest.Server)
		config  func(c *oauth.Config)
		want    error
		refused warder.Reason
		token   bool // the code reached a token endpoint
	}{
		{name: "pass", token: true},
		{name: "pass without announcement and without iss", token: true, server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"authorization_response_iss_parameter_supported": nil}
			s.Iss = func() (string, bool) { return "", false }
		}},
		{name: "near_miss iss that is right though not announced", token: true, server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"authorization_response_iss_parameter_supported": nil}
		}},
		{name: "near_miss metadata with plain and S256", token: true, server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"code_challenge_methods_supported": []string{"plain", "S256"}}
		}},
		{name: "deny iss of another server", want: oauth.ErrMixUp, refused: "iss_mismatch", server: func(s *oauthtest.Server) { s.Iss = evil }},
		{name: "deny iss of another server, not announced", want: oauth.ErrMixUp, refused: "iss_mismatch", server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"authorization_response_iss_parameter_supported": nil}
			s.Iss = evil
		}},
		{name: "deny iss that differs by a slash", want: oauth.ErrMixUp, refused: "iss_mismatch", server: func(s *oauthtest.Server) {
			s.Iss = func() (string, bool) { return s.URL + "/", true }
		}},
		{name: "deny announced but missing", want: oauth.ErrMixUp, refused: "iss_missing", server: func(s *oauthtest.Server) {
			s.Iss = func() (string, bool) { return "", false }
		}},
		{name: "deny missing on an error answer too", want: oauth.ErrMixUp, refused: "iss_missing", server: func(s *oauthtest.Server) {
			s.Iss = func() (string, bool) { return "", false }
			s.Answer = func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }
		}},
		{name: "deny foreign state", want: oauth.ErrState, refused: "state_mismatch", server: func(s *oauthtest.Server) {
			s.Answer = func(q url.Values) { q.Set("state", "AAAAAAAAAAAAAAAAAAAAAAAAAA") }
		}},
		{name: "deny no state", want: oauth.ErrState, refused: "state_mismatch", server: func(s *oauthtest.Server) {
			s.Answer = func(q url.Values) { q.Del("state") }
		}},
		{name: "deny repeated parameter", want: oauth.ErrResponse, refused: "parameter_repeated", server: func(s *oauthtest.Server) {
			s.Answer = func(q url.Values) { q.Add("code", "another") }
		}},
		{name: "deny metadata of another issuer", want: oauth.ErrMixUp, refused: "issuer_mismatch", server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"issuer": "https://evil.example.com"}
		}},
		{name: "deny issuer that differs by a slash", want: oauth.ErrMixUp, refused: "issuer_mismatch", server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"issuer": s.URL + "/"}
		}},
		{name: "deny without a word on PKCE", want: oauth.ErrPKCE, refused: "pkce_not_promised", server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"code_challenge_methods_supported": nil}
		}},
		{name: "deny PKCE plain only", want: oauth.ErrPKCE, refused: "pkce_not_promised", server: func(s *oauthtest.Server) {
			s.Metadata = map[string]any{"code_challenge_methods_supported": []string{"plain", "s256"}}
		}},
		{name: "deny issuer that is not allowed", want: oauth.ErrMixUp, refused: "issuer_not_allowed", config: func(c *oauth.Config) {
			c.Issuers = []string{"https://login.example.com"}
		}},
		{name: "dependency_killed authorization server down", want: oauth.ErrMetadata, server: func(s *oauthtest.Server) { s.Down = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.config)
			if tt.server != nil {
				tt.server(r.as)
			}
			_, _, tokens, err := r.authorize(t)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) || (tokens != nil) != (err == nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if tt.refused != "" && !r.has(tt.refused) {
				t.Errorf("refusals told: %v, want %s", r.refused, tt.refused)
			}
			if got := len(r.as.Seen("/token")) > 0; got != tt.token {
				t.Errorf("the code reached the token endpoint: %t, want %t", got, tt.token)
			}
		})
	}
}

// TestAUT03Hostile lets a hostile server hand a flow of its own to an honest one: neither the code nor
// the client id of the one is shown to the other.
func TestAUT03Hostile(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	honest, reg, tokens, err := r.authorize(t)
	if err != nil {
		t.Fatal(err)
	}
	evil := oauthtest.New(t)
	there, err := r.client.Issuer(t.Context(), evil.URL)
	if err != nil {
		t.Fatal(err)
	}
	target := &oauth.Target{Server: there, Resource: r.resource.URL}
	if _, _, err := r.client.Begin(t.Context(), target, reg, nil); !errors.Is(err, oauth.ErrMixUp) {
		t.Errorf("begin with the registration of another: %v", err)
	}
	if _, err := r.client.Refresh(t.Context(), target, reg, tokens); !errors.Is(err, oauth.ErrMixUp) {
		t.Errorf("refresh at another: %v", err)
	}
	flow, address, err := r.client.Begin(t.Context(), honest, reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Finish(t.Context(), target, reg, flow, browse(t, address)); !errors.Is(err, oauth.ErrMixUp) {
		t.Errorf("finish at another: %v", err)
	}
	again, err := r.client.Register(t.Context(), there)
	if err != nil || again.ClientID == reg.ClientID || again.Issuer != evil.URL {
		t.Errorf("registration at another server: %+v, %v; want a new one", again, err)
	}
	if n := len(evil.Seen("/token")); n != 0 {
		t.Errorf("%d requests reached the hostile token endpoint", n)
	}
}
