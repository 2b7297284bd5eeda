//go:build unix

package record

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// BenchmarkRead is what the layer costs one read-only call: intent, and finished record.
func BenchmarkRead(b *testing.B) { benchmarkCall(b, warder.EffectRead, 1) }

// BenchmarkWrite waits for the disk: one caller at a time, and 32.
func BenchmarkWrite(b *testing.B) {
	b.Run("callers=1", func(b *testing.B) { benchmarkCall(b, warder.EffectWrite, 1) })
	b.Run("callers=32", func(b *testing.B) { benchmarkCall(b, warder.EffectWrite, 32) })
}

func benchmarkCall(b *testing.B, effect warder.Effect, callers int) {
	b.Helper()
	cfg := Default()
	cfg.Queue = 512 << 20 // a loop without servers is faster than a disk
	l := openLog(b, b.TempDir(), cfg)
	i := &intent{log: l, now: time.Now}
	r := newRecorder(l)
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			x := call(b, effect, `{"to":"bob","text":"`+string(make0(400))+`"}`)
			for n := w; n < b.N; n += callers {
				if d, err := i.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
					b.Errorf("%+v, %v", d, err)
					return
				}
				if err := r.Record(b.Context(), x); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
	s := l.Stats()
	b.ReportMetric(float64(s.Syncs)/float64(b.N), "syncs/op")
	b.ReportMetric(float64(s.Records)/float64(max(s.Syncs, 1)), "records/sync")
}

// processorTime is what the whole process has used, background work included.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
