package identity_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/jose"
)

// TestProviderInSixLines connects a whole gateway to a provider of which it knows the address only.
func TestProviderInSixLines(t *testing.T) {
	t.Parallel()
	signer, err := jose.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	idp := httptest.NewServer(mux)
	t.Cleanup(idp.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": idp.URL, "jwks_uri": idp.URL + "/keys"}) // the client may be gone
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		doc, _ := signer.KeySet()
		_, _ = w.Write(doc)
	})
	text := strings.NewReplacer("%IDP%", idp.URL, "%DATA%", t.TempDir()).Replace(`version: 1
data: "%DATA%/data"
identity:
  base_url: https://gate.test
  issuers:
    - url: %IDP%
servers: [{name: s, url: "http://127.0.0.1:1/mcp"}]
access:
  inline: |
    @id("all") permit(principal, action, resource);
`)
	cfg, err := config.Parse("six.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Open(t.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(t.Context()) })
	door := httptest.NewServer(a)
	t.Cleanup(door.Close)
	now := time.Now().Unix()
	token := func(audience string) string {
		s, err := signer.Sign("at+jwt", map[string]any{
			"iss": idp.URL, "sub": "ada", "aud": audience, "iat": now, "exp": now + 300, "client_id": "app",
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, tt := range []struct {
		audience string
		want     bool
	}{{"https://gate.test/mcp/s", true}, {"https://gate.test/mcp/other", false}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door.URL+"/mcp/s", strings.NewReader(
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{
			"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
			"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/list"}, "Authorization": {"Bearer " + token(tt.audience)},
		}
		w, err := door.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(w.Body)
		_ = w.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		// The server behind the gateway is not there: whoever got in learns that.
		if in := w.StatusCode == http.StatusBadGateway; in != tt.want || !in && w.StatusCode != http.StatusUnauthorized {
			t.Errorf("token for %s: status %d %s", tt.audience, w.StatusCode, body)
		}
	}
}
