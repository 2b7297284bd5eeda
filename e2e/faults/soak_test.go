package faults

import (
	"context"
	"flag"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSoak keeps a gateway under mixed load of both eras, with sessions, faults and clients that leave,
// and then looks for what stayed behind. It runs with -soak, for -soak.time.
func TestSoak(t *testing.T) {
	if !*soak {
		t.Skip("NOT EXERCISED: what a long load leaves behind; run with -soak")
	}
	tools := []string{"good", "dies", "cut", "hangs", "stalls", "twice", "another", "garbage", "html", "huge"}
	v := newVictim(t, tools...)
	a, g := inside(t, v, nil)
	var calls, failed atomic.Int64
	round := func(length time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		var load sync.WaitGroup
		for worker := range 16 {
			load.Go(func() {
				server := []string{"modern", "legacy"}[worker%2]
				for n := worker; ctx.Err() == nil; n++ {
					session := ""
					if worker%4 < 2 {
						session = g.open(server)
					}
					for range 20 {
						tool := "good"
						if n++; n%7 == 0 {
							tool = tools[n/7%len(tools)]
						}
						one, leave := context.WithTimeout(ctx, time.Duration(200+n%5*1000)*time.Millisecond)
						_, text, err := g.call(one, server, session, tool, newTrace())
						leave()
						calls.Add(1)
						if tool == "good" && err == nil && !strings.Contains(text, "fine") {
							failed.Add(1)
							t.Errorf("good call: %.300s", text)
						}
					}
					if session != "" {
						g.end(server, session)
					}
				}
			})
		}
		load.Wait()
	}
	part := *soakTime / 4
	round(part) // warm
	goroutines, files, heap := runtime.NumGoroutine(), descriptors(), live()
	for range 3 {
		round(part)
	}
	until(t, "no call runs", func() bool { return v.running.Load() == 0 })
	settled(t, goroutines, files)
	if now := live(); now > heap+heap/4+8<<20 {
		t.Errorf("live heap %d → %d bytes", heap, now)
	}
	t.Logf("soak: %d calls in %s, goroutines %d → %d, descriptors %d → %d, live heap %d → %d KiB",
		calls.Load(), *soakTime, goroutines, runtime.NumGoroutine(), files, descriptors(), heap>>10, live()>>10)
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

var (
	soak     = flag.Bool("soak", false, "run the soak test")
	soakTime = flag.Duration("soak.time", 5*time.Minute, "length of the soak test")
)

// live is the heap that is in use after collection.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
