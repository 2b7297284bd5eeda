package cedar

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// visibleFor bounds how long an answer of Possible is remembered, because policies may look at the
// clock.
const visibleFor = 5 * time.Second

// maxScopeTries bounds the search for missing scopes after a denial.
const maxScopeTries = 8

// Sizes of the caches of one policy set.
const (
	cachedPrincipals = 1 << 15 // about 2 KB each
	cachedResources  = 1 << 14
	cachedSlices     = 1 << 16
	cachedShared     = 1 << 12
	cachedVisible    = 1 << 15
)

// An Engine is the policy decision point. It is safe for concurrent use; a reload replaces all
// policies and everything remembered about them at once.
type Engine struct {
	words      *vocabulary
	current    atomic.Pointer[set]
	generation atomic.Uint64
}

var _ access.Authorizer = (*Engine)(nil)

// Load reads and checks the policies of a configuration. Every fault is reported, each with file,
// line, column and policy id.
func Load(cfg access.Config) (*Engine, error) {
	words, err := newVocabulary()
	if err != nil {
		return nil, err
	}
	e := &Engine{words: words}
	if err := e.Reload(cfg); err != nil {
		return nil, err
	}
	return e, nil
}

// Reload replaces the policies. On an error the old ones stay. Decisions under way finish with the
// set they began with.
func (e *Engine) Reload(cfg access.Config) error {
	docs, err := readAll(cfg)
	if err != nil {
		return err
	}
	policies, err := e.words.parse(docs)
	if err != nil {
		return err
	}
	groups, err := nested(cfg.Groups)
	if err != nil {
		return err
	}
	e.current.Store(newSet(e.words, policies, groups))
	e.generation.Add(1)
	return nil
}

// Generation counts the policy sets loaded so far.
func (e *Engine) Generation() uint64 { return e.generation.Load() }

// Len is the number of policies in force.
func (e *Engine) Len() int { return len(e.current.Load().policies) }

// nested builds the group entities and refuses circles.
func nested(groups map[string][]string) (map[types.EntityUID]types.Entity, error) {
	out := make(map[types.EntityUID]types.Entity, len(groups))
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if circular(groups, name, name, len(groups)) {
			return nil, fmt.Errorf("groups: %q is a member of itself", name)
		}
		parents := make([]types.EntityUID, len(groups[name]))
		for i, p := range groups[name] {
			parents[i] = types.NewEntityUID(typeGroup, types.String(p))
		}
		uid := types.NewEntityUID(typeGroup, types.String(name))
		out[uid] = types.Entity{UID: uid, Parents: types.NewEntityUIDSet(parents...)}
	}
	return out, nil
}

func circular(groups map[string][]string, start, at string, left int) bool {
	for _, p := range groups[at] {
		if p == start || left > 0 && circular(groups, start, p, left-1) {
			return true
		}
	}
	return false
}

// A set is one loaded set of policies with what was derived from it. It is immutable but for its
// caches.
type set struct {
	words    *vocabulary
	policies []*policy
	index    index
	groups   map[types.EntityUID]types.Entity
	nothing  types.Record // findings of a message in which nothing was found

	principals *table[*warder.Principal, *subject]
	resources  *table[access.Resource, *subject]
	slices     *table[sliceKey, *slice]
	shared     *table[string, *slice] // by the positions of its policies
	visible    *table[visibleKey, visibleAnswer]
}

type sliceKey struct {
	principal, resource *subject
	action              uint64
}

type visibleKey struct {
	principal *warder.Principal
	resource  access.Resource
	door      warder.Door
	endpoint  string
	revision  warder.Revision
}

type visibleAnswer struct {
	yes   bool
	until time.Time
}

func newSet(words *vocabulary, policies []*policy, groups map[types.EntityUID]types.Entity) *set {
	return &set{
		words: words, policies: policies, index: newIndex(policies), groups: groups,
		nothing:    findings(0, -1, nil),
		principals: newTable[*warder.Principal, *subject](cachedPrincipals),
		resources:  newTable[access.Resource, *subject](cachedResources),
		slices:     newTable[sliceKey, *slice](cachedSlices),
		shared:     newTable[string, *slice](cachedShared),
		visible:    newTable[visibleKey, visibleAnswer](cachedVisible),
	}
}

// principal returns the entity of a principal. Principals are remembered by identity: they never
// change once made.
func (s *set) principal(p *warder.Principal) *subject {
	if u, ok := s.principals.get(p); ok {
		return u
	}
	u := s.user(p)
	s.principals.put(p, u)
	return u
}

// resource returns the entity of a resource. Servers and definitions never change once made.
func (s *set) resource(r access.Resource) *subject {
	if t, ok := s.resources.get(r); ok {
		return t
	}
	t := thing(r)
	s.resources.put(r, t)
	return t
}

// slice returns the policies that can concern a request.
func (s *set) slice(principal, resource *subject, a action) *slice {
	k := sliceKey{principal, resource, a.bit}
	if sl, ok := s.slices.get(k); ok {
		return sl
	}
	sl := s.newSlice(principal, resource, a, false)
	s.slices.put(k, sl)
	return sl
}

// newSlice selects the policies. Requests with the same selection share one slice.
func (s *set) newSlice(principal, resource *subject, a action, open bool) *slice {
	found := s.index.find(principal, resource)
	found = slices.DeleteFunc(found, func(i int) bool {
		p := s.policies[i]
		return p.mask&a.bit == 0 || open && p.open == nil
	})
	slices.Sort(found)
	k := make([]byte, 1, 1+3*len(found))
	if open {
		k[0] = 1
	}
	for _, i := range found {
		k = binary.AppendVarint(k, int64(i))
	}
	key := string(k)
	if sl, ok := s.shared.get(key); ok {
		return sl
	}
	sl := s.build(found, open)
	s.shared.put(key, sl)
	return sl
}

func (s *set) build(found []int, open bool) *slice {
	sl := &slice{set: s, open: open, args: shape{kind: kindRecord}}
	for _, i := range found {
		p := s.policies[i]
		sl.policies = append(sl.policies, p)
		sl.uses |= p.uses
		sl.obliges = sl.obliges || len(p.obligations) > 0
		if !open {
			sl.args.merge(&p.args)
		}
	}
	sl.args.seal()
	if open {
		sl.uses &^= useMessage
	}
	return sl
}

// Authorize decides on one message.
func (e *Engine) Authorize(_ context.Context, r *access.Request) (access.Decision, error) {
	s := e.current.Load()
	a, principal, resource, err := s.resolve(r)
	if err != nil {
		return access.Decision{}, err
	}
	if a.bit == 0 {
		return access.Decision{Reason: "action_unknown", Detail: fmt.Sprintf("no policy can speak of %.80q", r.Action)}, nil
	}
	sl := s.slice(principal, resource, a)
	d := s.decide(sl, principal, resource, a, r)
	d.Scopes = s.scopesMissing(d, sl, resource, a, r)
	return d, nil
}

// scopesMissing returns the scopes that alone are missing; nil for a peer that cannot get any.
func (s *set) scopesMissing(d access.Decision, sl *slice, resource *subject, a action, r *access.Request) []string {
	if d.Reason != reasonNoPermit || r.Principal.Transport == "stdio" {
		return nil
	}
	return s.missingScopes(sl, resource, a, r)
}

// resolve finds the entities of a request. The action's bit is zero if the schema does not know it.
func (s *set) resolve(r *access.Request) (a action, principal, resource *subject, err error) {
	if r.Principal == nil {
		return action{}, nil, nil, errors.New("authorize: no principal")
	}
	if r.Resource.Server == nil && r.Resource.Kind != access.KindEndpoint {
		return action{}, nil, nil, errors.New("authorize: resource without server")
	}
	return s.words.actions[r.Action], s.principal(r.Principal), s.resource(r.Resource), nil
}

// Reasons of denials.
const (
	reasonNoPermit  warder.Reason = "no_permit"
	reasonForbidden warder.Reason = "forbidden"
	reasonError     warder.Reason = "policy_error"
	reasonArguments warder.Reason = "arguments_unrepresentable"
)

// decide evaluates a slice.
func (s *set) decide(sl *slice, principal, resource *subject, a action, r *access.Request) access.Decision {
	if len(sl.policies) == 0 {
		return access.Decision{Reason: reasonNoPermit, Detail: "no policy concerns this request"}
	}
	circumstances, err := sl.circumstances(&r.Context)
	if err != nil {
		return access.Decision{Reason: reasonArguments, Detail: err.Error()}
	}
	ok, diag := cedar.Authorize(sl, &world{s, principal, resource}, cedar.Request{
		Principal: principal.entity.UID, Action: a.uid, Resource: resource.entity.UID, Context: circumstances,
	})
	d := access.Decision{Policies: ids(diag)}
	switch {
	case len(diag.Errors) > 0: // the policy that failed could have been a forbid
		d.Reason, d.Detail = reasonError, failures(diag)
	case bool(ok):
		d.Allow = true
		sl.oblige(&d, diag)
	case len(diag.Reasons) > 0:
		d.Reason = reasonForbidden
	default:
		d.Reason = reasonNoPermit
	}
	return d
}

func ids(diag cedar.Diagnostic) []string {
	if len(diag.Errors) > 0 {
		out := make([]string, len(diag.Errors))
		for i := range diag.Errors {
			out[i] = string(diag.Errors[i].PolicyID)
		}
		return out
	}
	if len(diag.Reasons) == 0 {
		return nil
	}
	out := make([]string, len(diag.Reasons))
	for i := range diag.Reasons {
		out[i] = string(diag.Reasons[i].PolicyID)
	}
	return out
}

func failures(diag cedar.Diagnostic) string {
	var b strings.Builder
	for i, e := range diag.Errors {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "policy %q: %.200s", e.PolicyID, e.Message)
	}
	return b.String()
}

// Possible reports whether some arguments could be permitted, now or with the scopes that a permit names
// (@scopes): who lacks nothing but those must be told so by the final decision.
func (e *Engine) Possible(_ context.Context, r *access.Request) (bool, error) {
	s := e.current.Load()
	k := visibleKey{r.Principal, r.Resource, r.Context.Door, r.Context.Endpoint, r.Context.Revision}
	remember := len(r.Context.Labels) == 0 && r.Action == actionOf(r.Resource.Kind)
	if remember {
		if v, ok := s.visible.get(k); ok && r.Context.Now.Before(v.until) {
			return v.yes, nil
		}
	}
	a, principal, resource, err := s.resolve(r)
	if err != nil || a.bit == 0 {
		return false, err
	}
	sl := s.newSlice(principal, resource, a, true)
	d := s.decide(sl, principal, resource, a, r)
	if d.Reason == reasonError {
		return false, fmt.Errorf("authorize: %s", d.Detail)
	}
	yes := d.Allow || s.scopesMissing(d, sl, resource, a, r) != nil
	if remember {
		s.visible.put(k, visibleAnswer{yes, r.Context.Now.Add(visibleFor)})
	}
	return yes, nil
}

// actionOf is the action that Visible asks about for a kind of resource; others are not remembered.
func actionOf(k access.ResourceKind) string {
	switch k {
	case access.KindTool:
		return "tools/call"
	case access.KindPrompt:
		return "prompts/get"
	case access.KindResource, access.KindTemplate:
		return "resources/read"
	case access.KindServer:
		return "initialize"
	case access.KindEndpoint:
	}
	return ""
}

// missingScopes looks for permits that name the scopes they need (@scopes("a b")) and would permit if
// the principal had them. It returns every scope of the first such policy.
func (s *set) missingScopes(sl *slice, resource *subject, a action, r *access.Request) []string {
	tries := 0
	for _, p := range sl.policies {
		if !p.permit || !lacks(r.Principal, p.scopes) {
			continue
		}
		if tries++; tries > maxScopeTries {
			return nil
		}
		richer := *r.Principal
		richer.Scopes = slices.Concat(r.Principal.Scopes, p.scopes)
		if s.decide(sl, s.user(&richer), resource, a, r).Allow {
			return p.scopes
		}
	}
	return nil
}

func lacks(p *warder.Principal, scopes []string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(p.Scopes, s) })
}
