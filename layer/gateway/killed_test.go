package gateway_test

import (
	"fmt"
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestDependencyKilled fills the memory that the controls of the layer count with.
func TestDependencyKilled(t *testing.T) {
	t.Parallel()
	t.Run("GW-03 no room for another caller", func(t *testing.T) {
		t.Parallel()
		text := `kind: deny
reason: rate_table_full
revisions: 2026-07-28
doors: http
-- config --
gateway: {rates: {max_keys: 8, principal: {per_second: 0.01, burst: 5}, server: {per_second: 100000, burst: 100000}}}
-- script --
`
		for i := range 16 {
			text += fmt.Sprintf("as caller%d {\"method\":\"tools/list\"}\n", i)
		}
		wardertest.Killed(t, "GW-03", text, func(*wardertest.Gateway) {})
	})
}
