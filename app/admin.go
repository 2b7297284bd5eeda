package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/config"
)

// Admin serves the admin plane with the configuration in force.
func (a *App) Admin() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.live.Load().operators.ServeHTTP(w, r) })
}

// openAdmin makes the admin plane of one configuration over the services.
func (a *App) openAdmin(cfg *config.Config) (http.Handler, error) {
	api, err := admin.New(cfg.Admin.API, admin.Deps{
		Definitions: a.services.registry,
		Status:      a.status,
		Record:      a.services.trail.AppendWait,
		Now:         a.opt.Now,
		Log:         a.opt.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("admin plane: %w", err)
	}
	return api.Handler(), nil
}

// status is what the system knows of itself.
func (a *App) status(_ context.Context) (admin.Status, error) {
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
	return s, nil
}
