package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/access/cedar"
	"github.com/warder-mcp/warder/layer/input"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/layer/tools"
	"github.com/warder-mcp/warder/proxy"
	"github.com/warder-mcp/warder/registry"
	"github.com/warder-mcp/warder/wire"
)

// A judge decides about recorded exchanges once more, by the layers that judge a message for what it
// is: tools, input, access. Nothing is forwarded and nothing is recorded. The definitions are those of
// the registry; no server is asked. What the gateway knew at the time is told by the record.
type judge struct {
	witness  witness
	cfg      *config.Config
	registry *registry.Registry
	policies *cedar.Engine
	chain    *proxy.Chain
	servers  map[string]*warder.Server
	groups   []string // instead of those of the record; nil: those of the record
	scopes   []string
}

// principalFlags adds the flags that judge a record as if its principal were another.
func principalFlags(cmd *cobra.Command, groups, scopes *[]string) {
	cmd.Flags().StringSliceVar(groups, "groups", nil, "Judge as if the principal had these groups")
	cmd.Flags().StringSliceVar(scopes, "scopes", nil, "Judge as if the principal had these scopes")
}

func newJudge(cfg *config.Config, reg *registry.Registry, groups, scopes []string) (*judge, error) {
	j := &judge{cfg: cfg, registry: reg, servers: map[string]*warder.Server{}, groups: groups, scopes: scopes}
	for i := range cfg.Servers {
		s := &cfg.Servers[i]
		j.servers[s.Name] = &warder.Server{Name: s.Name, Resource: s.Resource, Labels: s.Labels, Local: s.Run != nil}
	}
	var err error
	if j.policies, err = cedar.Load(cfg.Access); err != nil {
		return nil, fail(exitConfig, "", fmt.Errorf("policies: %w", err))
	}
	deps := j.witness.deps(j.policies, cfg.Identity.MetadataURL)
	visibility, err := access.NewVisibility(deps)
	if err != nil {
		return nil, err
	}
	definitions, err := tools.NewDefinitions(cfg.Tools, reg, stored{reg}, time.Now)
	if err != nil {
		return nil, err
	}
	t, err1 := tools.New(cfg.Tools, tools.Deps{Definitions: definitions, Visibility: visibility})
	in, err2 := input.New(cfg.Input, input.Deps{})
	ac, err3 := access.New(cfg.Access, deps)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	modes := map[warder.ControlID]proxy.Mode{}
	for id, c := range cfg.Controls {
		modes[id] = proxy.Mode(c.ModeAt(time.Now()).String())
	}
	j.chain = proxy.NewChain([]warder.Layer{t, in, ac}, modes, nil)
	return j, nil
}

// stored lists the definitions that each server sent last, in the place of the server itself.
type stored struct{ registry *registry.Registry }

// List implements tools.Lister.
func (s stored) List(ctx context.Context, x *warder.Exchange, kind string) ([][]byte, error) {
	entries, err := s.registry.List(ctx, registry.Filter{Server: x.Server.Name, Kind: kind})
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i := range entries {
		if entries[i].Latest {
			out = append(out, entries[i].Canonical)
		}
	}
	return out, nil
}

// exchange makes an exchange like the recorded one.
func (j *judge) exchange(e *warder.Event, body []byte) (*warder.Exchange, error) {
	m, err := wire.Decode(body, wire.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("decode the recorded message: %w", err)
	}
	j.witness.e = e
	c := j.witness.circumstances()
	x := &warder.Exchange{
		ID: e.Exchange, Received: e.Time, Door: e.Door, Revision: e.Revision, Endpoint: e.Endpoint,
		Conn:    warder.Conn{Peer: j.witness.peer()},
		Inbound: m, Request: m, Server: j.servers[e.Server], Principal: j.witness.principal(j.groups, j.scopes),
		Labels: c.Labels, Purpose: c.Purpose,
	}
	return x, nil
}

// judges reports whether an exchange ended where this judge has a say: it was allowed, or refused by one of
// the controls that are asked again.
func (j *judge) judges(e *warder.Event) bool {
	return e.Outcome != warder.OutcomeRefused || slices.Contains(j.chain.Controls(warder.PhaseRequest), e.Control)
}

// again decides once more about a recorded exchange.
func (j *judge) again(ctx context.Context, e *warder.Event, body []byte) (verdict, error) {
	if e.Server != "" && j.servers[e.Server] == nil {
		return verdict{Outcome: string(warder.OutcomeRefused), Reason: "server_not_configured"}, nil
	}
	x, err := j.exchange(e, body)
	if err != nil {
		return verdict{}, err
	}
	return verdictOf(j.chain.Request(ctx, x)), nil
}

// verdictOf is the verdict of a chain: allowed, unless it refused.
func verdictOf(refusal *warder.Error) verdict {
	if refusal == nil {
		return verdict{Outcome: string(warder.OutcomeAllowed)}
	}
	return verdict{string(warder.OutcomeRefused), string(refusal.Control), string(refusal.Code), string(refusal.Reason)}
}

// A verdict is how an exchange ended, or would end.
type verdict struct {
	Outcome string `json:"outcome"`
	Control string `json:"control,omitempty"`
	Code    string `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func (v verdict) String() string {
	s := v.Outcome
	if v.Control != "" {
		s += " by " + v.Control
	}
	if v.Reason != "" {
		s += " (" + v.Reason + ")"
	}
	return s
}

// ask puts the question of a recorded exchange to the policies. The arguments are those of the body,
// if it was kept.
func (j *judge) ask(ctx context.Context, e *warder.Event, body []byte) (access.Explanation, error) {
	j.witness.e = e
	moment, err := access.MomentOf(j.cfg.Access.Hours, e.Time)
	if err != nil {
		return access.Explanation{}, err
	}
	c := j.witness.circumstances()
	r := &access.Request{
		Principal: j.witness.principal(j.groups, j.scopes), Action: e.Method,
		Context: access.Context{
			Door: e.Door, Revision: e.Revision, Endpoint: e.Endpoint, Now: e.Time, Decisions: j.witness.decisions(), Labels: c.Labels,
			Zone: c.Zone, Country: c.Country, Posture: c.Posture, Purpose: c.Purpose, Risk: c.Risk, Trust: c.Trust,
			Hours: moment.Hours, Hour: moment.Hour, Weekday: moment.Weekday, Grant: j.witness.grant(), Agent: j.witness.agent(),
		},
	}
	server := j.servers[e.Server]
	switch {
	case server == nil:
		r.Resource = access.Resource{Kind: access.KindEndpoint, Name: e.Endpoint}
	case e.Method == wire.MethodToolsCall:
		r.Resource = access.Resource{Kind: access.KindTool, Server: server, Name: e.Target, Tool: j.definition(ctx, e, registry.KindTool)}
	case e.Method == wire.MethodPromptsGet:
		r.Resource = access.Resource{Kind: access.KindPrompt, Server: server, Name: e.Target, Tool: j.definition(ctx, e, registry.KindPrompt)}
	case strings.HasPrefix(e.Method, "resources/") && e.Target != "":
		r.Resource = access.Resource{Kind: access.KindResource, Server: server, Name: e.Target}
	default:
		r.Resource = access.Resource{Kind: access.KindServer, Server: server, Name: server.Name}
	}
	if e.Method == wire.MethodToolsCall || e.Method == wire.MethodPromptsGet {
		r.Context.Arguments = wire.Parse(arguments(body))
	}
	return j.policies.Explain(ctx, r)
}

// arguments reads params.arguments of a recorded message; an empty object if there is none.
func arguments(body []byte) []byte {
	var m struct {
		Params struct {
			Arguments json.RawMessage `json:"arguments"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &m) != nil || len(m.Params.Arguments) == 0 {
		return []byte("{}")
	}
	return m.Params.Arguments
}

// definition is what was approved of the target, nil if nothing is.
func (j *judge) definition(ctx context.Context, e *warder.Event, kind string) *warder.Tool {
	entry, err := j.registry.Find(ctx, registry.Subject{Server: e.Server, Kind: kind, Name: e.Target}, e.Digest)
	if err != nil || entry.Approval == nil {
		return nil
	}
	return &warder.Tool{
		Kind: kind, Server: e.Server, Name: e.Target, Digest: entry.Digest, State: entry.State,
		Effect: entry.Approval.Effect, Labels: entry.Approval.Labels,
	}
}

// bodyOf returns the recorded message; nil if it was not kept.
func bodyOf(trail *record.Reader, exchange string) ([]byte, error) {
	body, err := trail.Body(exchange)
	if errors.Is(err, record.ErrNotFound) {
		return nil, nil
	}
	return body, err
}
