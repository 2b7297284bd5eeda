package cedar

import (
	"context"
	"fmt"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/wire"
)

// maxTrials bounds the search for what would change a decision.
const maxTrials = 400

// Explain says what every policy that concerns the request said, and which single change of one
// attribute (a group, a scope, the effect, a label, an argument, a finding) would turn the decision
// around. It evaluates at most a few hundred times; it is for people, not for the data path.
func (e *Engine) Explain(ctx context.Context, r *access.Request) (access.Explanation, error) {
	s := e.current.Load()
	d, err := e.Authorize(ctx, r)
	if err != nil {
		return access.Explanation{}, err
	}
	out := access.Explanation{Decision: d, Complete: true}
	a := s.words.actions[r.Action]
	if a.bit == 0 {
		return out, nil
	}
	out.Policies = s.judgements(a, r)
	for i, c := range s.changes(r) {
		if i == maxTrials {
			out.Complete = false
			break
		}
		changed := *r
		c.apply(&changed)
		got := s.fresh(a, &changed)
		if got.Allow != d.Allow {
			out.Flips = append(out.Flips, access.Flip{Change: c.what, Allow: got.Allow, Policies: got.Policies})
		}
	}
	return out, nil
}

// fresh decides without touching the caches: the entities of a trial exist nowhere else.
func (s *set) fresh(a action, r *access.Request) access.Decision {
	principal, resource := s.user(r.Principal), thing(r.Resource)
	return s.decide(s.newSlice(principal, resource, a, false), principal, resource, a, r)
}

// judgements asks each policy of the slice alone.
func (s *set) judgements(a action, r *access.Request) []access.Judgement {
	principal, resource := s.user(r.Principal), thing(r.Resource)
	sl := s.newSlice(principal, resource, a, false)
	circumstances, err := sl.circumstances(&r.Context)
	out := make([]access.Judgement, 0, len(sl.policies))
	for _, p := range sl.policies {
		j := access.Judgement{ID: string(p.id), Effect: "forbid", Source: position(p.source)}
		if p.permit {
			j.Effect = "permit"
		}
		if err != nil {
			j.Error = err.Error()
			out = append(out, j)
			continue
		}
		_, diag := cedar.Authorize(cedar.PolicyMap{p.id: p.final}, &world{s, principal, resource}, cedar.Request{
			Principal: principal.entity.UID, Action: a.uid, Resource: resource.entity.UID, Context: circumstances,
		})
		j.Applies = len(diag.Reasons) > 0
		if len(diag.Errors) > 0 {
			j.Error = diag.Errors[0].Message
		}
		out = append(out, j)
	}
	return out
}

// A change is one trial.
type change struct {
	what  string
	apply func(*access.Request)
}

// changes lists the trials: first what could be taken away, then what policies ask for.
func (s *set) changes(r *access.Request) []change {
	words := s.wanted()
	var out []change
	p := r.Principal
	out = append(out, listChanges("group", p.Groups, words.groups, func(r *access.Request, list []string) {
		with := *r.Principal
		with.Groups = list
		r.Principal = &with
	})...)
	out = append(out, listChanges("scope", p.Scopes, words.scopes, func(r *access.Request, list []string) {
		with := *r.Principal
		with.Scopes = list
		r.Principal = &with
	})...)
	if t := r.Resource.Tool; t != nil {
		out = append(out, toolChanges(t, words.labels)...)
	}
	out = append(out, listChanges("label met so far", r.Context.Labels, words.labels, func(r *access.Request, list []string) {
		r.Context.Labels = list
	})...)
	if len(r.Context.Decisions) > 0 {
		out = append(out, change{"without findings", func(r *access.Request) { r.Context.Decisions = nil }})
	}
	return append(out, argumentChanges(r.Context.Arguments)...)
}

// listChanges drops each word present and adds each word wanted.
func listChanges(what string, have, wanted []string, set func(*access.Request, []string)) []change {
	var out []change
	for i, w := range have {
		rest := slices.Delete(slices.Clone(have), i, i+1)
		out = append(out, change{fmt.Sprintf("without %s %q", what, w), func(r *access.Request) { set(r, rest) }})
	}
	for _, w := range wanted {
		if !slices.Contains(have, w) {
			more := append(slices.Clone(have), w)
			out = append(out, change{fmt.Sprintf("with %s %q", what, w), func(r *access.Request) { set(r, more) }})
		}
	}
	return out
}

func toolChanges(t *warder.Tool, labels []string) []change {
	var out []change
	for _, e := range []warder.Effect{warder.EffectRead, warder.EffectWrite, warder.EffectDestructive} {
		if e != t.Effect {
			out = append(out, change{fmt.Sprintf("with effect %q", e), func(r *access.Request) {
				other := *t
				other.Effect = e
				r.Resource.Tool = &other
			}})
		}
	}
	return append(out, listChanges("tool label", t.Labels, labels, func(r *access.Request, list []string) {
		other := *t
		other.Labels = list
		r.Resource.Tool = &other
	})...)
}

// argumentChanges leaves out each argument in turn.
func argumentChanges(args wire.Value) []change {
	var out []change
	for key := range args.Members() {
		name := key.Unescaped()
		out = append(out, change{fmt.Sprintf("without argument %q", name), func(r *access.Request) {
			r.Context.Arguments = without(args, name)
		}})
	}
	return out
}

func without(args wire.Value, name string) wire.Value {
	var b strings.Builder
	b.WriteByte('{')
	for key, v := range args.Members() {
		if key.Is(name) {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(key.Raw())
		b.WriteByte(':')
		b.Write(v.Raw())
	}
	b.WriteByte('}')
	return wire.Parse([]byte(b.String()))
}

// words are the values that policies ask for.
type words struct{ groups, scopes, labels []string }

// wanted collects the groups, scopes and labels that the policies name anywhere.
func (s *set) wanted() words {
	var w words
	add := func(list *[]string, v types.Value) {
		if text, ok := v.(types.String); ok && !slices.Contains(*list, string(text)) {
			*list = append(*list, string(text))
		}
	}
	for _, p := range s.policies {
		if g := scopeOf(p.ast.Principal); g.Type == typeGroup {
			add(&w.groups, g.ID)
		}
		for _, scope := range p.scopes {
			add(&w.scopes, types.String(scope))
		}
		for _, c := range p.ast.Conditions {
			ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
				if v, ok := n.(ast.NodeValue); ok {
					if uid, isUID := v.Value.(types.EntityUID); isUID && uid.Type == typeGroup {
						add(&w.groups, uid.ID)
					}
				}
				list := w.listOf(n)
				if list != nil {
					for _, v := range literals(n) {
						add(list, v)
					}
				}
				return true
			})
		}
	}
	return w
}

// listOf tells which words a contains-expression asks for.
func (w *words) listOf(n ast.IsNode) *[]string {
	var left ast.IsNode
	switch n := n.(type) {
	case ast.NodeTypeContains:
		left = n.Left
	case ast.NodeTypeContainsAll:
		left = n.Left
	case ast.NodeTypeContainsAny:
		left = n.Left
	}
	access, ok := left.(ast.NodeTypeAccess)
	if !ok {
		return nil
	}
	switch access.Value {
	case "groups":
		return &w.groups
	case "scopes":
		return &w.scopes
	case "labels":
		return &w.labels
	default:
		return nil
	}
}

// literals returns the string literals below an expression.
func literals(n ast.IsNode) []types.Value {
	var out []types.Value
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if v, ok := n.(ast.NodeValue); ok {
			out = append(out, v.Value)
		}
		return true
	})
	return out
}
