package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/forwarded"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/telemetry"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/layer/access/cedar"
	"github.com/warder-mcp/warder/layer/identity"
	credentials "github.com/warder-mcp/warder/layer/upstream"
	"github.com/warder-mcp/warder/proxy"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// An instance is the system as one configuration describes it. It is immutable.
type instance struct {
	cfg       *config.Config
	digest    string
	proxies   *forwarded.Proxies // in front of the doors; nil: none are believed
	chain     *proxy.Chain
	gate      *proxy.Gate
	handler   http.Handler
	operators http.Handler
	servers   []*upstream.Server
	telemetry *telemetry.Telemetry
	policies  *cedar.Engine
	authority *authority          // nil without an issuer of our own
	resources []issuer.Resource   // that its tokens can be for
	secrets   *secret.Keeper      // secrets in use
	inbox     http.Handler        // takes signals of identity providers; nil: none are taken
	keeper    *credentials.Keeper // credentials for servers
	drain     time.Duration
}

// build makes an instance; nothing of it listens or runs yet but the connections it will need.
func (a *App) build(ctx context.Context, cfg *config.Config) (_ *instance, err error) {
	in := &instance{cfg: cfg, digest: digestOf(cfg), drain: cfg.Limits.WithDefaults().DrainTimeout}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close(ctx))
		}
	}()
	if in.proxies, err = cfg.Network.Proxies(); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	ends, err := in.endpoints(a)
	if err != nil {
		return nil, err
	}
	in.resources = in.resourcesOf(cfg)
	if in.authority, err = a.openIssuer(ctx, cfg, in); err != nil {
		return nil, err
	}
	if err := in.openCredentials(a); err != nil {
		return nil, err
	}
	if in.inbox, err = a.openInbox(ctx, cfg, in); err != nil {
		return nil, err
	}
	lister := &lister{}
	d, err := a.gather(cfg, in, lister)
	if err != nil {
		return nil, err
	}
	floor, err := wire.NewFloor(wire.RevisionConfig{Floor: cfg.Limits.MinRevision, Sunset: cfg.Limits.Sunset}, a.opt.Now)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	d.floor = floor
	layers, err := path(cfg, d)
	if err != nil {
		return nil, err
	}
	if err := in.observe(ctx, a, layers); err != nil {
		return nil, err
	}
	in.chain = proxy.NewChain(layers, modes(cfg, a.opt.Now()), in.telemetry).Until(exceptionEnds(cfg))
	in.gate = proxy.New(cfg.Limits, floor, in.chain, ends, a.services.sessions, a.opt.Log)
	in.gate.ReviewOn(a.services.revoked.Changed)
	lister.gate = in.gate
	in.handler = in.routes(a, ends)
	if in.operators, err = a.openAdmin(cfg, in); err != nil {
		return nil, err
	}
	return in, nil
}

// observe builds metrics and traces over the layers.
func (in *instance) observe(ctx context.Context, a *App, layers []warder.Layer) (err error) {
	names := make([]string, 0, len(in.cfg.Servers))
	for i := range in.cfg.Servers {
		names = append(names, in.cfg.Servers[i].Name)
	}
	in.telemetry, err = telemetry.New(ctx, telemetry.Config(in.cfg.Record.OTLP), telemetry.Options{
		Layers: layers, Servers: names, Version: a.opt.Version, Logger: a.opt.Log,
	})
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	return in.telemetry.Gauge("warder_sessions", "Live sessions of revisions up to 2025-11-25.", func() float64 {
		return float64(a.services.sessions.Len())
	})
}

// Record tells telemetry of a finished exchange; it is the last recorder to run.
func (in *instance) Record(ctx context.Context, x *warder.Exchange) error {
	return in.telemetry.Record(ctx, x)
}

// endpoints makes the servers and groups of the configuration.
func (in *instance) endpoints(a *App) ([]*proxy.Endpoint, error) {
	cfg := in.cfg
	var ends []*proxy.Endpoint
	byName := make(map[string]*proxy.Backend, len(cfg.Servers))
	for i := range cfg.Servers {
		sc := &cfg.Servers[i]
		sign, err := cfg.Identity.RequestSigner(sc.Name, a.opt.Now)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", sc.Name, err)
		}
		up, err := upstream.New(sc.Name, sc.Config, upstream.Options{
			ClientInfo: []byte(`{"name":"warder","version":"` + a.opt.Version + `"}`), Logger: a.opt.Log, Now: a.opt.Now,
			OnLifecycle: a.lifecycle(sc.Name), Sign: sign, Refused: a.services.refused("server", sc.Name, a.opt),
		})
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", sc.Name, err)
		}
		in.servers = append(in.servers, up)
		b := &proxy.Backend{Up: up, Server: &warder.Server{
			Name: sc.Name, Resource: in.resource(sc.Name, sc.Resource), Labels: sc.Labels, Local: sc.Run != nil,
		}}
		byName[sc.Name] = b
		ends = append(ends, &proxy.Endpoint{Name: sc.Name, Resource: b.Server.Resource, Backends: []*proxy.Backend{b}})
	}
	for _, gc := range cfg.Groups {
		e := &proxy.Endpoint{Name: gc.Name, Resource: in.resource(gc.Name, gc.Resource), Group: true}
		for _, name := range gc.Servers {
			b := byName[name]
			if b == nil {
				return nil, fmt.Errorf("group %s: no server %q", gc.Name, name)
			}
			e.Backends = append(e.Backends, b)
		}
		ends = append(ends, e)
	}
	return ends, nil
}

// resource is the canonical URI of an endpoint: as configured, or its public address.
func (in *instance) resource(name, configured string) string {
	if configured != "" {
		return configured
	}
	return strings.TrimSuffix(in.cfg.Identity.BaseURL, "/") + "/mcp/" + name
}

// lifecycle writes what happens to a server to the audit trail.
func (a *App) lifecycle(server string) func(string, ...slog.Attr) {
	return func(event string, attrs ...slog.Attr) {
		words := []string{event}
		for _, at := range attrs {
			words = append(words, at.String())
		}
		e := warder.Event{ID: warder.NewID(a.opt.Now()), Time: a.opt.Now().UTC(), Type: warder.EventLifecycle, Server: server, Detail: strings.Join(words, " ")}
		if err := a.services.trail.Emit(e); err != nil {
			a.opt.Log.Error("record event", slog.String("server", server), slog.Any("error", err))
		}
	}
}

// modes names the controls that do not enforce.
func modes(cfg *config.Config, now time.Time) map[warder.ControlID]proxy.Mode {
	out := make(map[warder.ControlID]proxy.Mode)
	for id, c := range cfg.Controls {
		switch c.ModeAt(now) {
		case config.Monitor:
			out[id] = proxy.Monitor
		case config.Off:
			out[id] = proxy.Off
		case config.Enforce:
		}
	}
	return out
}

// exceptionEnds says from when the controls that do not enforce do so again.
func exceptionEnds(cfg *config.Config) map[warder.ControlID]time.Time {
	ends := make(map[warder.ControlID]time.Time)
	for id, c := range cfg.Controls {
		if !c.Until.IsZero() {
			ends[id] = c.Until.AddDate(0, 0, 1)
		}
	}
	return ends
}

// digestOf names a configuration in the audit trail.
func digestOf(cfg *config.Config) string {
	flat := config.Flatten(cfg)
	h := sha256.New()
	for _, k := range sortedKeys(flat) {
		fmt.Fprintf(h, "%s=%s\n", k, flat[k])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// routes serves the doors and the documents that clients look up before they have a token.
func (in *instance) routes(a *App, ends []*proxy.Endpoint) http.Handler {
	byName := make(map[string]*warder.Server, len(ends))
	for _, e := range ends {
		byName[e.Name] = &warder.Server{Name: e.Name, Resource: e.Resource}
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp/{endpoint}", in.gate.HTTP())
	if in.cfg.LegacySSE() {
		sse := in.gate.LegacySSE()
		mux.Handle("GET /mcp/{endpoint}/sse", sse)
		mux.Handle("POST /mcp/{endpoint}/messages", sse)
	}
	metadata := identity.Metadata(in.cfg.Identity, func(name string) (*warder.Server, bool) {
		s, ok := byName[name]
		return s, ok
	})
	mux.Handle("/.well-known/oauth-protected-resource", metadata)
	mux.Handle("/.well-known/oauth-protected-resource/", metadata)
	if a.services.decisions != nil {
		mux.Handle("POST "+deskPath, a.services.decisions)
	}
	if in.inbox != nil {
		mux.Handle(signalsPath+"/", in.inbox)
	}
	if in.authority != nil {
		in.authority.mount(mux)
		if in.authority.pages != nil {
			mux.Handle(in.keeper.Path()+"/oauth/", in.keeper.Handler(in.authority.person))
		}
	}
	return mux
}

// close drains the gate and closes the connections to the servers.
func (in *instance) close(ctx context.Context) error {
	var errs []error
	if in.gate != nil {
		errs = append(errs, in.gate.Drain(ctx))
	}
	for _, s := range in.servers {
		errs = append(errs, s.Close(ctx))
	}
	if in.keeper != nil {
		errs = append(errs, in.keeper.Close())
	}
	if in.secrets != nil {
		errs = append(errs, in.secrets.Close())
	}
	in.authority.close()
	if in.telemetry != nil {
		errs = append(errs, in.telemetry.Close(ctx))
	}
	return errors.Join(errs...)
}
