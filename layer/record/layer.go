package record

import (
	"errors"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Deps are what the layer needs.
type Deps struct {
	Log          *Log   // the open trail; required
	ConfigDigest string // hex digest of the configuration that decides, for the records

	Limits wire.Limits // of answers that are decoded again with their receipt; zero means the strict defaults
}

// New builds the layer "record": LOG-04 as the last control of Request, LOG-01 in Complete, and SGN-02
// in Response where answers carry receipts.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	if err := cfg.Validate(); err != nil {
		return warder.Layer{}, err
	}
	if deps.Log == nil {
		return warder.Layer{}, errors.New("record: no audit trail")
	}
	layer := warder.Layer{
		Name:     "record",
		Request:  []warder.Interceptor{&intent{log: deps.Log, digest: deps.ConfigDigest, now: time.Now}},
		Complete: []warder.Recorder{&recorder{log: deps.Log, digest: deps.ConfigDigest, now: time.Now, seen: newCredentials()}},
	}
	if cfg.Receipts.Mode == receiptsClient {
		layer.Response = []warder.Interceptor{&receipts{log: deps.Log, digest: deps.ConfigDigest, limits: deps.Limits, now: time.Now}}
	}
	return layer, nil
}

// TraceDeps are what the layer "trace" needs.
type TraceDeps struct {
	Limits wire.Limits     // of messages that are decoded again after a change; zero means the strict defaults
	Finish warder.Recorder // told of every finished exchange, after all other layers; may be nil
}

// NewTrace builds the layer "trace": GW-05 in Connect, Request and Response. It belongs near the start
// of the path, so that every later control and record knows the trace.
func NewTrace(cfg Config, deps TraceDeps) (warder.Layer, error) {
	if err := cfg.Validate(); err != nil {
		return warder.Layer{}, err
	}
	shared := newTraceContext(cfg.Trace, deps.Limits)
	layer := warder.Layer{
		Name:     "trace",
		Connect:  []warder.Interceptor{traceHeaders{shared}},
		Request:  []warder.Interceptor{traceMeta{shared}},
		Response: []warder.Interceptor{traceAnswer{shared}},
	}
	if deps.Finish != nil {
		layer.Complete = []warder.Recorder{deps.Finish}
	}
	return layer, nil
}

// buffer lends memory for one record.
func (l *Log) buffer() *[]byte {
	if b, ok := l.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 2048)
	return &b
}

func (l *Log) release(b *[]byte) {
	const large = 64 << 10
	if cap(*b) <= large {
		l.buffers.Put(b)
	}
}
