package identity

import (
	"context"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

// audience accepts a token only if a configured issuer signed it, or says of an opaque one that it is
// active, in time, for exactly the server at this endpoint, and makes the principal from it. Whether the
// caller may show the token is for IAM-06.
// Control IAM-05; RFC 8707 section 2, RFC 9068 section 4, RFC 7519 section 4.1, RFC 7662. Phase Connect,
// after AUT-01 has seen that exactly one token is there.
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
	return &audience{
		verifier: v, ttl: cfg.cacheTTL(), resource: deps.Resource, generation: deps.Generation,
		now: deps.Now, ask: ask, cache: newCache(cfg.cacheSize()),
	}
}

// Control returns IAM-05.
func (*audience) Control() warder.ControlID { return "IAM-05" }

// Intercept verifies the token, or finds that it did so less than a minute ago for this resource.
func (a *audience) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorStdio {
		return warder.Continue(), nil
	}
	token := shownBy(x).token
	if token == "" {
		return warder.Continue(), nil // no token, no principal: AUT-01 and ZTA-01 refuse
	}
	now, generation := a.now(), a.generation()
	key := cacheKey{sum: jose.TokenSum(token), resource: resourceOf(x, a.resource, &a.ask.cfg)}
	if p := a.cache.get(&key, now, generation); p != nil {
		x.Principal, x.Purpose = p, p.Purpose
		return warder.Continue(), nil
	}
	ok, refusal, err := a.verifier.verify(ctx, token, key.sum, x.Endpoint, key.resource, now)
	if err != nil { // nothing was decided; the next message tries again
		return warder.Refuse(warder.CodeUnavailable, "issuer_unavailable", err.Error()), nil
	}
	if refusal != nil {
		return a.ask.refuse(x, warder.CodeUnauthenticated, "invalid_token", refusal.reason, refusal.detail), nil
	}
	p := ok.principal
	if p.TokenID == "" {
		p.TokenID = tokenDigest(key.sum)
	}
	a.keep(key, ok, now, generation)
	x.Principal, x.Purpose = p, p.Purpose
	return warder.Continue(), nil
}

// keep remembers a verified token: as long as any, but not beyond its end, nor longer than its issuer's
// answer is good for.
func (a *audience) keep(key cacheKey, v verified, now time.Time, generation uint64) {
	ttl := a.ttl
	if v.remember >= 0 {
		ttl = min(ttl, v.remember)
	}
	until := now.Add(ttl)
	if v.principal.NotAfter.Before(until) {
		until = v.principal.NotAfter
	}
	if until.After(now) {
		a.cache.put(key, cached{principal: v.principal, until: until, generation: generation}, now)
	}
}
