package login

import (
	"sync"
	"time"

	"github.com/warder-mcp/warder/internal/bounded"
)

// Limits of one address, and of one account that somebody fails to log in to.
const (
	requestsPerMinute = 300
	attemptsPerMinute = 30
	failuresPerHour   = 20
	limitEntries      = 8192
)

// limiter counts in fixed windows. At its bound the addresses that were seen longest ago are forgotten.
type limiter struct {
	now      func() time.Time
	mu       sync.Mutex
	requests *bounded.Cache[string, *window]
	attempts *bounded.Cache[string, *window]
	failures *bounded.Cache[string, *window]
}

type window struct {
	start time.Time
	n     int
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{
		now: now, requests: bounded.New[string, *window](limitEntries),
		attempts: bounded.New[string, *window](limitEntries), failures: bounded.New[string, *window](limitEntries),
	}
}

// count adds n to a window and reports whether it holds at most most.
func (l *limiter) count(c *bounded.Cache[string, *window], key string, n, most int, span time.Duration) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := c.Get(key)
	if !ok || now.Sub(w.start) >= span {
		w = &window{start: now}
		c.Put(key, w)
	}
	w.n += n
	return w.n <= most
}

// request counts any request of an address.
func (l *limiter) request(address string) bool {
	return l.count(l.requests, address, 1, requestsPerMinute, time.Minute)
}

// attempt counts a login that begins or ends, of an address.
func (l *limiter) attempt(address string) bool {
	return l.count(l.attempts, address, 1, attemptsPerMinute, time.Minute)
}

// fail counts a failure for an account.
func (l *limiter) fail(account string) { l.count(l.failures, account, 1, failuresPerHour, time.Hour) }

// locked reports whether an account has had too many failures.
func (l *limiter) locked(account string) bool {
	return !l.count(l.failures, account, 0, failuresPerHour-1, time.Hour)
}
