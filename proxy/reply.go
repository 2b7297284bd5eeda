package proxy

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A reply writes the answer to one HTTP request: one JSON message when the answer is a single
// message, an SSE stream otherwise. It is used by the exchange's goroutine; keep-alive comments come
// from a second one, so writes are serialised.
type reply struct {
	g       *Gate
	w       http.ResponseWriter
	r       *http.Request
	x       *warder.Exchange
	stream  bool // answer on a stream whatever comes
	batch   bool // one of several messages that are answered on one stream
	listens bool // the stream is one outside calls, which goes on when its client returns
	resumed bool // the events already have ids
	written bool // status and headers are out

	mu     sync.Mutex
	events bool // an SSE stream is open
	broken bool // the client is gone; a session's stream goes on for its return
	replay *replayStream
	sess   *session
	quiet  chan struct{} // closed to stop the keep-alive
	alive  sync.WaitGroup
	buf    []byte
}

// send delivers one judged message.
func (p *reply) send(_ context.Context, m *warder.Message) error {
	if !p.events && !p.stream && m.IsAnswer() {
		return p.json(p.statusOf(m), m.Raw)
	}
	if json, sse := accepts(p.r.Header); !sse {
		if m.IsAnswer() && json {
			return p.json(p.statusOf(m), m.Raw)
		}
		return nil // this client reads no streams: notifications are lost to it
	}
	p.open()
	return p.event(m.Raw)
}

// statusOf is the HTTP status of a server's answer: stateless revisions tell some errors by it too.
func (p *reply) statusOf(m *warder.Message) int {
	if m.Kind != warder.KindError || !p.x.Revision.Modern() {
		return http.StatusOK
	}
	switch code, _ := wire.At(m, m.Failure.Get("code")).Int(); code {
	case warder.RPCMethodNotFound:
		return http.StatusNotFound
	case warder.RPCParse, warder.RPCInvalidRequest, warder.RPCHeaderMismatch, warder.RPCMissingCapability, warder.RPCUnsupported:
		return http.StatusBadRequest
	default:
		return http.StatusOK
	}
}

// json writes the one message of an answer.
func (p *reply) json(status int, raw []byte) error {
	h := p.w.Header()
	h["Content-Type"] = jsonType()
	h["Content-Length"] = contentLength(len(raw))
	p.common(h)
	p.written = true
	p.hurry()
	p.w.WriteHeader(status)
	_, err := p.w.Write(raw)
	if err != nil && !p.x.Revision.Modern() {
		return nil // the session goes on; the answer to a client that left is dropped
	}
	return err
}

// hurry gives the client the time for one message: one that does not read must not hold an exchange, and
// what it would be answered, for ever. The server lifts the deadline when the answer is out.
func (p *reply) hurry() {
	deadline := time.Now().Add(p.g.cfg.WriteTimeout)
	if w, ok := p.w.(interface{ SetWriteDeadline(t time.Time) error }); ok {
		_ = w.SetWriteDeadline(deadline) // the write itself reports
		return
	}
	_ = http.NewResponseController(p.w).SetWriteDeadline(deadline) // the write itself reports
}

func jsonType() []string { return []string{"application/json"} }

// common sets the headers of every answer.
func (p *reply) common(h http.Header) {
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	p.renew(h)
	if s := p.flowSession(); s != nil && p.x.Request != nil && p.x.Request.Method == wire.MethodInitialize && s.id != "" {
		h["Mcp-Session-Id"] = []string{s.id}
	}
}

// renew hands the caller the nonce of its next proof before the one it has ends (RFC 9449 section 8.2).
func (p *reply) renew(h http.Header) {
	if p.x.Nonce != "" && h["Dpop-Nonce"] == nil {
		h["Dpop-Nonce"] = []string{p.x.Nonce}
	}
}

func (p *reply) flowSession() *session {
	if p.sess == nil && p.x.Session != "" {
		p.sess = p.g.sessions.named(p.x.Session)
	}
	return p.sess
}

// open starts the SSE stream. Since 2025-11-25 it begins with an empty event that gives the client
// an id to come back with.
func (p *reply) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.events {
		return
	}
	p.events, p.written = true, true
	h := p.w.Header()
	h["Content-Type"] = []string{"text/event-stream"}
	h["X-Accel-Buffering"] = []string{"no"}
	p.common(h)
	p.w.WriteHeader(http.StatusOK)
	if s := p.flowSession(); s != nil && !p.resumed && p.x.Revision >= warder.Revision20250326 {
		if p.replay = s.stream(p.listens); p.replay != nil && p.x.Revision >= warder.Revision20251125 {
			p.put(p.replay.add(nil, time.Second))
		}
	}
	p.flush()
	p.quiet = make(chan struct{})
	p.alive.Go(p.keepAlive)
}

// again opens the stream and sends first what the client missed of the one that it lost. More than was
// kept is lost, as notifications may be.
func (p *reply) again(lost *replayStream, seq int) {
	p.open()
	for _, data := range lost.missed(seq) {
		if p.event(data) != nil {
			return
		}
	}
}

// event writes one message as an event.
func (p *reply) event(raw []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.replay != nil {
		p.put(p.replay.add(raw, -1))
	} else {
		p.buf = wire.AppendEvent(p.buf[:0], wire.Event{Retry: -1, Data: raw})
		p.put(p.buf)
	}
	p.flush()
	if p.broken && p.replay == nil {
		return errCancelled
	}
	return nil
}

// raw writes encoded bytes of a replayed stream.
func (p *reply) raw(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(b)
	p.flush()
	if p.broken {
		return errCancelled
	}
	return nil
}

// put writes to the client unless it is gone.
func (p *reply) put(b []byte) {
	if p.broken {
		return
	}
	p.hurry()
	if _, err := p.w.Write(b); err != nil {
		p.broken = true
	}
}

func (p *reply) flush() {
	if !p.broken && http.NewResponseController(p.w).Flush() != nil {
		p.broken = true
	}
}

// keepAlive writes comments while a stream is quiet, so that proxies keep it and a gone client shows.
func (p *reply) keepAlive() {
	tick := time.NewTicker(p.g.cfg.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-p.quiet:
			return
		case <-p.r.Context().Done():
			return
		case <-tick.C:
			_ = p.raw([]byte(": keep-alive\n\n")) // a gone client shows at the next message
		}
	}
}

// accepted answers 202 to messages that have no answer.
func (p *reply) accepted() {
	if !p.written {
		p.written = true
		p.renew(p.w.Header())
		p.w.WriteHeader(http.StatusAccepted)
	}
}

// fail tells the client why there is no answer, or none any more.
func (p *reply) fail(f *flow, e *warder.Error) {
	status, raw := render(f.x, e)
	if p.batch && (f.x.Inbound == nil || f.x.Inbound.IsCall()) {
		p.open() // the others of the batch answer here too
	}
	if p.events || p.batch || p.stream && p.written {
		if (f.x.Inbound == nil && p.batch || f.x.Inbound != nil && f.x.Inbound.IsCall()) && f.x.From != warder.FromServer {
			_ = p.event(raw) // the failure is recorded; the client may be gone
		}
		return
	}
	if p.written {
		return // the answer itself could not be written
	}
	h := p.w.Header()
	challenge(h, e)
	if e.Code == warder.CodeMethodNotAllowed {
		h["Allow"] = []string{"POST, GET, DELETE"}
	}
	_ = p.json(status, raw) // the failure is recorded; the client may be gone
}

// challenge writes WWW-Authenticate (RFC 6750 section 3, RFC 9728 section 5.1, RFC 9470 section 3, RFC
// 9449 section 7.1), DPoP-Nonce and Retry-After.
func challenge(h http.Header, e *warder.Error) {
	if e.Code == warder.CodeRateLimited || e.Code == warder.CodeUnavailable {
		after := time.Second
		if e.Ask != nil {
			after = max(after, e.Ask.RetryAfter)
		}
		h["Retry-After"] = []string{strconv.Itoa(int(math.Ceil(after.Seconds())))}
	}
	a := e.Ask
	if a == nil || a.Scheme == "" {
		return
	}
	if a.Nonce != "" {
		h["Dpop-Nonce"] = []string{a.Nonce}
	}
	maxAge := ""
	if a.MaxAge > 0 {
		maxAge = strconv.Itoa(int(a.MaxAge.Seconds()))
	}
	params := [...][2]string{
		{"error", a.Error},
		{"scope", strings.Join(a.Scopes, " ")},
		{"acr_values", strings.Join(a.ACR, " ")},
		{"max_age", maxAge},
		{"resource_metadata", a.ResourceMetadata},
	}
	schemes := []string{a.Scheme}
	if len(a.Algorithms) > 0 && a.Scheme != "DPoP" {
		schemes = append(schemes, "DPoP")
	}
	for _, scheme := range schemes {
		v, sep := scheme, " "
		for _, kv := range params {
			if kv[1] != "" {
				v += sep + kv[0] + `="` + kv[1] + `"`
				sep = ", "
			}
		}
		if scheme == "DPoP" && len(a.Algorithms) > 0 {
			v += sep + `algs="` + strings.Join(a.Algorithms, " ") + `"`
		}
		h["Www-Authenticate"] = append(h["Www-Authenticate"], v)
	}
}

// close ends the stream. Nothing is written after it: the writer belongs to the next request then.
func (p *reply) close() {
	if p.quiet != nil {
		close(p.quiet)
		p.alive.Wait()
	}
	if p.replay != nil {
		p.sess.forget(p.replay)
	}
	p.mu.Lock()
	p.broken = true
	p.mu.Unlock()
}
