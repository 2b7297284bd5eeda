package identity_test

import (
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestDependencyKilled runs the whole gateway without what the layer depends on.
func TestDependencyKilled(t *testing.T) {
	t.Parallel()
	t.Run("IAM-05 keys cannot be fetched", func(t *testing.T) {
		t.Parallel()
		wardertest.Killed(t, "IAM-05", `kind: deny
reason: issuer_unavailable
status: 503
doors: http
forwarded: no
-- config --
identity: {base_url: "https://gate.test", issuers: [{url: "https://idp.test", jwks: {url: "https://127.0.0.1:1/keys"}}]}
issuer: {}
`, func(*wardertest.Gateway) {})
	})
}
