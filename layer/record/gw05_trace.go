package record

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"math"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/hop"
	"github.com/warder-mcp/warder/internal/telemetry/w3c"
	"github.com/warder-mcp/warder/wire"
)

// traceContext is what the phases of GW-05 share: one trace id for everything that happens to one
// exchange, taken from the caller if it is well-formed, and nothing else of the caller's context
// unless it is allowed.
// Control GW-05; W3C Trace Context level 2, W3C Baggage, MCP 2026-07-28 (traceparent, tracestate and
// baggage in _meta).
type traceContext struct {
	sample  uint64 // traces that begin here are sampled below this value of their random part
	baggage map[string]bool
	limits  wire.Limits
}

func newTraceContext(cfg Trace, limits wire.Limits) *traceContext {
	t := &traceContext{baggage: map[string]bool{}, limits: limits}
	if t.sample = uint64(cfg.SampleRatio * (1 << 63)); cfg.SampleRatio >= 1 {
		t.sample = math.MaxUint64
	}
	for _, k := range cfg.Baggage {
		t.baggage[k] = true
	}
	return t
}

// Control returns the id in the catalogue.
func (*traceContext) Control() warder.ControlID { return "GW-05" }

func (t *traceContext) allowed(key string) bool { return t.baggage[key] }

// traceHeaders is GW-05 in phase Connect: the headers of the request, or a fresh trace.
type traceHeaders struct{ *traceContext }

// traceMeta is GW-05 in phase Request: the context in params._meta.
type traceMeta struct{ *traceContext }

// traceAnswer is GW-05 in phase Response: a server has no say in the client's context.
type traceAnswer struct{ *traceContext }

var (
	_ warder.Interceptor = traceHeaders{}
	_ warder.Interceptor = traceMeta{}
	_ warder.Interceptor = traceAnswer{}
)

// Intercept sets x.Trace. Headers are never forwarded as they came, so baggage in a header ends here.
func (t traceHeaders) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	trace, ok := fromHeaders(x)
	if !ok {
		trace = t.fresh()
	} else {
		newSpan(&trace)
	}
	x.Trace = trace
	if len(x.Conn.Header["Traceparent"]) > 0 && !ok {
		return warder.Observe(note("traceparent_invalid", "")), nil
	}
	if len(x.Conn.Header["Baggage"]) > 0 {
		return warder.Observe(note("baggage_dropped", "")), nil
	}
	return warder.Continue(), nil
}

// fromHeaders reads the context of the HTTP headers. Several traceparent headers are none (section
// 3.2: the header occurs once); several tracestate headers are one (section 3.3).
func fromHeaders(x *warder.Exchange) (warder.Trace, bool) {
	parents := x.Conn.Header["Traceparent"]
	if len(parents) != 1 {
		return warder.Trace{}, false
	}
	trace, ok := w3c.Parse(parents[0])
	if !ok {
		return trace, false
	}
	trace.State = joinState(x.Conn.Header["Tracestate"])
	return trace, true
}

// joinState returns a valid tracestate or nothing: a bad one is dropped, the traceparent stays.
func joinState(values []string) string {
	state, _ := w3c.State(strings.Join(values, ","))
	return state
}

// fresh begins a trace.
func (t *traceContext) fresh() warder.Trace {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	trace := warder.Trace{TraceID: [16]byte(b[:16]), SpanID: [8]byte(b[16:])}
	trace.Sampled = t.sample == math.MaxUint64 || binary.BigEndian.Uint64(b[8:16])>>1 < t.sample
	return trace
}

func newSpan(t *warder.Trace) {
	_, _ = rand.Read(t.SpanID[:]) // never fails since Go 1.24
}

func note(rule, pointer string) warder.Finding {
	return warder.Finding{Rule: rule, Severity: warder.Info, Pointer: pointer}
}

// Intercept lets _meta take part: its traceparent counts when no header gave one; what goes on to the
// server names this exchange as its parent; baggage is reduced to the allowed keys.
func (t traceMeta) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	if m.Meta == nil || m.IsAnswer() {
		t.inherit(x)
		return warder.Continue(), nil
	}
	parent, state, baggage := m.Meta.Get(w3c.TraceParent), m.Meta.Get(w3c.TraceState), m.Meta.Get(w3c.Baggage)
	if !parent.Present() && !state.Present() && !baggage.Present() {
		t.inherit(x)
		return warder.Continue(), nil
	}
	findings := t.adopt(x, m, parent, state)
	keep, dropped := t.keep(m, baggage)
	if dropped {
		findings = append(findings, note("baggage_dropped", "/params/_meta/baggage"))
	}
	out, err := t.rewrite(x, m, parent.Present(), keep)
	if err != nil {
		return warder.Decision{}, err
	}
	x.Request = out
	return warder.Observe(findings...), nil
}

// inherit joins an exchange that came without a context of its own to the trace of the one it
// continues.
func (t *traceContext) inherit(x *warder.Exchange) {
	if x.Parent == nil || x.Trace.Parent != [8]byte{} || x.Parent.Trace.TraceID == [16]byte{} {
		return
	}
	span := x.Trace.SpanID
	x.Trace = x.Parent.Trace
	x.Trace.Parent, x.Trace.SpanID = x.Parent.Trace.SpanID, span
}

// adopt judges the traceparent of _meta against that of the header.
func (t *traceContext) adopt(x *warder.Exchange, m *warder.Message, parent, state warder.Span) []warder.Finding {
	if !parent.Present() {
		t.inherit(x)
		return nil
	}
	text, _ := wire.At(m, parent).Text()
	trace, ok := w3c.Parse(text)
	const pointer = "/params/_meta/traceparent"
	switch {
	case !ok:
		return []warder.Finding{note("traceparent_invalid", pointer)}
	case x.Trace.Parent == [8]byte{}: // no valid header
		s, _ := wire.At(m, state).Text()
		trace.State, _ = w3c.State(s)
		trace.SpanID = x.Trace.SpanID
		x.Trace = trace
	case trace.TraceID != x.Trace.TraceID:
		return []warder.Finding{note("trace_mismatch", pointer)}
	}
	return nil
}

// keep returns the baggage that may pass.
func (t *traceContext) keep(m *warder.Message, baggage warder.Span) (kept string, dropped bool) {
	if !baggage.Present() {
		return "", false
	}
	text, ok := wire.At(m, baggage).Text()
	if !ok {
		return "", true
	}
	kept, n := w3c.Keep(text, t.allowed)
	return kept, n > 0
}

// rewrite puts the context as judged into the message.
func (t *traceContext) rewrite(x *warder.Exchange, m *warder.Message, parent bool, baggage string) (*warder.Message, error) {
	drop := make([]string, 0, 3)
	var edits []wire.Edit
	set := func(key, value string) {
		if at := m.Meta.Get(key); at.Present() {
			edits = append(edits, wire.Edit{At: at, New: wire.Quote(value)})
		}
	}
	if parent {
		set(w3c.TraceParent, x.Trace.Header())
		set(w3c.TraceState, hop.Next(x.Trace.State))
	} else {
		drop = append(drop, w3c.TraceState) // has no meaning alone (section 3.3)
	}
	if baggage != "" {
		set(w3c.Baggage, baggage)
	} else {
		drop = append(drop, w3c.Baggage)
	}
	edits = append(edits, wire.RemoveMembers(m, m.Meta, warder.Span{}, drop...)...)
	return wire.Splice(m, t.limits, edits...)
}

// Intercept removes trace context and baggage from what a server sends, also from the questions it
// asks within a result.
func (t traceAnswer) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	edits := strip(nil, m, m.Meta)
	if requests := m.Result.Get("inputRequests"); requests.Present() {
		for _, q := range wire.At(m, requests).Members() {
			edits = strip(edits, m, object(q.Find("params", "_meta")))
		}
	}
	if len(edits) == 0 {
		return warder.Continue(), nil
	}
	out, err := wire.Splice(m, t.limits, edits...)
	if err != nil {
		return warder.Decision{}, err
	}
	x.Response = out
	return warder.Observe(note("server_context_removed", "")), nil
}

func strip(edits []wire.Edit, m *warder.Message, meta warder.Object) []wire.Edit {
	for i := range meta {
		switch meta[i].Key {
		case w3c.TraceParent, w3c.TraceState, w3c.Baggage:
			return append(edits, wire.RemoveMembers(m, meta, warder.Span{}, w3c.TraceParent, w3c.TraceState, w3c.Baggage)...)
		}
	}
	return edits
}

// object lists the members of a value as Decode lists those it knows.
func object(v wire.Value) warder.Object {
	var o warder.Object
	for k, member := range v.Members() {
		o = append(o, warder.Member{Key: k.Unescaped(), Name: k.Span(), Value: member.Span()})
	}
	return o
}
