package cedar

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/warder-mcp/warder/layer/access"
)

// words are the values that policies ask for.
type words struct {
	groups, scopes, labels []string

	asked map[string]bool     // attributes that are read or asked for, such as "context.grant.purpose"
	texts map[string][]string // texts that an attribute is compared with
	longs map[string][]int64  // numbers that an attribute is compared with
}

// wanted collects what is named by the policies that could concern the action and the resource, whoever
// the principal is.
func (s *set) wanted(a action, r access.Resource) words {
	w := words{asked: map[string]bool{}, texts: map[string][]string{}, longs: map[string][]int64{}}
	scopes := thing(r).scopes
	for _, p := range s.policies {
		if on := scopeOf(p.ast.Resource); p.mask&a.bit == 0 || on != (types.EntityUID{}) && !slices.Contains(scopes, on) {
			continue
		}
		if g := scopeOf(p.ast.Principal); g.Type == typeGroup {
			add(&w.groups, string(g.ID))
		}
		for _, scope := range p.scopes {
			add(&w.scopes, scope)
		}
		for _, c := range p.ast.Conditions {
			ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
				w.note(n)
				return true
			})
		}
	}
	w.groups = append(w.groups, missing(w.groups, w.texts["principal.groups"])...)
	w.scopes = append(w.scopes, missing(w.scopes, w.texts["principal.scopes"])...)
	for _, path := range []string{"context.labels", "resource.labels"} {
		w.labels = append(w.labels, missing(w.labels, w.texts[path])...)
	}
	return w
}

func add(list *[]string, s string) {
	if !slices.Contains(*list, s) {
		*list = append(*list, s)
	}
}

// missing are the words of want that have lacks.
func missing(have, want []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(s string) bool { return slices.Contains(have, s) })
}

// note learns from one expression which attribute it reads, and which values it compares it with.
func (w *words) note(n ast.IsNode) {
	switch n := n.(type) {
	case ast.NodeValue:
		if uid, ok := n.Value.(types.EntityUID); ok && uid.Type == typeGroup {
			add(&w.groups, string(uid.ID))
		}
	case ast.NodeTypeAccess:
		w.asked[pathOf(n)] = true
	case ast.NodeTypeHas:
		if path := pathOf(n.Arg); path != "" {
			w.asked[path+"."+string(n.Value)] = true
		}
	case ast.NodeTypeEquals:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeNotEquals:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeLessThan:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeLessThanOrEqual:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeGreaterThan:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeGreaterThanOrEqual:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeContains:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeContainsAll:
		w.compared(n.Left, n.Right)
	case ast.NodeTypeContainsAny:
		w.compared(n.Left, n.Right)
	}
}

// compared notes the literals that one side of an expression has for an attribute on the other.
func (w *words) compared(left, right ast.IsNode) {
	for _, side := range [2][2]ast.IsNode{{left, right}, {right, left}} {
		path := pathOf(side[0])
		if path == "" {
			continue
		}
		for _, v := range literals(side[1]) {
			switch v := v.(type) {
			case types.String:
				list := w.texts[path]
				add(&list, string(v))
				w.texts[path] = list
			case types.Long:
				if !slices.Contains(w.longs[path], int64(v)) {
					w.longs[path] = append(w.longs[path], int64(v))
				}
			}
		}
	}
}

// pathOf names an attribute, such as "context.grant.purpose"; empty for anything else.
func pathOf(n ast.IsNode) string {
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		return string(n.Name)
	case ast.NodeTypeAccess:
		if of := pathOf(n.Arg); of != "" {
			return of + "." + string(n.Value)
		}
	}
	return ""
}

// literals returns the literal values below an expression.
func literals(n ast.IsNode) []types.Value {
	var out []types.Value
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if v, ok := n.(ast.NodeValue); ok {
			if set, isSet := v.Value.(types.Set); isSet {
				out = slices.AppendSeq(out, set.All())
				return true
			}
			out = append(out, v.Value)
		}
		return true
	})
	return out
}
