package gateway_test

import (
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestGW01Cases runs the cases of GW-01 through the whole gateway.
func TestGW01Cases(t *testing.T) {
	t.Parallel()
	wardertest.Cases(t, "GW-01", "testdata/gw01")
}
