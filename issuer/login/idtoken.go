package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/issuer"
)

// ErrNoIdentity means that a person's identity provider does not vouch for them now, or is another one.
var ErrNoIdentity = errors.New("no identity of the person")

// vouches is how long an ID token must be good yet.
const vouches = 30 * time.Second

// IDToken returns the ID token of a login session, to be shown to the identity provider that issued it and to
// nobody else (enterprise-managed authorization). user is whose session it must be, issuer the provider that
// will see the token. One that is about to end is renewed first. The error wraps [ErrNoIdentity] where the
// session has ended, is another person's or provider's, or the provider gives no further ID token.
func (s *Service) IDToken(ctx context.Context, user issuer.User, provider string) (secret.Value, error) {
	for try := range 2 {
		ss, err := s.bySID(ctx, user.Session)
		if err != nil {
			return secret.Value{}, err
		}
		if ss == nil || ss.User.Subject != user.Subject {
			return secret.Value{}, fmt.Errorf("%w: the login session has ended", ErrNoIdentity)
		}
		p := s.provider(ss.Provider)
		if p == nil || p.cfg.Issuer != provider {
			return secret.Value{}, fmt.Errorf("%w: they did not log in at this provider", ErrNoIdentity)
		}
		if ss.Hint != "" && s.deps.Now().Add(vouches).Before(ss.HintEnd) {
			token, err := s.openSecret(purposeHint, ss.User.Session, ss.Hint)
			if err != nil {
				return secret.Value{}, fmt.Errorf("id token: %w", err)
			}
			return secret.New([]byte(token)), nil
		}
		if ss.Refresh == "" || try > 0 {
			break
		}
		if err := s.recheck(ctx, p, ss, false); err != nil {
			return secret.Value{}, fmt.Errorf("renew id token: %w", err)
		}
	}
	return secret.Value{}, fmt.Errorf("%w: the provider gives no further id token", ErrNoIdentity)
}
