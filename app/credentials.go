package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/login"
	"github.com/warder-mcp/warder/layer/upstream"
)

// openCredentials makes what holds secrets and credentials for servers.
func (in *instance) openCredentials(a *App) (err error) {
	cfg := in.cfg
	in.secrets, err = secret.NewKeeper(cfg.Secrets, secret.KeeperConfig{Cache: cfg.Secrets.Cache, Now: a.opt.Now, Log: a.opt.Log, Renewed: a.renewed},
		secret.Deps{HTTP: a.storeClient, Now: a.opt.Now})
	if err != nil {
		return err
	}
	deps := upstream.Deps{
		Base: cmp.Or(cfg.Issuer.URL, cfg.Identity.BaseURL), State: a.services.db.State(), Box: a.services.box, Secrets: in.secrets,
		Record: a.services.trail.Append, Now: a.opt.Now, Log: a.opt.Log,
	}
	for i := range cfg.Servers {
		s := &cfg.Servers[i]
		u := s.URL
		if u == "" {
			u = s.SSE
		}
		deps.Servers = append(deps.Servers, upstream.Server{Name: s.Name, URL: u, AllowPrivate: s.AllowPrivate, Credentials: s.Credentials})
	}
	if in.authority != nil {
		deps.Mint = in.authority.assert
		if in.authority.pages != nil {
			deps.Identity = in.authority.identity
		}
	}
	in.keeper, err = upstream.Open(cfg.Upstream, deps)
	return err
}

// assert signs a short assertion about a caller for an issuer that shall exchange it.
func (o *authority) assert(ctx context.Context, p *warder.Principal, audience string) (string, error) {
	return o.Mint(ctx, issuer.Claims{
		Subject: p.Subject, Audience: audience, Groups: p.Groups, Tenant: p.Tenant, Client: "warder", Agent: p.Agent, TTL: assertionTTL,
	})
}

// identity is the ID token of a caller's login at an identity provider: only of those who show a token of our
// own that was issued in this login.
func (o *authority) identity(ctx context.Context, p *warder.Principal, provider string) (secret.Value, error) {
	if p.Issuer != o.URL() || p.Session == "" {
		return secret.Value{}, login.ErrNoIdentity
	}
	return o.pages.IDToken(ctx, issuer.User{Subject: p.Subject, Session: p.Session}, provider)
}

// renewed writes to the log that a secret changed at its place, or could not be had there.
func (a *App) renewed(ctx context.Context, where string, changed bool, err error) {
	switch {
	case err != nil:
		a.opt.Log.WarnContext(ctx, "secret not fetched", slog.String("where", where), slog.Any("error", err))
	case changed:
		a.opt.Log.InfoContext(ctx, "secret changed", slog.String("where", where))
	}
}

// assertionTTL bounds the life of an assertion about a caller.
const assertionTTL = 2 * fetchTimeout

// storeClient reaches the store of secrets at an address of the configuration, wherever it is.
func (a *App) storeClient(address string) (*http.Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.Join(fmt.Errorf("secrets: address %q", address), err)
	}
	rule := safedial.Rule{Host: u.Hostname(), Private: true, Loopback: config.IsLoopback(u.Hostname())}
	return a.services.client("secrets", a.opt, rule), nil
}
