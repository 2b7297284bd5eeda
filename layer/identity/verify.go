package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

// maxActors bounds the actor chain of a token (RFC 8693 section 4.1).
const maxActors = 8

// A refusal says why a token is not accepted. It is an answer, not an error: the token is wrong.
type refusal struct {
	reason warder.Reason
	detail string
}

// verifier checks tokens of the configured issuers. It is safe for concurrent use.
type verifier struct{ issuers map[string]*issuerRule }

type issuerRule struct {
	Issuer
	keys  Keys
	times jose.Times
}

func newVerifier(cfg Config, deps Deps) (*verifier, error) {
	issuers := cfg.accepted()
	v := &verifier{issuers: make(map[string]*issuerRule, len(issuers))}
	for _, is := range issuers {
		keys, err := keysOf(is, deps)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", is.URL, err)
		}
		r := &issuerRule{Issuer: is, keys: keys, times: jose.Times{Leeway: is.Leeway, MaxLifetime: is.MaxLifetime}}
		if r.times.MaxLifetime == 0 {
			r.times.MaxLifetime = defaultLifetime
		}
		if len(r.Algorithms) == 0 {
			r.Algorithms = defaultAlgorithms()
		}
		if len(r.Types) == 0 {
			r.Types = defaultTypes()
		}
		v.issuers[is.URL] = r
	}
	return v, nil
}

func keysOf(is Issuer, deps Deps) (Keys, error) {
	ready, given := deps.Keys[is.URL]
	switch {
	case given && is.JWKS == (JWKS{}):
		return ready, nil
	case is.JWKS.File != "":
		return jose.NewSource(jose.FromFile(is.JWKS.File), jose.Refresh{}, deps.Now), nil
	case is.JWKS.URL != "":
		if deps.HTTP == nil {
			return nil, errors.New("jwks.url: no HTTP client to fetch it with")
		}
		fetch, err := jose.FromURL(deps.HTTP, is.JWKS.URL)
		if err != nil {
			return nil, err
		}
		return jose.NewSource(fetch, jose.Refresh{}, deps.Now), nil
	default:
		return nil, errors.New("jwks: set file or url")
	}
}

// verify returns the principal, or why the token is refused. The error means that nothing could be
// decided, because the issuer's keys are unavailable.
func (v *verifier) verify(ctx context.Context, raw, endpoint, resource string, now time.Time) (*warder.Principal, *refusal, error) {
	token, err := jose.Parse(raw)
	if err != nil {
		return nil, refused(err), nil
	}
	issuer, err := token.Claims.Text("iss")
	if err != nil {
		return nil, refused(err), nil
	}
	rule, ok := v.issuers[issuer] // exact, as a plain string: RFC 9207 section 2.4
	if !ok {
		return nil, &refusal{"issuer_unknown", "issuer is not configured"}, nil
	}
	key, err := rule.keys.Key(ctx, token.Header.KeyID)
	switch {
	case errors.Is(err, jose.ErrUnknownKey):
		return nil, refused(err), nil
	case err != nil:
		return nil, nil, fmt.Errorf("verify token: %w", err)
	}
	if err := token.Verify(key, rule.Algorithms); err != nil {
		return nil, refused(err), nil
	}
	if err := token.CheckType(rule.Types); err != nil {
		return nil, refused(err), nil
	}
	if err := token.Claims.CheckTimes(now, rule.times); err != nil {
		return nil, refused(err), nil
	}
	if r := rule.checkAudience(token.Claims, endpoint, resource); r != nil {
		return nil, r, nil
	}
	p, r := rule.principal(token.Claims)
	return p, r, nil
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

// principal makes the principal from verified claims.
func (r *issuerRule) principal(c jose.Claims) (*warder.Principal, *refusal) {
	if _, bound := c["cnf"]; bound {
		// RFC 9449 section 7.1: a sender-constrained token must not be accepted as a bearer token.
		return nil, &refusal{"proof_required", "token is bound to a key whose possession was not proved"}
	}
	p := &warder.Principal{Issuer: r.URL, Transport: "bearer"}
	var errs [10]error
	p.Subject, errs[0] = c.Text("sub")
	p.Tenant, errs[1] = optional(c, r.Claims.Tenant)
	p.Client, errs[2] = firstText(c, r.Claims.Client, "client_id", "azp")
	p.Scopes, errs[3] = firstWords(c, r.Claims.Scopes, "scope", "scp")
	p.Groups, errs[4] = r.groups(c)
	p.ACR, errs[5] = c.Text("acr")
	p.AMR, errs[6] = c.List("amr")
	p.AuthTime, errs[7] = c.Time("auth_time")
	p.NotAfter, errs[8] = c.Time("exp")
	p.TokenID, errs[9] = c.Text("jti")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, refused(err)
	}
	if p.Subject == "" {
		return nil, &refusal{"subject_missing", "token has no subject"}
	}
	actors, ref := actorChain(c)
	if ref != nil {
		return nil, ref
	}
	p.Actors = actors
	agent, err := optional(c, r.Claims.Agent)
	if err != nil {
		return nil, refused(err)
	}
	if p.Agent = agent; agent == "" && len(actors) > 0 {
		p.Agent = actors[0]
	}
	return p, nil
}

func (r *issuerRule) groups(c jose.Claims) ([]string, error) {
	name := r.Claims.Groups
	switch name {
	case "-":
		return nil, nil
	case "":
		name = "groups"
	}
	groups, err := c.List(name)
	if err != nil || r.GroupPrefix == "" {
		return groups, err
	}
	for i, g := range groups {
		groups[i] = r.GroupPrefix + g
	}
	return groups, nil
}

// actorChain reads nested act claims, nearest actor first.
func actorChain(c jose.Claims) ([]string, *refusal) {
	var chain []string
	for {
		act, err := c.Object("act")
		if err != nil {
			return nil, refused(err)
		}
		if act == nil {
			return chain, nil
		}
		sub, err := act.Text("sub")
		if err != nil || sub == "" {
			return nil, &refusal{"actor_malformed", "act claim without subject"}
		}
		if len(chain) == maxActors {
			return nil, &refusal{"actor_chain_too_long", ""}
		}
		chain = append(chain, sub)
		c = act
	}
}

func optional(c jose.Claims, name string) (string, error) {
	if name == "" || name == "-" {
		return "", nil
	}
	return c.Text(name)
}

// firstText reads the configured claim, or the first of the usual ones that is there.
func firstText(c jose.Claims, configured string, usual ...string) (string, error) {
	if configured != "" {
		return optional(c, configured)
	}
	for _, name := range usual {
		if s, err := c.Text(name); err != nil || s != "" {
			return s, err
		}
	}
	return "", nil
}

func firstWords(c jose.Claims, configured string, usual ...string) ([]string, error) {
	if configured == "-" {
		return nil, nil
	}
	if configured != "" {
		return c.Words(configured)
	}
	for _, name := range usual {
		if w, err := c.Words(name); err != nil || w != nil {
			return w, err
		}
	}
	return nil, nil
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
