package access

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// approval is what HIL-01 and HIL-02 share: which calls wait, and what an approval is bound to.
type approval struct {
	cfg    ApprovalConfig
	deps   Deps
	around *surroundings
	effect effects
	tools  patterns
}

func newApproval(cfg ApprovalConfig, deps Deps, around *surroundings) approval {
	return approval{cfg: cfg, deps: deps, around: around, effect: effectsOf(cfg.Require), tools: patternsOf(cfg.Tools)}
}

// wanted reports whether the call waits for a person, and who must agree: one of each list. An empty list
// stands for the configured approvers.
func (a *approval) wanted(x *warder.Exchange) (approvers [][]string, wanted bool) {
	if !callsTool(x) {
		return nil, false
	}
	add := func(list []string) {
		wanted = true
		if !slices.ContainsFunc(approvers, func(have []string) bool { return slices.Equal(have, list) }) {
			approvers = append(approvers, list)
		}
	}
	if a.effect.has(effectOf(x)) || a.tools.match(serverOf(x), x.Request.Target) {
		add(a.cfg.Approvers)
	}
	for _, o := range x.Obligations {
		if o.Kind != warder.ObligationApproval {
			continue
		}
		if list := approversOf(o.Value); len(list) > 0 {
			add(list)
		} else {
			add(a.cfg.Approvers)
		}
	}
	return approvers, wanted
}

// why names what asks for a person: the configuration, by effect or tool, and each policy or control.
func (a *approval) why(x *warder.Exchange) string {
	var words []string
	if a.effect.has(effectOf(x)) {
		words = append(words, "calls of effect "+effectOf(x).String()+" wait (access.approval.require)")
	}
	if a.tools.match(serverOf(x), x.Request.Target) {
		words = append(words, "calls of this tool wait (access.approval.tools)")
	}
	for _, o := range x.Obligations {
		if o.Kind != warder.ObligationApproval {
			continue
		}
		word := "policy " + o.Policy
		switch o.Policy {
		case "CVM-04":
			word = fmt.Sprintf("the risk of the caller is %.0f (CVM-04)", x.Risk)
		case "JIT-03":
			word = "the purpose does not allow it otherwise (JIT-03)"
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, "; ")
}

// approversOf reads the value of an approval obligation: names separated by spaces or commas.
func approversOf(value string) []string {
	list := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' })
	slices.Sort(list)
	return slices.Compact(list)
}

// pending describes the call. Its context binds an approval to what a person could take for granted: the
// definition of the tool, the credential's key, the agent, the purpose and the place.
func (a *approval) pending(x *warder.Exchange, approvers [][]string) *Pending {
	p := x.Principal
	c := &Pending{
		Principal: p.Key(), Server: serverOf(x), Tool: x.Request.Target, Method: x.Request.Method,
		Digest: wire.RequestDigest(x.Request), Effect: effectOf(x), Purpose: x.Purpose, Risk: x.Risk,
		Exchange: x.ID, Approvers: approvers, Why: a.why(x),
	}
	if p.Registered != nil {
		c.Agent = p.Registered.Name
	}
	parts := []string{"warder approval context 1", x.Endpoint, c.Server, c.Tool, c.Effect.String(), string(x.Door), c.Agent, c.Purpose, p.Binding, a.around.zones.of(x.Conn.Peer.Addr())}
	if x.Tool != nil {
		parts = append(parts, string(x.Tool.Digest[:]))
	}
	for _, list := range approvers {
		parts = append(parts, "by", strings.Join(list, " "))
	}
	h := sha256.New()
	for _, part := range parts {
		h.Write(strconv.AppendInt(nil, int64(len(part)), 10))
		h.Write([]byte{':'})
		h.Write([]byte(part))
	}
	c.Context = [sha256.Size]byte(h.Sum(nil))
	return c
}

// parameters are what a person sees: everything the digest covers, in canonical form.
func parameters(m *warder.Message) ([]byte, error) {
	out := []byte{'{'}
	for i := range m.Params {
		p := &m.Params[i]
		if p.Key == "_meta" || p.Key == "inputResponses" || p.Key == "requestState" {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, m.At(p.Name)...), ':'), m.At(p.Value)...)
	}
	out, err := wire.Canonical(append(out, '}'))
	if err != nil {
		return nil, fmt.Errorf("canonical parameters: %w", err)
	}
	return out, nil
}
