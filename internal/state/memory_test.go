package state_test

import (
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/internal/state/statetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(_ *testing.T, now func() time.Time) state.Store { return state.NewMemory(now) })
}

func TestMemoryReplays(t *testing.T) {
	t.Parallel()
	statetest.RunReplays(t, func(_ *testing.T, now func() time.Time) state.Replays { return state.NewMemory(now) })
}

func BenchmarkMemoryAdd(b *testing.B) { statetest.BenchmarkAdd(b, state.NewMemory(nil), time.Minute) }
