package upstream

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

const (
	maxQuestions = 64               // open questions of one link
	questionWait = 10 * time.Second // how long a question waits for somebody to take it
)

// An inbox holds what a server sends outside of answers: its open questions, and the sinks for what
// belongs to no call.
type inbox struct {
	host  *Server
	mint  bool             // give questions ids of our own, as several clients share the link
	reply func(raw []byte) // sends to the server without waiting for long
	wait  time.Duration    // zero means questionWait
	mu    sync.Mutex
	open  map[string]*question // by wire.IDKey of the id under which it was handed out
	sinks map[int]func(*warder.Message)
	next  int
	quit  bool
}

// A question is a request of the server that waits for its answer.
type question struct {
	id    []byte          // as the server wrote it
	call  *call           // the call it was handed to; nil for sinks
	taken bool            // somebody has it
	msg   *warder.Message // as handed out
	timer *time.Timer     // gives up when nobody takes it
}

// receive handles a request or notification that belongs to no call in particular.
func (in *inbox) receive(m *warder.Message) {
	if m.Kind == warder.KindNotification {
		in.broadcast(m)
		return
	}
	if in.pong(m) {
		return
	}
	q, ok := in.admit(m, nil)
	if !ok {
		return
	}
	if sink := in.offer(q); sink != nil {
		sink(q.msg)
	}
}

// offer finds the sink that takes a question, or lets the question wait for one.
func (in *inbox) offer(q *question) func(*warder.Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.quit {
		return nil
	}
	if sink := in.soleSink(); sink != nil {
		q.taken = true
		return sink
	}
	wait := in.wait
	if wait <= 0 {
		wait = questionWait
	}
	key := wire.IDKey(q.msg.IDBytes())
	q.timer = time.AfterFunc(wait, func() { in.abandon(key) })
	return nil
}

// pong answers a ping of the server.
func (in *inbox) pong(m *warder.Message) bool {
	if m.Method != wire.MethodPing {
		return false
	}
	in.reply(wire.Response(m.IDBytes(), nil))
	return true
}

// admit notes a question. It is refused when too many are open or one with its id is.
func (in *inbox) admit(m *warder.Message, c *call) (*question, bool) {
	q := &question{id: m.IDBytes(), call: c, msg: m, taken: c != nil}
	if in.mint {
		q.id = slices.Clone(q.id)
		q.msg = restore(m, m.ID, strconv.AppendInt(nil, in.host.nextID(), 10))
	}
	key := wire.IDKey(q.msg.IDBytes())
	in.mu.Lock()
	_, double := in.open[key]
	full := len(in.open) >= maxQuestions
	if !double && !full {
		if in.open == nil {
			in.open = map[string]*question{}
		}
		in.open[key] = q
	}
	in.mu.Unlock()
	if double || full {
		in.host.finding(findQuestions, m.Method)
		if full {
			in.reply(wire.ErrorResponse(m.IDBytes(), warder.RPCInternal, "Too many open requests.", nil))
		}
		return nil, false
	}
	return q, true
}

// abandon refuses a question that nobody took.
func (in *inbox) abandon(key string) {
	in.mu.Lock()
	q := in.open[key]
	if q == nil || q.taken {
		in.mu.Unlock()
		return
	}
	delete(in.open, key)
	in.mu.Unlock()
	in.host.finding(findUntaken, q.msg.Method)
	in.reply(wire.ErrorResponse(q.id, warder.RPCMethodNotFound, "Nobody can answer this request.", nil))
}

// broadcast hands a notification to all sinks.
func (in *inbox) broadcast(m *warder.Message) {
	m = in.withdrawn(m)
	in.mu.Lock()
	sinks := slices.Collect(maps.Values(in.sinks))
	in.mu.Unlock()
	for _, sink := range sinks {
		sink(m)
	}
}

// withdrawn translates the server's cancellation of a question to the id it was handed out with, and
// forgets the question.
func (in *inbox) withdrawn(m *warder.Message) *warder.Message {
	if m.Method != wire.NotifyCancelled {
		return m
	}
	at := m.Params.Get("requestId")
	key, q := in.find(m.At(at))
	if q == nil {
		return m
	}
	in.forget(key)
	if q.call != nil {
		q.call.settled()
	}
	if out, err := replace(m, at, q.msg.IDBytes(), in.host.lim); err == nil {
		return out
	}
	return m
}

// find looks up a question by the id the server gave it.
func (in *inbox) find(id []byte) (string, *question) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for key, q := range in.open {
		if sameID(q.id, id) {
			return key, q
		}
	}
	return "", nil
}

func (in *inbox) forget(key string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.drop(key)
}

// drop removes a question; the lock is held.
func (in *inbox) drop(key string) {
	q := in.open[key]
	if q == nil {
		return
	}
	delete(in.open, key)
	if q.timer != nil {
		q.timer.Stop()
	}
}

// answer turns an answer to a question into the bytes for the server.
func (in *inbox) answer(m *warder.Message) (payload, error) {
	in.mu.Lock()
	q := in.open[wire.IDKey(m.IDBytes())]
	if q == nil || !q.taken {
		in.mu.Unlock()
		return payload{}, warder.Fail(warder.CodeNotFound, ReasonQuestion, errors.New("no open request of the server has this id"))
	}
	in.drop(wire.IDKey(m.IDBytes()))
	in.mu.Unlock()
	if q.call != nil {
		q.call.settled()
	}
	return pieces(m.Raw, m.ID, warder.Span{}, q.id), nil
}

// release forgets the questions of a call that is over.
func (in *inbox) release(c *call) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for key, q := range in.open {
		if q.call == c {
			in.drop(key)
		}
	}
}

// soleSink is the sink that may take a question; the lock is held. With several clients behind the
// link nobody can tell whose question it is, so nobody gets it.
func (in *inbox) soleSink() func(*warder.Message) {
	if len(in.sinks) != 1 {
		return nil
	}
	for _, sink := range in.sinks {
		return sink
	}
	return nil
}

// subscribe adds a sink and hands it the questions that wait. It returns the sink's number and
// whether it is the first.
func (in *inbox) subscribe(sink func(*warder.Message)) (n int, first bool) {
	var waiting []*warder.Message
	in.mu.Lock()
	if in.sinks == nil {
		in.sinks = map[int]func(*warder.Message){}
	}
	in.next++
	n = in.next
	in.sinks[n] = sink
	first = len(in.sinks) == 1
	for _, q := range in.open {
		if first && !q.taken {
			q.taken = true
			if q.timer != nil {
				q.timer.Stop()
			}
			waiting = append(waiting, q.msg)
		}
	}
	in.mu.Unlock()
	for _, m := range waiting {
		sink(m)
	}
	return n, first
}

// unsubscribe removes a sink and reports whether it was the last.
func (in *inbox) unsubscribe(n int) (last bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, ok := in.sinks[n]; !ok {
		return false
	}
	delete(in.sinks, n)
	return len(in.sinks) == 0
}

func (in *inbox) listening() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.sinks) > 0
}

// shut stops all timers; nothing is handed out any more.
func (in *inbox) shut() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.quit = true
	for key := range in.open {
		in.drop(key)
	}
	clear(in.sinks)
}
