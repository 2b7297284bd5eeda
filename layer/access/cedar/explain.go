package cedar

import (
	"context"
	"fmt"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/wire"
)

// maxTrials bounds the search for what would change a decision.
const maxTrials = 400

// Explain says what every policy that concerns the request said, what an allowed request still needs, and
// which single change of one attribute (of the principal, the tool, the arguments or the circumstances)
// would turn the decision around or change what it needs. What is tried are the values that policies
// about this action and resource name. It evaluates at most a few hundred times; it is for people, not for
// the data path.
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
	out.Needs = access.Unmet(r, d.Obligations)
	for i, c := range s.changes(a, r) {
		if i == maxTrials {
			out.Complete = false
			break
		}
		changed := *r
		c.apply(&changed)
		got := s.fresh(a, &changed)
		needs := access.Unmet(&changed, got.Obligations)
		if got.Allow != d.Allow || got.Allow && !sameNeeds(needs, out.Needs) {
			out.Flips = append(out.Flips, access.Flip{Change: c.what, Allow: got.Allow, Policies: got.Policies, Needs: needs})
		}
	}
	return out, nil
}

// sameNeeds compares needs by what is needed, whichever policy asks.
func sameNeeds(a, b []warder.Obligation) bool {
	within := func(a, b []warder.Obligation) bool {
		return !slices.ContainsFunc(a, func(x warder.Obligation) bool {
			return !slices.ContainsFunc(b, func(y warder.Obligation) bool { return x.Kind == y.Kind && x.Value == y.Value })
		})
	}
	return within(a, b) && within(b, a)
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
func (s *set) changes(a action, r *access.Request) []change {
	words := s.wanted(a, r.Resource)
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
	out = append(out, argumentChanges(r.Context.Arguments)...)
	out = append(out, principalChanges(p, r.Context.Now, &words)...)
	return append(out, surroundingChanges(&r.Context, &words)...)
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
