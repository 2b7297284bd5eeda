package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// AuthorityConfig is the part of the identity section that says what a credential narrows its holder
// to, through which agents, and with which login.
type AuthorityConfig struct {
	Agents      AgentMode           `yaml:"agents"`       // callers that are no registered agent: known lets them in without an agent's roles, required refuses them, off does not ask; empty means known
	Chain       Chain               `yaml:"chain"`        // which delegation chains are accepted
	StepUp      []StepUp            `yaml:"step_up"`      // calls that need a stronger or fresher login
	Scopes      []ScopeRule         `yaml:"scopes"`       // scopes that operations need
	Implies     map[string][]string `yaml:"implies"`      // scope to the scopes it includes
	BroadScopes []string            `yaml:"broad_scopes"` // words that are refused as scopes for being too broad, besides "*", "all", "admin" and the like
	Signatures  Signatures          `yaml:"signatures"`   // whose messages must be signed, and whose answers are
}

// AuthorityDeps are what the authority layer needs from outside.
type AuthorityDeps struct {
	// Uses counts calls of credentials that are good for a number of them. Nil refuses such credentials.
	Uses Uses
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// NewAuthority builds the layer "authority": may this credential be used for this at all. It works in
// phase Request after the arguments have their final form and before policy: REG-01 what the agent may
// use, IAM-03 scopes that name tools, AUT-06 scopes that operations need, IAM-04 authorization details,
// IAM-02 strength of the login.
func NewAuthority(cfg Config, deps AuthorityDeps) (warder.Layer, error) {
	if err := errors.Join(cfg.checkAuthority()...); err != nil {
		return warder.Layer{}, fmt.Errorf("authority: %w", err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return warder.Layer{
		Name: "authority",
		Request: []warder.Interceptor{
			&agentTools{},
			newToolScopes(cfg),
			newScopeCheck(cfg),
			&details{counted: deps.Uses != nil},
			newStepUp(cfg, deps.Now),
		},
	}, nil
}

// checkAuthority reports every fault of the configuration.
func (c Config) checkAuthority() []error {
	a := c.AuthorityConfig
	errs := []error{a.Agents.check(), a.Chain.check(), a.Signatures.check()}
	for i, s := range a.StepUp {
		if err := s.check(); err != nil {
			errs = append(errs, fmt.Errorf("step_up[%d]: %w", i, err))
		}
	}
	return append(errs, c.checkScopes()...)
}

// The kinds of things that a message can act on.
const (
	onNothing  = ""         // connects, lists, notifies: nothing is read or changed on behalf of the caller
	onTool     = "tool"     //
	onPrompt   = "prompt"   //
	onResource = "resource" // and templates
	onOther    = "other"    // tasks, and methods that are not known here
)

// judged is the exchange whose request is judged: a client's answer to a server's question is judged
// as the call in which the server asked.
func judged(x *warder.Exchange) *warder.Exchange {
	for x.Request != nil && x.Request.IsAnswer() && x.Parent != nil {
		x = x.Parent
	}
	return x
}

// actsOn tells what a message acts on. A message that is not understood acts on something.
func actsOn(m *warder.Message) (kind, name string) {
	if m == nil || m.Kind == warder.KindNotification {
		return onNothing, ""
	}
	switch m.Method {
	case wire.MethodToolsCall:
		return onTool, m.Target
	case wire.MethodPromptsGet:
		return onPrompt, m.Target
	case wire.MethodResourcesRead, wire.MethodResourcesSubscribe, wire.MethodResourcesUnsubscribe:
		return onResource, m.Target
	case wire.MethodListen:
		if wire.At(m, m.Params.Get("notifications")).Get("resourceSubscriptions").Len() > 0 {
			return onResource, ""
		}
		return onNothing, ""
	case wire.MethodInitialize, wire.MethodDiscover, wire.MethodPing, wire.MethodSetLevel, wire.MethodToolsList,
		wire.MethodPromptsList, wire.MethodResourcesList, wire.MethodResourceTemplates:
		return onNothing, ""
	case wire.MethodComplete:
		if ref := wire.At(m, m.Params.Get("ref")); ref.Get("type").Equals("ref/prompt") {
			name, _ = ref.Get("name").Text()
			return onPrompt, name
		}
		return onResource, ""
	default:
		return onOther, m.Target
	}
}

// serverName is the server behind the exchange; empty while a group is asked as a whole.
func serverName(x *warder.Exchange) string {
	if x.Server == nil {
		return ""
	}
	return x.Server.Name
}

// matches reports whether a pattern of the configuration fits a name: "*" fits all, a star at the end
// whatever begins so.
func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// anyMatches reports whether one of the patterns fits; no patterns fit everything.
func anyMatches(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// checkPatterns wants a star at the end only.
func checkPatterns(field string, patterns []string) error {
	for _, p := range patterns {
		if p == "" || strings.Contains(strings.TrimSuffix(p, "*"), "*") {
			return fmt.Errorf("%s: %q: want a name, or one that ends in a star", field, p)
		}
	}
	return nil
}
