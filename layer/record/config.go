package record

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/unit"
	"github.com/warder-mcp/warder/wire"
)

// maxBaggageKey is the longest baggage key that may pass, in bytes.
const maxBaggageKey = 256

// Config is the record section of the configuration: the audit trail, traces, and what is kept for
// replay.
type Config struct {
	// Dir is the folder of the audit trail. Empty means "audit" in the data folder.
	Dir string `yaml:"dir"`
	// Origin names the log in its signed checkpoints, such as "gate.example.com/audit". It takes effect
	// when the trail is created.
	Origin string `yaml:"origin"`
	// Segment is the size of one file of the trail.
	Segment unit.Bytes `yaml:"segment"`
	// Queue bounds the records that wait for the disk; when it is full, calls are refused.
	Queue unit.Bytes `yaml:"queue"`
	// Delay is the longest time until the record of a read-only call is durable. Calls with effect
	// never wait: theirs is durable before they are forwarded.
	Delay time.Duration `yaml:"delay"`
	// Checkpoint is the interval of signed checkpoints, at least 100ms.
	Checkpoint time.Duration `yaml:"checkpoint"`
	// Capture keeps the requests themselves, encrypted, so that "warder replay" can judge them again.
	Capture Capture `yaml:"capture"`
	// Trace says which traces are sampled and which baggage passes.
	Trace Trace `yaml:"trace"`
	// OTLP exports sampled traces.
	OTLP OTLP `yaml:"otlp"`
	// Receipts says who gets signed receipts of decisions.
	Receipts Receipts `yaml:"receipts"`
}

// Receipts is about signed receipts of decisions (control SGN-02).
type Receipts struct {
	// Mode is trail: receipts of all decisions can be taken out of the trail; or client: every answer
	// also carries one, which costs a signature. Empty means trail.
	Mode string `yaml:"mode"`
}

// Modes of receipts.
const (
	receiptsTrail  = "trail"
	receiptsClient = "client"
)

// Capture says whether and how much of the requests is kept. Bodies are sealed with a key of the data
// folder and can be erased without touching the audit trail.
type Capture struct {
	// Enabled turns capture on. It is off by default: bodies hold whatever people send.
	Enabled bool `yaml:"enabled"`
	// Total bounds the sealed bodies on disk; the oldest are erased first.
	Total unit.Bytes `yaml:"total"`
	// Each bounds one body; a larger one is not kept.
	Each unit.Bytes `yaml:"each"`
}

// Trace is about W3C trace context.
type Trace struct {
	// SampleRatio is the share of traces that begin here and are recorded, 0 to 1. A caller's sampled
	// flag is honoured.
	SampleRatio float64 `yaml:"sample_ratio"`
	// Baggage lists the baggage keys that may pass to servers. All others are removed.
	Baggage []string `yaml:"baggage"`
}

// OTLP says where traces go. Its fields are those of telemetry.Config.
type OTLP struct {
	// Endpoint is the base URL of an OTLP/HTTP collector, such as "https://otel.internal:4318". Empty
	// exports nothing.
	Endpoint string `yaml:"endpoint"`
	// Headers are sent with every export, for authentication.
	Headers map[string]secret.Ref `yaml:"headers"`
	// Queue is the number of finished exchanges that may wait for export; more are dropped and counted.
	Queue int `yaml:"queue"`
	// Timeout bounds one export.
	Timeout time.Duration `yaml:"timeout"`
}

// Default is the configuration of the record layer before a file is read.
func Default() Config {
	return Config{
		Segment:    16 * unit.MiB,
		Queue:      8 * unit.MiB,
		Delay:      100 * time.Millisecond,
		Checkpoint: time.Second,
		Capture:    Capture{Total: 256 * unit.MiB, Each: unit.MiB},
		OTLP:       OTLP{Queue: 2048, Timeout: 10 * time.Second},
	}
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Segment < unit.MiB || c.Segment > unit.GiB {
		fault("record.segment: %s, want 1MiB to 1GiB", c.Segment)
	}
	if c.Queue < 64*unit.KiB || c.Queue > unit.GiB {
		fault("record.queue: %s, want 64KiB to 1GiB", c.Queue)
	}
	if c.Delay < time.Millisecond || c.Delay > 10*time.Second {
		fault("record.delay: %s, want 1ms to 10s", c.Delay)
	}
	if c.Checkpoint < 100*time.Millisecond || c.Checkpoint > time.Hour {
		fault("record.checkpoint: %s, want 100ms to 1h", c.Checkpoint)
	}
	if strings.ContainsAny(c.Origin, " \t\r\n+") {
		fault("record.origin: %q must hold neither spaces nor plus signs", c.Origin)
	}
	if c.Capture.Enabled && (c.Capture.Total < c.Capture.Each || c.Capture.Each < unit.KiB) {
		fault("record.capture: total %s must be at least each %s, and each at least 1KiB", c.Capture.Total, c.Capture.Each)
	}
	if !(c.Trace.SampleRatio >= 0 && c.Trace.SampleRatio <= 1) {
		fault("record.trace.sample_ratio: %v, want 0 to 1", c.Trace.SampleRatio)
	}
	if m := c.Receipts.Mode; m != "" && m != receiptsTrail && m != receiptsClient {
		fault("record.receipts.mode: %q, want trail or client", m)
	}
	for _, k := range c.Trace.Baggage {
		if len(k) > maxBaggageKey || !wire.Token(k) { // W3C Baggage section 3.3.1.1
			fault("record.trace.baggage: %q is not a baggage key", k)
		}
	}
	return errors.Join(errs...)
}
