package issuer

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/internal/jose"
)

func TestMint(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	is, err := New(Config{URL: "http://127.0.0.1:8080/issuer", Dir: t.TempDir() + "/keys", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := is.Mint(Claims{Subject: "ada", Audience: "http://127.0.0.1:8080/mcp/notes", Scopes: []string{"a", "b"}, Groups: []string{"dev"}, Agent: "bot"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := jose.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := is.Keys()
	if err != nil {
		t.Fatal(err)
	}
	key, ok := keys.Key(token.Header.KeyID)
	if !ok {
		t.Fatal("the token names a key that is not published")
	}
	if err := token.Verify(key, []string{"ES256"}); err != nil {
		t.Fatal(err)
	}
	id, err := token.Claims.Text("jti")
	if err != nil || len(id) < 20 {
		t.Errorf("jti = %q, %v", id, err)
	}
	delete(token.Claims, "jti")
	want := jose.Claims{
		"iss": "http://127.0.0.1:8080/issuer", "sub": "ada", "aud": "http://127.0.0.1:8080/mcp/notes",
		"iat": json.Number("1700000000"), "exp": json.Number("1700003600"), "client_id": "warder-local",
		"scope": "a b", "groups": []any{"dev"}, "act": map[string]any{"sub": "bot"},
	}
	if diff := cmp.Diff(want, token.Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if token.Header.Type != "at+jwt" {
		t.Errorf("typ = %q, want at+jwt", token.Header.Type)
	}
	for name, c := range map[string]Claims{
		"no subject":     {Audience: "a"},
		"no audience":    {Subject: "s"},
		"too long":       {Subject: "s", Audience: "a", TTL: 25 * time.Hour},
		"negative":       {Subject: "s", Audience: "a", TTL: -time.Second},
		"two in a scope": {Subject: "s", Audience: "a", Scopes: []string{"a b"}},
		"offline_access": {Subject: "s", Audience: "a", Scopes: []string{"offline_access"}},
	} {
		if _, err := is.Mint(c); err == nil {
			t.Errorf("%s: token was minted", name)
		}
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "/issuer"} {
		is, err := New(Config{URL: "http://127.0.0.1:8080" + base, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		for path, status := range map[string]int{
			"/.well-known/oauth-authorization-server" + base: 200,
			base + "/.well-known/openid-configuration":       200,
			base + "/jwks.json":                              200,
			base + "/token":                                  404,
		} {
			w := httptest.NewRecorder()
			is.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			if w.Code != status {
				t.Errorf("GET %s: status = %d, want %d", path, w.Code, status)
			}
			if status != 200 {
				continue
			}
			var doc map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
				t.Errorf("GET %s: %v", path, err)
			}
			if doc["keys"] == nil && (doc["issuer"] != is.URL() || doc["jwks_uri"] != is.URL()+"/jwks.json") {
				t.Errorf("GET %s: %v", path, doc)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "local", "http://idp.example", "https://idp.example/", "https://idp.example?x", "https://idp.example#x"} {
		if _, err := New(Config{URL: u, Dir: t.TempDir()}); err == nil {
			t.Errorf("issuer url %q was accepted", u)
		}
	}
}
