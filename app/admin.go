package app

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/revocation"
)

// Admin serves the admin plane with the configuration in force.
func (a *App) Admin() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in := a.live.Load()
		in.operators.ServeHTTP(w, in.proxies.Request(r))
	})
}

// openAdmin makes the admin plane of one configuration over the services.
func (a *App) openAdmin(cfg *config.Config, in *instance) (http.Handler, error) {
	s := a.services
	authenticate, err := a.operatorIdentity(cfg, in)
	if err != nil {
		return nil, err
	}
	grants := grantAdmin{s.broker.Grants, s.revoked}
	deps := admin.Deps{
		Grants: grants, Holds: holdAdmin{s.broker.Holds}, Plans: planAdmin{s.broker.Plans, grants}, Agents: agentAdmin{s.broker.Agents, s.revoked, a.opt.Now}, Credentials: credentialAdmin{in.keeper},
		Revocations: revocationAdmin{s.revoked, a.opt.Now}, Definitions: s.registry, Status: a.status,
		Authenticate: authenticate, Issuers: func() []string { return issuersOf(cfg) },
		State: s.db.State(), Record: s.trail.AppendWait, Note: s.trail.Append, Now: a.opt.Now, Log: a.opt.Log,
		Alert: cfg.Admin.API.Alert.Alerter(s.client("alert", a.opt), a.opt.Now),
	}
	in.issuerAdmin(&deps, a.opt.Now)
	api, err := admin.New(cfg.Admin.API, deps)
	if err != nil {
		return nil, fmt.Errorf("admin plane: %w", err)
	}
	return api.Handler(), nil
}

// issuersOf are the authorization servers whose tokens identity accepts.
func issuersOf(cfg *config.Config) []string {
	var urls []string
	if cfg.Issuer.URL != "" {
		urls = append(urls, cfg.Issuer.URL)
	}
	for i := range cfg.Identity.Issuers {
		if u := cfg.Identity.Issuers[i].URL; !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	return urls
}

// status is what the system knows of itself.
func (a *App) status(ctx context.Context) (admin.Status, error) {
	in := a.live.Load()
	s := admin.Status{Version: a.opt.Version, Started: a.started, Config: in.digest, Weakened: map[string]string{}}
	for i := range in.cfg.Servers {
		s.Servers = append(s.Servers, in.cfg.Servers[i].Name)
	}
	for id, c := range in.cfg.Controls {
		if mode := c.ModeAt(a.opt.Now()); mode != config.Enforce {
			s.Weakened[string(id)] = mode.String()
		}
	}
	revoked, err := a.services.revoked.List(ctx)
	if err != nil {
		return s, fmt.Errorf("list revocations: %w", err)
	}
	s.Revocations = len(revoked)
	for _, e := range revoked {
		if e.Kind == revocation.KindAll {
			s.Warnings = append(s.Warnings, "EVERYTHING IS REVOKED: no call passes until that is lifted")
		}
	}
	waiting, err := a.services.broker.Holds.List(ctx, broker.HoldPending)
	if err != nil {
		return s, fmt.Errorf("list calls that wait: %w", err)
	}
	s.PendingHolds = len(waiting)
	return s, nil
}
