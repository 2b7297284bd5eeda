package statetest

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/state"
)

// OpenReplays returns empty Replays whose clock is now. It ends with the test.
type OpenReplays func(t *testing.T, now func() time.Time) state.Replays

// RunReplays runs the suite for ids that may be used once.
func RunReplays(t *testing.T, open OpenReplays) {
	t.Helper()
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		clock := NewClock()
		r := open(t, clock.Now)
		start := clock.Now().Add(time.Minute) // beyond what may have been before
		clock.Add(time.Minute)
		for _, c := range []struct {
			name  string
			id    string
			until time.Time
			want  bool
		}{
			{"new", "a", start.Add(time.Minute), true},
			{"again", "a", start.Add(time.Minute), false},
			{"other", "b", start.Add(time.Minute), true},
			{"long", "c", start.Add(time.Hour), true},
			{"long again", "c", start.Add(time.Hour), false},
			{"over", "d", start, false},
			{"long over", "e", start.Add(-time.Hour), false},
			{"strange", "\x00\xff'?$1", start.Add(time.Minute), true},
			{"strange again", "\x00\xff'?$1", start.Add(time.Minute), false},
			{"empty", "", start.Add(time.Minute), true},
			{"empty again", "", start.Add(time.Minute), false},
		} {
			if got, err := r.Add(t.Context(), c.id, c.until); err != nil || got != c.want {
				t.Errorf("%s: Add = %v, %v, want %v", c.name, got, err, c.want)
			}
		}
		clock.Add(59 * time.Minute)
		if got, err := r.Add(t.Context(), "c", start.Add(time.Hour)); err != nil || got {
			t.Errorf("Add of a long one just before its end = %v, %v, want false", got, err)
		}
	})
	t.Run("one of many", func(t *testing.T) {
		t.Parallel()
		clock := NewClock()
		r := open(t, clock.Now)
		clock.Add(time.Minute)
		const people, proofs = 8, 40
		until := clock.Now().Add(time.Minute)
		var fresh [proofs]atomic.Int32
		var wait sync.WaitGroup
		for range people {
			wait.Go(func() {
				for i := range proofs {
					end := until
					if i%8 == 0 {
						end = until.Add(time.Hour)
					}
					ok, err := r.Add(t.Context(), fmt.Sprint(i), end)
					if err != nil {
						t.Errorf("Add: %v", err)
					}
					if ok {
						fresh[i].Add(1)
					}
				}
			})
		}
		wait.Wait()
		for i := range fresh {
			if n := fresh[i].Load(); n != 1 {
				t.Errorf("id %d was new %d times", i, n)
			}
		}
	})
}

// BenchmarkAdd measures Add with new ids that have this time left, by one caller after another and by
// all at once.
func BenchmarkAdd(b *testing.B, r state.Replays, left time.Duration) {
	var n atomic.Int64
	add := func() {
		if ok, err := r.Add(b.Context(), "proof-"+strconv.FormatInt(n.Add(1), 10), time.Now().Add(left)); err != nil || !ok {
			b.Errorf("Add = %v, %v", ok, err)
		}
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			add()
		}
	})
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				add()
			}
		})
	})
}
