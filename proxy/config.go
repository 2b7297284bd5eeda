package proxy

import (
	"cmp"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/unit"
	"github.com/warder-mcp/warder/wire"
)

// Config bounds the data plane. Every zero means the default beside it, never "unlimited".
type Config struct {
	// MinRevision is the oldest revision a client may speak; default 2025-06-18.
	MinRevision warder.Revision `yaml:"min_revision,omitempty"`
	// Sunset names the day from which a revision is no longer spoken, such as "2027-07-28".
	Sunset map[warder.Revision]string `yaml:"sunset,omitempty"`
	// RequestBytes bounds the body of one client message; default 1MiB.
	RequestBytes unit.Bytes `yaml:"request_bytes,omitempty"`
	// MessageBytes bounds one message of an answer; default 4MiB.
	MessageBytes unit.Bytes `yaml:"message_bytes,omitempty"`
	// ResponseBytes bounds all messages of one answer, streams included; default 64MiB.
	ResponseBytes unit.Bytes `yaml:"response_bytes,omitempty"`
	// Depth bounds the nesting of any message; default 64.
	Depth int `yaml:"depth,omitempty"`
	// HeaderBytes bounds the headers of one HTTP request; default 32KiB.
	HeaderBytes unit.Bytes `yaml:"header_bytes,omitempty"`
	// HeaderTimeout bounds the arrival of the headers; default 10s.
	HeaderTimeout time.Duration `yaml:"header_timeout,omitempty"`
	// BodyTimeout bounds the arrival of the body; default 30s.
	BodyTimeout time.Duration `yaml:"body_timeout,omitempty"`
	// IdleTimeout closes connections without requests; default 2m.
	IdleTimeout time.Duration `yaml:"idle_timeout,omitempty"`
	// WriteTimeout ends a stream whose reader does not take one message for so long; default 30s.
	WriteTimeout time.Duration `yaml:"write_timeout,omitempty"`
	// CallTimeout is the hard maximum for one exchange; default 10m.
	CallTimeout time.Duration `yaml:"call_timeout,omitempty"`
	// StreamTimeout is the hard maximum for one listen stream; default 1h.
	StreamTimeout time.Duration `yaml:"stream_timeout,omitempty"`
	// KeepAlive is the interval of comments on quiet streams; default 15s.
	KeepAlive time.Duration `yaml:"keep_alive,omitempty"`
	// DrainTimeout bounds the wait for running calls at shutdown; default 20s.
	DrainTimeout time.Duration `yaml:"drain_timeout,omitempty"`
	// Concurrent bounds the exchanges that run at once; default 4096.
	Concurrent int `yaml:"concurrent,omitempty"`
	// Sessions bounds the sessions of revisions up to 2025-11-25.
	Sessions SessionConfig `yaml:"sessions,omitempty"`
	// AnswerTimeout bounds the wait for a client's answer to a server's question; default 5m.
	AnswerTimeout time.Duration `yaml:"answer_timeout,omitempty"`
	// Review is how often an exchange that lasts is judged again while it lasts, such as an open stream;
	// a revocation has it judged at once. Default 5s.
	Review time.Duration `yaml:"review,omitempty"`
}

// SessionConfig bounds legacy sessions.
type SessionConfig struct {
	// Idle ends a session that was not used for so long; default 1h.
	Idle time.Duration `yaml:"idle,omitempty"`
	// Max bounds all sessions; default 50000.
	Max int `yaml:"max,omitempty"`
	// PerPrincipal bounds the sessions of one principal; default 1000.
	PerPrincipal int `yaml:"per_principal,omitempty"`
}

// Fixed bounds, the same for every deployment.
const (
	maxQuestions     = 64        // open questions of servers to one session
	maxSubscriptions = 256       // resources one session subscribes to
	maxReplayStreams = 16        // resumable streams of one session
	maxReplayBytes   = 1 << 20   // bytes kept for replay by one stream
	maxReplayTotal   = 256 << 20 // bytes kept for replay by all streams of all sessions
	maxParked        = 32        // suspended calls of one principal
	maxBatch         = 64        // messages of one batch (2025-03-26)
	maxListPages     = 64        // pages read of one upstream list
	replayKeep       = time.Minute
)

func (c SessionConfig) withDefaults() SessionConfig {
	c.Idle = cmp.Or(c.Idle, time.Hour)
	c.Max = cmp.Or(c.Max, 50_000)
	c.PerPrincipal = cmp.Or(c.PerPrincipal, 1000)
	return c
}

// WithDefaults fills every zero with its default.
func (c Config) WithDefaults() Config {
	c.MinRevision = cmp.Or(c.MinRevision, wire.DefaultFloor)
	c.RequestBytes = cmp.Or(c.RequestBytes, unit.MiB)
	c.MessageBytes = cmp.Or(c.MessageBytes, 4*unit.MiB)
	c.ResponseBytes = cmp.Or(c.ResponseBytes, 64*unit.MiB)
	c.Depth = cmp.Or(c.Depth, 64)
	c.HeaderBytes = cmp.Or(c.HeaderBytes, 32*unit.KiB)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, 10*time.Second)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, 30*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 2*time.Minute)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 30*time.Second)
	c.CallTimeout = cmp.Or(c.CallTimeout, 10*time.Minute)
	c.StreamTimeout = cmp.Or(c.StreamTimeout, time.Hour)
	c.KeepAlive = cmp.Or(c.KeepAlive, 15*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 20*time.Second)
	c.Concurrent = cmp.Or(c.Concurrent, 4096)
	c.AnswerTimeout = cmp.Or(c.AnswerTimeout, 5*time.Minute)
	c.Review = cmp.Or(c.Review, 5*time.Second)
	c.Sessions = c.Sessions.withDefaults()
	return c
}
