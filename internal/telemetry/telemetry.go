// Package telemetry counts what the controls decide and exports traces of exchanges.
//
// [Telemetry] is told of every decision by the runner ([Telemetry.Decided]) and of every finished
// exchange ([Telemetry.Finished]). Counters and latency histograms live in arrays of atomics that are
// sharded by exchange; a Prometheus collector reads them when it is asked ([Telemetry.Handler]).
// Sampled exchanges become OpenTelemetry spans when they end and are exported in batches over
// OTLP/HTTP; when the collector is slow or gone, spans are dropped and counted, and nothing waits.
//
// It is the only package that knows OpenTelemetry and the Prometheus client. Metrics leave over the
// Prometheus endpoint only; an OpenTelemetry collector can scrape it.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
)

// Config says where traces go. It has the fields of record.OTLP.
type Config struct {
	Endpoint string                // base URL of an OTLP/HTTP collector; empty exports nothing
	Headers  map[string]secret.Ref // sent with every export
	Queue    int                   // finished spans' exchanges that may wait; more are dropped
	Timeout  time.Duration         // of one export
}

// Options describe what is observed.
type Options struct {
	Layers  []warder.Layer // the path; metrics and spans are named after it
	Servers []string       // server names; others are counted as "other"
	Version string         // of Warder, for the resource of traces
	Client  *http.Client   // for exports; nil means the exporter's own
	Logger  *slog.Logger
}

// A Telemetry observes the path. It is safe for concurrent use and never blocks an exchange.
type Telemetry struct {
	places   *places
	controls *table
	traffic  *traffic
	spans    *spans // nil when nothing is exported
	registry *prometheus.Registry
}

var _ warder.Recorder = (*Telemetry)(nil)

// New builds the observer of a path. It reads the secrets of the export headers.
func New(ctx context.Context, cfg Config, o Options) (*Telemetry, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Telemetry{registry: prometheus.NewPedanticRegistry()}
	var rows []row
	t.places, rows = layout(o.Layers)
	t.controls = newTable(rows)
	t.traffic = newTraffic(o.Servers)
	if cfg.Endpoint != "" {
		s, err := newSpans(ctx, cfg, o, layersOf(o.Layers))
		if err != nil {
			return nil, err
		}
		t.spans = s
	}
	err := errors.Join(
		t.registry.Register(t.controls),
		t.registry.Register(t.traffic),
		t.registry.Register(collectors.NewGoCollector()),
		t.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
	if err == nil && t.spans != nil {
		err = t.Counter("warder_trace_exchanges_dropped_total", "Sampled exchanges that were not exported because too many were in flight.", func() float64 {
			return float64(t.spans.dropped.Load())
		})
	}
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return t, nil
}

// Decided is told of every decision by the runner.
func (t *Telemetry) Decided(x *warder.Exchange, phase warder.Phase, d *warder.Decision, took time.Duration) {
	t.controls.add(t.places.number(place{phase, d.Control}), shardOf(x.ID), d, took)
	if t.spans != nil && x.Trace.Sampled {
		t.spans.decided(x, phase, d, took)
	}
}

// Started counts an exchange that begins; Finished must follow.
func (t *Telemetry) Started(*warder.Exchange) { t.traffic.started.Add(1) }

// Finished counts an exchange that has ended and exports it if it is sampled.
func (t *Telemetry) Finished(x *warder.Exchange) {
	t.traffic.add(x)
	if t.spans != nil && x.Trace.Sampled {
		t.spans.finished(x)
	}
}

// Record is Finished as a recorder of phase Complete.
func (t *Telemetry) Record(_ context.Context, x *warder.Exchange) error {
	t.Finished(x)
	return nil
}

// Counter exposes a number that only grows, such as a counter of the audit trail.
func (t *Telemetry) Counter(name, help string, read func() float64) error {
	return t.registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// Gauge exposes a number that goes up and down.
func (t *Telemetry) Gauge(name, help string, read func() float64) error {
	return t.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Handler serves the metrics in the Prometheus text format.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Close exports what waits, as long as ctx allows.
func (t *Telemetry) Close(ctx context.Context) error {
	if t.spans == nil {
		return nil
	}
	if err := t.spans.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("export traces: %w", err)
	}
	return nil
}

func layersOf(layers []warder.Layer) map[warder.ControlID]string {
	of := map[warder.ControlID]string{}
	for _, l := range layers {
		for _, phase := range [...][]warder.Interceptor{l.Connect, l.Request, l.Response} {
			for _, ic := range phase {
				of[ic.Control()] = l.Name
			}
		}
	}
	return of
}
