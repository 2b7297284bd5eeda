package access

import (
	"context"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
)

// limit is how old the state may be for the message of an exchange: calls of tools that may change
// something need it fresh, until they are forwarded.
func (c FreshnessConfig) limit(x *warder.Exchange) time.Duration {
	if callsTool(x) && effectOf(x) != warder.EffectRead && !x.Forwarded && x.Response == nil {
		return c.Revocation
	}
	return c.StaleRead
}

// revoked refuses whoever and whatever was revoked: token, session, principal, agent, client, grant,
// server, tool, tenant, issuer or all. It looks when the connection is made, before a call is judged, at
// every message of an answer, and while an answer lasts, so that what runs is cut. When it is not known
// well enough what was revoked, calls are refused.
// Control JIT-04; OpenID CAEP 1.0, NIST SP 800-207 section 2.1 tenet 6. Phases Connect, Request, Response, Review.
type revoked struct {
	deps Deps
	cfg  FreshnessConfig
}

var _ warder.Interceptor = (*revoked)(nil)

// Control returns JIT-04.
func (*revoked) Control() warder.ControlID { return "JIT-04" }

// Intercept asks what was revoked.
func (r *revoked) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if r.deps.Revoked == nil || x.Principal == nil {
		return warder.Continue(), nil
	}
	tool := ""
	if callsTool(x) {
		tool = x.Request.Target
	}
	if what, credential, is := r.deps.Revoked.Check(x.Principal, serverOf(x), tool, x.Grant); is {
		return r.refuse(x, what, credential), nil
	}
	if age, most := r.deps.Revoked.Age(r.deps.Now()), r.cfg.limit(x); age > most {
		return warder.Refuse(warder.CodeUnavailable, "revocation_stale",
			fmt.Sprintf("what was revoked was last known %v ago, at most %v", age, most)), nil
	}
	return warder.Continue(), nil
}

// refuse says that access was revoked. Where that is the credential's and not the caller's, the client is
// asked for another one (RFC 6750 section 3.1, invalid_token), unless the call runs already.
func (r *revoked) refuse(x *warder.Exchange, what string, credential bool) warder.Decision {
	const public = "Access was revoked."
	if !credential || x.Door == warder.DoorStdio || x.Forwarded || x.Response != nil || r.deps.MetadataURL == nil {
		return warder.Refuse(warder.CodeDenied, "revoked", what).Tell(public)
	}
	return warder.Decision{
		Verdict: warder.Challenge, Code: warder.CodeUnauthenticated, Reason: "revoked", Detail: what, Public: public,
		Ask: &warder.Ask{Scheme: "Bearer", Error: "invalid_token", ResourceMetadata: r.deps.MetadataURL(x.Endpoint)},
	}
}

// revokedGrant asks once more when a grant was found, which may have been revoked by its id.
// Control JIT-04. Phase Request, after the grant was found.
type revokedGrant struct{ *revoked }

var _ warder.Interceptor = (*revokedGrant)(nil)

// Control returns JIT-04.
func (*revokedGrant) Control() warder.ControlID { return "JIT-04" }

// Intercept asks what was revoked if there is a grant.
func (r *revokedGrant) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Grant == nil {
		return warder.Continue(), nil
	}
	return r.revoked.Intercept(ctx, x)
}
