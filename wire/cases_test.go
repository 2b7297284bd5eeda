package wire_test

import (
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestCases runs the cases of PRT-01 through the whole gateway.
func TestCases(t *testing.T) {
	t.Parallel()
	wardertest.All(t)
}
