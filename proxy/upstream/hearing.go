package upstream

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Many servers with sessions ask their questions on the GET stream of the session and not on the
// stream of the call that makes them ask (the specification wants the latter since 2025-11-25, and
// their SDKs do the former unless told otherwise), and lose a question when that stream is not open. A
// client of the stateless era has none, and one with a session may open its own a moment late. So
// where clients said that they can be asked, the link opens the stream before its first call, and a
// question that comes while exactly one call is in flight belongs to that call.

// A hearing is the part of a link that does this.
type hearing struct {
	once sync.Once
	open chan struct{} // closed when the GET stream was answered, one way or the other

	mu    sync.Mutex
	calls map[*exchange]chan *warder.Message
}

// hearTime is how long the first call waits for the GET stream. Some servers send the header of a
// stream only with its first event.
const hearTime = 500 * time.Millisecond

// askable reports whether a client said that servers may ask it something.
func askable(capabilities []byte) bool {
	c := wire.Parse(capabilities)
	return c.Get("elicitation").Exists() || c.Get("sampling").Exists() || c.Get("roots").Exists()
}

// startHearing opens the GET stream for as long as the link lives.
func (l *httpLink) startHearing(ctx context.Context) {
	l.hear = &hearing{open: make(chan struct{}), calls: make(map[*exchange]chan *warder.Message, 1)}
	l.listen()
	t := time.NewTimer(hearTime)
	defer t.Stop()
	select {
	case <-l.hear.open:
	case <-t.C:
	case <-ctx.Done():
	}
}

// join adds a call until the function it returns is called.
func (h *hearing) join(x *exchange, asked chan *warder.Message) (leave func()) {
	if h == nil || asked == nil || x.call.subscribing {
		return func() {}
	}
	h.mu.Lock()
	h.calls[x] = asked
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		delete(h.calls, x)
		h.mu.Unlock()
	}
}

// take hands a question to the only call in flight; false if there is none, or several.
func (h *hearing) take(m *warder.Message) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.calls) != 1 || m.Method == wire.MethodPing {
		return false
	}
	for x, asked := range h.calls {
		if m = x.question(m); m != nil {
			x.watch.pause()
			asked <- m // there is room for every question that can be open
		}
	}
	return true
}

// exchangeHearing is exchange for a call that also takes questions from the GET stream. The stream of
// the call is read aside, so that a question is handed out while it is silent.
func (l *httpLink) exchangeHearing(ctx context.Context, req *warder.Message, hdr http.Header, yield func(*warder.Message, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errBroken)
	asked := make(chan *warder.Message, maxQuestions)
	turns, more, done := make(chan *warder.Message), make(chan bool), make(chan struct{})
	defer close(more) // also when yield panics
	var err error     // of the exchange; for who saw done closed
	go func() {
		defer close(done)
		_, err = l.exchange(ctx, req, hdr, asked, func(m *warder.Message, _ error) bool {
			select {
			case turns <- m:
				return <-more
			case <-ctx.Done():
				return false
			}
		})
	}()
	questions := asked // nil once the consumer wants no more
	for {
		select {
		case m := <-turns:
			on := yield(m, nil)
			if !on || m.IsAnswer() {
				questions = nil
			}
			more <- on
		case q := <-questions:
			if !yield(q, nil) {
				cancel(errBroken)
				<-done
				return errBroken
			}
		case <-done:
			return err
		}
	}
}
