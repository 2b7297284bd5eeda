package tools_test

import (
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestDependencyKilled runs the whole gateway without what the layer depends on.
func TestDependencyKilled(t *testing.T) {
	t.Parallel()
	t.Run("MST-01 the server's lists fail", func(t *testing.T) {
		t.Parallel()
		wardertest.Killed(t, "MST-01", `kind: deny
forwarded: no
`, (*wardertest.Gateway).FailLists)
	})
	t.Run("TDP-04 the server's lists fail", func(t *testing.T) {
		t.Parallel()
		wardertest.Killed(t, "TDP-04", `kind: deny
forwarded: no
-- config --
controls: {MST-01: {mode: off, owner: this test, until: "2099-01-01"}}
`, (*wardertest.Gateway).FailLists)
	})
	t.Run("TDP-04 the decisions are out of date", func(t *testing.T) {
		t.Parallel()
		wardertest.Killed(t, "TDP-04", `kind: deny
reason: control_unavailable
forwarded: no
-- config --
controls: {MST-01: {mode: off, owner: this test, until: "2099-01-01"}}
access:
  freshness: {stale_read: 2s}
  inline: |
    @id("all") permit(principal, action, resource);
`, func(g *wardertest.Gateway) {
			if err := g.App.Registry().Close(); err != nil { // nobody reads the store any more
				t.Error(err)
			}
			time.Sleep(registryMaxStale)
		})
	})
}

// registryMaxStale is a little longer than the registry trusts what it read last, as the case configures it.
const registryMaxStale = 2*time.Second + 200*time.Millisecond
