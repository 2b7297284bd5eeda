package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder/layer/record/tlog"
	"github.com/warder-mcp/warder/layer/record/wal"
)

const (
	integrateEvery = 500 * time.Millisecond // one tree update costs about a millisecond of processor time
	integratePause = 5 * time.Second        // after an error
	publishPoll    = 20 * time.Millisecond  // while somebody waits for a checkpoint
	maxRemembered  = 1 << 16                // links kept in memory; more are read back from the file
)

// An integrator carries durable records into the tree, in order. What it has not remembered, it reads
// back from the write-ahead file, which is also how it catches up after a crash.
type integrator struct {
	tree   *tlog.Tree
	dir    string
	logger *slog.Logger
	next   atomic.Uint64 // records in the tree

	mu      sync.Mutex
	first   uint64 // sequence number of links[0]
	links   []wal.Link
	waiters []waiter
	kick    chan struct{}
}

// A waiter wants its record under a checkpoint.
type waiter struct {
	seq  uint64
	size uint64 // tree size that holds the record; 0 until integrated
	done chan struct{}
}

func newIntegrator(tree *tlog.Tree, dir string, logger *slog.Logger) *integrator {
	g := &integrator{tree: tree, dir: dir, logger: logger, kick: make(chan struct{}, 1)}
	next, _ := tree.Next()
	g.next.Store(next)
	return g
}

// durable takes over links from the committer.
func (g *integrator) durable(first uint64, links []wal.Link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(g.links) == 0:
		g.first = first
	case g.first+uint64(len(g.links)) != first || len(g.links)+len(links) > maxRemembered:
		g.first, g.links = first, nil // the rest is read back
	}
	g.links = append(g.links, links...)
}

// wait blocks until a checkpoint covers record seq.
func (g *integrator) wait(ctx context.Context, seq uint64) error {
	w := waiter{seq: seq, done: make(chan struct{})}
	g.mu.Lock()
	g.waiters = append(g.waiters, w)
	g.mu.Unlock()
	select {
	case g.kick <- struct{}{}:
	default:
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run integrates until ctx ends. It alone touches the tree.
func (g *integrator) run(ctx context.Context, durable func() uint64) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-g.kick:
		}
		pause := integrateEvery
		if err := g.catchUp(ctx, durable()); err != nil && ctx.Err() == nil {
			g.logger.ErrorContext(ctx, "audit records wait outside the signed tree", slog.Any("error", err))
			pause = integratePause
		}
		if g.release(ctx) {
			pause = publishPoll
		}
		timer.Reset(pause)
	}
}

// drain integrates what is left, after run has ended.
func (g *integrator) drain(ctx context.Context, until uint64) error {
	if err := g.catchUp(ctx, until); err != nil {
		return fmt.Errorf("integrate audit records: %w", err)
	}
	return nil
}

// catchUp brings every record below until into the tree.
func (g *integrator) catchUp(ctx context.Context, until uint64) error {
	for {
		next, _ := g.tree.Next()
		g.next.Store(next)
		if next >= until {
			return nil
		}
		block, err := g.block(next, until)
		if err != nil {
			return err
		}
		if err := g.tree.Add(ctx, block); err != nil {
			return err
		}
	}
}

// block makes the next block, from memory or else from the file.
func (g *integrator) block(next, until uint64) (tlog.Block, error) {
	b := tlog.Block{First: next}
	add := func(k wal.Link) {
		b.Prints = append(b.Prints, tlog.Print(k.Leaf[:len(tlog.Print{})]))
		b.Chain = k.Chain
	}
	n := min(until-next, tlog.MaxRecords)
	g.mu.Lock()
	if skip := next - g.first; next >= g.first && skip < uint64(len(g.links)) {
		part := g.links[skip:]
		part = part[:min(uint64(len(part)), n)]
		for _, k := range part {
			add(k)
		}
		g.links = append(g.links[:0:0], g.links[skip+uint64(len(part)):]...)
		g.first = next + uint64(len(part))
		g.mu.Unlock()
		return b, nil
	}
	g.mu.Unlock()
	for r, err := range wal.Records(g.dir, next) {
		if err != nil {
			return b, err
		}
		if r.Seq != b.Next() {
			return b, fmt.Errorf("record %d is missing", b.Next())
		}
		add(r.Link)
		if uint64(len(b.Prints)) == n {
			return b, nil
		}
	}
	if len(b.Prints) == 0 {
		return b, errors.New("durable records are not in the file")
	}
	return b, nil
}

// release tells those whose record is under a checkpoint; it reports whether others still wait.
func (g *integrator) release(ctx context.Context) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiters) == 0 {
		return false
	}
	published, err := g.tree.Published(ctx)
	if err != nil {
		published = 0
	}
	kept := g.waiters[:0]
	for _, w := range g.waiters {
		if w.size == 0 && w.seq < g.next.Load() {
			w.size = g.tree.Size()
		}
		if w.size > 0 && w.size <= published {
			close(w.done)
			continue
		}
		kept = append(kept, w)
	}
	g.waiters = kept
	return len(kept) > 0
}
