package upstream

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats are counters of one server since it was built, and gauges of now.
type Stats struct {
	Calls     int64            // calls begun
	Failures  int64            // calls that ended without an answer, for the server's part
	Canceled  int64            // calls the caller ended
	InFlight  int64            // calls open now
	Links     int              // sessions and children open now
	Starts    int64            // child processes started
	Deaths    int64            // child processes that ended without being asked
	Breaker   string           // "closed", "open" or "half_open"
	Findings  map[string]int64 // messages that were dropped, by reason
	LastError string           // the last failure, for operators; may quote the server
}

type counters struct {
	calls, failures, canceled, inflight, starts, deaths atomic.Int64

	mu       sync.Mutex
	findings map[string]int64
	last     string
}

// finding counts one and returns its running number.
func (c *counters) finding(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.findings == nil {
		c.findings = map[string]int64{}
	}
	c.findings[name]++
	return c.findings[name]
}

func (c *counters) failed(err error) {
	c.failures.Add(1)
	text := err.Error()
	if len(text) > 500 {
		text = text[:500]
	}
	c.mu.Lock()
	c.last = text
	c.mu.Unlock()
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	findings, last := maps.Clone(c.findings), c.last
	c.mu.Unlock()
	return Stats{
		Calls: c.calls.Load(), Failures: c.failures.Load(), Canceled: c.canceled.Load(),
		InFlight: c.inflight.Load(), Starts: c.starts.Load(), Deaths: c.deaths.Load(),
		Findings: findings, LastError: last,
	}
}
