package identity

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/warder-mcp/warder"
)

// audience accepts a bearer token only if a configured issuer signed it, in time, for exactly the
// server at this endpoint, and makes the principal from it.
// Control IAM-05; RFC 8707 section 2, RFC 9068 section 4, RFC 7519 section 4.1. Phase Connect, after
// AUT-01 has seen that exactly one token is there.
type audience struct {
	verifier   *verifier
	cache      *cache
	ttl        time.Duration
	resource   func(endpoint string) (string, bool)
	generation func() uint64
	now        func() time.Time
	ask        asker
}

var _ warder.Interceptor = (*audience)(nil)

func newAudience(cfg Config, deps Deps, v *verifier, ask asker) *audience {
	a := &audience{
		verifier: v, ttl: cfg.CacheTTL, resource: deps.Resource, generation: deps.Generation,
		now: deps.Now, ask: ask,
	}
	if a.ttl == 0 {
		a.ttl = maxCacheTTL
	}
	size := cfg.CacheSize
	if size == 0 {
		size = defaultCache
	}
	a.cache = newCache(size)
	if a.generation == nil {
		a.generation = func() uint64 { return 0 }
	}
	return a
}

// Control returns IAM-05.
func (*audience) Control() warder.ControlID { return "IAM-05" }

// Intercept verifies the token, or finds that it did so less than a minute ago for this resource.
func (a *audience) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorStdio {
		return warder.Continue(), nil
	}
	values := x.Conn.Header["Authorization"]
	if len(values) != 1 {
		return warder.Continue(), nil // no token, no principal: AUT-01 and ZTA-01 refuse
	}
	token, ok := bearer(values[0])
	if !ok {
		return warder.Continue(), nil
	}
	now, generation := a.now(), a.generation()
	key := cacheKey{sum: sha256.Sum256([]byte(token)), resource: resourceOf(x, a.resource, &a.ask.cfg)}
	if p := a.cache.get(&key, now, generation); p != nil {
		x.Principal = p
		return warder.Continue(), nil
	}
	p, refusal, err := a.verifier.verify(ctx, token, x.Endpoint, key.resource, now)
	if err != nil {
		return warder.Decision{}, err // keys unavailable: the runner denies
	}
	if refusal != nil {
		return a.ask.refuse(x, warder.CodeUnauthenticated, "invalid_token", refusal.reason, refusal.detail), nil
	}
	if p.TokenID == "" {
		p.TokenID = tokenDigest(key.sum)
	}
	until := now.Add(a.ttl)
	if p.NotAfter.Before(until) {
		until = p.NotAfter
	}
	a.cache.put(key, cached{principal: p, until: until, generation: generation}, now)
	x.Principal = p
	return warder.Continue(), nil
}
