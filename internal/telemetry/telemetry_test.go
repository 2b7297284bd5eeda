package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/warder-mcp/warder"
)

// control is an interceptor that only has a name.
type control warder.ControlID

func (c control) Control() warder.ControlID { return warder.ControlID(c) }

func (control) Intercept(context.Context, *warder.Exchange) (warder.Decision, error) {
	return warder.Continue(), nil
}

func path() []warder.Layer {
	list := func(ids ...string) (out []warder.Interceptor) {
		for _, id := range ids {
			out = append(out, control(id))
		}
		return out
	}
	return []warder.Layer{
		{Name: "network", Connect: list("NET-05", "PRT-03")},
		{Name: "gateway", Request: list("GW-01", "GW-03"), Response: list("GW-01")},
		{Name: "identity", Connect: list("IAM-05")},
		{Name: "access", Request: list("CVM-01")},
		{Name: "record", Request: list("LOG-04")},
	}
}

func exchange() *warder.Exchange {
	now := time.Now()
	return &warder.Exchange{
		ID: warder.NewID(now), Received: now, Door: warder.DoorHTTP, Revision: warder.Revision20251125,
		Request: &warder.Message{Kind: warder.KindRequest, Method: "tools/call", Target: "get_weather"},
		Server:  &warder.Server{Name: "weather"}, Tool: &warder.Tool{Name: "get_weather"},
		Trace: warder.Trace{
			TraceID: [16]byte{1, 2, 3}, SpanID: [8]byte{9, 9}, Parent: [8]byte{7, 7}, Sampled: true,
		},
		Outcome: warder.OutcomeAllowed, Forwarded: true, Messages: 1, BytesIn: 100, BytesOut: 200,
	}
}

// walk plays the runner: every control of the path passes, in order.
func walk(t *Telemetry, x *warder.Exchange) {
	pass := warder.Continue()
	for _, s := range []struct {
		phase warder.Phase
		id    warder.ControlID
	}{
		{warder.PhaseConnect, "NET-05"},
		{warder.PhaseConnect, "PRT-03"},
		{warder.PhaseConnect, "IAM-05"},
		{warder.PhaseRequest, "GW-01"},
		{warder.PhaseRequest, "GW-03"},
		{warder.PhaseRequest, "CVM-01"},
		{warder.PhaseRequest, "LOG-04"},
		{warder.PhaseResponse, "GW-01"},
	} {
		d := pass
		d.Control = s.id
		t.Decided(x, s.phase, &d, 700*time.Nanosecond)
	}
	x.Finished = time.Now()
	t.Finished(x)
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	tel, err := New(t.Context(), Config{}, Options{Layers: path(), Servers: []string{"weather"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tel.Counter("warder_audit_records_total", "Records.", func() float64 { return 42 }); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x := exchange()
		tel.Started(x)
		walk(tel, x)
	}
	x := exchange()
	x.Server, x.Revision, x.Outcome = &warder.Server{Name: "made-up"}, "1999-01-01", warder.OutcomeRefused
	tel.Started(x)
	denied := warder.Refuse(warder.CodeDenied, "no_policy", "")
	denied.Control = "CVM-01"
	tel.Decided(x, warder.PhaseRequest, &denied, 3*time.Millisecond)
	monitored := denied
	monitored.Observed = true
	tel.Decided(x, warder.PhaseRequest, &monitored, time.Hour)
	broken := warder.Refuse(warder.CodeUnavailable, "control_unavailable", "")
	broken.Control = "UNKNOWN-1"
	tel.Decided(x, warder.PhaseRequest, &broken, -time.Second)
	x.Finished = x.Received
	tel.Finished(x)

	got := scrape(t, tel)
	for _, want := range []string{
		`warder_control_decisions_total{control="NET-05",layer="network",phase="connect",result="pass"} 3`,
		`warder_control_decisions_total{control="GW-01",layer="gateway",phase="response",result="pass"} 3`,
		`warder_control_decisions_total{control="CVM-01",layer="access",phase="request",result="pass"} 3`,
		`warder_control_decisions_total{control="CVM-01",layer="access",phase="request",result="deny"} 1`,
		`warder_control_decisions_total{control="CVM-01",layer="access",phase="request",result="observed"} 1`,
		`warder_control_decisions_total{control="other",layer="other",phase="other",result="unavailable"} 1`,
		`warder_control_duration_seconds_count{control="CVM-01",layer="access",phase="request"} 5`,
		`warder_control_duration_seconds_bucket{control="NET-05",layer="network",phase="connect",le="5.12e-07"} 0`,
		`warder_control_duration_seconds_bucket{control="NET-05",layer="network",phase="connect",le="1.024e-06"} 3`,
		`warder_exchanges_total{door="streamable_http",outcome="allowed",revision="2025-11-25",server="weather"} 3`,
		`warder_exchanges_total{door="streamable_http",outcome="refused",revision="other",server="other"} 1`,
		`warder_exchange_duration_seconds_count{outcome="allowed",server="weather"} 3`,
		`warder_message_bytes_total{direction="out"} 800`,
		`warder_exchanges_running 0`,
		`warder_audit_records_total 42`,
		`go_goroutines`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(got, "made-up") || strings.Contains(got, "1999") {
		t.Error("a label value came from outside")
	}
}

// collector is an OTLP/HTTP collector.
type collector struct {
	mu     sync.Mutex
	header http.Header
	spans  []*tracepb.Span
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		body = z
	}
	raw, _ := io.ReadAll(body)
	var req coltrace.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &req); err != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = r.Header.Clone()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	c := &collector{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	tel, err := New(t.Context(), Config{Endpoint: srv.URL, Timeout: time.Second}, Options{Layers: path(), Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	x := exchange()
	walk(tel, x)
	quiet := exchange()
	quiet.Trace.Sampled = false
	walk(tel, quiet)
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, s := range c.spans {
		names = append(names, s.Name)
		if !bytes.Equal(s.TraceId, x.Trace.TraceID[:]) {
			t.Errorf("span %s has trace id %x", s.Name, s.TraceId)
		}
		parent := x.Trace.SpanID[:]
		if s.Name == "tools/call get_weather" {
			parent = x.Trace.Parent[:]
			if !bytes.Equal(s.SpanId, x.Trace.SpanID[:]) {
				t.Errorf("exchange has span id %x, want that which its server is told", s.SpanId)
			}
		}
		if !bytes.Equal(s.ParentSpanId, parent) {
			t.Errorf("span %s has parent %x, want %x", s.Name, s.ParentSpanId, parent)
		}
		if s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("span %s ends before it starts", s.Name)
		}
	}
	want := []string{
		"network connect", "authentication", "inspection gateway request", "policy", "record request",
		"inspection gateway response", "upstream", "tools/call get_weather",
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("spans (-want +got):\n%s", d)
	}
}

// TestExporterLossDoesNotBlock sends exchanges while the collector hangs, and counts what they wait.
func TestExporterLossDoesNotBlock(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	tel, err := New(t.Context(), Config{Endpoint: srv.URL, Queue: 600, Timeout: 200 * time.Millisecond}, Options{Layers: path()})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 5000 {
		walk(tel, exchange())
	}
	took := time.Since(start)
	t.Logf("5000 sampled exchanges took %v with a collector that hangs", took)
	if took > 5*time.Second {
		t.Errorf("exchanges waited for the collector: %v", took)
	}
	if n := len(tel.spans.open); n != 0 {
		t.Errorf("%d exchanges are still followed", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_ = tel.Close(ctx) // the collector hangs; only the bound on time matters
}

func TestOpenJournalsAreBounded(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&collector{})
	defer srv.Close()
	tel, err := New(t.Context(), Config{Endpoint: srv.URL, Timeout: time.Second}, Options{Layers: path()})
	if err != nil {
		t.Fatal(err)
	}
	d := warder.Continue()
	d.Control = "GW-01"
	var last *warder.Exchange
	for range maxOpen + 10 {
		last = exchange()
		tel.Decided(last, warder.PhaseRequest, &d, 0)
	}
	tel.Finished(last)
	if got := tel.spans.dropped.Load(); got != 1 || len(tel.spans.open) != maxOpen {
		t.Errorf("%d dropped, %d open; want 1 and %d", got, len(tel.spans.open), maxOpen)
	}
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkDecided(b *testing.B) {
	tel, err := New(b.Context(), Config{}, Options{Layers: path()})
	if err != nil {
		b.Fatal(err)
	}
	x := exchange()
	d := warder.Continue()
	d.Control = "CVM-01"
	b.ReportAllocs()
	for b.Loop() {
		tel.Decided(x, warder.PhaseRequest, &d, 700*time.Nanosecond)
	}
}

func BenchmarkFinished(b *testing.B) {
	tel, err := New(b.Context(), Config{}, Options{Layers: path(), Servers: []string{"weather"}})
	if err != nil {
		b.Fatal(err)
	}
	x := exchange()
	b.ReportAllocs()
	for b.Loop() {
		tel.Finished(x)
	}
}
