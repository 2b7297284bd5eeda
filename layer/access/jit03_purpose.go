package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// metaPurpose is the member of _meta in which a caller may declare the purpose of one call.
const metaPurpose = "io.warder/purpose"

// purposeOf is the purpose of a call: that of the credential, or the one the caller declares. ok is
// false when the two differ or the declaration is no text: nobody widens a credential by declaring.
func purposeOf(x *warder.Exchange) (purpose string, ok bool) {
	purpose = x.Purpose
	if purpose == "" && x.Principal != nil {
		purpose = x.Principal.Purpose
	}
	if len(x.Request.Meta) == 0 {
		return purpose, true
	}
	v := wire.At(x.Request, x.Request.Meta.Get(metaPurpose))
	if !v.Exists() {
		return purpose, true
	}
	declared, isText := v.Text()
	if !isText || declared == "" || len(declared) > maxPurpose || purpose != "" && purpose != declared {
		return purpose, false
	}
	return declared, true
}

// maxPurpose bounds the purpose a caller declares, in bytes.
const maxPurpose = 256

// purposes binds a call to the purpose that its credential or grant was given for, or that the caller
// declares: a purpose allows certain effects, data labels and tools, and nothing else.
// Control JIT-03. Phase Request, after policy.
type purposes struct {
	known  map[string]purposeRule
	needed effects
}

type purposeRule struct {
	effects  effects
	labels   []string
	tools    patterns
	escalate bool
}

var _ warder.Interceptor = (*purposes)(nil)

func newPurposes(cfg Config) *purposes {
	p := &purposes{needed: effectsOf(cfg.PurposeFor), known: make(map[string]purposeRule, len(cfg.Purposes))}
	for name, rule := range cfg.Purposes {
		p.known[name] = purposeRule{effectsOf(rule.Effects), rule.Labels, patternsOf(rule.Tools), rule.Escalate}
	}
	return p
}

// Control returns JIT-03.
func (*purposes) Control() warder.ControlID { return "JIT-03" }

// Intercept sets x.Purpose and judges the tool by it.
func (p *purposes) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if !callsTool(x) {
		return warder.Continue(), nil
	}
	purpose, ok := purposeOf(x)
	if g := x.Grant; ok && g != nil && g.Purpose != "" {
		ok = purpose == "" || purpose == g.Purpose
		purpose = g.Purpose
	}
	if !ok {
		return mismatch("the declared purpose is not that of the credential or grant"), nil
	}
	if x.Purpose = purpose; purpose == "" {
		if p.needed.has(effectOf(x)) {
			return warder.Refuse(warder.CodeDenied, "purpose_missing", "calls of this effect must state a purpose").
				Tell("This call must state its purpose."), nil
		}
		return warder.Continue(), nil
	}
	if len(p.known) == 0 {
		return warder.Continue(), nil
	}
	rule, known := p.known[purpose]
	if !known {
		return warder.Refuse(warder.CodeDenied, "purpose_unknown", fmt.Sprintf("purpose %.80q is not configured", purpose)), nil
	}
	broken := rule.breaks(x)
	switch {
	case broken == "":
		return warder.Continue(), nil
	case rule.escalate:
		require(x, warder.Obligation{Kind: warder.ObligationApproval, Policy: "JIT-03"})
		return warder.Continue(), nil
	default:
		return mismatch(fmt.Sprintf("purpose %.80q does not allow this %s", purpose, broken)), nil
	}
}

func mismatch(detail string) warder.Decision {
	return warder.Refuse(warder.CodeDenied, "purpose_mismatch", detail).Tell("The stated purpose does not allow this call.")
}

// breaks names what of the tool the purpose does not allow.
func (r *purposeRule) breaks(x *warder.Exchange) string {
	if r.effects != 0 && !r.effects.has(effectOf(x)) {
		return "effect"
	}
	if len(r.tools) > 0 && !r.tools.match(serverOf(x), x.Request.Target) {
		return "tool"
	}
	if len(r.labels) == 0 {
		return ""
	}
	for _, labels := range [][]string{labelsOfServer(x), labelsOfTool(x)} {
		if slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(r.labels, l) }) {
			return "label"
		}
	}
	return ""
}

func labelsOfServer(x *warder.Exchange) []string {
	if x.Server == nil {
		return nil
	}
	return x.Server.Labels
}

func labelsOfTool(x *warder.Exchange) []string {
	if x.Tool == nil {
		return nil
	}
	return x.Tool.Labels
}
