package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// errGone means that the files were taken away under the running log.
var errGone = errors.New("folder or segment is no longer there")

// commitLoop is the committer: it alone writes.
func (l *Log) commitLoop() {
	defer close(l.done)
	var retry <-chan time.Time
	for {
		select {
		case <-l.wake:
			l.gather()
		case <-l.timer.C:
		case <-retry:
			retry = nil
		case <-l.closing:
			l.finish()
			return
		}
		if retry != nil {
			continue // the pause after an error is not over
		}
		if err := l.commit(); err != nil {
			retry = time.After(l.opts.Retry)
		}
	}
}

// finish commits what is left at Close.
func (l *Log) finish() {
	if err := l.commit(); err != nil {
		l.opts.Logger.Error("audit records lost at close", slog.Any("error", err))
	}
}

// gather waits a little for company when the last group had some, because callers that were woken
// together tend to come back together. It never waits longer than two syncs or Options.Gather.
func (l *Log) gather() {
	if l.lastWaiters < 2 {
		return
	}
	limit := time.NewTimer(min(l.opts.Gather, 2*l.syncTime))
	defer limit.Stop()
	for {
		l.mu.Lock()
		enough := l.cur.waiters >= l.lastWaiters || l.failed != nil
		l.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-l.wake:
		case <-limit.C:
			return
		case <-l.closing:
			return
		}
	}
}

// commit makes the current batch durable and tells those who wait.
func (l *Log) commit() error {
	if err := l.repair(); err != nil {
		return err
	}
	l.mu.Lock()
	b := l.cur
	if len(b.frames) == 0 {
		l.mu.Unlock()
		return nil
	}
	l.cur = l.spare
	l.spare = nil
	l.mu.Unlock()

	links, err := l.write(b)
	if err != nil {
		l.fail(b, err)
		return err
	}
	l.lastWaiters = b.waiters
	b.first = l.next - uint64(len(b.frames))
	l.durable.Store(l.next)
	l.records.Add(uint64(len(b.frames)))
	l.bytes.Add(uint64(len(b.buf)))
	l.opts.Durable(b.first, links)
	close(b.done)
	l.recycle(b)
	return nil
}

// recycle gives the buffers of b to the next batch. Waiters still read b, so it is a new value.
func (l *Log) recycle(b *batch) {
	fresh := &batch{buf: b.buf, frames: b.frames, waits: b.waits}
	fresh.reset()
	l.mu.Lock()
	l.spare = fresh
	l.mu.Unlock()
}

// write seals the frames of b and makes them durable. Nothing of the committer's state changes
// unless it succeeds.
func (l *Log) write(b *batch) ([]Link, error) {
	if err := l.present(); err != nil {
		return nil, err
	}
	if l.off > segmentHeader && l.off+int64(len(b.buf)) > l.opts.SegmentBytes {
		if err := l.rotate(); err != nil {
			return nil, err
		}
	}
	links := make([]Link, len(b.frames))
	at, chain, start := l.opts.Now(), l.chain, 0
	for i, end := range b.frames {
		links[i] = seal(b.buf[start:end], l.next+uint64(i), at, chain, l.table)
		chain, start = links[i].Chain, end
	}
	if _, err := l.file.WriteAt(b.buf, l.off); err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	begin := time.Now()
	if err := syncData(l.file); err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	l.syncTime = (3*l.syncTime + time.Since(begin)) / 4
	l.syncs.Add(1)
	l.off += int64(len(b.buf))
	l.next += uint64(len(b.frames))
	l.chain = chain
	return links, nil
}

// present reports whether the file still stands where readers will look for it: a write into a
// deleted file succeeds, and would be lost.
func (l *Log) present() error {
	if l.file == nil {
		return errGone
	}
	want, err := l.file.Stat()
	if err != nil {
		return err
	}
	got, err := os.Stat(filepath.Join(l.dir, l.name))
	if err != nil || !os.SameFile(want, got) {
		return errGone
	}
	return nil
}

// rotate closes the current segment at its end and opens the next.
func (l *Log) rotate() error {
	old, end := l.file, l.off
	if err := l.create(header{id: l.opts.ID, first: l.next, chain: l.chain}); err != nil {
		return err
	}
	if err := errors.Join(old.Truncate(end), old.Close()); err != nil {
		l.opts.Logger.Warn("closing an audit segment failed", slog.Any("error", err))
	}
	return nil
}

// fail tells those who wait that their records were not written, and keeps the others for the next
// attempt, in order.
func (l *Log) fail(b *batch, err error) {
	l.failures.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
	later := l.cur
	kept := newBatch()
	for _, src := range []*batch{b, later} {
		start := 0
		for i, end := range src.frames {
			if !src.waits[i] {
				kept.add(src.buf[start+frameHeader:end], false)
			}
			start = end
		}
		src.err = err
		close(src.done)
	}
	l.cur, l.spare = kept, newBatch()
	l.lastWaiters = 0
	l.opts.Logger.Error("audit trail cannot be written; calls with effect are refused", slog.Any("error", err))
}

// repair makes the log writable after an error: the old segment is cut at its durable end and a new
// one is begun, because after a failed sync nobody knows what the old file holds.
func (l *Log) repair() error {
	l.mu.Lock()
	failed := l.failed
	l.mu.Unlock()
	if failed == nil {
		return nil
	}
	if l.file != nil {
		if err := l.present(); err != nil {
			return err
		}
		if err := errors.Join(l.file.Truncate(l.off), l.file.Sync()); err != nil {
			return err
		}
	}
	if l.off > segmentHeader {
		if err := l.rotate(); err != nil {
			return err
		}
	} else if err := preallocate(l.file, l.off, l.opts.SegmentBytes); err != nil {
		return err
	}
	l.mu.Lock()
	l.failed = nil
	l.mu.Unlock()
	l.opts.Logger.Info("audit trail can be written again")
	return nil
}
