package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"strconv"
	"sync"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A carrier moves messages of a mux to the server: the stdin of a child, or the POST endpoint of an
// HTTP+SSE server.
type carrier interface {
	// write sends one message whole, or fails the link.
	write(ctx context.Context, p payload) error
	describe() string
	// stop ends the carrier in good order; it returns when nothing of it runs any more.
	stop(ctx context.Context)
}

// A mux runs many calls over one stream of messages. Ids and progress tokens are minted, because
// clients do not know of each other, and restored in what comes back.
type mux struct {
	linkState
	inbox
	out carrier

	mu    sync.Mutex
	calls map[int64]*call
}

var _ liveLink = (*mux)(nil)

func newMux(s *Server, modern bool) *mux {
	m := &mux{calls: map[int64]*call{}}
	m.linkState = linkState{srv: s, modern: modern, done: make(chan struct{})}
	m.inbox = inbox{host: s, mint: true, reply: m.replyNow}
	return m
}

// Describe implements Link.
func (m *mux) Describe() string { return m.out.describe() }

func (m *mux) inUse() bool {
	m.mu.Lock()
	n := len(m.calls)
	m.mu.Unlock()
	return n > 0 || m.listening()
}

// shut implements liveLink.
func (m *mux) shut(ctx context.Context) {
	m.end(fail(ReasonShutdown, nil))
	m.out.stop(ctx)
}

// end fails the link and every open call.
func (m *mux) end(err error) {
	if !m.fail(err) {
		return
	}
	m.inbox.shut()
}

// replyNow sends what the link itself says. It must not hold up the reader for long.
func (m *mux) replyNow(raw []byte) {
	m.srv.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, m.srv.cfg.ConnectTimeout)
		defer cancel()
		_ = m.out.write(ctx, whole(raw)) // a failed write ends the link, which says why
	})
}

// Send implements Link.
func (m *mux) Send(ctx context.Context, msg *warder.Message) error {
	if err := m.Err(); err != nil {
		return err
	}
	p, err := outgoing(&m.inbox, m.modern, msg)
	if err != nil || p.size() == 0 {
		return err
	}
	return m.out.write(ctx, p)
}

// outgoing returns what Send must write; empty if nothing.
func outgoing(in *inbox, modern bool, msg *warder.Message) (payload, error) {
	switch msg.Kind {
	case warder.KindNotification:
		if msg.Method == wire.NotifyInitialized || msg.Method == wire.NotifyCancelled {
			return payload{}, nil
		}
		return whole(msg.Raw), nil
	case warder.KindResult, warder.KindError:
		if modern {
			return payload{}, warder.Fail(warder.CodeNotFound, ReasonQuestion, errors.New("the stateless era has no questions"))
		}
		return in.answer(msg)
	case warder.KindRequest:
	}
	return payload{}, warder.Fail(warder.CodeInternal, ReasonQuestion, errors.New("requests are sent with Call"))
}

// Subscribe implements Link.
func (m *mux) Subscribe(sink func(*warder.Message)) (cancel func()) {
	n, _ := m.subscribe(sink)
	return func() { m.unsubscribe(n) }
}

// A call is one request in flight on a mux.
type call struct {
	names
	n        int64
	answered func() // told when a question was answered; may be nil

	mu      sync.Mutex
	queue   []*warder.Message
	bytes   int64
	pending int   // questions handed to the caller and not answered
	err     error // ends the call once the queue is empty
	over    bool  // answered or given up: takes no more
	wake    chan struct{}
}

const maxQueue = 8192 // messages that wait for the consumer of one call

// put hands the call a message; final says it is the answer.
func (c *call) put(m *warder.Message, final bool, limit int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil
	}
	c.bytes += int64(len(m.Raw))
	switch {
	case c.bytes > limit && !c.subscribing:
		c.err, c.over = failf(ReasonTooLarge, "the answer has more than %d bytes", limit), true
	case len(c.queue) >= maxQueue:
		c.err, c.over = failf(ReasonFlood, "more than %d messages wait", maxQueue), true
	default:
		c.queue = append(c.queue, m)
		c.over = final
		if m.Kind == warder.KindRequest {
			c.pending++
		}
	}
	c.signal()
	return c.err
}

func (c *call) abort(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.err, c.over = err, true
		c.signal()
	}
}

// settled notes that a question was answered: the server has the word again.
func (c *call) settled() {
	c.mu.Lock()
	c.pending = max(c.pending-1, 0)
	left, answered := c.pending, c.answered
	c.signal()
	c.mu.Unlock()
	if left == 0 && answered != nil {
		answered()
	}
}

func (c *call) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns the next message, whether it is the last, or the error that ended the call.
func (c *call) take() (m *warder.Message, waiting bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 {
		m, c.queue = c.queue[0], c.queue[1:]
		return m, false, nil
	}
	return nil, c.pending > 0, c.err
}

// Call implements Link.
func (m *mux) Call(ctx context.Context, req *warder.Message, _ http.Header) iter.Seq2[*warder.Message, error] {
	return m.srv.counted(func(yield func(*warder.Message, error) bool) error {
		if err := m.Err(); err != nil {
			return err
		}
		w := m.srv.watchFor(ctx, req)
		defer w.stop()
		c, p := m.register(req)
		defer m.remove(c)
		if err := m.out.write(w.ctx, p); err != nil {
			return err
		}
		answered, err := m.pump(w, c, yield)
		if !answered {
			m.cancelCall(c, req, err)
		}
		return err
	})
}

func (m *mux) register(req *warder.Message) (*call, payload) {
	c := &call{n: m.srv.nextID(), wake: make(chan struct{}, 1)}
	var p payload
	c.names, p = mint(req, c.n)
	m.mu.Lock()
	m.calls[c.n] = c
	m.mu.Unlock()
	return c, p
}

func (m *mux) remove(c *call) {
	m.mu.Lock()
	delete(m.calls, c.n)
	m.mu.Unlock()
	m.release(c)
}

// pump yields the messages of the call. It reports whether the server has answered; an unanswered
// call without error was broken off by the consumer.
func (m *mux) pump(w *watch, c *call, yield func(*warder.Message, error) bool) (answered bool, err error) {
	for {
		msg, waiting, err := c.take()
		switch {
		case msg != nil:
			w.pause()
			if msg.IsAnswer() {
				yield(msg, nil)
				return true, nil
			}
			if !yield(msg, nil) {
				return false, errBroken
			}
			continue
		case err != nil:
			return false, err
		case waiting:
			w.pause()
		default:
			w.resume()
		}
		select {
		case <-c.wake:
		case <-w.ctx.Done():
			return false, ended(w.ctx)
		case <-m.done:
			if m, _, _ := c.take(); m != nil { // the answer came just before the end
				yield(m, nil)
				return true, nil
			}
			return false, m.Err()
		}
	}
}

// cancelCall tells the server that nobody waits for the answer.
func (m *mux) cancelCall(c *call, req *warder.Message, why error) {
	if req.Method == wire.MethodInitialize || !alive(m) {
		return
	}
	m.replyNow(cancelled(c.sent, why))
}

// cancelled builds notifications/cancelled.
func cancelled(id []byte, why error) []byte {
	reason := "the client cancelled"
	if errors.Is(why, &warder.Error{Code: warder.CodeTimeout}) {
		reason = "timeout"
	} else if errors.Is(why, &warder.Error{Code: warder.CodeUpstreamFailed}) {
		reason = "the answer was refused"
	}
	params := append(append([]byte(`{"requestId":`), id...), `,"reason":"`...)
	return wire.Notification(wire.NotifyCancelled, append(append(params, reason...), `"}`...))
}

// dispatch takes one message of the server from the reader.
func (m *mux) dispatch(raw []byte) {
	msg, err := wire.Decode(raw, m.srv.lim)
	if err != nil {
		m.unreadable(raw, undecodable(err))
		return
	}
	switch msg.Kind {
	case warder.KindResult, warder.KindError:
		m.dispatchAnswer(msg)
	case warder.KindNotification:
		m.dispatchNotification(msg)
	case warder.KindRequest:
		m.dispatchRequest(msg)
	}
}

func (m *mux) dispatchAnswer(msg *warder.Message) {
	c := m.byID(msg.IDBytes())
	if c == nil {
		m.srv.finding(findUnknownID, "")
		return
	}
	out, err := c.answer(msg, m.srv.lim)
	if err != nil {
		c.abort(undecodable(err))
		return
	}
	m.mu.Lock()
	delete(m.calls, c.n) // a second answer finds nobody
	m.mu.Unlock()
	_ = c.put(out, true, int64(m.srv.cfg.MaxResponse)) // the call says it itself
}

func (m *mux) dispatchNotification(msg *warder.Message) {
	c, bound := m.owner(msg)
	if c == nil && bound {
		m.srv.finding(findToken, msg.Method)
		return
	}
	if c == nil {
		m.broadcast(msg)
		return
	}
	msg = m.withdrawn(msg)
	out, err := c.notification(msg, m.srv.lim)
	if err != nil {
		c.abort(undecodable(err))
		return
	}
	_ = c.put(out, false, int64(m.srv.cfg.MaxResponse))
}

func (m *mux) dispatchRequest(msg *warder.Message) {
	if m.modern {
		m.srv.finding(findForbidden, msg.Method) // and an answer is forbidden, too
		return
	}
	if m.pong(msg) {
		return
	}
	c := m.only()
	if c == nil {
		m.receive(msg)
		return
	}
	if q, ok := m.admit(msg, c); ok {
		_ = c.put(q.msg, false, int64(m.srv.cfg.MaxResponse))
	}
}

// owner finds the call a notification belongs to. Bound says that it names a call, known or not.
func (m *mux) owner(msg *warder.Message) (c *call, bound bool) {
	switch msg.Method {
	case wire.NotifyProgress:
		return m.byID(msg.At(msg.Params.Get("progressToken"))), true
	case wire.NotifyCancelled:
		id := msg.At(msg.Params.Get("requestId"))
		if c := m.byID(id); c != nil {
			return c, true
		}
		if _, q := m.find(id); q != nil {
			return q.call, false
		}
		return nil, false
	}
	if id := msg.At(msg.Meta.Get(wire.MetaSubscription)); id != nil {
		return m.byID(id), true
	}
	return m.only(), false
}

// byID finds a call by the id we gave it.
func (m *mux) byID(id []byte) *call {
	if len(id) > 2 && id[0] == '"' { // some servers keep ids as text
		id = id[1 : len(id)-1]
	}
	n, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[n]
}

// only returns the single call in flight, subscriptions aside; nil if there are none or several.
func (m *mux) only() *call {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found *call
	for _, c := range m.calls {
		if c.subscribing {
			continue
		}
		if found != nil {
			return nil
		}
		found = c
	}
	return found
}

// unreadable handles a message that the strict decoder refuses. It is never forwarded. If it can
// be told whose answer it was meant to be, that call fails now instead of running into its timeout.
func (m *mux) unreadable(raw []byte, err *warder.Error) {
	name := findMalformed
	if err.Reason == ReasonTooLarge {
		name = findOversized
	}
	m.srv.finding(name, "")
	if c := m.guess(raw); c != nil {
		c.abort(err)
	}
}

// guess reads the id of a refused message with a lenient decoder. Only the fate of a call hangs on
// it: to fail early or to time out. Banners and log lines, JSON or not, are nobody's answer.
func (m *mux) guess(raw []byte) *call {
	if raw == nil { // too large to be looked at
		return m.only()
	}
	var head struct {
		JSONRPC json.RawMessage `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal(raw, &head); err == nil && len(head.JSONRPC) > 0 && len(head.ID) > 0 {
		return m.byID(head.ID)
	} else if err != nil && bytes.Contains(raw, []byte(`"jsonrpc"`)) {
		return m.only()
	}
	return nil
}

var errBroken = errors.New("the consumer broke off")

// closedBy builds the failure of a link whose stream ended.
func closedBy(err error) *warder.Error {
	if err == nil {
		err = errors.New("end of stream")
	}
	return fail(ReasonClosed, err)
}
