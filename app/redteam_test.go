package app_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
)

// A data folder that others may write to would let them bring keys and approvals of their own.
func TestAttackSharedDataFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		mode    os.FileMode
		refused bool
	}{{0o777, true}, {0o770, true}, {0o755, false}, {0o700, false}} {
		if err := os.Chmod(dir, tc.mode); err != nil {
			t.Fatal(err)
		}
		cfg := config.Default()
		cfg.Data = dir
		a, err := app.Open(t.Context(), cfg, app.Options{})
		if refused := err != nil && strings.Contains(err.Error(), "other users may write"); refused != tc.refused {
			t.Errorf("mode %o: error %v", tc.mode, err)
		}
		if err == nil {
			if err := a.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	}
}
