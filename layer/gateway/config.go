package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/wire"
)

// Config is the section "gateway" of the configuration. Its zero value is the strictest, which allows
// no elicitation; [Default] is what an omitted section means.
type Config struct {
	Rates       Rates               `yaml:"rates"`       // GW-03: messages a second
	Loops       Loops               `yaml:"loops"`       // GW-04: repeats, nesting, refused credentials
	Clients     map[string][]string `yaml:"clients"`     // PRT-04: names that the client with this OAuth client id may give itself; clients not listed may use any
	Elicitation Elicitation         `yaml:"elicitation"` // PRT-05: what servers may ask users
	State       State               `yaml:"state"`       // PRT-05: continuation state in the client's hands
	Tasks       Tasks               `yaml:"tasks"`       // PRT-06: tasks
	Schemas     Schemas             `yaml:"schemas"`     // PRT-08: bounds of tool schemas
	Extensions  []string            `yaml:"extensions"`  // PRT-09: ids of the extensions and experimental capabilities that are let through, such as "io.modelcontextprotocol/tasks"
	Changes     Changes             `yaml:"changes"`     // PRT-10: change notifications and subscriptions
	Deprecated  Deprecated          `yaml:"deprecated"`  // PRT-11: features on their way out of the protocol
}

// Default returns what an omitted section means: every number at its default, forms and https links
// allowed in elicitation, everything deprecated and every extension off.
func Default() Config {
	return Config{
		Rates: defaultRates(), Loops: defaultLoops(), State: defaultState(), Tasks: defaultTasks(),
		Elicitation: Elicitation{Form: true, URL: true},
		Changes:     defaultChanges(), Deprecated: defaultDeprecated(),
	}
}

// Deps is what the layer asks of others. All fields but Now and Limits must be set.
type Deps struct {
	Annotations Annotations      // mirrored arguments by tool, for PRT-02
	Sessions    Sessions         // owners of sessions, for PRT-06
	Refresher   Refresher        // verifies definitions again, for PRT-10
	State       *seal.Box        // seals continuation state, for PRT-05
	Used        *Used            // states that came back, for PRT-05; nil: forgotten with the layer
	Once        Once             // states that carry an approval or a grant and came back, on every replica, for PRT-05; nil: none may come back
	Limits      wire.Limits      // limits of messages; those of the doors
	Now         func() time.Time // nil: the system clock
}

// Once remembers ids on every replica. It is safe for concurrent use.
type Once interface {
	// Add reports whether the id is new, and remembers it until then.
	Add(ctx context.Context, id string, until time.Time) (fresh bool, err error)
}

func (d Deps) check() (Deps, error) {
	var missing []error
	for name, unset := range map[string]bool{
		"annotations": d.Annotations == nil, "sessions": d.Sessions == nil,
		"refresher": d.Refresher == nil, "state": d.State == nil,
	} {
		if unset {
			missing = append(missing, fmt.Errorf("gateway: dependency %s is not set", name))
		}
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return d, errors.Join(missing...)
}

// New builds the layer. Every mistake of the configuration is reported.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	deps, err := deps.check()
	if err != nil {
		return warder.Layer{}, err
	}
	c, err := build(cfg, deps)
	if err != nil {
		return warder.Layer{}, err
	}
	formRequest, formResponse, err := newSchema()
	if err != nil {
		return warder.Layer{}, err
	}
	return warder.Layer{
		Name:    "gateway",
		Connect: []warder.Interceptor{peerRates{c.rates}, c.backoff, transport{c.deprecated}},
		Request: []warder.Interceptor{
			callerRates{c.rates},
			c.agreement,
			ownRequests{c.binding},
			formRequest,
			loopRequests{c.loops},
			deprecatedRequests{c.deprecated},
			c.claims,
			extensionRequests{c.extensions},
			stateRequests{c.state},
			subscriptions{c.changes},
		},
		Response: []warder.Interceptor{
			deprecatedResponses{c.deprecated},
			extensionResponses{c.extensions},
			formResponse,
			c.schemas,
			stateResponses{c.state},
			ownResponses{c.binding},
			changeResponses{c.changes},
			loopResults{c.loops},
		},
		Complete: []warder.Recorder{c.backoff, stateRequests{c.state}, subscriptions{c.changes}},
	}, nil
}

// A controls holds the state that the phases of each control share.
type controls struct {
	rates      *rates
	loops      *loops
	backoff    *backoff
	agreement  *agreement
	binding    *binding
	deprecated *deprecated
	claims     *claims
	extensions *extensions
	schemas    *schemas
	state      *state
	changes    *changes
}

func build(cfg Config, deps Deps) (*controls, error) {
	var c controls
	var errs [7]error
	c.rates, errs[0] = newRates(cfg.Rates, deps.Now)
	c.loops, errs[1] = newLoops(cfg.Loops, deps.Now)
	c.binding, errs[2] = newBinding(cfg.Tasks, deps)
	c.deprecated, errs[3] = newDeprecated(cfg.Deprecated, deps)
	c.extensions, errs[4] = newExtensions(cfg.Extensions, deps.Limits)
	c.state, errs[5] = newState(cfg, deps)
	c.changes, errs[6] = newChanges(cfg.Changes, deps)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	c.backoff = newBackoff(c.loops.cfg, deps.Now)
	c.agreement = &agreement{deps.Annotations}
	c.claims = newClaims(cfg, deps.Limits)
	c.schemas = newSchemas(cfg.Schemas, deps.Limits)
	return &c, nil
}

// Schemas bounds the schemas of tools. A zero field means the default.
type Schemas struct {
	Bytes      int `yaml:"bytes"`      // length of one schema in bytes; default 262144
	Depth      int `yaml:"depth"`      // nesting; default 48
	Subschemas int `yaml:"subschemas"` // objects in one schema; default 4096
	Work       int `yaml:"work"`       // subschema evaluations that one validation may need at worst; default 4,000,000
}

func (s Schemas) options() schema.Options {
	return schema.Options{Limits: schema.Limits{Bytes: s.Bytes, Depth: s.Depth, Subschemas: s.Subschemas, Work: s.Work}}
}

// passed is the decision of most controls on most messages.
func passed() (warder.Decision, error) { return warder.Continue(), nil }

// rewrite applies edits to the request of an exchange. Without edits it does nothing.
func rewrite(x *warder.Exchange, lim wire.Limits, edits []wire.Edit) error {
	if len(edits) == 0 {
		return nil
	}
	m, err := wire.Splice(x.Request, lim, edits...)
	if err != nil {
		return fmt.Errorf("rewrite request: %w", err)
	}
	x.Request = m
	return nil
}

// rewriteResponse applies edits to the response of an exchange.
func rewriteResponse(x *warder.Exchange, lim wire.Limits, edits []wire.Edit) error {
	if len(edits) == 0 {
		return nil
	}
	m, err := wire.Splice(x.Response, lim, edits...)
	if err != nil {
		return fmt.Errorf("rewrite response: %w", err)
	}
	x.Response = m
	return nil
}

// remove returns the edits that drop members of the object v.
func remove(m *warder.Message, v wire.Value, drop func(wire.Key) bool) []wire.Edit {
	var obj warder.Object
	var keys []string
	for k, member := range v.Members() {
		text := k.Unescaped()
		obj = append(obj, warder.Member{Key: text, Name: k.Span(), Value: member.Span()})
		if drop(k) {
			keys = append(keys, text)
		}
	}
	return wire.RemoveMembers(m, obj, v.Span(), keys...)
}

// A Refresher verifies definitions again.
type Refresher interface {
	// Refresh makes sure that what a server now defines is verified before a client is told that it
	// changed. Kind is "tool", "prompt" or "resource". It returns when the definitions that were
	// known are marked as to be verified again, not when verification is done.
	Refresh(ctx context.Context, server, kind string) error
}

// Sessions knows the sessions of stateful revisions.
type Sessions interface {
	// SessionOwner returns the principal key that a session, named by its public digest, belongs to.
	SessionOwner(session string) (principalKey string, ok bool)
}
