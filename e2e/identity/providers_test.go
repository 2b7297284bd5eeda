package identity

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
	"github.com/warder-mcp/warder/internal/servicetest"
)

// metadata reads the discovery document of a provider.
func metadata(ctx context.Context, t *testing.T, issuer string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// postgresURL is an empty database as hydra wants it named.
func postgresURL(t *testing.T) string {
	t.Helper()
	word := map[string]string{}
	for field := range strings.FieldsSeq(servicetest.Postgres(t)) {
		key, value, _ := strings.Cut(field, "=")
		word[key] = value
	}
	query := url.Values{"host": {word["host"]}, "sslmode": {"disable"}}
	return "postgres://" + word["user"] + "@/" + word["dbname"] + "?" + query.Encode()
}

// TestProvidersRun proves that the foreign providers are what the tests take them for.
func TestProvidersRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	t.Run("dex", func(t *testing.T) {
		p, err := kit.Dex(ctx, t.TempDir(), kit.DexClient{ID: "warder", Secret: "s", Redirects: []string{"http://127.0.0.1/cb"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Stop() })
		if doc := metadata(ctx, t, p.Issuer); doc["issuer"] != p.Issuer || doc["dpop_signing_alg_values_supported"] != nil {
			t.Errorf("dex says %v", doc)
		}
	})
	t.Run("hydra", func(t *testing.T) {
		p, err := kit.Hydra(ctx, postgresURL(t), "http://127.0.0.1:1/login", "http://127.0.0.1:1/consent")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Stop() })
		if doc := metadata(ctx, t, p.Issuer); doc["issuer"] != p.Issuer {
			t.Errorf("hydra says %v", doc)
		}
	})
	t.Run("oidc-provider", func(t *testing.T) {
		p, err := kit.OIDCProvider(ctx, map[string]any{"cimd": true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Stop() })
		if doc := metadata(ctx, t, p.Issuer); doc["issuer"] != p.Issuer || doc["client_id_metadata_document_supported"] != true || doc["dpop_signing_alg_values_supported"] == nil {
			t.Errorf("oidc-provider says %v", doc)
		}
	})
}
