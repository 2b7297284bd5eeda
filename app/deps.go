package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/access/cedar"
	"github.com/warder-mcp/warder/layer/gateway"
	"github.com/warder-mcp/warder/layer/identity"
	"github.com/warder-mcp/warder/layer/input"
	"github.com/warder-mcp/warder/layer/output"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/layer/tools"
	"github.com/warder-mcp/warder/proxy"
	"github.com/warder-mcp/warder/wire"
)

// gather makes what the layers need.
func (a *App) gather(cfg *config.Config, in *instance, l *lister) (*deps, error) {
	s := a.services
	limits := cfg.Limits.WithDefaults()
	wireLimits := wire.Limits{Bytes: int64(limits.MessageBytes), Depth: limits.Depth}
	engine, err := cedar.Load(cfg.Access)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	in.policies = engine
	accessDeps := s.decides(access.Deps{Authorizer: engine, MetadataURL: cfg.Identity.MetadataURL, Now: a.opt.Now})
	if in.authority != nil && in.authority.pages != nil {
		accessDeps.ApprovalURL = in.authority.pages.ApprovalURL
	}
	visibility, err := access.NewVisibility(accessDeps)
	if err != nil {
		return nil, err
	}
	definitions, err := tools.NewDefinitions(cfg.Tools, s.registry, l, a.opt.Now)
	if err != nil {
		return nil, err
	}
	id := a.identityDeps(cfg, in)
	return &deps{
		trace: record.TraceDeps{Limits: wireLimits, Finish: in},
		gateway: gateway.Deps{
			Annotations: s.registry, Sessions: sessionOwners{s.sessions}, Refresher: refresher{definitions},
			State: s.box, Used: s.used, Once: s.db.Replays(), Limits: wireLimits, Now: a.opt.Now,
		},
		identity:  id,
		tools:     tools.Deps{Definitions: definitions, Visibility: visibility, Listed: covered{visibility}},
		input:     input.Deps{Questions: l},
		authority: identity.AuthorityDeps{Uses: identity.NewUses(s.db.State()), Now: a.opt.Now},
		access:    accessDeps,
		upstream:  in.keeper,
		held:      a.opt.Credential,
		record:    record.Deps{Log: s.trail, ConfigDigest: in.digest, Limits: wireLimits},
		output:    output.Deps{Now: a.opt.Now},
	}, nil
}

// identityDeps names the resources and the keys of the local issuer.
func (a *App) identityDeps(cfg *config.Config, in *instance) identity.Deps {
	resources := make(map[string]string, len(cfg.Servers)+len(cfg.Groups))
	for i := range cfg.Servers {
		resources[cfg.Servers[i].Name] = in.resource(cfg.Servers[i].Name, cfg.Servers[i].Resource)
	}
	for i := range cfg.Groups {
		resources[cfg.Groups[i].Name] = in.resource(cfg.Groups[i].Name, cfg.Groups[i].Resource)
	}
	d := identity.Deps{
		Resource: func(endpoint string) (string, bool) {
			r, ok := resources[endpoint]
			return r, ok
		},
		Replays:    a.services.db.Replays(),
		NonceKeys:  [][]byte{a.services.nonces},
		Generation: a.services.revoked.Generation,
		Agents:     a.services.broker.Agents,
		HTTP:       a.services.client("identity", a.opt, cfg.Identity.DialRules()...),
		Now:        a.opt.Now,
	}
	if in.authority != nil {
		d.Keys = map[string]identity.Keys{in.authority.URL(): in.authority.Keys()}
	}
	return d
}

// fetchTimeout bounds one fetch of Warder's own.
const fetchTimeout = 10 * time.Second

// A lister asks the gate, which is set before the first exchange, for what only it knows: the current
// definitions of a server, and the questions that wait for a client.
type lister struct{ gate *proxy.Gate }

// Asked implements input.Questions.
func (l *lister) Asked(x *warder.Exchange) ([]wire.Question, bool) { return l.gate.Asked(x) }

// List implements tools.Lister.
func (l *lister) List(ctx context.Context, x *warder.Exchange, kind string) ([][]byte, error) {
	method := wire.MethodToolsList
	if kind == "prompt" {
		method = wire.MethodPromptsList
	}
	return l.gate.List(ctx, x, method)
}

// sessionOwners adapts the sessions for PRT-06.
type sessionOwners struct{ sessions *proxy.Sessions }

func (s sessionOwners) SessionOwner(session string) (string, bool) { return s.sessions.Owner(session) }

// refresher adapts the definitions for PRT-10.
type refresher struct{ definitions *tools.Definitions }

func (r refresher) Refresh(_ context.Context, server, kind string) error {
	r.definitions.MarkStale(server, kind)
	return nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// covered lists of what policy shows only what the caller's credential covers.
type covered struct{ policy *access.Visibility }

// Visible implements tools.Visibility.
func (c covered) Visible(ctx context.Context, x *warder.Exchange, t *warder.Tool) (bool, error) {
	if !identity.Covers(x.Principal, t.Server, t.Kind, t.Name) {
		return false, nil
	}
	return c.policy.Visible(ctx, x, t)
}
