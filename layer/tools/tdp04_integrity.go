package tools

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

const tdp04 warder.ControlID = "TDP-04"

// approvedTarget refuses a call of a tool or prompt whose definition, as the server offers it now, is
// not exactly the one that was approved. Control TDP-04, phase Request. It sets the exchange's Tool.
type approvedTarget struct{ definitions *Definitions }

var _ warder.Interceptor = (*approvedTarget)(nil)

// Control returns TDP-04.
func (*approvedTarget) Control() warder.ControlID { return tdp04 }

// Intercept finds the definition of the target and compares it with its approval.
func (c *approvedTarget) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	kind, name, ok := targetOf(x)
	if !ok || kind != kindTool && kind != kindPrompt {
		return warder.Continue(), nil
	}
	offered, found, err := c.definitions.find(ctx, x, kind, name, true)
	if err != nil {
		return undecided(err)
	}
	if !found {
		return warder.Refuse(warder.CodeNotFound, "definition_unknown", "the server offers no "+kind+" "+quoted(name)), nil
	}
	if !offered.usable {
		return quarantine(x, kind, name, reasonInvalid, "the definition is not acceptable or shares its name"), nil
	}
	current, reason, err := c.definitions.registry.Current(x.Server.Name, kind, name, offered.digest)
	if err != nil {
		return undecided(fmt.Errorf("look up definition: %w", err))
	}
	if reason != "" || current.State != warder.Approved {
		return quarantine(x, kind, name, reason, "digest "+hex.EncodeToString(offered.digest[:])), nil
	}
	x.Tool = current
	return warder.Continue(), nil
}

// quarantine refuses with a sentence that says what happened and what an operator does about it.
func quarantine(x *warder.Exchange, kind, name string, reason warder.Reason, detail string) warder.Decision {
	var what, remedy string
	switch reason {
	case "definition_changed":
		what, remedy = "its definition changed after it was approved", "compare it with `warder tools diff` and approve it with `warder tools approve`"
	case "definition_revoked":
		what, remedy = "its approval was revoked", "approve it again with `warder tools approve`"
	case reasonInvalid, reasonAmbiguous:
		what, remedy = "its definition is not acceptable", "see why with `warder tools show`; the server must be corrected"
	default:
		what, remedy = "its definition was never approved", "review it with `warder tools show` and approve it with `warder tools approve`"
		reason = reasonUnapproved
	}
	return warder.Refuse(warder.CodeQuarantined, reason, detail).Tell(fmt.Sprintf(
		"The %s %s of the server %s is quarantined: %s. An operator can %s.", kind, quoted(name), quoted(x.Server.Name), what, remedy))
}

// approvedList takes definitions that are not approved out of a list, digesting each again, and
// remembers what the server now offers. Control TDP-04, phase Response.
type approvedList struct{ definitions *Definitions }

var _ warder.Interceptor = (*approvedList)(nil)

// Control returns TDP-04.
func (*approvedList) Control() warder.ControlID { return tdp04 }

// Intercept judges every definition of a list. The bytes of those that stay are not touched.
func (c *approvedList) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	m, array, raws, ok := listed(x)
	if !ok || m.kind != kindTool && m.kind != kindPrompt {
		return warder.Continue(), nil
	}
	if x.Server == nil {
		return undecided(errNoServer)
	}
	items, err := c.definitions.judge(ctx, x.Server.Name, m.kind, raws)
	if err != nil {
		return undecided(err)
	}
	c.definitions.observe(x, m.kind, items)
	var findings []warder.Finding
	kept := raws[:0:0]
	for i := range items {
		if items[i].reason == "" {
			kept = append(kept, raws[i])
			continue
		}
		if len(findings) < maxFindings {
			findings = append(findings, warder.Finding{
				Rule: string(items[i].reason), Severity: warder.Medium,
				Pointer: pointerTo(m.member, i), Evidence: quoted(items[i].name),
			})
		}
	}
	if len(kept) == len(raws) {
		return warder.Continue(), nil
	}
	changed, err := wire.Splice(x.Response, within(x.Response), wire.Edit{At: array.Span(), New: joined(kept)})
	if err != nil {
		return undecided(fmt.Errorf("take definitions out of the list: %w", err))
	}
	x.Response = changed
	return warder.Observe(findings...), nil
}

// maxFindings bounds the evidence of one list.
const maxFindings = 32

// approvedInstructions drops the instructions of a server that are not approved: a client puts them
// into the context of its model like a definition. Control TDP-04, phase Response.
type approvedInstructions struct{ definitions *Definitions }

var _ warder.Interceptor = (*approvedInstructions)(nil)

// Control returns TDP-04.
func (*approvedInstructions) Control() warder.ControlID { return tdp04 }

// Intercept judges the instructions in answers to initialize and server/discover.
func (c *approvedInstructions) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if method := x.Method(); method != wire.MethodInitialize && method != wire.MethodDiscover {
		return warder.Continue(), nil
	}
	if x.Response == nil || x.Response.Kind != warder.KindResult {
		return warder.Continue(), nil
	}
	span := x.Response.Result.Get("instructions")
	if !span.Present() {
		return warder.Continue(), nil
	}
	reason := reasonUnapproved
	if x.Server != nil {
		items, err := c.definitions.judge(ctx, x.Server.Name, kindInstructions, [][]byte{x.Response.At(span)})
		if err != nil {
			return undecided(err)
		}
		reason = items[0].reason
	}
	if reason == "" {
		return warder.Continue(), nil
	}
	changed, err := wire.Splice(x.Response, within(x.Response),
		wire.RemoveMembers(x.Response, x.Response.Result, x.Response.ResultSpan, "instructions")...)
	if err != nil {
		return undecided(fmt.Errorf("take out the instructions: %w", err))
	}
	x.Response = changed
	return warder.Observe(warder.Finding{
		Rule: string(reason), Severity: warder.Medium, Pointer: "/result/instructions",
	}), nil
}
