package gateway

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// extensions lets through only the extensions that configuration names. An extension works only when
// both sides declare it, so taking the declaration away in both directions turns it off.
// Control PRT-09; MCP 2026-07-28 "Extensions" (SEP-2133). Phases Request and Response.
type extensions struct {
	allowed map[string]bool
	limits  wire.Limits
}

func newExtensions(ids []string, lim wire.Limits) (*extensions, error) {
	e := &extensions{allowed: make(map[string]bool, len(ids)), limits: lim}
	for _, id := range ids {
		if id == "" || len(id) > 256 || strings.ContainsAny(id, " *\t\r\n") {
			return nil, fmt.Errorf("gateway.extensions: %q is not an extension id", id)
		}
		e.allowed[id] = true
	}
	return e, nil
}

// extensionRequests is PRT-09 in phase Request.
type extensionRequests struct{ *extensions }

// extensionResponses is PRT-09 in phase Response.
type extensionResponses struct{ *extensions }

var (
	_ warder.Interceptor = extensionRequests{}
	_ warder.Interceptor = extensionResponses{}
)

// Control returns "PRT-09".
func (*extensions) Control() warder.ControlID { return "PRT-09" }

// Intercept strips what the client declares.
func (e extensionRequests) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	edits, findings := e.unknown(m, declared(m))
	if len(edits) == 0 {
		return passed()
	}
	if err := rewrite(x, e.limits, edits); err != nil {
		return warder.Decision{}, err
	}
	return warder.Observe(findings...), nil
}

// Intercept strips what the server declares and refuses kinds of results that nobody agreed on.
func (e extensionResponses) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m.Kind != warder.KindResult {
		return passed()
	}
	if x.Revision.Modern() {
		kind := wire.At(m, m.Result.Get("resultType"))
		if kind.Exists() && !e.known(kind) {
			return warder.Refuse(warder.CodeUpstreamFailed, "result_type_unknown", "resultType "+quote(string(kind.Raw()))), nil
		}
	}
	switch x.Method() {
	case wire.MethodInitialize, wire.MethodDiscover:
	default:
		return passed()
	}
	edits, findings := e.unknown(m, wire.At(m, m.Result.Get("capabilities")))
	if len(edits) == 0 {
		return passed()
	}
	if err := rewriteResponse(x, e.limits, edits); err != nil {
		return warder.Decision{}, err
	}
	return warder.Observe(findings...), nil
}

// known reports whether a resultType is one of the protocol's, or of an extension that is allowed.
func (e *extensions) known(kind wire.Value) bool {
	return kind.Equals(wire.ResultComplete) || kind.Equals(wire.ResultInputRequired) ||
		kind.Equals(wire.ResultTask) && e.allowed[wire.ExtensionTasks]
}

// unknown returns the edits that take undeclared extensions away, and a finding for each place.
func (e *extensions) unknown(m *warder.Message, caps wire.Value) ([]wire.Edit, []warder.Finding) {
	if caps.Kind() != '{' {
		return nil, nil
	}
	var edits []wire.Edit
	var findings []warder.Finding
	for k, v := range caps.Members() {
		if v.Kind() != '{' || !k.Is("extensions") && !k.Is("experimental") {
			continue
		}
		first, found := e.strange(v)
		if !found {
			continue
		}
		edits = append(edits, remove(m, v, func(k wire.Key) bool { return !e.allows(k) })...)
		findings = append(findings, warder.Finding{
			Rule: "extension_stripped", Severity: warder.Info, Pointer: "/capabilities/" + k.Unescaped(), Evidence: quote(first.Unescaped()),
		})
	}
	return edits, findings
}

// strange returns the first extension that is not allowed.
func (e *extensions) strange(v wire.Value) (wire.Key, bool) {
	for k := range v.Members() {
		if !e.allows(k) {
			return k, true
		}
	}
	return wire.Key{}, false
}

// allows does not allocate for names written without escapes.
func (e *extensions) allows(k wire.Key) bool {
	raw := k.Raw()
	if bytes.IndexByte(raw, '\\') >= 0 {
		return e.allowed[k.Unescaped()]
	}
	return e.allowed[string(raw[1:len(raw)-1])]
}
