package record

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/telemetry/w3c"
	"github.com/warder-mcp/warder/wire"
)

const (
	caller   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	callerID = "4bf92f3577b34da6a3ce929d0e0e4736"
	stranger = "00-11111111111111111111111111111111-2222222222222222-01"
)

func TestGW05(t *testing.T) {
	t.Parallel()
	t.Run("pass: the caller's context from a header", testTraceHeader)
	t.Run("pass: the caller's context from _meta", testTraceMeta)
	t.Run("pass: allowed baggage stays, the rest goes", testBaggageAllowed)
	t.Run("near_miss: a malformed context begins a trace of its own", testTraceMalformed)
	t.Run("near_miss: without a context the message is not touched", testTraceUntouched)
	t.Run("deny: a forged context in _meta does not displace the header", testTraceMismatch)
	t.Run("deny: forged baggage is dropped", testBaggageForged)
	t.Run("deny: a server cannot overwrite the client's context", testTraceServer)
	t.Run("dependency_killed: a message that cannot be rewritten is an error", testTraceBroken)
}

func tracing(t *testing.T, cfg Trace, limits wire.Limits) (connect, request, response warder.Interceptor) {
	t.Helper()
	c := testConfig()
	c.Trace = cfg
	layer, err := NewTrace(c, TraceDeps{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	return layer.Connect[0], layer.Request[0], layer.Response[0]
}

// through takes an exchange with these headers and params._meta through Connect and Request.
func through(t *testing.T, cfg Trace, h http.Header, meta string) (*warder.Exchange, []string) {
	t.Helper()
	connect, request, _ := tracing(t, cfg, wire.Limits{})
	x := &warder.Exchange{Conn: warder.Conn{Header: h}}
	raw := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`
	if meta != "" {
		raw = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":` + meta + `}}`
	}
	var rules []string
	run := func(ic warder.Interceptor) {
		d, err := ic.Intercept(t.Context(), x)
		if err != nil || d.Verdict != warder.Pass {
			t.Fatalf("%+v, %v", d, err)
		}
		for _, f := range d.Findings {
			rules = append(rules, f.Rule)
		}
	}
	run(connect)
	x.Inbound = decode(t, raw)
	x.Request = x.Inbound
	run(request)
	return x, rules
}

// meta reads what goes on to the server.
func metaOf(t *testing.T, m *warder.Message) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, k := range m.Meta {
		out[k.Key], _ = wire.At(m, k.Value).Text()
	}
	return out
}

func testTraceHeader(t *testing.T) {
	t.Parallel()
	x, rules := through(t, Trace{}, http.Header{"Traceparent": {caller}, "Tracestate": {"rojo=1", "congo=2"}}, "")
	if !strings.HasPrefix(x.Trace.Header(), "00-"+callerID+"-") || strings.Contains(x.Trace.Header(), "00f067aa0ba902b7") {
		t.Errorf("trace %s, want the caller's with a span of our own", x.Trace.Header())
	}
	if !x.Trace.Sampled || x.Trace.State != "rojo=1,congo=2" || x.Trace.Parent != [8]byte{0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7} || rules != nil {
		t.Errorf("trace %+v, findings %v", x.Trace, rules)
	}
	if x.Trace.SpanID == [8]byte{} {
		t.Error("the exchange has no span")
	}
	_, rules = through(t, Trace{}, http.Header{"Traceparent": {caller}, "Tracestate": {"ROJO=1"}}, "")
	if rules != nil {
		t.Errorf("findings %v for a bad tracestate", rules)
	}
}

func testTraceMeta(t *testing.T) {
	t.Parallel()
	x, _ := through(t, Trace{}, nil, `{"traceparent":"`+caller+`","tracestate":"rojo=1","progressToken":5}`)
	if !strings.HasPrefix(x.Trace.Header(), "00-"+callerID+"-") || x.Trace.State != "rojo=1" {
		t.Errorf("trace %s %s", x.Trace.Header(), x.Trace.State)
	}
	want := map[string]string{"traceparent": x.Trace.Header(), "tracestate": "warder=h1,rojo=1", "progressToken": ""}
	if d := cmp.Diff(want, metaOf(t, x.Request)); d != "" {
		t.Errorf("_meta for the server (-want +got):\n%s", d)
	}
	if string(x.Inbound.Raw) == string(x.Request.Raw) {
		t.Error("what the client sent was changed in place")
	}
	child := &warder.Exchange{Parent: x}
	connect, request, _ := tracing(t, Trace{}, wire.Limits{})
	if _, err := connect.Intercept(t.Context(), child); err != nil {
		t.Fatal(err)
	}
	child.Request = decode(t, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	if _, err := request.Intercept(t.Context(), child); err != nil {
		t.Fatal(err)
	}
	if child.Trace.TraceID != x.Trace.TraceID || child.Trace.Parent != x.Trace.SpanID || child.Trace.SpanID == x.Trace.SpanID {
		t.Errorf("an answer has trace %+v, want that of its question %+v", child.Trace, x.Trace)
	}
}

func testBaggageAllowed(t *testing.T) {
	t.Parallel()
	x, rules := through(t, Trace{Baggage: []string{"tenant"}}, nil, `{"baggage":"tenant=a,role=admin, x","other":"y"}`)
	if d := cmp.Diff(map[string]string{"baggage": "tenant=a", "other": "y"}, metaOf(t, x.Request)); d != "" {
		t.Errorf("_meta (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"baggage_dropped"}, rules); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}

func testTraceMalformed(t *testing.T) {
	t.Parallel()
	for _, bad := range [][]string{{"00-xyz"}, {caller, stranger}, {strings.ToUpper(caller)}, {""}} {
		x, rules := through(t, Trace{SampleRatio: 1}, http.Header{"Traceparent": bad, "Tracestate": {"rojo=1"}}, "")
		if x.Trace.TraceID == [16]byte{} || strings.Contains(x.Trace.Header(), callerID) || x.Trace.State != "" || !x.Trace.Sampled {
			t.Errorf("%q gave trace %+v", bad, x.Trace)
		}
		if d := cmp.Diff([]string{"traceparent_invalid"}, rules); d != "" {
			t.Errorf("%q: findings (-want +got):\n%s", bad, d)
		}
	}
	x, _ := through(t, Trace{}, nil, `{"traceparent":"00-zz","tracestate":"rojo=1"}`)
	if got := metaOf(t, x.Request)["traceparent"]; got != x.Trace.Header() {
		t.Errorf("the server is told %q, want %q", got, x.Trace.Header())
	}
}

func testTraceUntouched(t *testing.T) {
	t.Parallel()
	a, rules := through(t, Trace{}, nil, `{"progressToken":1}`)
	b, _ := through(t, Trace{}, http.Header{}, "")
	if a.Request != a.Inbound || b.Request != b.Inbound || rules != nil {
		t.Error("a message without context was rewritten")
	}
	if a.Trace.TraceID == b.Trace.TraceID || a.Trace.Sampled || a.Trace.Parent != [8]byte{} {
		t.Errorf("fresh traces %+v and %+v", a.Trace, b.Trace)
	}
	sampled := 0
	connect, _, _ := tracing(t, Trace{SampleRatio: 0.25}, wire.Limits{})
	for range 2000 {
		x := &warder.Exchange{}
		if _, err := connect.Intercept(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		if x.Trace.Sampled {
			sampled++
		}
	}
	if sampled < 400 || sampled > 600 {
		t.Errorf("%d of 2000 traces are sampled at a ratio of 0.25", sampled)
	}
}

func testTraceMismatch(t *testing.T) {
	t.Parallel()
	x, rules := through(t, Trace{}, http.Header{"Traceparent": {caller}}, `{"traceparent":"`+stranger+`"}`)
	if !strings.Contains(x.Trace.Header(), callerID) || metaOf(t, x.Request)["traceparent"] != x.Trace.Header() {
		t.Errorf("trace %s, server is told %q", x.Trace.Header(), metaOf(t, x.Request)["traceparent"])
	}
	if d := cmp.Diff([]string{"trace_mismatch"}, rules); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}

func testBaggageForged(t *testing.T) {
	t.Parallel()
	for _, meta := range []string{
		`{"baggage":"role=admin","a":"1"}`, `{"a":"1","baggage":"role=admin"}`, `{"baggage":17,"a":"1"}`,
		`{"baggage":{"role":"admin"},"a":"1","tracestate":"x=1"}`, `{"tracestate":"x=1","baggage":"","a":"1"}`,
	} {
		x, _ := through(t, Trace{}, http.Header{"Baggage": {"role=admin"}}, meta)
		if d := cmp.Diff(map[string]string{"a": "1"}, metaOf(t, x.Request)); d != "" {
			t.Errorf("%s: _meta (-want +got):\n%s", meta, d)
		}
	}
	_, rules := through(t, Trace{}, http.Header{"Baggage": {"role=admin"}}, `{"baggage":"role=admin"}`)
	if d := cmp.Diff([]string{"baggage_dropped", "baggage_dropped"}, rules); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}

func testTraceServer(t *testing.T) {
	t.Parallel()
	_, _, response := tracing(t, Trace{Baggage: []string{"tenant"}}, wire.Limits{})
	context := `"traceparent":"` + stranger + `","k":"v","tracestate":"x=1","baggage":"tenant=a"`
	for raw, want := range map[string]string{
		`{"jsonrpc":"2.0","id":1,"result":{"_meta":{` + context + `},"content":[]}}`:                                                                  `{"jsonrpc":"2.0","id":1,"result":{"_meta":{"k":"v"},"content":[]}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"_meta":{` + context + `}}}`:                                                    `{"jsonrpc":"2.0","method":"notifications/progress","params":{"_meta":{"k":"v"}}}`,
		`{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{"_meta":{"baggage":"tenant=a"}}}`:                                        `{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{"_meta":{}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"q":{"method":"e","params":{"_meta":{` + context + `}}}}}}`: `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"q":{"method":"e","params":{"_meta":{"k":"v"}}}}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"content":[{"text":"traceparent"}],"_meta":{"k":"v"}}}`:                                                    "",
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`:                                                                                   "",
	} {
		before := decode(t, raw)
		x := &warder.Exchange{Trace: warder.Trace{TraceID: [16]byte{1}}, Response: before}
		d, err := response.Intercept(t.Context(), x)
		if err != nil || d.Verdict != warder.Pass {
			t.Fatalf("%s: %+v, %v", raw, d, err)
		}
		if want == "" {
			if x.Response != before || d.Findings != nil {
				t.Errorf("%s was rewritten", raw)
			}
			continue
		}
		if d := cmp.Diff(want, string(x.Response.Raw)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if len(d.Findings) != 1 || x.Trace.TraceID != [16]byte{1} {
			t.Errorf("%s: findings %+v, trace %+v", raw, d.Findings, x.Trace)
		}
	}
}

func testTraceBroken(t *testing.T) {
	t.Parallel()
	connect, request, response := tracing(t, Trace{}, wire.Limits{Bytes: 100})
	x := &warder.Exchange{}
	if _, err := connect.Intercept(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	x.Request = decode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+strings.Repeat("a", 200)+`","_meta":{"baggage":"a=1"}}}`)
	before := x.Request
	if _, err := request.Intercept(t.Context(), x); err == nil || x.Request != before {
		t.Errorf("request: %v", err)
	}
	x.Response = decode(t, `{"jsonrpc":"2.0","id":1,"result":{"a":"`+strings.Repeat("a", 200)+`","_meta":{"baggage":"a=1"}}}`)
	if _, err := response.Intercept(t.Context(), x); err == nil {
		t.Error("response: no error")
	}
}

func FuzzTraceMeta(f *testing.F) {
	f.Add(caller, "rojo=1", "tenant=a,role=b")
	f.Fuzz(func(t *testing.T, parent, state, baggage string) {
		raw := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"traceparent":` + string(wire.Quote(parent)) +
			`,"tracestate":` + string(wire.Quote(state)) + `,"baggage":` + string(wire.Quote(baggage)) + `}}}`
		m, err := wire.Decode([]byte(raw), wire.Limits{})
		if err != nil {
			return // not a message
		}
		shared := newTraceContext(Trace{Baggage: []string{"tenant"}}, wire.Limits{})
		x := &warder.Exchange{Trace: shared.fresh(), Request: m, Inbound: m}
		if _, err := (traceMeta{shared}).Intercept(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		got := metaOf(t, x.Request)
		if _, ok := w3c.Parse(got["traceparent"]); !ok {
			t.Fatalf("server is told traceparent %q", got["traceparent"])
		}
		if _, ok := w3c.State(got["tracestate"]); !ok {
			t.Fatalf("server is told tracestate %q", got["tracestate"])
		}
		if kept, n := w3c.Keep(got["baggage"], shared.allowed); n != 0 || kept != got["baggage"] {
			t.Fatalf("server is told baggage %q", got["baggage"])
		}
	})
}
