package cedar

import (
	"github.com/cedar-policy/cedar-go/types"

	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// open returns the policy as it can be judged before arguments, findings and surroundings are known, so that the
// set of open policies permits whatever the set as written could permit for some arguments:
//
//   - a permit keeps the conditions that need neither, and loses the others;
//   - a forbid whose conditions need either is left out (nil), because it might not apply.
//
// The result can only be more permissive. It decides what is visible, never what is done.
func open(p *ast.Policy) *publicast.Policy {
	out := *p
	out.Conditions = nil
	for _, c := range p.Conditions {
		if !needsMessage(c.Body) {
			out.Conditions = append(out.Conditions, c)
			continue
		}
		if p.Effect == ast.EffectForbid {
			return nil
		}
		// when { a && b } is a and b; unless { a || b } is not a and not b.
		var kept []ast.IsNode
		if c.Condition == ast.ConditionWhen {
			kept = conjuncts(c.Body, nil)
		} else {
			kept = disjuncts(c.Body, nil)
		}
		for _, n := range kept {
			if !needsMessage(n) {
				out.Conditions = append(out.Conditions, ast.ConditionType{Condition: c.Condition, Body: n})
			}
		}
	}
	return (*publicast.Policy)(&out)
}

func conjuncts(n ast.IsNode, out []ast.IsNode) []ast.IsNode {
	if and, ok := n.(ast.NodeTypeAnd); ok {
		return conjuncts(and.Right, conjuncts(and.Left, out))
	}
	return append(out, n)
}

func disjuncts(n ast.IsNode, out []ast.IsNode) []ast.IsNode {
	if or, ok := n.(ast.NodeTypeOr); ok {
		return disjuncts(or.Right, disjuncts(or.Left, out))
	}
	return append(out, n)
}

// needsMessage reports whether an expression reads arguments, findings or the surroundings of a call.
func needsMessage(n ast.IsNode) bool {
	found := false
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		var arg ast.IsNode
		var attr types.String
		switch n := n.(type) {
		case ast.NodeTypeAccess:
			arg, attr = n.Arg, n.Value
		case ast.NodeTypeHas:
			arg, attr = n.Arg, n.Value
		}
		found = found || arg != nil && isContext(arg) && useOf(attr)&useMessage != 0
		return !found
	})
	return found
}
