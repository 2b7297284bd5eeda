package upstream_test

import (
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestCases runs the cases of the layer's controls through the whole gateway.
func TestCases(t *testing.T) {
	t.Parallel()
	wardertest.All(t)
}
