package upstream

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/wire"
)

// A Key tells which conversation with a server a client may use.
type Key struct {
	Owner        string   // key of the principal; empty: shared by all
	Session      string   // a legacy client's session, which then has its own conversation over HTTP; empty: pooled per owner
	Capabilities [32]byte // digest of the client capabilities declared when the link is opened
}

// Init is what a session is opened with, on behalf of a client.
type Init struct {
	Revision     warder.Revision // the client's; the era of the link follows it if the server can
	ClientInfo   []byte          // JSON object; nil: Options.ClientInfo
	Capabilities []byte          // JSON object; nil: none
	// Credential is what the server is shown on this client's behalf. Callers that share a Key show
	// credentials of one owner, so a conversation keeps the one it was opened with.
	Credential warder.Credential
}

// Options are what a server needs from its surroundings. All may be zero.
type Options struct {
	ClientInfo []byte       // JSON object that names Warder in probes
	Logger     *slog.Logger // nil: slog.Default
	// OnLifecycle is told of what is worth an audit event: "child_started", "child_exited",
	// "breaker_opened", "breaker_closed", "era_found", "session_lost", "finding". It must return at
	// once.
	OnLifecycle func(event string, attrs ...slog.Attr)
	Now         func() time.Time // clock of breaker and back-off; nil: time.Now
	// Sign signs each HTTP request when all its headers are set (control SGN-01); its body can be had from
	// GetBody. nil: requests are not signed.
	Sign func(r *http.Request) error
	// Refused is told of connections that are not opened because of where they would go (control AUT-08).
	// nil: nobody.
	Refused func(ctx context.Context, r safedial.Refusal)
}

// A Server is the way to one MCP server. It is safe for concurrent use.
type Server struct {
	name    string
	cfg     Config
	opt     Options
	log     *slog.Logger
	lim     wire.Limits
	breaker *breaker
	stats   counters
	ids     atomic.Int64
	headers atomic.Pointer[http.Header]
	free    [2]atomic.Pointer[httpLink] // links without state: ids verbatim, ids minted

	http           *client // nil for children
	url, legacyURL *url.URL
	sseURL         *url.URL

	base       context.Context // ends when the server is closed
	stop       context.CancelFunc
	wg         sync.WaitGroup
	probes     chan struct{} // holds one token: finding out the era
	probeRound atomic.Int64  // probes that ended
	probeErr   error         // how the last one failed; guarded by the token
	gone       chan struct{} // closed when the server is

	mu      sync.Mutex
	eras    eras
	entries map[entryKey]*entry
	janitor *time.Timer
	closing bool // no new links
	closed  bool // no new goroutines
}

// New checks the configuration and returns the server. It does not connect; it reads the file of
// authorities, if one is configured.
func New(name string, cfg Config, opt Options) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if len(opt.ClientInfo) == 0 {
		opt.ClientInfo = []byte(`{"name":"warder","version":"0"}`)
	}
	s := &Server{
		name: name, cfg: cfg, opt: opt,
		log:     opt.Logger.With(slog.String("server", name)),
		lim:     wire.Limits{Bytes: int64(cfg.MaxMessage)},
		breaker: &breaker{limit: cfg.Breaker.Failures, open: cfg.Breaker.Open, now: opt.Now},
		entries: map[entryKey]*entry{},
		probes:  make(chan struct{}, 1),
		gone:    make(chan struct{}),
	}
	s.ids.Store(1<<32 + rand.Int64N(1<<44)) // far below 2^53, hard to guess, unlikely to meet another server's
	s.base, s.stop = context.WithCancel(context.Background())
	if cfg.Run != nil {
		return s, nil
	}
	return s, s.dialable()
}

// dialable prepares HTTP.
func (s *Server) dialable() (err error) {
	for _, e := range []struct {
		raw string
		to  **url.URL
	}{{s.cfg.URL, &s.url}, {s.cfg.LegacyURL, &s.legacyURL}, {s.cfg.SSE, &s.sseURL}} {
		if e.raw == "" {
			continue
		}
		if *e.to, err = s.cfg.endpoint(e.raw); err != nil {
			return err
		}
	}
	if s.legacyURL == nil {
		s.legacyURL = s.url
	}
	s.http, err = newClient(s)
	return err
}

// Name returns the configured name.
func (s *Server) Name() string { return s.name }

func (s *Server) nextID() int64 { return s.ids.Add(1) }

// spawn runs f in a goroutine that Close waits for. Its context ends shortly after Close begins. It
// reports whether the server still starts anything.
func (s *Server) spawn(f func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(func() { f(s.base) })
	return true
}

// counted turns a call into a sequence and keeps the books.
func (s *Server) counted(run func(yield func(*warder.Message, error) bool) error) iter.Seq2[*warder.Message, error] {
	return func(yield func(*warder.Message, error) bool) {
		s.stats.calls.Add(1)
		s.stats.inflight.Add(1)
		defer s.stats.inflight.Add(-1)
		err := run(yield)
		var failure *warder.Error
		switch {
		case err == nil:
		case errors.Is(err, errBroken):
			s.stats.canceled.Add(1)
		case errors.As(err, &failure):
			s.stats.failed(err)
			yield(nil, err)
		default:
			s.stats.canceled.Add(1)
			yield(nil, err)
		}
	}
}

// report tells the breaker how an attempt ended.
func (s *Server) report(err error) {
	switch {
	case err == nil:
		if s.breaker.success() {
			s.lifecycle("breaker_closed")
		}
	case countsAgainst(err):
		if s.breaker.failure() {
			s.lifecycle("breaker_opened", slog.String("error", err.Error()))
		}
		s.forgetEra()
	}
}

// finding counts a dropped message and reports the first, the tenth, the hundredth of its name.
func (s *Server) finding(name, method string) {
	n := s.stats.finding(name)
	for p := int64(1); p <= n; p *= 10 {
		if p == n {
			s.lifecycle("finding", slog.String("finding", name), slog.Int64("count", n), slog.String("method", cut(method, 64)))
		}
	}
}

func (s *Server) lifecycle(event string, attrs ...slog.Attr) {
	level := slog.LevelInfo
	if event == "finding" || event == "breaker_opened" || event == "child_exited" {
		level = slog.LevelWarn
	}
	s.log.LogAttrs(s.base, level, "upstream changed", append([]slog.Attr{slog.String("event", event)}, attrs...)...)
	if s.opt.OnLifecycle != nil {
		s.opt.OnLifecycle(event, attrs...)
	}
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// credentials returns the configured headers, read once and again after a 401.
func (s *Server) credentials(ctx context.Context) (http.Header, error) {
	if h := s.headers.Load(); h != nil {
		return *h, nil
	}
	h := make(http.Header, len(s.cfg.Headers))
	for name, ref := range s.cfg.Headers {
		v, err := ref.Read(ctx)
		if err != nil {
			return nil, failf(ReasonUnreachable, "header %s: %w", name, err)
		}
		h[http.CanonicalHeaderKey(name)] = []string{string(v.Bytes())}
	}
	s.headers.Store(&h)
	return h, nil
}

func (s *Server) forgetCredentials() { s.headers.Store(nil) }

// Stats returns counters and gauges.
func (s *Server) Stats() Stats {
	st := s.stats.snapshot()
	st.Breaker = s.breaker.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if l := e.current(); l != nil && alive(l) {
			st.Links++
		}
	}
	return st
}

// CloseSession ends the conversations of one legacy client session. Pooled ones stay.
func (s *Server) CloseSession(key Key) {
	if key.Session == "" {
		return
	}
	for _, modern := range []bool{true, false} {
		k := s.entryKey(key, modern)
		if k.session == "" {
			continue
		}
		s.mu.Lock()
		e := s.entries[k]
		delete(s.entries, k)
		s.mu.Unlock()
		if e == nil {
			continue
		}
		if l := e.retire(); l != nil {
			s.spawn(l.shut)
		}
	}
}

// Close ends all conversations, calls and children, and waits for them until ctx is done; children
// are then killed.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	list := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		list = append(list, e)
	}
	clear(s.entries)
	if s.janitor != nil {
		s.janitor.Stop()
	}
	s.mu.Unlock()
	s.shutAll(ctx, list)
	s.mu.Lock()
	s.closed = true
	close(s.gone)
	s.mu.Unlock()
	s.stop()
	if s.http != nil {
		s.http.close()
	}
	return s.drain(ctx)
}

// shutAll ends links, a bounded number at a time.
func (s *Server) shutAll(ctx context.Context, list []*entry) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, e := range list {
		l := e.retire()
		if l == nil {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			l.shut(ctx)
		})
	}
	wg.Wait()
}

// drain waits for the goroutines of the server.
func (s *Server) drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
