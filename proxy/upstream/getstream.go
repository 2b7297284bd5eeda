package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Subscribe implements Link. In the modern era nothing belongs to no call.
func (l *httpLink) Subscribe(sink func(*warder.Message)) (cancel func()) {
	if l.modern || !alive(l) {
		return func() {}
	}
	n, first := l.subscribe(sink)
	if first {
		l.listen()
	}
	return sync.OnceFunc(func() {
		if l.unsubscribe(n) {
			l.hush()
		}
	})
}

// listen opens the GET stream of the session.
func (l *httpLink) listen() {
	l.streamMu.Lock()
	defer l.streamMu.Unlock()
	if l.unlisten != nil || !alive(l) {
		return
	}
	var ctx context.Context
	ctx, l.unlisten = context.WithCancel(l.srv.base)
	l.srv.spawn(func(context.Context) { l.follow(ctx) })
}

// hush closes the GET stream unless somebody has come since.
func (l *httpLink) hush() {
	l.streamMu.Lock()
	defer l.streamMu.Unlock()
	if l.unlisten != nil && !l.listening() && l.hear == nil {
		l.unlisten()
		l.unlisten = nil
	}
}

// get opens an event stream, behind the event last if there is one.
func (l *httpLink) get(ctx context.Context, last string) (*http.Response, error) {
	h, err := l.headers(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	delete(h, hdrContentType)
	h[hdrAccept] = l.c.acceptStream
	if last != "" {
		h[hdrLastEvent] = []string{last}
	}
	resp, err := l.request(ctx, http.MethodGet, l.url, h, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK && mediaOf(resp.Header) == mediaEvents {
		return resp, nil
	}
	discard(resp)
	if resp.StatusCode == http.StatusOK {
		return nil, failf(ReasonMediaType, "content-type %.60q", resp.Header.Get(hdrContentType))
	}
	return nil, l.refused(resp)
}

const (
	minReconnect = time.Second
	maxReconnect = 30 * time.Second
)

// follow keeps the GET stream open until ctx ends, the session is lost, or the server says that it
// offers none (405, or any refusal but a passing one).
func (l *httpLink) follow(ctx context.Context) {
	at := cursor{retry: minReconnect}
	pause := minReconnect
	for ctx.Err() == nil && alive(l) {
		resp, err := l.get(ctx, at.id)
		if l.hear != nil {
			l.hear.once.Do(func() { close(l.hear.open) })
		}
		switch {
		case err == nil:
			if l.read(resp, &at) > 0 {
				pause = max(at.retry, 100*time.Millisecond)
			} else {
				pause = min(2*pause, maxReconnect)
			}
		case countsAgainst(err), errors.Is(err, &warder.Error{Code: warder.CodeTimeout}):
			pause = min(2*pause, maxReconnect)
		default:
			return
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		case <-l.done:
		}
		t.Stop()
	}
}

// read hands out the messages of one GET stream until it ends and returns how many events came.
func (l *httpLink) read(resp *http.Response, at *cursor) (n int) {
	defer resp.Body.Close()
	r := wire.NewEventReader(resp.Body, int64(l.srv.cfg.MaxMessage))
	for {
		e, err := r.Next()
		if err != nil {
			if errors.Is(err, &warder.Error{Code: warder.CodeTooLarge}) {
				l.srv.finding(findOversized, "")
			}
			return n
		}
		if e.Comment {
			continue
		}
		n++
		at.note(e)
		if len(e.Data) > 0 && (e.Name == "" || e.Name == "message") {
			l.unbound(e.Data)
		}
	}
}

// unbound handles messages of the GET stream.
func (l *httpLink) unbound(raw []byte) {
	list, err := l.batches(raw)
	if err != nil {
		l.srv.finding(findMalformed, "")
		return
	}
	for _, raw := range list {
		m, err := wire.Decode(raw, l.srv.lim)
		switch {
		case err != nil:
			l.srv.finding(findMalformed, "")
		case m.IsAnswer():
			l.srv.finding(findUnknownID, "") // answers belong to the stream of their request
		case m.Method == wire.NotifyProgress && l.pooled:
			l.srv.finding(findToken, m.Method)
		case m.Kind == warder.KindRequest && l.hear.take(m):
		default:
			l.receive(m)
		}
	}
}
