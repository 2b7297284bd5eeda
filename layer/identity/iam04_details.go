package identity

import (
	"context"
	"fmt"
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/wire"
)

// MetaPurpose is the member of _meta in which a caller may declare the purpose of one call. It
// narrows: a purpose that the credential does not have is refused.
const MetaPurpose = "io.warder/purpose"

// details enforces the authorization details of the credential: server, tools, argument bounds and
// purpose. Connecting and listing is always covered; whatever else acts on something must be.
// Control IAM-04; RFC 9396 sections 2, 3 and 9. Phase Request, on the final arguments.
type details struct{ counted bool }

var _ warder.Interceptor = (*details)(nil)

// Control returns IAM-04.
func (*details) Control() warder.ControlID { return "IAM-04" }

// Intercept sets the purpose of the exchange and refuses what no detail covers.
func (d *details) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil {
		return warder.Refuse(warder.CodeUnauthenticated, "principal_missing", ""), nil
	}
	call, refusal := purposeOf(x)
	if refusal != "" {
		return warder.Refuse(warder.CodeDenied, refusal, "declared purpose is not that of the credential").
			Tell("The credential was not issued for this purpose."), nil
	}
	if x.Purpose == "" {
		x.Purpose = p.Purpose
	}
	if len(p.Details) == 0 {
		return warder.Continue(), nil
	}
	i, violation := covering(p.Details, x, call)
	switch {
	case violation != nil:
		return warder.Refuse(warder.CodeDenied, violation.Reason(), violation.String()).Tell(publicOf(violation)), nil
	case i < 0:
		return warder.Continue(), nil // acts on nothing
	case p.Details[i].MaxCalls > 0 && !d.counted:
		return warder.Refuse(warder.CodeUnavailable, "calls_not_counted", "nothing counts the calls of credentials"), nil
	}
	if x.Purpose == "" {
		x.Purpose = p.Details[i].Purpose
	}
	return warder.Continue(), nil
}

// purposeOf is what the caller declares: the purpose in _meta, else that of the credential. A
// declaration that contradicts the credential is a refusal.
func purposeOf(x *warder.Exchange) (purpose string, refusal warder.Reason) {
	purpose = x.Principal.Purpose
	m := judged(x).Request
	if m == nil {
		return purpose, ""
	}
	v := wire.At(m, m.Meta.Get(MetaPurpose))
	if !v.Exists() {
		return purpose, ""
	}
	declared, ok := v.Text()
	if !ok || declared == "" || purpose != "" && purpose != declared {
		return "", "purpose_mismatch"
	}
	return declared, ""
}

// covering finds the detail that covers the exchange. The index is -1 without a violation when the
// message acts on nothing.
func covering(list []warder.Detail, x *warder.Exchange, purpose string) (int, *rar.Violation) {
	subject := judged(x)
	kind, name := actsOn(subject.Request)
	switch kind {
	case onNothing:
		return -1, nil
	case onTool:
		m := subject.Request
		return rar.Find(list, rar.Call{
			Server: serverName(subject), Tool: name, Purpose: purpose, Args: wire.At(m, m.Params.Get("arguments")),
		})
	default:
		return whole(list, serverName(subject), purpose)
	}
}

// whole finds a detail that is not narrowed to calls of tools.
func whole(list []warder.Detail, server, purpose string) (int, *rar.Violation) {
	closest := &rar.Violation{Field: "server"}
	for i := range list {
		d := &list[i]
		if d.Server != "" && d.Server != server {
			continue
		}
		if !rar.Whole(d) {
			closest = &rar.Violation{Field: "tools", Detail: i}
			continue
		}
		if d.Purpose == "" || purpose == "" || d.Purpose == purpose {
			return i, nil
		}
		closest = &rar.Violation{Field: "purpose", Detail: i}
	}
	return -1, closest
}

func publicOf(v *rar.Violation) string {
	switch v.Field {
	case "server":
		return "The credential is not good for this server."
	case "tools":
		return "The credential is not good for this tool or method."
	case "purpose":
		return "The credential was not issued for this purpose."
	default:
		return fmt.Sprintf("The credential does not allow this value of argument %q.", v.Pointer)
	}
}

// Covers reports whether the credential of the principal may cover something of a server, arguments
// aside: lists are filtered with it. kind is that of a definition: tool, prompt, resource, template or
// instructions.
func Covers(p *warder.Principal, server, kind, name string) bool {
	switch {
	case p == nil:
		return false
	case !agentCovers(p.Registered, server, kind, name):
		return false
	case len(p.Details) == 0:
		return true
	}
	for i := range p.Details {
		d := &p.Details[i]
		if d.Server != "" && d.Server != server {
			continue
		}
		if rar.Whole(d) || kind == "instructions" || kind == onTool && (len(d.Tools) == 0 || slices.Contains(d.Tools, name)) {
			return true
		}
	}
	return false
}
