package proxy

import (
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// This file is the one place that turns an error into what a client sees.

// render returns the HTTP status and the JSON-RPC message for a failure. A refused tool call is a
// tool result with isError where the model can act on the reason; everything else is a JSON-RPC
// error. Only code, reason, control, public sentence and exchange id leave the process.
func render(x *warder.Exchange, e *warder.Error) (status int, raw []byte) {
	face := e.Code.Face()
	id := answerID(x)
	if raw := renderHold(x, e, id); raw != nil {
		return 200, raw
	}
	if id != nil && isToolResult(x, e) {
		return 200, wire.Response(id, toolError(x, e))
	}
	code := face.RPC
	if e.Code == warder.CodeNotFound && x.Method() == wire.MethodResourcesRead && !x.Revision.Modern() {
		code = warder.RPCResourceNotFound
	}
	return status200(x, e, face.Status), wire.ErrorResponse(id, code, e.Sentence(), errorData(x, e))
}

// answerID is the id under which the failure is reported; nil when the id could not be read.
func answerID(x *warder.Exchange) []byte {
	if x.Inbound == nil || !x.Inbound.IsCall() {
		return nil
	}
	return x.Inbound.IDBytes()
}

// status200 keeps HTTP 200 for JSON-RPC errors of sessions: their clients read a non-2xx status as a
// broken transport. Failures of the transport itself, and refusals before a message was read, keep
// their status in every revision.
func status200(x *warder.Exchange, e *warder.Error, status int) int {
	if x.Revision.Modern() || x.Session == "" || x.Request == nil {
		return status
	}
	switch e.Code {
	case warder.CodeUnauthenticated, warder.CodeInsufficientScope, warder.CodeNoSession, warder.CodeRateLimited,
		warder.CodeTooLarge, warder.CodeMalformed, warder.CodeHeaderMismatch, warder.CodeForbiddenOrigin, warder.CodeUnsupported:
		return status
	default:
		return 200
	}
}

// isToolResult reports whether the failure is told as a tool result: the tool is quarantined, the call
// waits for a person, its arguments do not fit (since 2025-11-25, SEP-1303), or its result was refused.
func isToolResult(x *warder.Exchange, e *warder.Error) bool {
	if x.Method() != wire.MethodToolsCall || x.Request == nil {
		return false
	}
	switch e.Code {
	case warder.CodeQuarantined, warder.CodeHeld:
		return true
	case warder.CodeInvalidParams:
		return x.Revision >= warder.Revision20251125 && strings.HasPrefix(string(e.Control), "INV-") && e.Reason != "unknown_param"
	default:
		return x.Response != nil && e.Control != ""
	}
}

// toolError is the result of a refused call: text a model can show and act on.
func toolError(x *warder.Exchange, e *warder.Error) []byte {
	var b strings.Builder
	if e.Code == warder.CodeHeld {
		b.WriteString("Warder holds this call: ")
	} else {
		b.WriteString("Warder refused this call: ")
	}
	b.WriteString(e.Sentence())
	if e.Ask != nil && e.Ask.URL != "" {
		b.WriteString(" Decide at ")
		b.WriteString(e.Ask.URL)
		b.WriteString(" and send the same call again.")
	}
	b.WriteString(" (")
	if e.Control != "" {
		b.WriteString(string(e.Control))
		b.WriteString(", ")
	}
	b.WriteString(string(e.Code))
	if e.Reason != "" {
		b.WriteByte('/')
		b.WriteString(string(e.Reason))
	}
	b.WriteString(", exchange ")
	b.WriteString(x.ID)
	b.WriteByte(')')
	out := append([]byte(`{"content":[{"type":"text","text":`), wire.Quote(b.String())...)
	out = append(out, `}],"isError":true`...)
	if x.Revision.Modern() {
		out = append(out, `,"resultType":"complete"`...)
	}
	return append(out, '}')
}

// errorData is error.data: the data the code demands, or what an operator needs to find the record.
func errorData(x *warder.Exchange, e *warder.Error) []byte {
	if e.Data != nil {
		return e.Data
	}
	b := append([]byte(`{"code":`), wire.Quote(string(e.Code))...)
	hold, url := "", ""
	if e.Ask != nil {
		hold, url = e.Ask.Hold, e.Ask.URL
	}
	for _, kv := range [...]struct{ k, v string }{
		{"reason", string(e.Reason)}, {"control", string(e.Control)}, {"exchange", x.ID}, {"hold", hold}, {"url", url},
	} {
		if kv.v != "" {
			b = append(b, `,"`+kv.k+`":`...)
			b = append(b, wire.Quote(kv.v)...)
		}
	}
	return append(b, '}')
}
