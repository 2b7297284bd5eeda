package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A ScopeRule says which scopes operations need. All rules that fit an operation count together.
type ScopeRule struct {
	Server  string   `yaml:"server"`  // server name; empty: every server
	Tools   []string `yaml:"tools"`   // tool names, a star at the end fits the rest; empty: every tool, or every target of methods
	Methods []string `yaml:"methods"` // methods, such as resources/read; empty: tools/call
	Need    []string `yaml:"need"`    // scopes, all of them
}

// scopeCheck refuses an operation for which the token lacks scopes, and names every scope that the
// operation needs at once, together with those granted already, so that one step-up is enough and
// loses nothing. It knows which scopes include others, and remarks when a caller comes back with more.
// Control AUT-06; RFC 6750 section 3.1, MCP authorization "Scope Selection Strategy" and "Step-Up
// Authorization Flow". Phase Request.
type scopeCheck struct {
	ask   asker
	rules map[string][]scopeRule // by server; "" for all
	short shortage
}

type scopeRule struct {
	ScopeRule
	need []neededScope
}

// A neededScope is given by itself and by those that include it.
type neededScope struct {
	scope string
	by    []string
}

var _ warder.Interceptor = (*scopeCheck)(nil)

func newScopeCheck(cfg Config) *scopeCheck {
	c := &scopeCheck{ask: asker{cfg: cfg}, rules: map[string][]scopeRule{}}
	givers := inclusion(cfg.Implies)
	for _, r := range cfg.Scopes {
		if len(r.Methods) == 0 {
			r.Methods = []string{wire.MethodToolsCall}
		}
		rule := scopeRule{ScopeRule: r}
		for _, s := range r.Need {
			rule.need = append(rule.need, neededScope{scope: s, by: append([]string{s}, givers[s]...)})
		}
		c.rules[r.Server] = append(c.rules[r.Server], rule)
	}
	return c
}

// inclusion turns "includes" round and follows it to the end: scope to all that include it.
func inclusion(implies map[string][]string) map[string][]string {
	givers := map[string][]string{}
	var follow func(giver, scope string)
	follow = func(giver, scope string) {
		for _, s := range implies[scope] {
			if s != giver && !slices.Contains(givers[s], giver) {
				givers[s] = append(givers[s], giver)
				follow(giver, s)
			}
		}
	}
	for _, giver := range slices.Sorted(maps.Keys(implies)) {
		follow(giver, giver)
	}
	return givers
}

// Control returns AUT-06.
func (*scopeCheck) Control() warder.ControlID { return "AUT-06" }

// Intercept compares the scopes of the token with those that the operation needs.
func (c *scopeCheck) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil {
		return warder.Refuse(warder.CodeUnauthenticated, "principal_missing", ""), nil
	}
	if len(c.rules) == 0 || x.Door == warder.DoorStdio {
		return warder.Continue(), nil // the user of a pipe has no token that could carry scopes
	}
	subject := judged(x)
	m := subject.Request
	if m == nil {
		return warder.Continue(), nil
	}
	var need []string
	lacking := false
	for _, rules := range [...][]scopeRule{c.rules[""], c.rules[serverName(subject)]} {
		for i := range rules {
			r := &rules[i]
			if !anyMatches(r.Methods, m.Method) || !anyMatches(r.Tools, m.Target) {
				continue
			}
			for _, n := range r.need {
				need = append(need, n.scope)
				lacking = lacking || !slices.ContainsFunc(n.by, func(s string) bool { return slices.Contains(p.Scopes, s) })
			}
		}
	}
	if lacking {
		c.short.add(p)
		return c.refuse(x, need), nil
	}
	if c.short.open() && c.short.grown(p) {
		return warder.Observe(warder.Finding{Rule: "scope_elevated", Severity: warder.Info, Evidence: "the caller was refused for lack of scopes and came back with more"}), nil
	}
	return warder.Continue(), nil
}

// refuse names all scopes of the operation first, then those the token has already.
func (c *scopeCheck) refuse(x *warder.Exchange, need []string) warder.Decision {
	slices.Sort(need)
	var scopes []string
	for _, s := range append(need, x.Principal.Scopes...) {
		if !slices.Contains(scopes, s) && s != "offline_access" {
			scopes = append(scopes, s)
		}
	}
	d := c.ask.refuse(x, warder.CodeInsufficientScope, "insufficient_scope", "scope_missing", "the operation needs "+strings.Join(need, " "))
	d.Ask.Scopes = scopes
	return d
}

// maxShort bounds the callers that are remembered for having lacked scopes.
const maxShort = 4096

// shortage remembers who was refused for lack of scopes, and with which. It costs the others one
// atomic load.
type shortage struct {
	count atomic.Int64
	mu    sync.Mutex
	had   map[string][]string // principal key to scopes
}

func (s *shortage) open() bool { return s.count.Load() > 0 }

func (s *shortage) add(p *warder.Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.had == nil || len(s.had) >= maxShort {
		s.had = map[string][]string{}
	}
	s.had[p.Key()] = p.Scopes
	s.count.Store(int64(len(s.had)))
}

// grown reports, once, that the principal has scopes that it lacked before.
func (s *shortage) grown(p *warder.Principal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := p.Key()
	had, ok := s.had[key]
	if !ok || contains(had, p.Scopes...) {
		return false
	}
	delete(s.had, key)
	s.count.Store(int64(len(s.had)))
	return true
}

// contains reports whether all has every one of some.
func contains(all []string, some ...string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// checkScopes reports every fault of the scope rules.
func (c Config) checkScopes() []error {
	var errs []error
	for i, r := range c.Scopes {
		err := errors.Join(checkPatterns("tools", r.Tools), checkPatterns("methods", r.Methods))
		if len(r.Need) == 0 {
			err = errors.Join(err, errors.New("need: empty"))
		}
		for _, s := range r.Need {
			err = errors.Join(err, c.checkScope(s))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("scopes[%d]: %w", i, err))
		}
	}
	for _, giver := range slices.Sorted(maps.Keys(c.Implies)) {
		for _, s := range append([]string{giver}, c.Implies[giver]...) {
			if err := c.checkScope(s); err != nil {
				errs = append(errs, fmt.Errorf("implies: %w", err))
			}
		}
	}
	for _, s := range c.ScopesSupported {
		if c.broad(s) {
			errs = append(errs, fmt.Errorf("scopes_supported: %q is too broad to be asked for", s))
		}
	}
	return errs
}

// checkScope wants a scope of RFC 6749 section 3.3 that is not too broad.
func (c Config) checkScope(s string) error {
	bad := func(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r > '~' }
	switch {
	case s == "" || strings.ContainsFunc(s, bad):
		return fmt.Errorf("%q is not a scope", s)
	case c.broad(s):
		return fmt.Errorf("scope %q is too broad: name what it is for", s)
	}
	return nil
}

// broad reports whether a scope is a wildcard or a word for everything.
func (c Config) broad(scope string) bool {
	s := strings.ToLower(scope)
	last := s[strings.LastIndexAny(s, ":./")+1:]
	words := []string{"all", "any", "full", "full-access", "full_access", "everything", "admin", "root", "superuser", "sudo"}
	return strings.Contains(s, "*") || last == "all" || slices.Contains(words, s) ||
		slices.ContainsFunc(c.BroadScopes, func(w string) bool { return strings.EqualFold(w, scope) })
}
