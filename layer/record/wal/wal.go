package wal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of appending.
var (
	ErrClosed   = errors.New("write-ahead file is closed")
	ErrFull     = errors.New("write-ahead queue is full")
	ErrTooLarge = errors.New("record is larger than 1 MiB")
	ErrBroken   = errors.New("write-ahead file cannot be written")
)

// Options of a log. Zero fields mean the defaults.
type Options struct {
	ID           ID               // which log this is; required
	SegmentBytes int64            // size of a segment file in bytes; 16 MiB
	QueueBytes   int              // bytes that may wait for the disk before appends are refused; 8 MiB
	FlushDelay   time.Duration    // longest time until an asynchronous record is durable; 100 ms
	Gather       time.Duration    // longest extra wait for company under load; 2 ms
	Retry        time.Duration    // pause between attempts to write again after an error; 500 ms
	Now          func() time.Time // wall clock
	Logger       *slog.Logger
	// Durable is called by the committer after each commit with the first sequence number and the
	// links of the records that became durable, which it may keep. It must not block.
	Durable func(first uint64, links []Link)
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= segmentHeader {
		o.SegmentBytes = 16 << 20
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 8 << 20
	}
	if o.FlushDelay <= 0 {
		o.FlushDelay = 100 * time.Millisecond
	}
	if o.Gather <= 0 {
		o.Gather = 2 * time.Millisecond
	}
	if o.Retry <= 0 {
		o.Retry = 500 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Durable == nil {
		o.Durable = func(uint64, []Link) {}
	}
	return o
}

// A Recovery says what was found when a log was opened.
type Recovery struct {
	Next  uint64    // sequence number of the next record
	Last  time.Time // clock of the last record; zero if there is none
	Cut   int64     // bytes behind the last sound record that were cut off
	Saved string    // file in the folder that keeps the cut bytes; empty if nothing was cut
}

// Stats counts the work of a log since it was opened.
type Stats struct {
	Records uint64 // made durable
	Bytes   uint64 // made durable
	Syncs   uint64 // calls of fdatasync, one per group
	Errors  uint64 // failed commits
	Refused uint64 // appends refused: queue full or file broken
	Pending int    // bytes that wait for the disk now
}

// A Log appends records. It is safe for concurrent use.
type Log struct {
	opts  Options
	table *crc32.Table
	dir   string
	root  *os.Root

	mu     sync.Mutex
	cur    *batch
	spare  *batch
	failed error // why the file cannot be written now
	closed bool

	wake    chan struct{} // one token: somebody waits, or much has gathered
	timer   *time.Timer   // flush of asynchronous records
	closing chan struct{}
	done    chan struct{}

	// Owned by the committer.
	file        *os.File
	name        string // of file in dir
	off         int64  // end of the durable part of file
	next        uint64
	chain       Hash
	lastWaiters int
	syncTime    time.Duration

	durable                                 atomic.Uint64 // next, as others see it
	records, bytes, syncs, failures, refuse atomic.Uint64
}

// A batch is what one fdatasync makes durable.
type batch struct {
	buf     []byte // frames with room for their headers
	frames  []int  // end of each frame in buf
	waits   []bool // whether somebody waits for the frame
	waiters int
	first   uint64 // sequence number of the first frame; set when durable
	err     error
	done    chan struct{}
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// reset makes a batch ready for new frames; its buffers are kept unless they grew out of proportion.
func (b *batch) reset() {
	const keep = 2 << 20
	if cap(b.buf) > keep {
		b.buf = nil
	}
	b.buf, b.frames, b.waits = b.buf[:0], b.frames[:0], b.waits[:0]
	b.waiters, b.first, b.err, b.done = 0, 0, nil, make(chan struct{})
}

func (b *batch) add(payload []byte, wait bool) int {
	var room [frameHeader]byte
	b.buf = append(b.buf, room[:]...)
	b.buf = append(b.buf, payload...)
	b.frames = append(b.frames, len(b.buf))
	b.waits = append(b.waits, wait)
	if wait {
		b.waiters++
	}
	return len(b.frames) - 1
}

// Open opens the log in dir, which is created if it is missing, repairs a torn tail, and starts the
// committer. Only one process may have a log open; the caller sees to that.
func Open(dir string, opts Options) (*Log, Recovery, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, Recovery{}, fmt.Errorf("create write-ahead folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("open write-ahead folder: %w", err)
	}
	l := &Log{
		opts: opts.withDefaults(), table: castagnoli(), dir: dir, root: root,
		cur: newBatch(), spare: newBatch(),
		wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	l.timer.Stop()
	rec, err := l.restore()
	if err != nil {
		return nil, rec, errors.Join(err, root.Close())
	}
	l.durable.Store(l.next)
	go l.commitLoop()
	return l, rec, nil
}

// Genesis is the chain before the first record of a log.
func Genesis(id ID) Hash {
	return sha256.Sum256(append([]byte("warder write-ahead file v1\x00"), id[:]...))
}

// restore finds the end of the log and makes it writable again.
func (l *Log) restore() (Recovery, error) {
	names, err := segments(l.root)
	if err != nil {
		return Recovery{}, err
	}
	l.chain = Genesis(l.opts.ID)
	if len(names) == 0 {
		return Recovery{}, l.create(header{id: l.opts.ID, chain: l.chain})
	}
	name := names[len(names)-1]
	f, err := l.root.OpenFile(name, os.O_RDWR, fileMode)
	if err != nil {
		return Recovery{}, fmt.Errorf("open segment: %w", err)
	}
	rec, err := l.resume(f, name)
	if err != nil {
		return rec, errors.Join(err, f.Close())
	}
	l.file, l.name = f, name
	return rec, nil
}

// resume reads the last segment, cuts what is behind its last sound record, and continues there.
// The cut bytes are kept in a file of their own.
func (l *Log) resume(f *os.File, name string) (Recovery, error) {
	h, err := readHeader(f, l.table)
	if err != nil {
		return Recovery{}, fmt.Errorf("segment %s: %w", name, err)
	}
	if h.id != l.opts.ID || segmentName(h.first) != name {
		return Recovery{}, fmt.Errorf("segment %s belongs to another log or place", name)
	}
	b, err := readAll(f)
	if err != nil {
		return Recovery{}, fmt.Errorf("read segment %s: %w", name, err)
	}
	l.next, l.chain, l.off = h.first, h.chain, segmentHeader
	rec := Recovery{}
	for {
		r, size, ok := parseFrame(b[l.off:], l.table)
		if !ok {
			break
		}
		if r.Seq != l.next || link(l.chain, r.Leaf) != r.Chain {
			// The checksum is right, so this is no torn write: somebody changed the file.
			return rec, &DamageError{Kind: DamageChain, Seq: l.next, Found: r.Seq, Segment: name, Offset: l.off}
		}
		l.next, l.chain, l.off, rec.Last = r.Seq+1, r.Chain, l.off+int64(size), r.Time
	}
	rec.Next = l.next
	if tail := bytes.TrimRight(b[l.off:], "\x00"); len(tail) > 0 {
		rec.Cut = int64(len(tail))
		rec.Saved = fmt.Sprintf("%s.torn-%d-%d", name, l.off, l.opts.Now().Unix())
		if err := l.save(rec.Saved, tail); err != nil {
			return rec, fmt.Errorf("keep torn tail: %w", err)
		}
	}
	if err := f.Truncate(l.off); err != nil {
		return rec, fmt.Errorf("cut segment %s: %w", name, err)
	}
	if err := preallocate(f, l.off, l.opts.SegmentBytes); err != nil {
		return rec, fmt.Errorf("segment %s: %w", name, err)
	}
	return rec, f.Sync()
}

func (l *Log) save(name string, b []byte) error {
	f, err := l.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close(), l.syncDir())
}

// Append queues a record; it is durable within Options.FlushDelay. The payload may be reused when
// Append returns. An error means that the record was not taken.
func (l *Log) Append(payload []byte) error {
	_, _, err := l.add(payload, false)
	return err
}

// AppendSync appends a record and returns its sequence number once it is durable. When ctx ends
// first, the record may still become durable.
func (l *Log) AppendSync(ctx context.Context, payload []byte) (uint64, error) {
	b, i, err := l.add(payload, true)
	if err != nil {
		return 0, err
	}
	select {
	case <-b.done:
		if b.err != nil {
			return 0, fmt.Errorf("%w: %w", ErrBroken, b.err)
		}
		return b.first + uint64(i), nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Healthy returns nil when records are accepted, and otherwise why not. Room is the number of bytes
// that must still fit into the queue.
func (l *Log) Healthy(room int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal(room, true)
}

func (l *Log) refusal(room int, wait bool) error {
	switch {
	case l.closed:
		return ErrClosed
	case wait && l.failed != nil:
		return fmt.Errorf("%w: %w", ErrBroken, l.failed)
	case len(l.cur.buf)+frameHeader+room > l.opts.QueueBytes:
		return ErrFull
	default:
		return nil
	}
}

func (l *Log) add(payload []byte, wait bool) (*batch, int, error) {
	if len(payload) == 0 || len(payload) > MaxPayload {
		return nil, 0, ErrTooLarge
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusal(len(payload), wait); err != nil {
		l.refuse.Add(1)
		return nil, 0, err
	}
	b := l.cur
	i := b.add(payload, wait)
	const much = 256 << 10
	switch {
	case wait || len(b.buf) > much:
		l.signal()
	case i == 0:
		l.timer.Reset(l.opts.FlushDelay)
	}
	return b, i, nil
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Durable is the number of records that are durable: the sequence number of the next one.
func (l *Log) Durable() uint64 { return l.durable.Load() }

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	pending := len(l.cur.buf)
	l.mu.Unlock()
	return Stats{
		Records: l.records.Load(), Bytes: l.bytes.Load(), Syncs: l.syncs.Load(),
		Errors: l.failures.Load(), Refused: l.refuse.Load(), Pending: pending,
	}
}

// Close makes everything queued durable and releases the files. The error says whether records were
// lost.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	close(l.closing)
	<-l.done
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost error
	if n := len(l.cur.frames); n > 0 {
		lost = fmt.Errorf("close write-ahead file: %d records lost: %w", n, l.failed)
	}
	var closed error
	if l.file != nil {
		closed = errors.Join(l.file.Truncate(l.off), l.file.Sync(), l.file.Close())
	}
	return errors.Join(lost, closed, l.root.Close())
}
