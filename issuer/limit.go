package issuer

import (
	"net/netip"
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

// network is what requests are counted for: an IPv4 address, or the /64 that one IPv6 host has to itself.
func network(peer string) string {
	ip, err := netip.ParseAddr(peer)
	if err != nil || ip.Unmap().Is4() {
		return peer
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return peer
	}
	return p.String()
}

// limiters are those of the endpoints.
type limiters struct {
	address  limiter // every endpoint, by address
	client   limiter // endpoints where clients authenticate, by client id
	register limiter // registrations and first fetches of documents, by address
}
