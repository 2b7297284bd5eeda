package record

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/wal"
)

// lateIntents holds the intents of calls without effect. When such a call ends within the delay, its
// one finished record says everything; when it takes longer, its intent is written then, so that no
// call is out of the trail for longer than the delay.
type lateIntents struct {
	delay time.Duration
	bound int // bytes that may be held
	write func([]byte) error
	now   func() time.Time

	mu    sync.Mutex
	open  map[*warder.Exchange]*lateIntent
	queue []*lateIntent // by due time; those that have ended are skipped
	held  int           // bytes
	free  [][]byte      // bodies to be used again
}

// A lateIntent is an encoded intent that may become superfluous.
type lateIntent struct {
	x     *warder.Exchange // nil once the exchange has ended
	due   time.Time
	body  []byte // nil when the intent is written
	marks marks  // for the finished record
}

func newLateIntents(delay time.Duration, bound int, write func([]byte) error) *lateIntents {
	return &lateIntents{
		delay: delay, bound: bound, write: write, now: time.Now,
		open: map[*warder.Exchange]*lateIntent{},
	}
}

// add holds the intent of x. The body is made by encode in memory that is used again.
func (q *lateIntents) add(x *warder.Exchange, at time.Time, m marks, encode func([]byte) []byte) error {
	q.mu.Lock()
	var body []byte
	if n := len(q.free); n > 0 {
		body, q.free = q.free[n-1], q.free[:n-1]
	}
	q.mu.Unlock()
	e := &lateIntent{x: x, due: at.Add(q.delay), body: encode(body), marks: m}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held+len(e.body) > q.bound {
		q.recycle(e.body)
		return wal.ErrFull
	}
	q.held += len(e.body)
	q.open[x] = e
	q.queue = append(q.queue, e)
	return nil
}

// written remembers the marks of an exchange whose intent is in the trail already.
func (q *lateIntents) written(x *warder.Exchange, m marks) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open[x] = &lateIntent{x: x, marks: m}
}

// end says that x has ended: its intent need not be written any more. It returns the marks made for
// the intent; ok is false when there was none.
func (q *lateIntents) end(x *warder.Exchange) (m marks, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.open[x]
	if e == nil {
		return m, false
	}
	delete(q.open, x)
	q.drop(e)
	return e.marks, true
}

// drop lets go of the body of an intent that was written or is superfluous.
func (q *lateIntents) drop(e *lateIntent) {
	q.held -= len(e.body)
	q.recycle(e.body)
	e.x, e.body = nil, nil
}

func (q *lateIntents) recycle(body []byte) {
	const spares, large = 256, 16 << 10
	if body != nil && len(q.free) < spares && cap(body) <= large {
		q.free = append(q.free, body[:0])
	}
}

// run writes intents that are due until ctx ends, and calls each after every round.
func (q *lateIntents) run(ctx context.Context, each func()) {
	tick := time.NewTicker(max(q.delay/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			q.sweep(q.now())
			each()
		}
	}
}

// flush writes every intent that is still open.
func (q *lateIntents) flush() { q.sweep(q.now().Add(24 * time.Hour)) }

// sweep writes the intents that are due. One that cannot be written now stays for the next round.
func (q *lateIntents) sweep(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for ; n < len(q.queue) && !q.queue[n].due.After(now); n++ {
		e := q.queue[n]
		if e.body == nil {
			continue
		}
		if q.write(e.body) != nil {
			break
		}
		x := e.x
		q.drop(e)
		e.x = x // still open: its finished record will want the marks
	}
	q.queue = slices.Delete(q.queue, 0, n)
}

// A limiter lets a bounded number of records a second pass and counts the rest. It keeps those who
// never identified themselves from filling the disk.
type limiter struct {
	second     atomic.Int64
	passed     atomic.Int64
	suppressed atomic.Uint64
	reported   uint64 // owned by the caller of report
}

// unidentifiedPerSecond is the number of refusals without a principal that are recorded one by one.
const unidentifiedPerSecond = 200

func (l *limiter) allow(now time.Time) bool {
	if s := now.Unix(); l.second.Swap(s) != s {
		l.passed.Store(0)
	}
	if l.passed.Add(1) <= unidentifiedPerSecond {
		return true
	}
	l.suppressed.Add(1)
	return false
}

// report returns how many were suppressed since it last said so, at most once a second.
func (l *limiter) report(now time.Time) uint64 {
	if l.second.Load() == now.Unix() {
		return 0
	}
	n := l.suppressed.Load() - l.reported
	l.reported += n
	return n
}
