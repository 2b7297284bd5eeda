package proxy_test

import (
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestCases runs the cases of NET-04 through the whole gateway.
func TestCases(t *testing.T) {
	t.Parallel()
	wardertest.All(t)
}
