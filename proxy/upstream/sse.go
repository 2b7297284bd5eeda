package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A wireSSE carries the messages of an HTTP+SSE server (2024-11-05): one event stream from the
// server, whose first event names the endpoint for POSTs. The connection is the session.
type wireSSE struct {
	srv      *Server
	http     *httpLink // headers and requests; has no session of its own
	stream   *url.URL
	endpoint *url.URL
	mux      *mux
	cancel   context.CancelFunc
	over     chan struct{} // closed when the reader is gone
}

var _ carrier = (*wireSSE)(nil)

func (w *wireSSE) describe() string { return describeURL(w.stream) }

// openSSE connects and opens a session.
func (s *Server) openSSE(ctx context.Context, u *url.URL, init Init) (liveLink, error) {
	w := &wireSSE{srv: s, http: s.newHTTPLink(u, false, false, init.Credential), stream: u, over: make(chan struct{})}
	w.mux = newMux(s, false)
	w.mux.out = w
	events, body, err := w.connect(ctx)
	if err != nil {
		return nil, notSpokenUnlessDown(err)
	}
	started := s.spawn(func(context.Context) {
		defer close(w.over)
		defer body.Body.Close()
		w.mux.end(closedBy(w.read(events)))
	})
	if !started {
		w.cancel()
		_ = body.Body.Close() // the server is closed
		return nil, fail(ReasonShutdown, nil)
	}
	hello, err := w.mux.handshake(ctx, s.initRequest(init))
	if err != nil {
		w.mux.shut(ctx)
		return nil, err
	}
	w.mux.hello = s.sameHello(hello)
	return w.mux, nil
}

// connect opens the stream and waits for its first event. The stream outlives ctx.
func (w *wireSSE) connect(ctx context.Context) (*wire.EventReader, *http.Response, error) {
	streamCtx, cancel := context.WithCancel(w.srv.base)
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	w.cancel = cancel
	resp, err := w.http.get(streamCtx, "")
	if err != nil {
		cancel()
		if ctx.Err() != nil {
			return nil, nil, ended(ctx)
		}
		return nil, nil, err
	}
	r := wire.NewEventReader(resp.Body, int64(w.srv.cfg.MaxMessage))
	if err := w.first(r); err != nil {
		cancel()
		_ = resp.Body.Close() // nothing of it is wanted
		if ctx.Err() != nil {
			return nil, nil, ended(ctx)
		}
		return nil, nil, err
	}
	return r, resp, nil
}

// first reads the endpoint event. The endpoint must be of the same origin: else the server could
// have the client's messages, and our credentials, sent anywhere.
func (w *wireSSE) first(r *wire.EventReader) error {
	for range 16 {
		e, err := r.Next()
		if err != nil {
			return fmt.Errorf("%w: %w", errNotSpoken, err)
		}
		if e.Comment || e.Name != "endpoint" {
			continue
		}
		u, err := w.stream.Parse(string(e.Data))
		if err != nil {
			return fmt.Errorf("%w: endpoint: %w", errNotSpoken, err)
		}
		if u.Scheme != w.stream.Scheme || !strings.EqualFold(u.Host, w.stream.Host) || u.User != nil {
			w.srv.finding(findEndpoint, "")
			return fmt.Errorf("%w: endpoint of another origin", errNotSpoken)
		}
		u.Fragment = ""
		w.endpoint = u
		return nil
	}
	return fmt.Errorf("%w: no endpoint event", errNotSpoken)
}

// read hands messages to the mux until the stream ends.
func (w *wireSSE) read(r *wire.EventReader) error {
	for {
		e, err := r.Next()
		if errors.Is(err, &warder.Error{Code: warder.CodeTooLarge}) {
			w.mux.unreadable(nil, undecodable(err))
		}
		if err != nil {
			return err
		}
		if !e.Comment && len(e.Data) > 0 && (e.Name == "" || e.Name == "message") {
			w.mux.dispatch(e.Data)
		}
	}
}

// write implements carrier.
func (w *wireSSE) write(ctx context.Context, p payload) error {
	h, err := w.http.headers(ctx, nil, nil)
	if err != nil {
		return err
	}
	resp, err := w.http.request(ctx, http.MethodPost, w.endpoint, h, &p)
	if err != nil {
		return err
	}
	discard(resp)
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusNotFound:
		err := fail(ReasonSessionLost, &statusError{resp.StatusCode})
		w.mux.end(err)
		w.cancel()
		return err
	default:
		return w.http.refused(resp)
	}
}

// stop implements carrier.
func (w *wireSSE) stop(ctx context.Context) {
	w.cancel()
	select {
	case <-w.over:
	case <-ctx.Done():
	}
}

// handshake opens the session of a mux.
func (m *mux) handshake(ctx context.Context, initialize []byte) (wire.Hello, error) {
	answer, err := m.ask(ctx, initialize)
	if err != nil {
		return wire.Hello{}, err
	}
	hello, err := legacyHello(answer)
	if err != nil {
		return wire.Hello{}, err
	}
	return hello, m.out.write(ctx, whole(wire.Notification(wire.NotifyInitialized, nil)))
}

// ask sends a request of Warder's own and returns the answer.
func (m *mux) ask(ctx context.Context, raw []byte) (*warder.Message, error) {
	req, err := wire.Decode(raw, m.srv.lim)
	if err != nil {
		return nil, err
	}
	w := newWatch(ctx, m.srv.cfg.ProbeTimeout, m.srv.cfg.ProbeTimeout)
	defer w.stop()
	c, out := m.register(req)
	defer m.remove(c)
	if err := m.out.write(w.ctx, out); err != nil {
		return nil, err
	}
	var answer *warder.Message
	_, err = m.pump(w, c, func(msg *warder.Message, _ error) bool {
		if msg.IsAnswer() {
			answer = msg
		}
		return true
	})
	return answer, err
}

// reapTime is how long output of a child that ended is still read.
const reapTime = 500 * time.Millisecond
