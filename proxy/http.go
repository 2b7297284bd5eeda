package proxy

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	through "github.com/warder-mcp/warder/internal/forwarded"
	"github.com/warder-mcp/warder/wire"
)

// HTTP returns the Streamable HTTP front door: one path per endpoint, "/mcp/{endpoint}", on which
// both eras of the protocol are served.
func (g *Gate) HTTP() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mcp/{endpoint}", g.post)
	mux.HandleFunc("GET /mcp/{endpoint}", g.get)
	mux.HandleFunc("DELETE /mcp/{endpoint}", g.delete)
	mux.HandleFunc("/mcp/{endpoint}", g.otherMethod)
	return mux
}

// connOf is what an HTTP request says before its body is read.
func connOf(r *http.Request) warder.Conn {
	c := warder.Conn{
		TLS: r.TLS, Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header,
	}
	c.Peer, _ = netip.ParseAddrPort(r.RemoteAddr)
	c.Hop, _ = through.Hop(r.Context())
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		c.Local = a.AddrPort()
	}
	return c
}

// post takes one message, or a batch of 2025-03-26.
func (g *Gate) post(w http.ResponseWriter, r *http.Request) {
	f := g.begin(warder.DoorHTTP, r.PathValue("endpoint"), connOf(r))
	out := &reply{g: g, w: w, r: r, x: f.x}
	body, failure := g.receive(w, r, f)
	if failure == nil && isBatch(body) {
		g.batch(f, body, out)
		return
	}
	if failure == nil {
		failure = g.handle(r.Context(), f, body, out)
	}
	if failure != nil {
		out.fail(f, failure)
	} else {
		out.accepted()
	}
	f.finish(r.Context(), failure)
	out.close()
}

// receive judges the connection and only then reads the body.
func (g *Gate) receive(w http.ResponseWriter, r *http.Request, f *flow) ([]byte, *warder.Error) {
	if err := f.connect(r.Context()); err != nil {
		return nil, err
	}
	if err := acceptable(r.Header); err != nil {
		return nil, err
	}
	return g.readBody(w, r)
}

// acceptable checks the media types of a POST. Both eras demand that clients accept JSON and SSE;
// one of them is enough here, since Warder then answers in that one.
func acceptable(h http.Header) *warder.Error {
	ct := h.Get("Content-Type")
	if ct != "application/json" {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return &warder.Error{Code: warder.CodeMediaType, Reason: "content_type"}
		}
	}
	if enc := h.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return &warder.Error{Code: warder.CodeMediaType, Reason: "content_encoding"}
	}
	if json, sse := accepts(h); !json && !sse {
		return &warder.Error{Code: warder.CodeNotAcceptable, Reason: "accept"}
	}
	return nil
}

// accepts reads the Accept header; an absent one accepts everything.
func accepts(h http.Header) (json, sse bool) {
	values := h["Accept"]
	if len(values) == 0 {
		return true, true
	}
	for _, v := range values {
		all := strings.Contains(v, "*/*")
		json = json || all || strings.Contains(v, "application/json") || strings.Contains(v, "application/*")
		sse = sse || all || strings.Contains(v, "text/event-stream") || strings.Contains(v, "text/*")
	}
	return json, sse
}

// readBody reads the body within its limit of size and time.
func (g *Gate) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *warder.Error) {
	limit := int64(g.cfg.RequestBytes)
	tooLarge := &warder.Error{Code: warder.CodeTooLarge, Reason: "request_too_large", Control: "INV-02"}
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	if r.ContentLength > smallBody || r.ContentLength < 0 {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(g.cfg.BodyTimeout)) // not every writer can; the header timeout stays
		defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	}
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, warder.Fail(warder.CodeMalformed, "body_cut", err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return nil, warder.Fail(warder.CodeMalformed, "body_cut", err)
	case int64(len(body)) > limit:
		return nil, tooLarge
	}
	return body, nil
}

// smallBody is what usually arrives in one packet with its headers.
const smallBody = 2048

// isBatch reports whether the body is a JSON array.
func isBatch(body []byte) bool {
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '['
		}
	}
	return false
}

// handle decodes and classifies one message and carries it along the path.
func (g *Gate) handle(ctx context.Context, f *flow, body []byte, out *reply) *warder.Error {
	m, failure := g.inspection().read(body)
	if failure != nil {
		return failure
	}
	h := out.r.Header
	if e := f.classify(m, headerValue(h, "Mcp-Protocol-Version"), headerValue(h, "Mcp-Session-Id"), nil); e != nil {
		return e
	}
	f.send = out.send
	ctx, end, e := f.running(ctx)
	if e != nil {
		return e
	}
	defer end()
	return f.carry(ctx)
}

// headerValue reads a header by its canonical key without allocating.
func headerValue(h http.Header, canonical string) string {
	if v := h[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// running gives the exchange its hard maximum and, in a session, makes it cancellable by id. A
// session outlives its connections: a broken one does not cancel the call (protocol up to 2025-11-25).
func (f *flow) running(ctx context.Context) (context.Context, func(), *warder.Error) {
	m, wall := f.x.Request, f.x.Budget.Wall
	streams := m.Method == wire.MethodListen
	if streams {
		wall = f.g.cfg.StreamTimeout
	}
	if !f.x.Revision.Modern() && !streams {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, stopWall := context.WithTimeoutCause(ctx, wall, errWall)
	ctx, cancel := context.WithCancelCause(ctx)
	f.cut = cancel
	if f.sess == nil && !streams {
		return ctx, func() { cancel(nil); stopWall() }, nil
	}
	release := func() bool { return true }
	if streams {
		release = context.AfterFunc(f.g.stop, func() { cancel(errDraining) })
	}
	if f.sess != nil && m.IsCall() && (f.local || f.owned()) { // PRT-06 refuses others, who touch nothing before
		id := m.IDBytes()
		in := &inflight{cancel: cancel}
		if f.x.From == warder.FromServer {
			in.over = make(chan struct{})
			f.over = in.over
			f.sess.supersede(id, in) // a client that lost its stream is back before the loss has shown
		} else if !f.sess.begin(id, in) {
			stopWall()
			return nil, nil, &warder.Error{Code: warder.CodeInvalidRequest, Reason: "duplicate_id", Control: "GW-01"}
		}
		return ctx, func() { f.sess.end(id, in); release(); cancel(nil); stopWall() }, nil
	}
	return ctx, func() { release(); cancel(nil); stopWall() }, nil
}

// batch carries the messages of a 2025-03-26 batch one after another and answers on one stream.
func (g *Gate) batch(first *flow, body []byte, out *reply) {
	ctx := out.r.Context()
	s, ok := g.sessions.find(headerValue(out.r.Header, "Mcp-Session-Id"), first.x.Endpoint)
	messages, _, err := wire.SplitBatch(body, g.limits)
	var failure *warder.Error
	switch {
	case err != nil:
		failure = asError(ctx, err)
	case !ok || s.speaks() != warder.Revision20250326 || len(messages) > maxBatch || len(messages) == 0:
		failure = &warder.Error{Code: warder.CodeInvalidRequest, Reason: "batch_not_allowed", Control: "GW-01"}
	}
	if failure != nil {
		out.fail(first, failure)
		first.finish(ctx, failure)
		return
	}
	out.stream, out.batch = true, true
	for i, raw := range messages {
		f := first
		if i > 0 {
			f = g.begin(warder.DoorHTTP, first.x.Endpoint, first.x.Conn)
			failure = f.connect(ctx)
		}
		out.x = f.x
		if failure == nil {
			failure = g.handle(ctx, f, raw, out)
		}
		if failure != nil {
			out.fail(f, failure)
		}
		f.finish(ctx, failure)
		failure = nil
	}
	out.accepted()
	out.close()
}

// get opens the stream on which servers reach a session, or resumes a broken one.
func (g *Gate) get(w http.ResponseWriter, r *http.Request) {
	f := g.begin(warder.DoorHTTP, r.PathValue("endpoint"), connOf(r))
	out := &reply{g: g, w: w, r: r, x: f.x, stream: true}
	failure := f.connect(r.Context())
	if failure == nil {
		failure = g.listen(r, f, out)
	}
	if failure != nil && !errors.Is(failure.Err, context.Canceled) {
		out.fail(f, failure)
	}
	f.finish(r.Context(), failure)
	out.close()
}

func (g *Gate) listen(r *http.Request, f *flow, out *reply) *warder.Error {
	id := headerValue(r.Header, "Mcp-Session-Id")
	if id == "" {
		return &warder.Error{Code: warder.CodeMethodNotAllowed, Reason: "get_without_session"}
	}
	if _, sse := accepts(r.Header); !sse {
		return &warder.Error{Code: warder.CodeNotAcceptable, Reason: "accept"}
	}
	s, ok := g.sessions.find(id, f.x.Endpoint)
	if !ok {
		return &warder.Error{Code: warder.CodeNoSession, Reason: "unknown_session", Control: "PRT-06"}
	}
	f.use(s)
	f.x.From = warder.FromServer
	f.x.Inbound = g.listenRequest(s)
	f.x.Request = f.x.Inbound
	f.send = out.send
	f.judged = out.open
	last := headerValue(r.Header, "Last-Event-Id")
	stream, seq, resumed := s.resume(last)
	if resumed && !stream.listens {
		ctx, stop := f.streaming(r.Context())
		defer stop()
		return f.replay(ctx, stream, seq, out)
	}
	out.listens = true
	ctx, end, e := f.running(r.Context())
	if e != nil {
		return e
	}
	defer end()
	if resumed {
		f.judged = func() { out.again(stream, seq) }
	}
	return f.carry(ctx)
}

// streaming bounds a stream that is no call of its session: it ends with its client, the gate, or time.
func (f *flow) streaming(ctx context.Context) (context.Context, func()) {
	ctx, stopWall := context.WithTimeoutCause(ctx, f.g.cfg.StreamTimeout, errWall)
	ctx, cancel := context.WithCancelCause(ctx)
	f.cut = cancel
	release := context.AfterFunc(f.g.stop, func() { cancel(errDraining) })
	return ctx, func() { release(); cancel(nil); stopWall() }
}

// replay judges the return of a client to the stream of a call and sends what it missed; the events
// were judged when they were first sent.
func (f *flow) replay(ctx context.Context, stream *replayStream, seq int, out *reply) *warder.Error {
	f.back = f.end.Backends[0]
	f.x.Server = f.back.Server
	if err := f.g.chain.Request(ctx, f.x); err != nil {
		return err
	}
	out.resumed = true
	end, failure := f.watched()
	defer end()
	if failure != nil {
		return failure
	}
	out.open()
	if err := stream.after(ctx, seq, out.raw); err != nil && (!errors.Is(err, context.Canceled) || !errors.Is(context.Cause(ctx), context.Canceled)) {
		return asError(ctx, err)
	}
	return nil
}

// delete ends a session at the wish of its owner.
func (g *Gate) delete(w http.ResponseWriter, r *http.Request) {
	f := g.begin(warder.DoorHTTP, r.PathValue("endpoint"), connOf(r))
	failure := f.connect(r.Context())
	if failure == nil {
		id := headerValue(r.Header, "Mcp-Session-Id")
		s, ok := g.sessions.find(id, f.x.Endpoint)
		switch {
		case id == "":
			failure = &warder.Error{Code: warder.CodeMethodNotAllowed, Reason: "delete_without_session"}
		case !ok || s.owner != f.x.Principal.Key():
			failure = &warder.Error{Code: warder.CodeNoSession, Reason: "unknown_session", Control: "PRT-06"}
		default:
			f.use(s)
			g.sessions.close(s)
			w.WriteHeader(http.StatusNoContent)
		}
	}
	if failure != nil {
		(&reply{g: g, w: w, r: r, x: f.x}).fail(f, failure)
	}
	f.finish(r.Context(), failure)
}

// otherMethod refuses every other HTTP method.
func (g *Gate) otherMethod(w http.ResponseWriter, r *http.Request) {
	f := g.begin(warder.DoorHTTP, r.PathValue("endpoint"), connOf(r))
	failure := f.connect(r.Context())
	if failure == nil {
		failure = &warder.Error{Code: warder.CodeMethodNotAllowed, Reason: "http_method"}
	}
	(&reply{g: g, w: w, r: r, x: f.x}).fail(f, failure)
	f.finish(r.Context(), failure)
}

// contentLength writes the header without fmt.
func contentLength(n int) []string { return []string{strconv.Itoa(n)} }
