package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// A parkedCall is a call to a server with sessions that a stateless client made. When the server asks
// a question, the call waits here until the client comes back with the answer.
type parkedCall struct {
	id     string
	owner  string
	server string
	link   upstream.Link
	events chan event
	cancel context.CancelCauseFunc

	asked    map[string][]byte // key → the server's id of the question; used by one exchange at a time
	question wire.Question     // as the client was asked; set before the call is parked
	timer    *time.Timer       // ends the call when nobody comes back
}

type event struct {
	m   *warder.Message
	err error
}

// A lot holds the parked calls of this process.
type lot struct {
	keep time.Duration

	mu    sync.Mutex
	calls map[string]*parkedCall
	count map[string]int // by owner
}

func newLot(keep time.Duration) *lot {
	return &lot{keep: keep, calls: make(map[string]*parkedCall), count: make(map[string]int)}
}

// put parks a call; ok is false when its owner has too many already.
func (l *lot) put(c *parkedCall) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[c.owner] >= maxParked {
		return false
	}
	l.calls[c.id] = c
	l.count[c.owner]++
	c.timer = time.AfterFunc(l.keep, func() {
		if l.take(c.id, c.owner, c.server) != nil {
			c.cancel(errWall)
		}
	})
	return true
}

// asked returns the question with which a call of this owner waits.
func (l *lot) asked(id, owner string) (q wire.Question, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[id]
	if c == nil || c.owner != owner {
		return q, false
	}
	return c.question, true
}

// take removes and returns the parked call of this owner at this server: the answer was judged for it.
func (l *lot) take(id, owner, server string) *parkedCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[id]
	if c == nil || c.owner != owner || c.server != server {
		return nil
	}
	c.timer.Stop()
	delete(l.calls, id)
	if l.count[owner]--; l.count[owner] <= 0 {
		delete(l.count, owner)
	}
	return c
}

// clear ends every parked call.
func (l *lot) clear() {
	l.mu.Lock()
	calls := make([]*parkedCall, 0, len(l.calls))
	for _, c := range l.calls {
		calls = append(calls, c)
	}
	l.mu.Unlock()
	for _, c := range calls {
		if l.take(c.id, c.owner, c.server) != nil {
			c.cancel(errDraining)
		}
	}
}

// parkPrefix marks the state that names a parked call.
const parkPrefix = "park:"

// park starts a call that can outlive the exchange that made it.
func (g *Gate) park(ctx context.Context, f *flow, link upstream.Link, req *warder.Message) *parkedCall {
	detached, stopWall := context.WithTimeoutCause(context.WithoutCancel(ctx), g.cfg.CallTimeout, errWall)
	detached, cancel := context.WithCancelCause(detached)
	c := &parkedCall{
		id: rand.Text(), owner: f.x.Principal.Key(), server: f.back.Server.Name, link: link,
		events: make(chan event), cancel: cancel,
	}
	headers, exchange := f.headers(link), f.x.ID
	g.work.Go(func() {
		defer stopWall()
		defer cancel(nil)
		defer close(c.events)
		var failure *warder.Error // logged; the exchange sees the end of the events
		defer g.survive(ctx, exchange, &failure)
		for m, err := range link.Call(detached, req, headers) {
			select {
			case c.events <- event{m, err}:
			case <-detached.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	return c
}

// follow yields what a parkable call brings until its answer, or until the server asks something:
// then the call is parked and the answer is input_required.
func (f *flow) follow(ctx context.Context, c *parkedCall) iter.Seq2[*warder.Message, error] {
	return func(yield func(*warder.Message, error) bool) {
		for {
			var e event
			var more bool
			select {
			case e, more = <-c.events:
			case <-ctx.Done():
				c.cancel(context.Cause(ctx))
				yield(nil, context.Cause(ctx))
				return
			}
			switch {
			case !more:
				return
			case e.err != nil:
				yield(nil, e.err)
				return
			case e.m.Kind == warder.KindRequest:
				f.suspend(c, e.m, yield)
				return
			}
			if !f.passLegacy(c, e.m, yield) {
				return
			}
		}
	}
}

// passLegacy yields a message of a server with sessions as a stateless client may see it.
func (f *flow) passLegacy(c *parkedCall, m *warder.Message, yield func(*warder.Message, error) bool) bool {
	var err error
	switch {
	case m.IsAnswer():
		if m, err = wire.WithID(m, f.x.Request.IDBytes(), f.g.limits); err == nil {
			m, err = wire.ResultToModern(m, f.x.Request.Method, f.g.limits)
		}
	case m.Method == wire.NotifyMessage && !f.x.Request.Meta.Get(wire.MetaLogLevel).Present():
		return true // no level, no log messages (2026-07-28)
	case m.Method == wire.NotifyCancelled:
		return true // of a question that the client sees as part of a result
	}
	if !yield(m, err) || err != nil {
		c.cancel(errCancelled)
		return false
	}
	return true
}

// suspend parks the call and answers with the server's question.
func (f *flow) suspend(c *parkedCall, m *warder.Message, yield func(*warder.Message, error) bool) {
	key := "q" + strconv.Itoa(len(c.asked)+1)
	c.asked = map[string][]byte{key: bytes.Clone(m.IDBytes())}
	c.question = wire.Question{Key: key, Method: m.Method, Params: m.At(m.ParamsSpan)}
	if !f.g.parked.put(c) {
		c.cancel(errCancelled)
		yield(nil, warder.Fail(warder.CodeRateLimited, "too_many_suspended_calls", nil))
		return
	}
	raw := wire.InputRequired(f.x.Request.IDBytes(), []wire.Question{c.question}, parkPrefix+c.id)
	out, err := wire.Decode(raw, f.g.limits)
	if !yield(out, err) || err != nil {
		if f.g.parked.take(c.id, c.owner, c.server) != nil {
			c.cancel(errCancelled) // the question was refused on its way to the client
		}
	}
}

// Asked returns the question that the inputResponses of x.Request answer, if its call waits here.
func (g *Gate) Asked(x *warder.Exchange) (questions []wire.Question, ok bool) {
	state, _ := wire.At(x.Request, x.Request.Params.Get("requestState")).Text()
	id, parked := strings.CutPrefix(state, parkPrefix)
	if !parked {
		return nil, false
	}
	q, ok := g.parked.asked(id, x.Principal.Key())
	return []wire.Question{q}, ok
}

// resume hands the client's answers to a suspended call and follows it on.
func (f *flow) resume(ctx context.Context, state wire.Value) iter.Seq2[*warder.Message, error] {
	text, _ := state.Text()
	id, ok := strings.CutPrefix(text, parkPrefix)
	if !ok {
		return f.done(warder.Fail(warder.CodeInvalidParams, "unknown_state", nil))
	}
	c := f.g.parked.take(id, f.x.Principal.Key(), f.back.Server.Name)
	if c == nil {
		e := warder.Fail(warder.CodeInvalidParams, "state_expired", nil)
		e.Public = "The suspended call has ended; send the request again without requestState."
		return f.done(e)
	}
	m := f.x.Request
	responses := wire.At(m, m.Params.Get("inputResponses"))
	for key, serverID := range c.asked {
		v := responses.Get(key)
		raw := wire.Response(serverID, v.Raw())
		if !v.Exists() {
			raw = wire.ErrorResponse(serverID, warder.RPCInvalidParams, "The client did not answer.", nil)
		}
		f.reply(ctx, c.link, raw)
	}
	return f.follow(ctx, c)
}
