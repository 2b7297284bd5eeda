package admin

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/warder-mcp/warder/internal/bounded"
)

// Rates of requests. People and their scripts need little; whoever needs more is guessing.
const (
	addressRate, addressBurst   = rate.Limit(50), 100 // of one address, before anything is verified
	operatorRate, operatorBurst = rate.Limit(20), 60  // of one operator
	guessRate, guessBurst       = rate.Limit(0.2), 10 // requests of one address without a good credential
	rateKeys                    = 4096                // addresses and operators remembered
)

// rates bounds what one address and one operator may ask for.
type rates struct {
	now                           func() time.Time
	addresses, operators, guesses *bounded.Cache[string, *rate.Limiter]
}

func newRates(now func() time.Time) *rates {
	return &rates{
		now: now, addresses: bounded.New[string, *rate.Limiter](rateKeys), operators: bounded.New[string, *rate.Limiter](rateKeys),
		guesses: bounded.New[string, *rate.Limiter](rateKeys),
	}
}

// allow spends one of the key.
func (r *rates) allow(c *bounded.Cache[string, *rate.Limiter], key string, limit rate.Limit, burst int) bool {
	l, ok := c.Get(key)
	if !ok {
		l = c.Add(key, rate.NewLimiter(limit, burst))
	}
	return l.AllowN(r.now(), 1)
}

// address bounds an address; the socket, which one user shares, is bounded by operator.
func (r *rates) address(address string, local bool) bool {
	return local || r.allow(r.addresses, address, addressRate, addressBurst)
}

func (r *rates) operator(key string) bool {
	return r.allow(r.operators, key, operatorRate, operatorBurst)
}

func (r *rates) guess(address string) bool {
	return r.allow(r.guesses, address, guessRate, guessBurst)
}
