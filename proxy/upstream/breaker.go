package upstream

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A breaker counts failures in a row. Once open it lets nothing pass until its time is over, then
// one trial at a time: success closes it, failure opens it again.
type breaker struct {
	limit int
	open  time.Duration
	now   func() time.Time
	warm  atomic.Bool // there are failures to remember; false keeps the lock off the usual path

	mu       sync.Mutex
	failures int
	until    time.Time // open until then; zero while closed
	trial    time.Time // when the running trial began; zero if none
}

// allow reports whether a call may be sent.
func (b *breaker) allow() bool {
	if !b.warm.Load() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return true
	}
	now := b.now()
	if now.Before(b.until) {
		return false
	}
	if !b.trial.IsZero() && now.Sub(b.trial) < b.open {
		return false // a trial that never reports back blocks only for so long
	}
	b.trial = now
	return true
}

// success closes the breaker and reports whether it was open.
func (b *breaker) success() (closed bool) {
	if !b.warm.Load() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	closed = !b.until.IsZero()
	b.warm.Store(false)
	b.failures, b.until, b.trial = 0, time.Time{}, time.Time{}
	return closed
}

// failure counts; opened reports that this failure opened a closed breaker.
func (b *breaker) failure() (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.warm.Store(true)
	if b.failures < b.limit {
		return false
	}
	opened = b.until.IsZero()
	b.until, b.trial = b.now().Add(b.open), time.Time{}
	return opened
}

// state is "closed", "open" or "half_open".
func (b *breaker) state() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return "closed"
	case b.now().Before(b.until):
		return "open"
	default:
		return "half_open"
	}
}

// delay is the pause before attempt n (from 1) after n deaths in a row: exponential, between half
// of and the whole of the step, so that children that died together do not return together.
func (b Backoff) delay(n int) time.Duration {
	step := b.Min
	for range min(n-1, 30) {
		if step >= b.Max/2 {
			step = b.Max
			break
		}
		step *= 2
	}
	return step/2 + rand.N(step/2+1)
}
