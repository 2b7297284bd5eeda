package store

import (
	"context"
	"sync"
	"time"
)

// pollEvery is how often the feed asks whether another process wrote.
const pollEvery = time.Second

// A feed hints at changes. It hears of this process's writes at once, of those of others by polling,
// and sooner through a listener where the database has one. It works while somebody watches.
type feed struct {
	db     *DB
	listen func(ctx context.Context, heard func()) // nil without a listener; returns when ctx ends

	mu       sync.Mutex
	watchers map[chan struct{}]struct{}
	cancel   context.CancelFunc // nil until the first watcher
	closed   bool
	done     sync.WaitGroup
}

func newFeed(db *DB) *feed { return &feed{db: db, watchers: map[chan struct{}]struct{}{}} }

// watch returns a channel that receives hints until ctx ends.
func (f *feed) watch(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return c
	}
	f.watchers[c] = struct{}{}
	if f.cancel == nil {
		f.start(context.WithoutCancel(ctx))
	}
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		delete(f.watchers, c)
		f.mu.Unlock()
	})
	return c
}

func (f *feed) start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(ctx)
	f.done.Go(func() { f.poll(ctx) })
	if f.listen != nil {
		f.done.Go(func() { f.listen(ctx, f.hint) })
	}
}

// poll is what makes the feed complete: a lost notification costs at most one interval.
func (f *feed) poll(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := int64(-1)
	for {
		if seq, err := f.db.state.Latest(ctx); err == nil && seq != last { // an outage is seen by who needs the answer
			last = seq
			f.hint()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hint wakes the watchers. One that has not looked since the last hint has a hint already.
func (f *feed) hint() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// close stops the goroutines and waits for them.
func (f *feed) close() {
	f.mu.Lock()
	f.closed = true
	if f.cancel != nil {
		f.cancel()
	}
	f.mu.Unlock()
	f.done.Wait()
}
