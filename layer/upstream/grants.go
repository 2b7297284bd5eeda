package upstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/secret"
)

// asked is what to ask for: the configured scopes, else those of the challenge or of the metadata, and
// with them those that were asked for before.
func (s *server) asked(t *oauth.Target, already []string) []string {
	var out []string
	for _, w := range t.Wanted(already, s.creds.Authorization.Scopes) {
		if w != "offline_access" { // a token that is asked for anew needs no refresh token
			out = append(out, w)
		}
	}
	return out
}

// at finds the authorization server and who we are there.
func (s *server) at(ctx context.Context) (*oauth.Target, *oauth.Registration, error) {
	t, err := s.discover(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	reg, err := s.register(ctx, t)
	return t, reg, err
}

// clientCredentials gets a token for Warder itself.
func (s *server) clientCredentials(ctx context.Context, _ *entry, scopes []string) (*oauth.Tokens, error) {
	t, reg, err := s.at(ctx)
	if err != nil {
		return nil, err
	}
	return s.client.ClientCredentials(ctx, t, reg, s.asked(t, scopes))
}

// workload shows the platform's JWT as a grant.
func (s *server) workload(ctx context.Context, _ *entry, scopes []string) (*oauth.Tokens, error) {
	t, err := s.discover(ctx, nil)
	if err != nil {
		return nil, err
	}
	var reg *oauth.Registration
	if id := s.creds.Workload.ClientID; id != "" {
		reg = &oauth.Registration{Issuer: t.Server.Issuer, ClientID: id, Method: oauth.MethodNone}
	}
	h, err := s.k.deps.Secrets.Handle(s.creds.Workload.Token)
	if err != nil {
		return nil, err
	}
	l, err := h.Get(ctx)
	if err != nil {
		return nil, err
	}
	tokens, err := s.client.Assert(ctx, t, reg, l.Value, s.asked(t, scopes))
	if err != nil {
		h.Forget() // the platform renews its token in place; the next attempt reads it
	}
	return tokens, err
}

// exchange exchanges an assertion about the caller.
func (s *server) exchange(ctx context.Context, e *entry, scopes []string) (*oauth.Tokens, error) {
	t, reg, err := s.at(ctx)
	if err != nil {
		return nil, err
	}
	conf := s.creds.Exchange
	sub := oauth.Subject{Type: subjectTypes()[conf.SubjectType]}
	if conf.Subject.IsZero() {
		p := e.principal.Load()
		if p == nil {
			return nil, errors.New("exchange: nobody is calling")
		}
		assertion, err := s.k.deps.Mint(ctx, p, t.Server.Issuer)
		if err != nil {
			return nil, fmt.Errorf("mint assertion: %w", err)
		}
		sub.Token = secret.New([]byte(assertion))
	} else if sub.Token, err = s.k.fetch(ctx, conf.Subject); err != nil {
		return nil, err
	}
	return s.client.Exchange(ctx, t, reg, sub, conf.Audience, "", s.asked(t, scopes))
}

// identityGrant runs enterprise-managed authorization.
func (s *server) identityGrant(ctx context.Context, e *entry, scopes []string) (*oauth.Tokens, error) {
	t, reg, err := s.at(ctx)
	if err != nil {
		return nil, err
	}
	conf := s.creds.IDJAG
	var identity secret.Value
	if conf.Subject.IsZero() {
		p := e.principal.Load()
		if p == nil {
			return nil, errors.New("id-jag: nobody is calling")
		}
		identity, err = s.k.deps.Identity(ctx, p, conf.Provider.Issuer)
	} else {
		identity, err = s.k.fetch(ctx, conf.Subject)
	}
	if err != nil {
		return nil, fmt.Errorf("identity of the person: %w", err)
	}
	provider, err := s.client.Issuer(ctx, conf.Provider.Issuer)
	if err != nil {
		return nil, fmt.Errorf("identity provider: %w", err)
	}
	at := s.registration(conf.Provider)
	return s.client.IdentityGrant(ctx, oauth.IdentityProvider{Server: provider, Reg: &at}, t, reg,
		oauth.Subject{Token: identity, Type: oauth.TypeID}, s.asked(t, scopes))
}
