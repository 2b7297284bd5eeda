package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

// A SessionState is one login as operators see it.
type SessionState struct {
	ID       string // sid
	User     issuer.User
	Provider string    // name of the provider, or "local"
	Created  time.Time // when the person logged in
	NotAfter time.Time // when it ends in any case
}

// Sessions lists the logins that are alive, of one principal, "issuer|subject", or of everybody. Errors
// are those of the store.
func (s *Service) Sessions(ctx context.Context, principal string) ([]SessionState, error) {
	var out []SessionState
	now := s.deps.Now()
	err := s.each(ctx, func(ss *session) error {
		if s.lasts(ss, now) && (principal == "" || principal == s.userKey(&ss.User) || principal == ss.User.Issuer+"|"+ss.User.Subject) {
			out = append(out, SessionState{ID: ss.User.Session, User: ss.User, Provider: ss.Provider, Created: ss.Created, NotAfter: ss.Max})
		}
		return nil
	})
	return out, err
}

// A ConsentState is one answer of a person to a client as operators see it.
type ConsentState struct {
	ID        string
	Principal string // "issuer|subject"
	Client    string
	Resource  string
	Scopes    []string
	At        time.Time
	NotAfter  time.Time
}

// Consents lists the answers of one principal, "issuer|subject", or of everybody. Errors are those of the
// store.
func (s *Service) Consents(ctx context.Context, principal string) ([]ConsentState, error) {
	var out []ConsentState
	for d, err := range state.All(ctx, s.deps.State, state.Query{Kind: kindConsent, Owner: principal}) {
		if err != nil {
			return nil, fmt.Errorf("list consents: %w", err)
		}
		c, err := decodeConsent(*d)
		if err != nil {
			return nil, err
		}
		out = append(out, ConsentState{ID: d.ID, Principal: d.Owner, Client: c.Client, Resource: c.Resource, Scopes: c.Scopes, At: c.At, NotAfter: d.NotAfter})
	}
	return out, nil
}

// RevokeConsent takes one answer back: the client must ask again. Tokens that it has stay good until
// they end. Errors are state.ErrNotFound and those of the store and the trail.
func (s *Service) RevokeConsent(ctx context.Context, id, by string) error {
	d, err := s.deps.State.Get(ctx, kindConsent, id)
	if err != nil {
		return fmt.Errorf("read consent: %w", err)
	}
	now := s.deps.Now().UTC()
	e := warder.Event{
		ID: warder.NewID(now), Time: now, Type: warder.EventLogin, Outcome: warder.OutcomeAllowed, Reason: "consent_revoked",
		Principal: &warder.EventPrincipal{Issuer: s.deps.URL, Subject: d.Owner}, Detail: cut("by "+by, 256),
	}
	if err := s.deps.Record(ctx, e); err != nil {
		return fmt.Errorf("revoke consent: audit trail: %w", err)
	}
	if err := s.deps.State.Delete(ctx, kindConsent, id, 0); err != nil && !errors.Is(err, state.ErrNotFound) {
		return fmt.Errorf("revoke consent: %w", err)
	}
	return nil
}
