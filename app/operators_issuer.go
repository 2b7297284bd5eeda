package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/login"
)

// issuerAdmin adds what Warder's own authorization server has to the admin plane.
func (in *instance) issuerAdmin(deps *admin.Deps, now func() time.Time) {
	if in.authority == nil {
		return
	}
	deps.Keys = keyAdmin{in.authority.Issuer}
	if in.authority.pages == nil {
		return
	}
	deps.Sessions, deps.Consents = sessionAdmin{in.authority.pages}, consentAdmin{in.authority.pages}
	if in.cfg.Issuer.Login.Local.Enabled {
		deps.Links = linkAdmin{in.authority.pages, now}
	}
}

// commandLine is the client as which "warder login" logs in at Warder's own authorization server.
const commandLine = "warder-cli"

// operatorClients adds the command line to the clients of the authorization server when there is an admin
// API to log in at, unless the configuration says who that is.
func operatorClients(cfg *config.Config) []issuer.ClientConfig {
	clients := cfg.Issuer.Clients
	known := slices.ContainsFunc(clients, func(c issuer.ClientConfig) bool { return c.ID == commandLine })
	if cfg.Admin.API.Audience == "" || known {
		return clients
	}
	return append(slices.Clone(clients), issuer.ClientConfig{
		ID: commandLine, Name: "Warder command line", Native: true, RedirectURIs: []string{"http://127.0.0.1/callback"}, Servers: []string{adminEndpoint},
	})
}

type (
	keyAdmin     struct{ issuer *issuer.Issuer }
	sessionAdmin struct{ pages *login.Service }
	consentAdmin struct{ pages *login.Service }
	linkAdmin    struct {
		pages *login.Service
		now   func() time.Time
	}
)

// List implements admin.Keys.
func (a keyAdmin) List(ctx context.Context) ([]admin.Key, error) {
	keys, err := a.issuer.Keys().List(ctx)
	var out []admin.Key
	for _, k := range keys {
		out = append(out, admin.Key{ID: k.ID, Algorithm: k.Algorithm, State: k.State, Created: k.Made, NotAfter: k.End})
	}
	return out, err
}

// Rotate implements admin.Keys.
func (a keyAdmin) Rotate(ctx context.Context, by *admin.Operator) ([]admin.Key, error) {
	if err := a.issuer.Rotate(ctx, by.Name()); err != nil {
		return nil, err
	}
	return a.List(ctx)
}

// Emergency implements admin.Keys.
func (a keyAdmin) Emergency(ctx context.Context, by *admin.Operator, reason string) ([]admin.Key, error) {
	if err := a.issuer.Emergency(ctx, reason, by.Name()); err != nil {
		return nil, err
	}
	return a.List(ctx)
}

// List implements admin.Sessions.
func (a sessionAdmin) List(ctx context.Context, q admin.SessionQuery) (admin.Page[admin.Session], error) {
	found, err := a.pages.Sessions(ctx, q.Principal)
	var all []admin.Session
	for i := range found {
		s := &found[i]
		all = append(all, admin.Session{
			ID: s.ID, Principal: s.User.Issuer + "|" + s.User.Subject, Name: s.User.Name, ACR: s.User.ACR, AMR: s.User.AMR, AuthTime: s.User.AuthTime, NotAfter: s.NotAfter,
		})
	}
	return admin.Cut(all, q.Paging, func(s *admin.Session) string { return s.ID }), err
}

// End implements admin.Sessions.
func (a sessionAdmin) End(ctx context.Context, by *admin.Operator, id, reason string) error {
	found, err := a.pages.Sessions(ctx, "")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(found, func(s login.SessionState) bool { return s.ID == id }) {
		return admin.ErrNotFound
	}
	return a.pages.EndSession(ctx, id, fmt.Sprintf("by %s: %s", by.Name(), reason))
}

// List implements admin.Consents.
func (a consentAdmin) List(ctx context.Context, q admin.ConsentQuery) (admin.Page[admin.Consent], error) {
	found, err := a.pages.Consents(ctx, q.Principal)
	var all []admin.Consent
	for i := range found {
		c := &found[i]
		all = append(all, admin.Consent{ID: c.ID, Principal: c.Principal, Client: c.Client, Resource: c.Resource, Scopes: c.Scopes, At: c.At, NotAfter: c.NotAfter})
	}
	return admin.Cut(all, q.Paging, func(c *admin.Consent) string { return c.ID }), err
}

// Revoke implements admin.Consents.
func (a consentAdmin) Revoke(ctx context.Context, by *admin.Operator, id string) error {
	return a.pages.RevokeConsent(ctx, id, by.Name())
}

// linkLife is how long a link is good.
const linkLife = 10 * time.Minute

// Create implements admin.Links.
func (a linkAdmin) Create(ctx context.Context, by *admin.Operator, r admin.LinkRequest) (admin.Link, error) {
	end := a.now().Add(linkLife)
	address, err := a.pages.Link(ctx, login.Invite{User: r.User, Groups: r.Groups, TTL: linkLife, By: by.Name()})
	if errors.Is(err, login.ErrName) || errors.Is(err, login.ErrDisabled) {
		return admin.Link{}, fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	}
	return admin.Link{URL: address, NotAfter: end}, err
}
