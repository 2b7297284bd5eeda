package upstream

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// An httpLink speaks Streamable HTTP: one POST for each message. In the modern era it has no state;
// in the legacy era it is one session.
type httpLink struct {
	linkState
	inbox
	c       *client
	url     *url.URL
	pooled  bool     // several clients share it: ids are minted
	version []string // header values; nil sends none
	session []string
	cred    warder.Credential // shown with every request; may be none

	life     context.Context // calls end with it
	endLife  context.CancelFunc
	inflight atomic.Int64
	streamMu sync.Mutex
	unlisten context.CancelFunc // ends the GET stream; nil if there is none
	hear     *hearing           // nil unless the server may ask outside the streams of calls
}

var _ liveLink = (*httpLink)(nil)

func (s *Server) newHTTPLink(u *url.URL, modern, pooled bool, cred warder.Credential) *httpLink {
	l := &httpLink{c: s.http, url: u, pooled: pooled, cred: cred}
	l.linkState = linkState{srv: s, modern: modern, done: make(chan struct{})}
	l.inbox = inbox{host: s, mint: pooled, reply: l.replyNow}
	l.life, l.endLife = s.base, func() {}
	if modern {
		l.version = []string{string(warder.Revision20260728)}
	}
	return l
}

// Describe implements Link.
func (l *httpLink) Describe() string { return describeURL(l.url) }

// describeURL leaves out the query, which may hold a key.
func describeURL(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

func (l *httpLink) inUse() bool { return l.inflight.Load() > 0 || l.listening() }

// headers builds the header of one request. What the caller adds cannot replace what the protocol
// needs.
func (l *httpLink) headers(ctx context.Context, m *warder.Message, extra http.Header) (http.Header, error) {
	fixed, err := l.srv.credentials(ctx)
	if err != nil {
		return nil, err
	}
	h := make(http.Header, 9+len(fixed)+len(extra))
	for k, v := range extra {
		if !protocolHeader(k) {
			h[k] = v
		}
	}
	maps.Copy(h, fixed)
	h[hdrAccept], h[hdrAcceptEncoding] = l.c.accept, l.c.identity
	h[hdrContentType], h[hdrUserAgent] = l.c.contentType, l.c.agent
	if l.version != nil {
		h[hdrVersion] = l.version
	}
	if l.session != nil {
		h[hdrSession] = l.session
	}
	if l.modern && m != nil {
		l.routing(h, m)
	}
	return h, nil
}

// routing adds the headers that mirror the body (2026-07-28, SEP-2243).
func (l *httpLink) routing(h http.Header, m *warder.Message) {
	h[hdrMethod] = []string{m.Method}
	if v, ok := wire.At(m, m.Meta.Get(wire.MetaVersion)).Text(); ok && v != l.version[0] && warder.Revision(v).Modern() {
		h[hdrVersion] = []string{v}
	}
	switch m.Method {
	case wire.MethodToolsCall, wire.MethodPromptsGet, wire.MethodResourcesRead,
		wire.MethodTasksGet, wire.MethodTasksUpdate, wire.MethodTasksCancel, wire.MethodTasksResult:
		h[hdrName] = []string{wire.EncodeHeaderValue(m.Target)}
	}
}

// Call implements Link.
func (l *httpLink) Call(ctx context.Context, req *warder.Message, hdr http.Header) iter.Seq2[*warder.Message, error] {
	return l.srv.counted(func(yield func(*warder.Message, error) bool) error {
		if err := l.Err(); err != nil {
			return err
		}
		if !l.srv.breaker.allow() {
			return fail(ReasonOpen, nil)
		}
		var err error
		if l.hear == nil {
			_, err = l.exchange(ctx, req, hdr, nil, yield)
		} else {
			err = l.exchangeHearing(ctx, req, hdr, yield)
		}
		l.srv.report(err)
		return err
	})
}

// exchange runs one request to its answer and returns the header of the first response. Questions
// that are heard outside its stream go to asked, unless it is nil.
func (l *httpLink) exchange(ctx context.Context, req *warder.Message, hdr http.Header, asked chan *warder.Message,
	yield func(*warder.Message, error) bool,
) (http.Header, error) {
	l.inflight.Add(1)
	defer l.inflight.Add(-1)
	x := &exchange{link: l, watch: l.srv.watchFor(ctx, req), yield: yield}
	x.watch.attach(l.life)
	defer x.finish()
	if l.pooled {
		x.call.names, x.sent = mint(req, l.srv.nextID())
	} else {
		x.call.names, x.sent = keep(req), whole(req.Raw)
	}
	h, err := l.headers(ctx, req, hdr)
	if err != nil {
		return nil, err
	}
	defer l.hear.join(x, asked)()
	resp, err := l.request(x.watch.ctx, http.MethodPost, l.url, h, &x.sent)
	if err != nil {
		l.abandonCall(req, x, err)
		return nil, err
	}
	if err := x.judge(resp); err != nil {
		l.abandonCall(req, x, err)
		return resp.Header, err
	}
	return resp.Header, nil
}

// abandonCall tells a legacy server that nobody waits any more. In the modern era the end of the
// connection says so.
func (l *httpLink) abandonCall(req *warder.Message, x *exchange, why error) {
	shutting := errors.Is(context.Cause(x.watch.ctx), errShutdown)
	if l.modern || x.answered || req.Method == wire.MethodInitialize || countsAgainst(why) || !alive(l) && !shutting {
		return
	}
	if shutting {
		l.farewell(cancelled(x.call.sent, why)) // before DELETE
		return
	}
	l.replyNow(cancelled(x.call.sent, why))
}

// farewell sends a message of a link that is being shut.
func (l *httpLink) farewell(raw []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.srv.base), goodbyeTime/5)
	defer cancel()
	if m, err := wire.Decode(raw, l.srv.lim); err == nil {
		p := whole(raw)
		_ = l.post(ctx, m, &p) // the server may be gone as well
	}
}

// Send implements Link.
func (l *httpLink) Send(ctx context.Context, m *warder.Message) error {
	if err := l.Err(); err != nil {
		return err
	}
	p, err := outgoing(&l.inbox, l.modern, m)
	if err != nil || p.size() == 0 {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.srv.cfg.Timeout, errIdle)
	defer cancel()
	return l.post(ctx, m, &p)
}

// post sends a message that has no answer.
func (l *httpLink) post(ctx context.Context, m *warder.Message, p *payload) error {
	h, err := l.headers(ctx, m, nil)
	if err != nil {
		return err
	}
	resp, err := l.request(ctx, http.MethodPost, l.url, h, p)
	if err != nil {
		return err
	}
	discard(resp)
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	return l.refused(resp)
}

// replyNow sends what the link itself says, without holding up the reader of a stream.
func (l *httpLink) replyNow(raw []byte) {
	l.srv.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, goodbyeTime)
		defer cancel()
		if m, err := wire.Decode(raw, l.srv.lim); err == nil {
			p := whole(raw)
			_ = l.post(ctx, m, &p) // nothing depends on it but the server's peace
		}
	})
}

// refused is refusal for a link: a 404 ends a session, a 401 forgets the credentials.
func (l *httpLink) refused(resp *http.Response) *warder.Error {
	err := refusal(resp)
	switch {
	case resp.StatusCode == http.StatusNotFound && l.session != nil:
		err = fail(ReasonSessionLost, &statusError{resp.StatusCode})
		if l.end(err) {
			l.srv.lifecycle("session_lost")
		}
	case resp.StatusCode == http.StatusUnauthorized:
		l.srv.forgetCredentials()
	}
	return err
}

// end fails the link; it reports whether it was alive.
func (l *httpLink) end(err error) bool {
	if !l.fail(err) {
		return false
	}
	l.inbox.shut()
	l.streamMu.Lock()
	defer l.streamMu.Unlock()
	if l.unlisten != nil {
		l.unlisten()
		l.unlisten = nil
	}
	return true
}

// shut implements liveLink: it ends the session at the server.
func (l *httpLink) shut(ctx context.Context) {
	lost := !alive(l)
	l.end(fail(ReasonShutdown, nil))
	l.endLife()
	if lost || l.session == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, goodbyeTime)
	defer cancel()
	for deadline := time.Now().Add(goodbyeTime / 4); l.inflight.Load() > 0 && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond) // calls end and say so first; a consumer may hold one up
	}
	h, err := l.headers(ctx, nil, nil)
	if err != nil {
		return
	}
	delete(h, hdrContentType)
	if resp, err := l.request(ctx, http.MethodDelete, l.url, h, nil); err == nil {
		discard(resp) // servers may refuse with 405; the session then ends by itself
	}
}
