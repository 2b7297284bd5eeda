package jose

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of client assertions (RFC 7523). They wrap into the errors of tokens where those say more.
var (
	ErrAssertion = errors.New("client assertion is not acceptable")
	ErrReplay    = errors.New("it was used before")
)

// Bounds of client assertions.
const (
	AssertionType        = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 section 2.2
	maxAssertionLifetime = 5 * time.Minute
	maxAssertionLeeway   = 30 * time.Second
)

// Keyring finds the public key that a token names. [Source] is one.
type Keyring interface {
	Key(ctx context.Context, id string) (Key, error)
}

// Once remembers ids that may be used once, and reports whether this one is new. An error means that
// nobody knows. It is the Replays of package state.
type Once interface {
	Add(ctx context.Context, id string, until time.Time) (fresh bool, err error)
}

// An AssertionRule says what a client assertion must be.
type AssertionRule struct {
	Client     string   // client id: iss and sub are exactly this
	Audiences  []string // aud is exactly one of these, alone: the issuer's identifier, and its token endpoint for older clients
	Keys       Keyring  // the client's registered keys
	Algorithms []string // accepted; empty: ES256, EdDSA, PS256 and RS256
	Once       Once     // remembers jti; required: without memory nothing is single-use
	Now        time.Time
}

// AssertionClient returns the client id that an assertion claims, so that its keys can be found. Nothing
// is verified yet.
func AssertionClient(raw string) (string, error) {
	t, err := Parse(raw)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrAssertion, err)
	}
	id, err := t.Claims.Text("iss")
	if err != nil || id == "" {
		return "", fmt.Errorf("%w: no iss", ErrAssertion)
	}
	return id, nil
}

// VerifyAssertion verifies a client assertion: private_key_jwt of OpenID Connect Core section 9 and RFC
// 7523 section 3. It is signed by a registered key of the client, is by and about exactly that client, for
// exactly this authorization server, ends within five minutes, and is used once. The error wraps
// ErrAssertion; any other error means that nothing could be decided, and refuses as well.
func VerifyAssertion(ctx context.Context, raw string, rule AssertionRule) (Claims, error) {
	if rule.Client == "" || len(rule.Audiences) == 0 || rule.Keys == nil || rule.Once == nil {
		return nil, errors.New("verify client assertion: the rule is incomplete")
	}
	t, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAssertion, err)
	}
	key, err := rule.Keys.Key(ctx, t.Header.KeyID)
	switch {
	case errors.Is(err, ErrUnknownKey):
		return nil, fmt.Errorf("%w: %w", ErrAssertion, err)
	case err != nil:
		return nil, fmt.Errorf("verify client assertion: %w", err)
	}
	algorithms := rule.Algorithms
	if len(algorithms) == 0 {
		algorithms = []string{"ES256", "EdDSA", "PS256", "RS256"}
	}
	if err := t.Verify(key, algorithms); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAssertion, err)
	}
	id, end, err := rule.check(t.Claims)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAssertion, err)
	}
	fresh, err := rule.Once.Add(ctx, "assertion\x1f"+rule.Client+"\x1f"+id, end.Add(maxAssertionLeeway))
	if err != nil {
		return nil, fmt.Errorf("verify client assertion: %w", err)
	}
	if !fresh {
		return nil, fmt.Errorf("%w: %w", ErrAssertion, ErrReplay)
	}
	return t.Claims, nil
}

// check judges the claims and returns jti and exp.
func (r *AssertionRule) check(c Claims) (string, time.Time, error) {
	issuer, err1 := c.Text("iss")
	subject, err2 := c.Text("sub")
	audience, err3 := c.List("aud")
	id, err4 := c.Text("jti")
	end, err5 := c.Time("exp")
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return "", end, err
	}
	switch {
	case issuer != r.Client || subject != r.Client:
		return "", end, fmt.Errorf("%w: iss and sub are not the client", ErrClaim)
	case len(audience) != 1 || !slices.Contains(r.Audiences, audience[0]):
		return "", end, fmt.Errorf("%w: aud is not this authorization server alone", ErrClaim)
	case id == "" || len(id) > maxProofID:
		return "", end, fmt.Errorf("%w: jti is missing or too long", ErrClaim)
	}
	if err := c.CheckTimes(r.Now, Times{Leeway: maxAssertionLeeway}); err != nil {
		return "", end, err
	}
	if end.After(r.Now.Add(maxAssertionLifetime + maxAssertionLeeway)) {
		return "", end, ErrLifetime
	}
	return id, end, nil
}

// Assert returns a client assertion for an authorization server, good for one minute.
func (s *Signer) Assert(client, audience string, now time.Time) (string, error) {
	return s.Sign("JWT", map[string]any{
		"iss": client, "sub": client, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
}
