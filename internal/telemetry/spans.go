package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/warder-mcp/warder"
)

const (
	maxOpen  = 4096 // sampled exchanges in flight that are followed
	maxSteps = 256  // decisions of one exchange that are followed
	maxSpans = 64   // child spans of one exchange
)

// spans follows sampled exchanges and turns each into spans when it ends.
type spans struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	layers   map[warder.ControlID]string
	now      func() time.Time
	dropped  atomic.Uint64

	mu   sync.Mutex
	open map[*warder.Exchange]*journal
}

// A journal is what one sampled exchange went through.
type journal struct{ steps []step }

// A step is one decision with its time.
type step struct {
	layer   string
	phase   warder.Phase
	control warder.ControlID
	verdict warder.Verdict
	reason  warder.Reason
	start   time.Time
	end     time.Time
}

func newSpans(ctx context.Context, cfg Config, o Options, layers map[warder.ControlID]string) (*spans, error) {
	headers := make(map[string]string, len(cfg.Headers))
	for name, ref := range cfg.Headers {
		v, err := ref.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("otlp header %s: %w", name, err)
		}
		headers[name] = string(v.Bytes())
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(cfg.Endpoint + tracesPath(cfg.Endpoint)),
		otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithTimeout(cfg.Timeout),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
	}
	if o.Client != nil {
		options = append(options, otlptracehttp.WithHTTPClient(o.Client))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("otlp exporter: %w", err)
	}
	queue := cfg.Queue
	if queue <= 0 {
		queue = 2048
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // the exchange says whether it is sampled
		sdktrace.WithIDGenerator(exchangeIDs{}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "warder"), attribute.String("service.version", o.Version))),
		sdktrace.WithBatcher(quietExporter{exporter, o.Logger, &outage{}}, sdktrace.WithMaxQueueSize(queue), sdktrace.WithExportTimeout(cfg.Timeout)),
	)
	return &spans{
		provider: provider, tracer: provider.Tracer("github.com/warder-mcp/warder"), layers: layers, now: time.Now,
		open: map[*warder.Exchange]*journal{},
	}, nil
}

// tracesPath is what must be added to a base URL (OTLP specification, "OTLP/HTTP request").
func tracesPath(endpoint string) string {
	const path = "v1/traces"
	if endpoint[len(endpoint)-1] == '/' {
		return path
	}
	return "/" + path
}

func (s *spans) decided(x *warder.Exchange, phase warder.Phase, d *warder.Decision, took time.Duration) {
	end := s.now()
	s.mu.Lock()
	j := s.open[x]
	if j == nil && len(s.open) < maxOpen {
		j = &journal{steps: make([]step, 0, 64)}
		s.open[x] = j
	}
	s.mu.Unlock()
	if j == nil || len(j.steps) == maxSteps {
		return
	}
	j.steps = append(j.steps, step{
		layer: s.layers[d.Control], phase: phase, control: d.Control, verdict: d.Verdict, reason: d.Reason,
		start: end.Add(-took), end: end,
	})
}

// finished builds the spans of x: the exchange itself, one child for each layer and phase it passed,
// and one for the time the server had.
func (s *spans) finished(x *warder.Exchange) {
	s.mu.Lock()
	j := s.open[x]
	delete(s.open, x)
	s.mu.Unlock()
	if j == nil {
		s.dropped.Add(1)
		return
	}
	end := x.Finished
	if end.IsZero() {
		end = s.now()
	}
	ctx, root := s.tracer.Start(caller(x), name(x), trace.WithTimestamp(x.Received), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(describe(x)...))
	ctx = context.WithValue(ctx, traceKey{}, (*warder.Trace)(nil)) // children get ids of their own
	for _, c := range j.children(x, end) {
		_, child := s.tracer.Start(ctx, c.name, trace.WithTimestamp(c.start), trace.WithAttributes(c.attributes...), trace.WithSpanKind(c.kind))
		if c.refused != "" {
			child.SetStatus(codes.Error, c.refused)
		}
		child.End(trace.WithTimestamp(c.end))
	}
	if x.Failure != nil {
		root.SetStatus(codes.Error, string(x.Failure.Code))
	}
	root.End(trace.WithTimestamp(end))
}

// caller is the context under which the span of the exchange starts: below the span of the caller, and
// with the ids the exchange already has.
func caller(x *warder.Exchange) context.Context {
	ctx := context.WithValue(context.Background(), traceKey{}, &x.Trace)
	if x.Trace.Parent != [8]byte{} {
		state, err := trace.ParseTraceState(x.Trace.State)
		if err != nil {
			state = trace.TraceState{}
		}
		return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: x.Trace.TraceID, SpanID: x.Trace.Parent, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true,
		}))
	}
	return ctx
}

// name is the span name of an exchange: method, and the tool or prompt once that is known to exist.
func name(x *warder.Exchange) string {
	if x.Method() == "" {
		return "mcp exchange"
	}
	if x.Tool != nil {
		return x.Method() + " " + x.Tool.Name
	}
	return x.Method()
}

func describe(x *warder.Exchange) []attribute.KeyValue {
	kv := []attribute.KeyValue{
		attribute.String("warder.exchange", x.ID),
		attribute.String("warder.door", string(x.Door)),
		attribute.String("warder.outcome", string(x.Outcome)),
		attribute.String("mcp.protocol.version", string(x.Revision)),
		attribute.String("mcp.method.name", x.Method()),
	}
	if x.Server != nil {
		kv = append(kv, attribute.String("warder.server", x.Server.Name))
	}
	if x.Tool != nil {
		kv = append(kv, attribute.String("gen_ai.tool.name", x.Tool.Name))
	}
	if x.Failure != nil {
		kv = append(kv,
			attribute.String("warder.code", string(x.Failure.Code)),
			attribute.String("warder.reason", string(x.Failure.Reason)),
			attribute.String("warder.control", string(x.Failure.Control)))
	}
	return kv
}

// A child is one span below the exchange.
type child struct {
	name       string
	kind       trace.SpanKind
	start, end time.Time
	attributes []attribute.KeyValue
	refused    string
}

// children groups the steps by layer and phase, and puts the server between Request and Response.
func (j *journal) children(x *warder.Exchange, end time.Time) []child {
	var out []child
	var asked, answered time.Time
	for i := 0; i < len(j.steps) && len(out) < maxSpans; {
		first := &j.steps[i]
		c := child{name: spanName(first.layer, first.phase), kind: trace.SpanKindInternal, start: first.start}
		n := i
		for ; i < len(j.steps) && j.steps[i].layer == first.layer && j.steps[i].phase == first.phase; i++ {
			s := &j.steps[i]
			c.end = s.end
			if s.verdict != warder.Pass && c.refused == "" {
				c.refused = string(s.control) + " " + string(s.reason)
			}
		}
		c.attributes = []attribute.KeyValue{
			attribute.String("warder.layer", first.layer),
			attribute.String("warder.phase", first.phase.String()),
			attribute.Int("warder.controls", i-n),
		}
		switch {
		case first.phase == warder.PhaseRequest:
			asked = c.end
		case first.phase == warder.PhaseResponse && answered.IsZero():
			answered = c.start
		}
		out = append(out, c)
	}
	if x.Forwarded && !asked.IsZero() {
		if answered.IsZero() {
			answered = end
		}
		if answered.Before(asked) {
			answered = asked // clocks of neighbours may overlap by their resolution
		}
		out = append(out, child{name: "upstream", kind: trace.SpanKindClient, start: asked, end: answered})
	}
	return out
}

// spanName uses the words of the paper for the layers that have one.
func spanName(layer string, phase warder.Phase) string {
	switch layer {
	case "identity":
		return "authentication"
	case "access":
		return "policy"
	case "gateway", "tools", "input", "output":
		return "inspection " + layer + " " + phase.String()
	case "":
		return "control " + phase.String()
	default:
		return layer + " " + phase.String()
	}
}

// traceKey carries the ids of the exchange to the id generator.
type traceKey struct{}

// exchangeIDs gives the span of an exchange the ids that its audit record and its server see.
type exchangeIDs struct{}

// NewIDs returns the ids of a trace that begins with this exchange.
func (exchangeIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if t, ok := ctx.Value(traceKey{}).(*warder.Trace); ok && t != nil {
		return t.TraceID, t.SpanID
	}
	return randomTrace(), randomSpan()
}

// NewSpanID returns the id of a span in a trace that began elsewhere.
func (exchangeIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if t, ok := ctx.Value(traceKey{}).(*warder.Trace); ok && t != nil {
		return t.SpanID
	}
	return randomSpan()
}

// quietExporter logs the first failure of an outage and its end, not every failed batch.
type quietExporter struct {
	sdktrace.SpanExporter
	logger *slog.Logger
	outage *outage
}

type outage struct{ since atomic.Int64 }

// ExportSpans exports a batch; failures are logged here and lost otherwise.
func (e quietExporter) ExportSpans(ctx context.Context, batch []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, batch)
	switch {
	case err != nil && e.outage.since.CompareAndSwap(0, time.Now().Unix()):
		e.logger.WarnContext(ctx, "traces cannot be exported and are dropped", slog.Any("error", err))
	case err == nil && e.outage.since.Swap(0) != 0:
		e.logger.InfoContext(ctx, "traces are exported again")
	}
	return nil
}
