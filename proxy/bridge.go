package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/hop"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// legacyOnModern carries a request of a session to a stateless server. Questions that the server
// returns as input_required are asked as real requests; the answers go back in a retry.
func (f *flow) legacyOnModern(ctx context.Context, link upstream.Link) iter.Seq2[*warder.Message, error] {
	m := f.x.Request
	id := m.IDBytes()
	switch m.Method {
	case wire.MethodSetLevel:
		level, _ := wire.At(m, m.Params.Get("level")).Text()
		f.sess.mu.Lock()
		f.sess.logLevel = level
		f.sess.mu.Unlock()
		return f.one(wire.Response(id, []byte("{}")))
	case wire.MethodResourcesSubscribe, wire.MethodResourcesUnsubscribe:
		if !f.sess.subscribe(m.Target, m.Method == wire.MethodResourcesSubscribe, int(f.g.limits.Bytes/2)) {
			return f.done(warder.Fail(warder.CodeRateLimited, "too_many_subscriptions", nil))
		}
		return f.one(wire.Response(id, []byte("{}")))
	}
	return func(yield func(*warder.Message, error) bool) {
		req, err := wire.RequestToModern(m, f.modernMeta(link), f.g.limits)
		for round := 0; ; round++ {
			if err != nil {
				yield(nil, err)
				return
			}
			if round > maxRounds {
				yield(nil, warder.Fail(warder.CodeUpstreamFailed, "too_many_rounds", nil))
				return
			}
			var again *warder.Message
			again, err = f.round(ctx, link, req, yield)
			if again == nil && err == nil {
				return
			}
			req = again
		}
	}
}

// maxRounds bounds the input_required rounds of one call.
const maxRounds = 16

// round makes one call to a stateless server for a legacy client. It returns the retry when the
// server needs answers, nil when the answer has been yielded.
func (f *flow) round(ctx context.Context, link upstream.Link, req *warder.Message, yield func(*warder.Message, error) bool) (*warder.Message, error) {
	for m, err := range link.Call(ctx, req, f.headers(link)) {
		if err != nil {
			return nil, err
		}
		if m.Kind == warder.KindResult && isInputRequired(m) {
			return f.askAll(ctx, req, m, yield)
		}
		if m.IsAnswer() {
			m, err = f.toLegacy(m)
		}
		if !yield(m, err) || err != nil {
			return nil, nil
		}
	}
	return nil, nil
}

// toLegacy makes the answer of a stateless server, which may be that of a retry, one to the request of
// the client.
func (f *flow) toLegacy(m *warder.Message) (*warder.Message, error) {
	if id := f.x.Request.IDBytes(); !bytes.Equal(m.IDBytes(), id) {
		var err error
		if m, err = wire.WithID(m, id, f.g.limits); err != nil {
			return nil, err
		}
	}
	return wire.ResultToLegacy(m, f.x.Request.Method, f.x.Revision, f.g.limits)
}

// askAll asks the client every question of an input_required result and builds the retry.
func (f *flow) askAll(ctx context.Context, req, m *warder.Message, yield func(*warder.Message, error) bool) (*warder.Message, error) {
	questions, err := wire.InputRequests(m)
	if err != nil {
		return nil, warder.Fail(warder.CodeUpstreamFailed, "bad_input_requests", err)
	}
	type reply struct {
		key    string
		answer *warder.Message
	}
	replies := make(chan reply, len(questions))
	for _, q := range questions {
		raw, err := wire.Decode(wire.Request([]byte("0"), q.Method, q.Params), f.g.limits)
		if err != nil {
			return nil, err
		}
		posed := f.pose(raw, question{parent: f.x, answer: func(_ context.Context, answer *warder.Message) error {
			replies <- reply{q.Key, answer} // room for every question; each is taken once
			return nil
		}})
		if posed == nil {
			return nil, warder.Fail(warder.CodeRateLimited, "too_many_questions", nil)
		}
		if !yield(posed, nil) {
			return nil, context.Canceled
		}
	}
	answers := make(map[string][]byte, len(questions))
	patience := time.NewTimer(f.g.cfg.AnswerTimeout)
	defer patience.Stop()
	for range questions {
		select {
		case r := <-replies:
			if r.answer.Kind == warder.KindError {
				return nil, warder.Fail(warder.CodeDenied, "question_refused", nil)
			}
			answers[r.key] = r.answer.At(r.answer.ResultSpan)
		case <-patience.C:
			return nil, warder.Fail(warder.CodeTimeout, "question_unanswered", nil)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	state := m.At(m.Result.Get("requestState"))
	again := strconv.AppendInt(nil, int64(f.g.routes.nextID()), 10)
	return wire.WithInputResponses(req, again, answers, state, f.g.limits)
}

// modernMeta is what a stateless request says of the session it belongs to.
func (f *flow) modernMeta(link upstream.Link) wire.ModernMeta {
	caps := f.x.Client.Capabilities
	if len(caps) == 0 {
		caps = []byte("{}")
	}
	return wire.ModernMeta{
		Version: link.Hello().Revision, ClientInfo: []byte(clientInfo(f.x.Client)),
		Capabilities: caps, LogLevel: f.sess.level(),
	}
}

// modernOnLegacy carries a stateless request to a server with sessions.
func (f *flow) modernOnLegacy(ctx context.Context, link upstream.Link) iter.Seq2[*warder.Message, error] {
	m := f.x.Request
	switch m.Method {
	case wire.MethodDiscover:
		return f.one(wire.DiscoverResult(m.IDBytes(), link.Hello(), f.g.revisions()))
	case wire.MethodListen:
		return f.listenOnLegacy(ctx, link)
	}
	if state := wire.At(m, m.Params.Get("requestState")); state.Kind() == '"' {
		return f.resume(ctx, state)
	}
	req, err := wire.RequestToLegacy(m, f.g.limits)
	if err != nil {
		return f.done(err)
	}
	if err := f.setLevel(ctx, link); err != nil {
		return f.done(err)
	}
	return f.follow(ctx, f.g.park(ctx, f, link, req))
}

// setLevel passes on the log level that a stateless request asks for.
func (f *flow) setLevel(ctx context.Context, link upstream.Link) error {
	m := f.x.Request
	level := m.At(m.Meta.Get(wire.MetaLogLevel))
	if level == nil || !wire.Parse(link.Hello().Capabilities).Get("logging").Exists() {
		return nil
	}
	params := append(append([]byte(`{"level":`), level...), '}')
	raw := wire.Request(strconv.AppendInt(nil, int64(f.g.routes.nextID()), 10), wire.MethodSetLevel, params)
	req, err := wire.Decode(raw, f.g.limits)
	if err != nil {
		return err
	}
	for _, err := range link.Call(ctx, req, nil) {
		if err != nil {
			return err
		}
	}
	return nil
}

// headers are the HTTP headers a stateless server needs beside the message: the arguments mirrored
// in Mcp-Param-*, and the trace.
func (f *flow) headers(link upstream.Link) http.Header {
	x := f.x
	var h http.Header
	if link.Modern() {
		for k, v := range fromModern(x) {
			if strings.HasPrefix(k, wire.HeaderParamPrefix) {
				h = with(h, k, v)
			}
		}
		if x.Tool != nil && len(x.Tool.Headers) > 0 {
			h = f.paramHeaders(h)
		}
	}
	if x.Trace.TraceID != ([16]byte{}) {
		h = with(h, "Traceparent", []string{x.Trace.Header()})
		h = with(h, "Tracestate", []string{hop.Next(x.Trace.State)})
	}
	return h
}

// fromModern are the headers of a client that mirrors its arguments in them. PRT-02 has compared them
// with the message; those of older clients nobody has, so they end here.
func fromModern(x *warder.Exchange) http.Header {
	if !x.Revision.Modern() {
		return nil
	}
	return x.Conn.Header
}

func with(h http.Header, k string, v []string) http.Header {
	if h == nil {
		h = make(http.Header, 2)
	}
	h[k] = v
	return h
}

// paramHeaders mirrors the annotated arguments (2026-07-28, x-mcp-header).
func (f *flow) paramHeaders(h http.Header) http.Header {
	m := f.x.Request
	args := wire.At(m, m.Params.Get("arguments"))
	for _, hd := range f.x.Tool.Headers {
		v := args
		for _, p := range hd.Pointer {
			v = v.Get(p)
		}
		key := http.CanonicalHeaderKey(wire.HeaderParamPrefix + hd.Name)
		switch v.Kind() {
		case '"':
			s, _ := v.Text()
			h = with(h, key, []string{wire.EncodeHeaderValue(s)})
		case '0', 't', 'f':
			h = with(h, key, []string{string(v.Raw())})
		}
	}
	return h
}

// revisions lists what a client may speak at this gate, newest first.
func (g *Gate) revisions() []warder.Revision {
	revisions := slices.Clone(g.floor.Supported())
	slices.Reverse(revisions)
	return revisions
}

func hashCapabilities(caps []byte) [32]byte { return sha256.Sum256(bytes.TrimSpace(caps)) }

// clientInfo renders what the client says of itself for a server.
func clientInfo(c warder.ClientInfo) string {
	name, version := c.Name, c.Version
	if name == "" {
		name, version = "unknown", "0"
	}
	return `{"name":` + string(wire.Quote(name)) + `,"version":` + string(wire.Quote(version)) + `}`
}

func attrError(err error) slog.Attr { return slog.Any("error", err) }
