package identity_test

import (
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

func TestCases(t *testing.T) {
	t.Parallel()
	wardertest.All(t)
}
