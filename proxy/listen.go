package proxy

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// listenQueue bounds the messages that wait for a slow reader of a stream; beyond it the oldest
// notification is lost, as a notification may be.
const listenQueue = 128

// listenRequest is the message that stands for the opening of a legacy stream (GET, or the one
// channel of stdio and HTTP+SSE), so that opening it is judged like every other request.
func (g *Gate) listenRequest(s *session) *warder.Message {
	id := strconv.AppendQuote(nil, "listen-"+s.digest[:8])
	params := `{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true`
	if uris := s.subscriptions(); len(uris) > 0 {
		slices.Sort(uris)
		quoted := make([]string, len(uris))
		for i, u := range uris {
			quoted[i] = string(wire.Quote(u))
		}
		params += `,"resourceSubscriptions":[` + strings.Join(quoted, ",") + "]"
	}
	m, err := wire.Decode(wire.Request(id, wire.MethodListen, []byte(params+"}}")), g.limits)
	if err != nil {
		panic("proxy: listen request: " + err.Error()) // built from constants and quoted strings
	}
	return m
}

// listenLegacy yields what the server sends a session outside its calls, until ctx ends.
func (f *flow) listenLegacy(ctx context.Context) iter.Seq2[*warder.Message, error] {
	return func(yield func(*warder.Message, error) bool) {
		queue := newQueue(listenQueue)
		var work sync.WaitGroup
		ctx, cancel := context.WithCancelCause(ctx)
		defer work.Wait()
		defer cancel(errCancelled)
		work.Go(func() { f.attach(ctx, queue) })
		for {
			m, err := queue.next(ctx)
			if err != nil {
				if e, ok := errors.AsType[*warder.Error](context.Cause(ctx)); ok {
					yield(nil, e) // it was cut, and the record says why
				}
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// Pauses before a stream asks for a new link to a server that ended the last one. They double while the
// server stays away.
const (
	reattachFirst = time.Second
	reattachLast  = time.Minute
)

// attach feeds a queue with the unsolicited messages of one server until ctx ends. When the link ends,
// because a session was lost or a child died, it goes on with a new one.
func (f *flow) attach(ctx context.Context, queue *queue) {
	var failure *warder.Error // logged
	defer f.g.survive(ctx, f.x.ID, &failure)
	for pause := reattachFirst; ctx.Err() == nil; pause = min(2*pause, reattachLast) {
		link, err := f.link(ctx)
		switch {
		case err != nil:
			f.g.log.WarnContext(ctx, "listen to server", attrError(err), slog.Duration("again_in", pause))
		case link.Modern():
			f.x.Forwarded, pause = true, reattachFirst
			f.listenModern(ctx, link, queue)
		default:
			f.x.Forwarded, pause = true, reattachFirst
			f.listenSession(ctx, link, queue)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// listenSession feeds a queue from a session with a server until the session or ctx ends.
func (f *flow) listenSession(ctx context.Context, link upstream.Link, queue *queue) {
	cancel := link.Subscribe(func(m *warder.Message) {
		if m = f.relabel(ctx, link, m); m != nil {
			queue.add(m)
		}
	})
	defer cancel()
	select {
	case <-ctx.Done():
	case <-link.Done():
	}
}

// listenModern keeps a listen stream at a stateless server open for a session, and opens it anew
// whenever the client subscribes to another resource.
func (f *flow) listenModern(ctx context.Context, link upstream.Link, queue *queue) {
	for ctx.Err() == nil {
		round, cancel := context.WithCancelCause(ctx)
		f.sess.onSubscribe(f.back.Server.Name, func() { cancel(errCancelled) })
		req, err := wire.RequestToModern(f.g.listenRequest(f.sess), f.modernMeta(link), f.g.limits)
		if err == nil {
			err = f.forwardListen(round, link, req, queue)
		}
		changed := round.Err() != nil && ctx.Err() == nil
		cancel(nil)
		if !changed {
			if err != nil {
				f.g.log.DebugContext(ctx, "listen to server", attrError(err))
			}
			<-ctx.Done() // the server has no listen stream; the client keeps its own
			return
		}
	}
}

func (f *flow) forwardListen(ctx context.Context, link upstream.Link, req *warder.Message, queue *queue) error {
	for m, err := range link.Call(ctx, req, nil) {
		switch {
		case err != nil:
			return err
		case m.Kind != warder.KindNotification || m.Method == wire.NotifySubscribed:
			continue
		}
		if m, err = withoutSubscription(m, f.g.limits); err != nil {
			return err
		}
		queue.add(m)
	}
	return nil
}

// listenOnLegacy serves subscriptions/listen of a stateless client from a server with sessions.
func (f *flow) listenOnLegacy(ctx context.Context, link upstream.Link) iter.Seq2[*warder.Message, error] {
	m := f.x.Request
	want := parseFilter(wire.At(m, m.Params.Get("notifications")))
	return func(yield func(*warder.Message, error) bool) {
		for _, uri := range want.resources {
			if err := f.subscribeResource(ctx, link, uri); err != nil {
				yield(nil, err)
				return
			}
		}
		ack, err := wire.Decode(acknowledged(m.IDBytes(), want), f.g.limits)
		if !yield(ack, err) || err != nil {
			return
		}
		queue := newQueue(listenQueue)
		cancel := link.Subscribe(func(n *warder.Message) {
			if n.Kind == warder.KindRequest || n.Kind == warder.KindNotification && want.covers(n) {
				queue.add(n)
			}
		})
		defer cancel()
		for {
			n, err := queue.nextOr(ctx, link.Done())
			if err != nil {
				return
			}
			if n.Kind == warder.KindRequest { // a stream carries no answers: the server must not wait for one
				f.reply(ctx, link, wire.ErrorResponse(n.IDBytes(), warder.RPCMethodNotFound, "The client cannot be asked here.", nil))
				continue
			}
			n, err = withSubscription(n, m.IDBytes(), f.g.limits)
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// subscribeResource subscribes at a server with sessions.
func (f *flow) subscribeResource(ctx context.Context, link upstream.Link, uri string) error {
	params := append(append([]byte(`{"uri":`), wire.Quote(uri)...), '}')
	req, err := wire.Decode(wire.Request(strconv.AppendInt(nil, int64(f.g.routes.nextID()), 10), wire.MethodResourcesSubscribe, params), f.g.limits)
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

// A queue hands messages from servers to one stream. It never blocks the server.
type queue struct {
	mu    sync.Mutex
	ready chan struct{}
	items []*warder.Message
	limit int
}

func newQueue(limit int) *queue { return &queue{ready: make(chan struct{}, 1), limit: limit} }

// add appends a message; when the queue is full the oldest is dropped.
func (q *queue) add(m *warder.Message) {
	q.mu.Lock()
	if len(q.items) >= q.limit {
		q.items = q.items[1:]
	}
	q.items = append(q.items, m)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// next waits for a message.
func (q *queue) next(ctx context.Context) (*warder.Message, error) { return q.nextOr(ctx, nil) }

// nextOr waits for a message until ctx ends or done is closed.
func (q *queue) nextOr(ctx context.Context, done <-chan struct{}) (*warder.Message, error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			m := q.items[0]
			q.items = q.items[1:]
			q.mu.Unlock()
			return m, nil
		}
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-done:
			return nil, errSessionEnded
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
