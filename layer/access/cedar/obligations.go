package cedar

import (
	"fmt"
	"slices"
	"strings"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// obligations reads what a permit asks for besides (control CVM-03): @approval("group:ops"),
// @grant("required"), @acr("urn:example:mfa"), @max_age("5m").
func obligations(notes types.Annotations, permit bool) ([]warder.Obligation, error) {
	var out []warder.Obligation
	for _, kind := range []warder.ObligationKind{warder.ObligationApproval, warder.ObligationGrant, warder.ObligationACR, warder.ObligationMaxAge} {
		value, has := notes[types.AnnotationKey(kind)]
		if !has {
			continue
		}
		if !permit {
			return nil, fmt.Errorf("@%s: a forbid asks for nothing; put it on the permit", kind)
		}
		if err := checkObligation(kind, string(value)); err != nil {
			return nil, fmt.Errorf("@%s(%q): %w", kind, string(value), err)
		}
		out = append(out, warder.Obligation{Kind: kind, Value: string(value)})
	}
	return out, nil
}

func checkObligation(kind warder.ObligationKind, value string) error {
	switch kind {
	case warder.ObligationGrant:
		if value != "required" {
			return fmt.Errorf("want %q", "required")
		}
	case warder.ObligationACR:
		if len(strings.Fields(value)) == 0 {
			return fmt.Errorf("want one or more authentication context classes")
		}
	case warder.ObligationMaxAge:
		if d, err := time.ParseDuration(value); err != nil || d <= 0 {
			return fmt.Errorf("want a duration such as 5m")
		}
	case warder.ObligationApproval:
		for _, who := range strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' }) {
			group, isGroup := strings.CutPrefix(who, "group:")
			if isGroup && group == "" || !isGroup && !strings.Contains(who, "|") {
				return fmt.Errorf("want group:NAME or issuer|subject, or nothing for the configured approvers")
			}
		}
	}
	return nil
}

// oblige collects the obligations of every permit that matched: a further one only tightens.
func (sl *slice) oblige(d *access.Decision, diag cedar.Diagnostic) {
	d.Granted = sl.uses&useGrant != 0
	if !sl.obliges {
		return
	}
	for i := range diag.Reasons {
		at, ok := slices.BinarySearchFunc(sl.policies, diag.Reasons[i].PolicyID, func(p *policy, id types.PolicyID) int {
			return strings.Compare(string(p.id), string(id))
		})
		if !ok {
			continue
		}
		for _, o := range sl.policies[at].obligations {
			same := func(have warder.Obligation) bool { return have.Kind == o.Kind && have.Value == o.Value }
			if !slices.ContainsFunc(d.Obligations, same) {
				d.Obligations = append(d.Obligations, o)
			}
		}
	}
}
