package access_test

import (
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestDependencyKilled runs the whole gateway with policies that cannot be evaluated.
func TestDependencyKilled(t *testing.T) {
	t.Parallel()
	t.Run("CVM-01 a policy fails", func(t *testing.T) {
		t.Parallel()
		wardertest.Killed(t, "CVM-01", `kind: deny
reason: policy_error
forwarded: no
-- config --
access:
  inline: |
    @id("all") permit(principal, action, resource);
    @id("big") forbid(principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has n && context.arguments.n + 9223372036854775807 > 5 };
-- request --
{"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi","n":1}}}
`, func(*wardertest.Gateway) {})
	})
}
