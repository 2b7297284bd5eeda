package upstream

import (
	"context"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A Link is one conversation with a server: a session, a child process, or the stateless endpoint.
// It is safe for concurrent use.
type Link interface {
	// Modern reports the era: true for stateless requests (2026-07-28), false for a session.
	Modern() bool
	// Hello is what the server said of itself when the link was opened.
	Hello() wire.Hello
	// Describe names the endpoint or command, for operators.
	Describe() string
	// Call sends a request and yields every message that belongs to it; the last one is its answer,
	// with the id of the request as the client wrote it. Questions of the server (requests, in the
	// legacy era) are answered with Send. A failure is yielded as the last pair: a *warder.Error of
	// CodeUpstreamFailed or CodeTimeout, or an error that wraps that of ctx.
	//
	// It stops when ctx ends or the consumer breaks off; the server is then told: by disconnecting
	// in the modern era over HTTP, else with notifications/cancelled. That is the only way to cancel a
	// call. Extra headers, such as Mcp-Param-* and traceparent, are sent over HTTP only; keys must
	// be canonical.
	Call(ctx context.Context, req *warder.Message, hdr http.Header) iter.Seq2[*warder.Message, error]
	// Send delivers a notification, or the answer to a question of the server under the id it was
	// yielded with. notifications/initialized is not sent again and notifications/cancelled not at
	// all, because ids differ between both sides: end the context of the call. An answer to nothing
	// that was asked is refused.
	Send(ctx context.Context, m *warder.Message) error
	// Subscribe hands messages that belong to no call to sink, in order, until cancel is called. The
	// sink must return at once. A question goes to a sink only while there is exactly one. Over
	// Streamable HTTP the first sink opens the GET stream and the last one closes it.
	Subscribe(sink func(*warder.Message)) (cancel func())
	// Done is closed when the link can serve no more calls; Err then says why.
	Done() <-chan struct{}
	Err() error
}

// A liveLink is what the server keeps.
type liveLink interface {
	Link
	// shut ends the conversation in good order and returns when it is over or ctx is done.
	shut(ctx context.Context)
	// inUse reports whether calls or sinks hold the link.
	inUse() bool
}

// linkState is what every link has.
type linkState struct {
	srv    *Server
	modern bool
	hello  wire.Hello

	forever bool // it lives as long as the server, whose channel done is
	once    sync.Once
	done    chan struct{}
	err     error
}

// Modern implements Link.
func (l *linkState) Modern() bool { return l.modern }

// Hello implements Link.
func (l *linkState) Hello() wire.Hello { return l.hello }

// Done implements Link.
func (l *linkState) Done() <-chan struct{} { return l.done }

// Err implements Link.
func (l *linkState) Err() error {
	select {
	case <-l.done:
		if l.forever {
			return fail(ReasonShutdown, nil)
		}
		return l.err
	default:
		return nil
	}
}

// fail ends the link; the first reason stays.
func (l *linkState) fail(err error) (first bool) {
	if l.forever {
		return false
	}
	l.once.Do(func() {
		l.err = err
		close(l.done)
		first = true
	})
	return first
}

func alive(l Link) bool {
	select {
	case <-l.Done():
		return false
	default:
		return true
	}
}

// A watch is the clock of one call: it ends the context when no message came for so long, or when
// the hard maximum is reached.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration
	hardAt time.Time

	detach func() bool // from the life of the server; nil if not attached

	mu    sync.Mutex
	timer *time.Timer // nil without a clock
}

// newWatch starts the clock. A zero idle time means no clock at all.
func newWatch(ctx context.Context, idle, hard time.Duration) *watch {
	w := &watch{idle: idle}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	if idle > 0 {
		w.hardAt = time.Now().Add(hard)
		w.timer = time.AfterFunc(min(idle, hard), w.ring)
	}
	return w
}

// attach ends the call when its link ends.
func (w *watch) attach(life context.Context) {
	w.detach = context.AfterFunc(life, func() { w.cancel(errShutdown) })
}

// ring ends the call.
func (w *watch) ring() {
	if time.Now().Before(w.hardAt) {
		w.cancel(errIdle)
		return
	}
	w.cancel(errHard)
}

// pause stops the idle clock while the consumer, or the client behind a question, has the word. The
// hard maximum keeps running.
func (w *watch) pause() { w.arm(false) }

// resume starts the idle clock anew.
func (w *watch) resume() { w.arm(true) }

func (w *watch) arm(idle bool) {
	if w.timer == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.timer.Stop() {
		return // it rang already, or the call is over
	}
	d := max(time.Until(w.hardAt), 0)
	if idle {
		d = min(d, w.idle)
	}
	w.timer.Reset(d)
}

// stop ends the clock and the context.
func (w *watch) stop() {
	if w.timer != nil {
		w.mu.Lock()
		w.timer.Stop()
		w.mu.Unlock()
	}
	if w.detach != nil {
		w.detach()
	}
	w.cancel(context.Canceled)
}

// watchFor starts the clock that suits the request.
func (s *Server) watchFor(ctx context.Context, req *warder.Message) *watch {
	if req.Method == wire.MethodListen {
		return newWatch(ctx, 0, 0)
	}
	return newWatch(ctx, s.cfg.Timeout, s.cfg.MaxCall)
}
