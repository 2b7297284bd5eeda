package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/spiffe"
)

// A refusal says why a token is not accepted. It is an answer, not an error: the token is wrong.
type refusal struct {
	reason warder.Reason
	detail string
}

// verifier checks tokens of the configured issuers. It is safe for concurrent use.
type verifier struct {
	issuers map[string]*issuerRule
	opaque  *issuerRule // the one whose tokens say nothing of themselves; nil if there is none
}

type issuerRule struct {
	Issuer
	keys  Keys
	asks  *introspector // nil unless introspection is on
	times jose.Times
}

// A verified is a verified token: its principal, and how long that may be remembered.
type verified struct {
	principal *warder.Principal
	remember  time.Duration // negative: as long as any
}

func newVerifier(cfg Config, deps Deps) (*verifier, error) {
	issuers := cfg.accepted()
	v := &verifier{issuers: make(map[string]*issuerRule, len(issuers))}
	for _, is := range issuers {
		r, err := newIssuerRule(is, deps)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", is.URL, err)
		}
		v.issuers[is.URL] = r
		if r.opaqueTokens() {
			v.opaque = r
		}
	}
	return v, nil
}

func newIssuerRule(is Issuer, deps Deps) (*issuerRule, error) {
	p := &provider{issuer: is.URL, client: deps.HTTP, now: deps.Now}
	keys, err := keysOf(is, p, deps)
	if err != nil {
		return nil, err
	}
	r := &issuerRule{Issuer: is, keys: keys, times: jose.Times{Leeway: is.Leeway}}
	if !is.trustDomain() {
		r.times.MaxLifetime = maxLifetime // asks for iat; IAM-03 judges the lifetime
	}
	if len(r.Algorithms) == 0 {
		r.Algorithms = defaultAlgorithms()
	}
	if len(r.Types) == 0 {
		r.Types = defaultTypes()
		if is.trustDomain() {
			r.Types = []string{"JWT", "JOSE", ""} // SPIFFE JWT-SVID section 2.3
		}
	}
	if !is.Introspection.On() {
		return r, nil
	}
	r.asks, err = newIntrospector(is, p, deps)
	return r, err
}

// opaqueTokens reports whether the issuer is asked about tokens that are no JWTs.
func (r *issuerRule) opaqueTokens() bool {
	return r.Introspection.On() && r.Introspection.Tokens != TokensJWT
}

// keysOf finds where the issuer's keys come from. Nothing is fetched yet: an issuer that cannot be reached
// stops no start, only its own tokens.
func keysOf(is Issuer, p *provider, deps Deps) (Keys, error) {
	refresh := jose.Refresh{MaxStale: is.JWKS.MaxStale}
	if ready, given := deps.Keys[is.URL]; given && is.JWKS.File == "" && is.JWKS.URL == "" && is.JWKS.WorkloadAPI == "" {
		return ready, nil
	}
	if is.trustDomain() {
		return trustDomainKeys(is, deps)
	}
	if is.JWKS.File != "" {
		return jose.NewSource(jose.FromFile(is.JWKS.File), refresh, deps.Now), nil
	}
	if deps.HTTP == nil {
		return nil, errors.New("no HTTP client to fetch keys with: set jwks.file")
	}
	if is.JWKS.URL == "" {
		return jose.NewSource(p.fetchKeys, refresh, deps.Now), nil
	}
	fetch, err := jose.FromURL(deps.HTTP, is.JWKS.URL)
	if err != nil {
		return nil, err
	}
	return jose.NewSource(fetch, refresh, deps.Now), nil
}

// verify returns the principal, or why the token is refused. The error means that nothing could be
// decided, because the issuer could not be asked.
func (v *verifier) verify(ctx context.Context, raw string, sum [32]byte, endpoint, resource string, now time.Time) (verified, *refusal, error) {
	if strings.Count(raw, ".") != 2 && v.opaque != nil {
		return v.opaque.introspect(ctx, raw, sum, endpoint, resource, now)
	}
	token, err := jose.Parse(raw)
	if err != nil {
		return verified{}, refused(err), nil
	}
	rule, ref := v.ruleFor(token.Claims)
	if ref != nil {
		return verified{}, ref, nil
	}
	key, err := rule.keys.Key(ctx, token.Header.KeyID)
	switch {
	case errors.Is(err, jose.ErrUnknownKey):
		return verified{}, refused(err), nil
	case err != nil:
		return verified{}, nil, fmt.Errorf("verify token: %w", err)
	}
	if err := token.Verify(key, rule.Algorithms); err != nil {
		return verified{}, refused(err), nil
	}
	if err := token.CheckType(rule.Types); err != nil {
		return verified{}, refused(err), nil
	}
	if err := token.Claims.CheckTimes(now, rule.times); err != nil {
		return verified{}, refused(err), nil
	}
	if r := rule.checkAudience(token.Claims, endpoint, resource); r != nil {
		return verified{}, r, nil
	}
	p, ref := rule.principal(token.Claims)
	if ref != nil || rule.asks == nil || rule.Introspection.Tokens == TokensOpaque || rule.Introspection.Tokens == "" {
		return verified{p, -1}, ref, nil
	}
	return rule.stillActive(ctx, raw, sum, p)
}

// ruleFor finds the issuer that a token says it is from: by iss, exactly, as a plain string (RFC 9207
// section 2.4), or for a workload by the trust domain of its subject (SPIFFE JWT-SVID section 3).
func (v *verifier) ruleFor(c jose.Claims) (*issuerRule, *refusal) {
	issuer, err := c.Text("iss")
	if err != nil {
		return nil, refused(err)
	}
	if rule, ok := v.issuers[issuer]; ok && !rule.trustDomain() {
		return rule, nil
	}
	subject, err := c.Text("sub")
	if err != nil {
		return nil, refused(err)
	}
	if domain, ok := spiffe.TrustDomain(subject); ok {
		if rule, ok := v.issuers[spiffe.Scheme+domain]; ok {
			return rule, nil
		}
	}
	return nil, &refusal{"issuer_unknown", "issuer is not configured"}
}

// stillActive asks the issuer about a token that is good by itself.
func (r *issuerRule) stillActive(ctx context.Context, raw string, sum [32]byte, p *warder.Principal) (verified, *refusal, error) {
	answer, err := r.asks.ask(ctx, raw, sum)
	switch {
	case err != nil:
		return verified{}, nil, err
	case answer == nil:
		return verified{}, &refusal{"token_inactive", "the issuer says that the token is not active"}, nil
	}
	if sub, ok := claim(answer, "sub"); !ok || sub != "" && sub != p.Subject {
		return verified{}, &refusal{"token_inactive", "the issuer's answer is about another subject"}, nil
	}
	return verified{p, r.Introspection.Cache}, nil, nil
}

// introspect makes the principal of an opaque token from what its issuer says (RFC 7662 section 2.2). The
// same rules hold as for a JWT, but for the signature.
func (r *issuerRule) introspect(ctx context.Context, raw string, sum [32]byte, endpoint, resource string, now time.Time) (verified, *refusal, error) {
	if len(raw) > jose.MaxToken {
		return verified{}, &refusal{"token_too_large", ""}, nil
	}
	c, err := r.asks.ask(ctx, raw, sum)
	switch {
	case err != nil:
		return verified{}, nil, err
	case c == nil:
		return verified{}, &refusal{"token_inactive", "the issuer says that the token is not active"}, nil
	}
	if iss, ok := claim(c, "iss"); !ok || iss != "" && iss != r.URL {
		return verified{}, &refusal{"issuer_unknown", "the answer is about a token of another issuer"}, nil
	}
	if err := c.CheckTimes(now, jose.Times{Leeway: r.Leeway}); err != nil {
		return verified{}, refused(err), nil
	}
	if ref := r.checkAudience(c, endpoint, resource); ref != nil {
		return verified{}, ref, nil
	}
	p, ref := r.principal(c)
	if ref != nil {
		return verified{}, ref, nil
	}
	if kind, ok := claim(c, "token_type"); !ok || strings.EqualFold(kind, "DPoP") && p.Transport != transportDPoP {
		return verified{}, &refusal{"confirmation_missing", "the issuer says that the token is bound, but not to which key"}, nil
	}
	return verified{p, r.Introspection.Cache}, nil, nil
}

// claim returns a claim that is text or absent; false if it is something else.
func claim(c jose.Claims, name string) (string, bool) {
	text, err := c.Text(name)
	return text, err == nil
}

// checkAudience compares byte by byte: no prefix, no trailing slash, no normal form, no wildcard.
func (r *issuerRule) checkAudience(c jose.Claims, endpoint, resource string) *refusal {
	want, claim := resource, "aud"
	if r.Audience.SharedUnsafe != "" {
		want = r.Audience.SharedUnsafe
	}
	if len(r.Audience.Servers) > 0 {
		want = r.Audience.Servers[endpoint] // an endpoint without entry has no audience, so nothing matches
	}
	if r.Audience.Claim != "" {
		claim = r.Audience.Claim
	}
	got, err := c.List(claim)
	switch {
	case err != nil:
		return refused(err)
	case want == "":
		return &refusal{"audience_mismatch", "no audience is configured for this endpoint"}
	case !slices.Contains(got, want):
		return &refusal{"audience_mismatch", "token was issued for another audience"}
	case len(got) > 1 && !r.Audience.AllowOthers:
		return &refusal{"audience_not_alone", "token names further audiences"}
	}
	return nil
}

// refused maps an error of the token to a stable reason.
func refused(err error) *refusal {
	for _, m := range []struct {
		err    error
		reason warder.Reason
	}{
		{jose.ErrTooLarge, "token_too_large"},
		{jose.ErrDuplicate, "token_duplicate_member"},
		{jose.ErrAlgorithm, "algorithm_not_allowed"},
		{jose.ErrCritical, "critical_header"},
		{jose.ErrEmbeddedKey, "embedded_key"},
		{jose.ErrType, "token_type"},
		{jose.ErrUnknownKey, "key_unknown"},
		{jose.ErrSignature, "signature_invalid"},
		{jose.ErrExpired, "token_expired"},
		{jose.ErrNotYetValid, "token_not_yet_valid"},
		{jose.ErrFutureIssue, "token_from_future"},
		{jose.ErrLifetime, "token_lifetime"},
		{jose.ErrClaim, "claim_invalid"},
	} {
		if errors.Is(err, m.err) {
			return &refusal{m.reason, err.Error()}
		}
	}
	return &refusal{"token_malformed", err.Error()}
}

// tokenDigest names a token without jti in the trail: not the token, and useless to whoever reads it.
func tokenDigest(sum [32]byte) string { return "sha256:" + hex.EncodeToString(sum[:16]) }
