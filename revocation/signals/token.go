package signals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
)

// A refusalError is an error that the transmitter is told, with a code of RFC 8935 section 2.4.
type refusalError struct {
	code string
	err  error
}

func (r *refusalError) Error() string { return r.err.Error() }
func (r *refusalError) Unwrap() error { return r.err }

func refuse(code, format string, args ...any) error {
	return &refusalError{code, fmt.Errorf(format, args...)}
}

// Codes of RFC 8935 section 2.4.
const (
	invalidRequest  = "invalid_request"
	invalidKey      = "invalid_key"
	invalidIssuer   = "invalid_issuer"
	invalidAudience = "invalid_audience"
	authFailed      = "authentication_failed"
)

// A set is a verified security event token, or the claims of one.
type set struct {
	id     string
	issued time.Time
	claims jose.Claims
	events map[string]jose.Claims
}

// maxEvents is how many events one token may carry; RFC 8417 section 2 wants one, with what belongs to it.
const maxEvents = 8

// verify parses a token, finds its transmitter, and checks everything that does not depend on its
// events. Nothing in it is believed before.
func (r *Inbox) verify(ctx context.Context, raw string, types []string, audience func(*transmitter) string) (*transmitter, *set, error) {
	token, err := jose.Parse(raw)
	if err != nil {
		return nil, nil, refuse(invalidRequest, "parse token: %w", err)
	}
	// RFC 8417 section 2.3: the type keeps other tokens of the same issuer from being taken for this one.
	if err := token.CheckType(types); err != nil {
		return nil, nil, refuse(invalidRequest, "token: %w", err)
	}
	issuer, err := token.Claims.Text("iss")
	if err != nil {
		return nil, nil, refuse(invalidRequest, "token: %w", err)
	}
	t := r.transmitters[issuer]
	if t == nil {
		return nil, nil, refuse(invalidIssuer, "issuer %.80q is not configured", issuer)
	}
	key, err := t.keys.Key(ctx, token.Header.KeyID)
	if errors.Is(err, jose.ErrKeysUnavail) {
		return nil, nil, fmt.Errorf("keys of %s: %w", issuer, err)
	}
	if err == nil {
		err = token.Verify(key, t.Algorithms)
	}
	if err != nil {
		return nil, nil, refuse(invalidKey, "verify token: %w", err)
	}
	want := audience(t)
	list, err := token.Claims.List("aud")
	if err != nil || want == "" || !slices.Contains(list, want) {
		return nil, nil, refuse(invalidAudience, "audience is not %.80q", want)
	}
	s, err := parseSet(token.Claims, r.deps.Now())
	if err != nil {
		return nil, nil, refuse(invalidRequest, "token: %w", err)
	}
	return t, s, nil
}

// parseSet reads the claims of RFC 8417 section 2.2 strictly.
func parseSet(c jose.Claims, now time.Time) (*set, error) {
	id, err := c.Text("jti")
	if err != nil {
		return nil, err
	}
	issued, err := c.Time("iat")
	if err != nil {
		return nil, err
	}
	expires, err := c.Time("exp")
	if err != nil {
		return nil, err
	}
	switch {
	case id == "" || len(id) > 512:
		return nil, errors.New("jti is missing or too long")
	case issued.IsZero():
		return nil, errors.New("iat is missing")
	case issued.After(now.Add(leeway)):
		return nil, errors.New("iat lies in the future")
	case now.Sub(issued) > maxAge:
		return nil, errors.New("it is too old")
	case !expires.IsZero() && !now.Before(expires.Add(leeway)):
		return nil, errors.New("it has expired")
	}
	object, err := c.Object("events")
	if err != nil {
		return nil, err
	}
	if len(object) == 0 || len(object) > maxEvents {
		return nil, fmt.Errorf("%d events, want 1 to %d", len(object), maxEvents)
	}
	s := &set{id: id, issued: issued, claims: c, events: map[string]jose.Claims{}}
	for uri := range object {
		event, err := object.Object(uri)
		if err != nil {
			return nil, err
		}
		if event == nil {
			return nil, fmt.Errorf("event %.80q is null", uri)
		}
		s.events[uri] = event
	}
	return s, nil
}

// subject returns the subject of an event: sub_id of the token (RFC 9493 section 3.1), or subject in
// the event, where drafts of the Shared Signals Framework had it. Both must not differ, so there is one.
func (s *set) subject(event jose.Claims) (jose.Claims, error) {
	top, err := s.claims.Object("sub_id")
	if err != nil {
		return nil, err
	}
	inner, err := event.Object("subject")
	if err != nil {
		return nil, err
	}
	switch {
	case top == nil && inner == nil:
		return nil, errors.New("no subject")
	case top != nil && inner != nil:
		return nil, errors.New("two subjects")
	case top != nil:
		return top, nil
	default:
		return inner, nil
	}
}
