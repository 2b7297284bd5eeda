package oauth_test

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/secret"
)

func TestChallenges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []string
		want  []oauth.Challenge
	}{
		{"bearer", []string{`Bearer realm="x", resource_metadata="https://a/.well-known/x", scope="a b a"`}, []oauth.Challenge{
			{Scheme: "bearer", Scopes: []string{"a", "b"}, ResourceMetadata: "https://a/.well-known/x"},
		}},
		{"two in one line", []string{`Bearer scope="a", DPoP algs="ES256 EdDSA", error="use_dpop_nonce"`}, []oauth.Challenge{
			{Scheme: "bearer", Scopes: []string{"a"}}, {Scheme: "dpop", Error: "use_dpop_nonce", Algorithms: []string{"ES256", "EdDSA"}},
		}},
		{"bare", []string{"Bearer"}, []oauth.Challenge{{Scheme: "bearer"}}},
		{"other schemes", []string{`Basic realm="x"`, `bearer error=invalid_token`}, []oauth.Challenge{{Scheme: "bearer", Error: "invalid_token"}}},
		{"escaped quote", []string{`Bearer realm="a\"b", scope="c"`}, []oauth.Challenge{{Scheme: "bearer", Scopes: []string{"c"}}}},
		{"repeated parameter", []string{`Bearer scope="a", scope="b"`}, nil},
		{"open string", []string{`Bearer scope="a`}, nil},
		{"control character", []string{"Bearer scope=\"a\x01\""}, nil},
		{"too long", []string{`Bearer scope="` + strings.Repeat("a ", 9000) + `"`}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := oauth.ParseChallenges(http.Header{"Www-Authenticate": tt.lines})
			for i := range got {
				if len(got[i].Algorithms) == 0 {
					got[i].Algorithms = nil
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Bearer a="b", DPoP c=d`, `Bearer`, `a="`, `Bearer ==`, `,,,Bearer  x = "y"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, c := range oauth.ParseChallenges(http.Header{"Www-Authenticate": {line}}) {
			if c.Scheme != "bearer" && c.Scheme != "dpop" {
				t.Errorf("scheme %q", c.Scheme)
			}
			for _, s := range c.Scopes {
				if !oauth.ValidScope(s) {
					t.Errorf("scope %q", s)
				}
			}
		}
	})
}

// TestFlow proves what every request of a code flow says.
func TestFlow(t *testing.T) {
	t.Parallel()
	for _, pushed := range []bool{false, true} {
		r := newRig(t, nil)
		if pushed {
			r.as.Metadata = map[string]any{"pushed_authorization_request_endpoint": r.as.URL + "/par", "require_pushed_authorization_requests": true}
		}
		target, reg, tokens, err := r.authorize(t)
		if err != nil {
			t.Fatalf("pushed %t: %v", pushed, err)
		}
		first := r.as.Seen("/authorize")[0]
		if pushed {
			if len(first.Form) != 2 || first.Form.Get("request_uri") == "" {
				t.Errorf("the browser carried %v, want client_id and request_uri alone", first.Form)
			}
			first = r.as.Seen("/par")[0]
		}
		tokenForm := r.as.Seen("/token")[0].Form
		for where, form := range map[string]url.Values{"authorization": first.Form, "token": tokenForm} {
			if form.Get("resource") != r.resource.URL {
				t.Errorf("%s request: resource %q, want %q", where, form.Get("resource"), r.resource.URL)
			}
		}
		fresh, err := r.client.Refresh(t.Context(), target, reg, tokens)
		if err != nil || string(fresh.Access.Bytes()) == string(tokens.Access.Bytes()) {
			t.Errorf("refresh: %v", err)
		}
		if _, err := r.client.Refresh(t.Context(), target, reg, tokens); err == nil {
			t.Error("the old refresh token was good twice")
		}
		if last := r.as.Seen("/token"); last[1].Form.Get("resource") != r.resource.URL {
			t.Error("the refresh request names no resource")
		}
		if s := tokens.Access.String(); strings.Contains(s, "access-") {
			t.Errorf("the token prints as %s", s)
		}
	}
}

// TestResponses proves which token responses are refused, and that nothing of them is repeated.
func TestResponses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		status     int
		want       error
		code       string
	}{
		{"duplicate member", `{"access_token":"SECRET1","access_token":"SECRET2","token_type":"Bearer"}`, 200, oauth.ErrResponse, ""},
		{"trailing data", `{"access_token":"SECRET1","token_type":"Bearer"}{}`, 200, oauth.ErrResponse, ""},
		{"not an object", `["SECRET1"]`, 200, oauth.ErrResponse, ""},
		{"no token", `{"token_type":"Bearer"}`, 200, oauth.ErrResponse, ""},
		{"case of the name", `{"Access_Token":"SECRET1","token_type":"Bearer"}`, 200, oauth.ErrResponse, ""},
		{"header injection", `{"access_token":"SECRET1\r\nX: y","token_type":"Bearer"}`, 200, oauth.ErrResponse, ""},
		{"other type", `{"access_token":"SECRET1","token_type":"mac"}`, 200, oauth.ErrResponse, ""},
		{"dpop without proof", `{"access_token":"SECRET1","token_type":"DPoP"}`, 200, oauth.ErrResponse, ""},
		{"negative life", `{"access_token":"SECRET1","token_type":"Bearer","expires_in":-1}`, 200, oauth.ErrResponse, ""},
		{"huge", `{"access_token":"` + strings.Repeat("S", 300<<10) + `"}`, 200, nil, "huge"},
		{"error", `{"error":"invalid_grant","error_description":"SECRET1"}`, 400, nil, "invalid_grant"},
		{"error with a hostile code", `{"error":"SECRET1 \u001b[31m","error_description":"x"}`, 400, nil, "unspecified"},
		{"error page", `<html>SECRET1`, 500, nil, "unspecified"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.as.Body, r.as.Status = tt.body, tt.status
			_, _, _, err := r.authorize(t)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if refusal, ok := errors.AsType[*oauth.Error](err); tt.status != 200 && (!ok || refusal.Code != tt.code || refusal.Final() != (tt.status < 500)) {
				t.Errorf("got %v, want code %s", err, tt.code)
			}
			if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "SSSS") {
				t.Errorf("the error repeats the response: %v", err)
			}
		})
	}
}

// TestWanted proves the selection of scopes (MCP 2026-07-28 "Scope selection strategy").
func TestWanted(t *testing.T) {
	t.Parallel()
	offline := &oauth.Server{Scopes: []string{"offline_access"}}
	tests := []struct {
		name              string
		target            oauth.Target
		already, configed []string
		want              []string
	}{
		{"challenge wins", oauth.Target{Server: &oauth.Server{}, Asked: []string{"a"}, Scopes: []string{"x"}}, nil, nil, []string{"a"}},
		{"supported", oauth.Target{Server: &oauth.Server{}, Scopes: []string{"x", "y"}}, nil, nil, []string{"x", "y"}},
		{"none said", oauth.Target{Server: offline}, nil, nil, nil},
		{"union", oauth.Target{Server: offline, Asked: []string{"w"}}, []string{"r", "w"}, nil, []string{"w", "r", "offline_access"}},
		{"configured", oauth.Target{Server: &oauth.Server{}, Scopes: []string{"x"}}, nil, []string{"c"}, []string{"c"}},
		{"malformed", oauth.Target{Server: &oauth.Server{}, Asked: []string{"a b", "c"}}, nil, nil, []string{"c"}},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, tt.target.Wanted(tt.already, tt.configed)); d != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, d)
		}
	}
}

// TestResource proves whose metadata is believed.
func TestResource(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		resource func(url string) string
		want     error
	}{
		"itself":         {func(u string) string { return u }, nil},
		"its origin":     {func(u string) string { return strings.TrimSuffix(u, "/mcp") }, nil},
		"another host":   {func(string) string { return "https://evil.example.com/mcp" }, oauth.ErrResource},
		"another path":   {func(u string) string { return u + "/deeper" }, oauth.ErrResource},
		"a prefix":       {func(u string) string { return strings.TrimSuffix(u, "p") }, oauth.ErrResource},
		"another port":   {func(string) string { return "http://127.0.0.1:1/mcp" }, oauth.ErrResource},
		"another scheme": {func(u string) string { return strings.Replace(u, "http:", "https:", 1) }, oauth.ErrResource},
		"nothing":        {func(string) string { return "" }, oauth.ErrResource},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.resource.Metadata = map[string]any{"resource": tt.resource(r.resource.URL)}
			got, err := r.client.Discover(t.Context(), r.resource.URL, nil)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && got.Resource != tt.resource(r.resource.URL) {
				t.Errorf("resource %q is not as published", got.Resource)
			}
		})
	}
}

// TestGrants proves the grants without a person, each against an honest server.
func TestGrants(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.as.Clients["warder"] = "s+c r:et"
	r.as.Subjects = []string{"jwt-of-warder"}
	target, err := r.client.Discover(t.Context(), r.resource.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	reg := &oauth.Registration{Issuer: r.as.URL, ClientID: "warder", Secret: secret.New([]byte("s+c r:et"))}
	if got, err := r.client.ClientCredentials(t.Context(), target, reg, []string{"a"}); err != nil || !slices.Equal(got.Scopes, []string{"a"}) || got.NotAfter.Before(time.Now()) {
		t.Errorf("client credentials: %+v, %v", got, err)
	}
	sub := oauth.Subject{Token: secret.New([]byte("jwt-of-warder")), Type: oauth.TypeJWT}
	if _, err := r.client.Exchange(t.Context(), target, reg, sub, "aud", "", nil); err != nil {
		t.Errorf("exchange: %v", err)
	}
	if _, err := r.client.Assert(t.Context(), target, nil, sub.Token, nil); err != nil {
		t.Errorf("assertion: %v", err)
	}
	sub.Token = secret.New([]byte("of somebody else"))
	if _, err := r.client.Exchange(t.Context(), target, reg, sub, "", "", nil); err == nil {
		t.Error("a foreign subject was exchanged")
	}
	wrong := *reg
	wrong.Secret = secret.New([]byte("wrong"))
	if _, err := r.client.ClientCredentials(t.Context(), target, &wrong, nil); err == nil {
		t.Error("a wrong secret was taken")
	}
	other := *reg
	other.Issuer = "https://other.example.com"
	if _, err := r.client.ClientCredentials(t.Context(), target, &other, nil); !errors.Is(err, oauth.ErrMixUp) {
		t.Errorf("registration of another issuer: %v", err)
	}
}

// TestUnbound proves that a token that is not bound to the key is refused where one was required.
func TestUnbound(t *testing.T) {
	t.Parallel()
	prover, err := jose.NewProver(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *oauth.Config) { c.Prover, c.RequireDPoP = prover, true })
	if _, _, _, err := r.authorize(t); !errors.Is(err, oauth.ErrUnbound) {
		t.Errorf("got %v, want %v", err, oauth.ErrUnbound)
	}
	if r.as.Seen("/token")[0].Header.Get("Dpop") == "" {
		t.Error("no proof was sent")
	}
	r = newRig(t, func(c *oauth.Config) { c.Prover = prover })
	if _, _, tokens, err := r.authorize(t); err != nil || tokens.Bound {
		t.Errorf("a server that does not offer DPoP: %v", err)
	}
}
