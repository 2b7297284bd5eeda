package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
)

// The live exchanges of a gate are those whose request was judged and whose answer has not ended. They
// are looked at again while they last: at every interval, and at once when something was revoked. What
// does not pass any more is cut, whether or not a message is on its way.

// liveShards keeps exchanges that begin and end at the same time apart. A power of two.
const liveShards = 64

// A live is the place of an exchange among those that last.
type live struct {
	next, prev *live
	x          *warder.Exchange
	cut        context.CancelCauseFunc // ends the exchange
	reviewed   time.Time               // guarded by the shard
	verdict    atomic.Pointer[verdict] // why it was cut
}

// A verdict is what a review that ended an exchange had to say.
type verdict struct {
	decisions []warder.Decision
	trail     []warder.Step
}

type liveShard struct {
	mu   sync.Mutex
	head live // of a ring
	_    [64]byte
}

// A liveSet holds the live exchanges of a gate.
type liveSet struct {
	shards [liveShards]liveShard
	turn   atomic.Uint32
}

func newLiveSet() *liveSet {
	s := &liveSet{}
	for i := range s.shards {
		h := &s.shards[i].head
		h.next, h.prev = h, h
	}
	return s
}

// join adds an exchange whose request was judged; leave takes it out.
func (s *liveSet) join(l *live, now time.Time) *liveShard {
	shard := &s.shards[s.turn.Add(1)%liveShards]
	l.reviewed = now
	shard.mu.Lock()
	l.prev, l.next = &shard.head, shard.head.next
	l.next.prev, shard.head.next = l, l
	shard.mu.Unlock()
	return shard
}

func (s *liveShard) leave(l *live) {
	s.mu.Lock()
	l.prev.next, l.next.prev = l.next, l.prev
	l.next, l.prev = nil, nil
	s.mu.Unlock()
}

// due lists the exchanges that were last looked at before a moment, with a copy of each as it was
// forwarded, and notes that they are looked at now.
func (s *liveSet) due(before, now time.Time) (list []*live, copies []*warder.Exchange) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for l := shard.head.next; l != &shard.head; l = l.next {
			if l.reviewed.After(before) {
				continue
			}
			l.reviewed = now
			list, copies = append(list, l), append(copies, forwarded(l.x))
		}
		shard.mu.Unlock()
	}
	return list, copies
}

// forwarded copies what does not change any more once a request was judged.
func forwarded(x *warder.Exchange) *warder.Exchange {
	return &warder.Exchange{
		ID: x.ID, Received: x.Received, Door: x.Door, From: x.From, Conn: x.Conn, Revision: x.Revision,
		Session: x.Session, Parent: x.Parent, Endpoint: x.Endpoint, Trace: x.Trace, Client: x.Client,
		Server: x.Server, Inbound: x.Inbound, Request: x.Request, Principal: x.Principal, Tool: x.Tool,
		Grant: x.Grant, Purpose: x.Purpose, Approval: x.Approval, Risk: x.Risk, Budget: x.Budget,
	}
}

// watched makes the exchange one that is looked at again until the returned function is called. What was
// revoked while its request was judged, which may take as long as a person needs to approve it, ends it here.
func (f *flow) watched() (end func(), failure *warder.Error) {
	if f.cut == nil || len(f.g.chain.review) == 0 {
		return func() {}, nil
	}
	f.live = &live{x: f.x, cut: f.cut}
	shard := f.g.live.join(f.live, f.g.now())
	end = func() { shard.leave(f.live) }
	if f.g.signals.Load() == f.signals {
		return end, nil
	}
	x := forwarded(f.x)
	if failure = f.g.reviewOne(x); failure != nil {
		f.live.verdict.Store(&verdict{decisions: x.Decisions, trail: x.Trail})
	}
	return end, failure
}

// reviewed adds what a review said to the record of the exchange.
func (f *flow) reviewed() {
	if f.live == nil {
		return
	}
	if v := f.live.verdict.Load(); v != nil {
		f.x.Decisions = append(f.x.Decisions, v.decisions...)
		f.x.Trail = append(f.x.Trail, v.trail...)
	}
}

// ReviewOn starts to look again at exchanges that last, at the interval of the configuration and
// whenever the channel that changed returns is closed. It is called at most once, before the gate
// serves.
func (g *Gate) ReviewOn(changed func() <-chan struct{}) {
	if len(g.chain.review) == 0 {
		return
	}
	g.work.Go(func() { g.reviewLoop(changed) })
}

func (g *Gate) reviewLoop(changed func() <-chan struct{}) {
	tick := time.NewTicker(g.cfg.Review / 4)
	defer tick.Stop()
	for {
		signal := changed()
		select {
		case <-g.stop.Done():
			return
		case <-signal:
			g.signals.Add(1)
			g.review(g.now())
		case <-tick.C:
			g.review(g.now().Add(-g.cfg.Review))
		}
	}
}

// review looks at every exchange that was last looked at before a moment.
func (g *Gate) review(before time.Time) {
	list, copies := g.live.due(before, g.now())
	for i, l := range list {
		if failure := g.reviewOne(copies[i]); failure != nil {
			l.verdict.Store(&verdict{decisions: copies[i].Decisions, trail: copies[i].Trail})
			l.cut(failure)
		}
	}
}

func (g *Gate) reviewOne(x *warder.Exchange) (failure *warder.Error) {
	ctx, cancel := context.WithTimeout(g.stop, g.cfg.Review)
	defer cancel()
	defer g.survive(ctx, x.ID, &failure)
	return g.chain.Review(ctx, x)
}
