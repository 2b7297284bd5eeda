package record

import (
	"time"

	"github.com/warder-mcp/warder"
)

// Deps are what the layer needs.
type Deps struct {
	Log          *Log   // the open trail; required
	ConfigDigest string // hex digest of the configuration that decides, for the records
}

// New builds the layer "record": LOG-04 as the last control of Request, LOG-01 in Complete.
func New(_ Config, deps Deps) (warder.Layer, error) {
	return warder.Layer{
		Name:     "record",
		Request:  []warder.Interceptor{&intent{log: deps.Log, digest: deps.ConfigDigest, now: time.Now}},
		Complete: []warder.Recorder{&recorder{log: deps.Log, digest: deps.ConfigDigest, now: time.Now, seen: newCredentials()}},
	}, nil
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
