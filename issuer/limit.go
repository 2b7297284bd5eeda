package issuer

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/warder-mcp/warder/internal/bounded"
)

// maxLimited bounds the keys a limiter remembers. The one not seen for longest is forgotten, so a flood
// from more addresses than this is limited by its own size only.
const maxLimited = 8192

// A limiter bounds requests per key: so many a minute, a third of them at once.
type limiter struct {
	perMinute int
	buckets   *bounded.Cache[string, *rate.Limiter]
}

func newLimiter(perMinute int) limiter {
	return limiter{perMinute: perMinute, buckets: bounded.New[string, *rate.Limiter](maxLimited)}
}

// allow reports whether the key may ask once more.
func (l limiter) allow(key string, now time.Time) bool {
	b, ok := l.buckets.Get(key)
	if !ok {
		b = l.buckets.Add(key, rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), max(1, l.perMinute/3)))
	}
	return b.AllowN(now, 1)
}

// limiters are those of the endpoints.
type limiters struct {
	address  limiter // every endpoint, by address
	client   limiter // endpoints where clients authenticate, by client id
	register limiter // registrations and first fetches of documents, by address
}
