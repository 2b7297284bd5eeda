// Package app puts the system together: configuration → services → layers → listeners. It is the only
// package that imports everything, and path.go holds the order of the layers.
//
// [Open] builds a running system from a configuration. What outlives a reload — the database, the audit
// trail, sessions, keys — is in services; everything else is an instance, built anew and swapped as a
// whole: when anything about a new configuration is wrong, the old instance goes on.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/registry"
	"github.com/warder-mcp/warder/revocation"
)

// Options are what a program hands in beside the configuration.
type Options struct {
	Log     *slog.Logger     // nil discards
	Version string           // of the program, for the record
	Now     func() time.Time // nil means time.Now

	// Credential returns what a server is shown instead of what the configuration says; a zero one leaves
	// it at that. Nil: always the configuration.
	Credential func(server string) warder.Credential
}

// An App is a running system. It is safe for concurrent use.
type App struct {
	opt      Options
	services *services
	live     atomic.Pointer[instance]
	doors    []*door
	started  time.Time

	mu     sync.Mutex // serialises reloads
	closed bool
	work   sync.WaitGroup
}

// Open builds the system. Nothing listens until [App.Listen]. Close must be called.
func Open(ctx context.Context, cfg *config.Config, opt Options) (*App, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s, err := openServices(ctx, cfg, opt)
	if err != nil {
		return nil, err
	}
	a := &App{opt: opt, services: s, started: opt.Now().UTC()}
	in, err := a.build(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	a.live.Store(in)
	s.signs.live.Store(in.authority)
	a.event(ctx, warder.EventConfig, "loaded", in)
	a.event(ctx, warder.EventLifecycle, "started "+opt.Version, in)
	return a, nil
}

// Reload builds a system from a new configuration and swaps it in. On any failure the old one goes on
// and the error says why.
func (a *App) Reload(ctx context.Context, cfg *config.Config) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errors.New("reload: the gateway is shutting down")
	}
	old := a.live.Load()
	if cfg.Data != old.cfg.Data {
		return errors.New("reload: data cannot change while the gateway runs")
	}
	in, err := a.build(ctx, cfg)
	if err != nil {
		a.event(ctx, warder.EventConfig, "rejected", old)
		return fmt.Errorf("reload: %w", err)
	}
	if err := a.services.broker.Reload(brokerConfig(cfg)); err != nil {
		return fmt.Errorf("reload: %w", errors.Join(err, in.close(ctx)))
	}
	a.live.Store(in)
	a.services.signs.live.Store(in.authority)
	a.event(ctx, warder.EventConfig, "reloaded", in)
	a.work.Go(func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), old.drain)
		defer cancel()
		if err := old.close(drain); err != nil {
			a.opt.Log.WarnContext(drain, "drain the old configuration", slog.Any("error", err))
		}
	})
	return nil
}

// ServeHTTP serves a request with the configuration in force.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := a.live.Load()
	in.handler.ServeHTTP(w, in.proxies.Request(r))
}

// Stdio serves one endpoint to the client at the other end of a pipe until r ends.
func (a *App) Stdio(ctx context.Context, endpoint string, r io.Reader, w io.Writer) error {
	return a.live.Load().gate.Stdio(ctx, endpoint, r, w)
}

// Registry gives access to definitions and approvals.
func (a *App) Registry() *registry.Registry { return a.services.registry }

// Broker gives access to grants, plans, approvals, agents and risk.
func (a *App) Broker() *broker.Broker { return a.services.broker }

// Revoked gives access to what is revoked.
func (a *App) Revoked() *revocation.Set { return a.services.revoked }

// Controls lists the controls in force, in the order in which they run, by phase.
func (a *App) Controls(phase warder.Phase) []warder.ControlID {
	return a.live.Load().chain.Controls(phase)
}

// Close stops listening, drains running calls, and closes the services.
func (a *App) Close(ctx context.Context) error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.mu.Unlock()
	in := a.live.Load()
	drain, cancel := context.WithTimeout(ctx, in.drain)
	defer cancel()
	err := in.gate.Drain(drain)
	err = errors.Join(err, a.stopListening(drain), in.close(drain))
	a.work.Wait()
	a.event(ctx, warder.EventLifecycle, "stopped", in)
	return errors.Join(err, a.services.close(ctx))
}

// event writes an entry about the gateway itself to the audit trail.
func (a *App) event(ctx context.Context, t warder.EventType, detail string, in *instance) {
	e := warder.Event{ID: warder.NewID(a.opt.Now()), Time: a.opt.Now().UTC(), Type: t, Detail: detail, ConfigDigest: in.digest}
	if err := a.services.trail.Append(ctx, e); err != nil {
		a.opt.Log.ErrorContext(ctx, "record event", slog.String("detail", detail), slog.Any("error", err))
	}
}
