package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"time"
)

// Kinds of damage.
const (
	DamageRecord  = "record"  // a record fails its checksum or is cut
	DamageHeader  = "header"  // a segment's header is unreadable or of another log
	DamageGap     = "gap"     // sequence numbers are missing
	DamageOrder   = "order"   // a sequence number comes again or too late
	DamageChain   = "chain"   // a record does not continue the chain of the one before
	DamageTrailer = "trailer" // bytes after the last record of a closed segment
	DamageTorn    = "torn"    // the end of the newest segment is a record that was not finished
)

// A DamageError is one place where the files are not as they were written.
type DamageError struct {
	Kind    string
	Seq     uint64 // sequence number expected at this place
	Found   uint64 // sequence number found, for DamageGap and DamageOrder
	Segment string
	Offset  int64
}

// Error describes the place.
func (d *DamageError) Error() string {
	return fmt.Sprintf("write-ahead file %s at byte %d: %s damaged, expected record %d", d.Segment, d.Offset, d.Kind, d.Seq)
}

// Records yields the records of the log in dir from sequence number from on, and stops with a
// *[DamageError] at the first that is not sound, except for a torn end, which is the end. It reads what is
// in the files at this moment, durable or not, and works while another process appends.
func Records(dir string, from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		next := from
		for r, err := range scan(dir, from) {
			if d, ok := errors.AsType[*DamageError](err); ok && d.Kind == DamageTorn {
				return
			}
			if err != nil {
				yield(Record{Seq: next}, err)
				return
			}
			if r.Seq < from {
				continue
			}
			if !yield(r, nil) {
				return
			}
			next = r.Seq + 1
		}
	}
}

// Scan yields every sound record of the log in dir and, between them, every *[DamageError]. After a
// damage it goes on with the next record it can find.
func Scan(dir string) iter.Seq2[Record, error] { return scan(dir, 0) }

// scan reads from the segment that holds sequence number from.
func scan(dir string, from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			yield(Record{}, fmt.Errorf("open write-ahead folder: %w", err))
			return
		}
		defer root.Close()
		names, err := segments(root)
		if err != nil {
			yield(Record{}, err)
			return
		}
		names = names[startAt(names, from):]
		s := scanner{table: castagnoli(), yield: yield}
		for i, name := range names {
			last := i == len(names)-1
			b, err := readSegment(root, name, last)
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !s.segment(name, b, last) {
				return
			}
		}
	}
}

// readSegment reads a whole segment. The newest one may be read in the middle of a write, which shows
// as damage that is gone a moment later; such a read is repeated.
func readSegment(root *os.Root, name string, last bool) ([]byte, error) {
	const tries, pause = 6, 5 * time.Millisecond
	for n := 1; ; n++ {
		b, err := root.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read segment: %w", err)
		}
		if !last || n == tries || settled(b) {
			return b, nil
		}
		time.Sleep(pause)
	}
}

// settled reports whether a segment consists of sound records with nothing behind them.
func settled(b []byte) bool {
	table := castagnoli()
	for off := segmentHeader; off < len(b); {
		_, size, ok := parseFrame(b[off:], table)
		if !ok {
			return allZero(b[off:])
		}
		off += size
	}
	return true
}

// startAt is the index of the last segment whose first record is not after from.
func startAt(names []string, from uint64) int {
	start := 0
	for i, name := range names {
		if name <= segmentName(from) {
			start = i
		}
	}
	return start
}

// A scanner walks segments in memory.
type scanner struct {
	table   *crc32.Table
	yield   func(Record, error) bool
	started bool
	id      ID
	next    uint64
	chain   Hash
}

// segment walks one segment; false means the consumer wants no more.
func (s *scanner) segment(name string, b []byte, last bool) bool {
	h, err := parseHeader(b, s.table)
	if err != nil || (s.started && h.id != s.id) || segmentName(h.first) != name {
		if !s.yield(Record{}, &DamageError{Kind: DamageHeader, Seq: s.next, Segment: name}) {
			return false
		}
		h = header{id: s.id, first: s.next, chain: s.chain}
	}
	if !s.started {
		s.started, s.id, s.next, s.chain = true, h.id, h.first, h.chain
	}
	off := segmentHeader
	for off < len(b) {
		r, size, ok := parseFrame(b[off:], s.table)
		if size == 0 { // end mark or less than a header
			return s.tail(name, b, off, last)
		}
		if !ok {
			skip := s.resync(b[off:])
			d := &DamageError{Kind: DamageRecord, Seq: s.next, Segment: name, Offset: int64(off)}
			if skip == 0 && last {
				d.Kind = DamageTorn
			}
			if !s.yield(Record{}, d) {
				return false
			}
			if skip == 0 {
				return true
			}
			s.step(b[off:], skip)
			off += skip
			continue
		}
		r.Segment, r.Offset = name, int64(off)
		if !s.place(r) {
			return false
		}
		off += size
	}
	return true
}

// step accounts for a damaged record that was skipped: the number of the next record tells how many
// were lost, and its chain cannot be judged.
func (s *scanner) step(b []byte, skip int) {
	r, _, ok := parseFrame(b[skip:], s.table)
	if ok && r.Seq > s.next {
		s.next = r.Seq
	}
	s.chain = Hash{}
}

// tail judges what stands behind the end mark: zeros, or something that was written there.
func (s *scanner) tail(name string, b []byte, off int, last bool) bool {
	skip := s.resync(b[off:])
	if skip > 0 {
		if !s.yield(Record{}, &DamageError{Kind: DamageRecord, Seq: s.next, Segment: name, Offset: int64(off)}) {
			return false
		}
		s.step(b[off:], skip)
		return s.rest(name, b, off+skip, last)
	}
	if last || allZero(b[off:]) {
		return true
	}
	return s.yield(Record{}, &DamageError{Kind: DamageTrailer, Seq: s.next, Segment: name, Offset: int64(off)})
}

// rest walks on behind a hole.
func (s *scanner) rest(name string, b []byte, off int, last bool) bool {
	for off < len(b) {
		r, size, ok := parseFrame(b[off:], s.table)
		if !ok || size == 0 {
			return s.tail(name, b, off, last)
		}
		r.Segment, r.Offset = name, int64(off)
		if !s.place(r) {
			return false
		}
		off += size
	}
	return true
}

// place checks a sound record against its predecessor and yields both verdict and record.
func (s *scanner) place(r Record) bool {
	d := DamageError{Seq: s.next, Found: r.Seq, Segment: r.Segment, Offset: r.Offset}
	switch {
	case r.Seq > s.next:
		d.Kind = DamageGap
	case r.Seq < s.next:
		d.Kind = DamageOrder
	case s.chain != Hash{} && link(s.chain, r.Leaf) != r.Chain:
		d.Kind = DamageChain
	}
	if d.Kind != "" && !s.yield(Record{}, &d) {
		return false
	}
	if d.Kind != DamageOrder { // a misplaced record says nothing about those behind it
		s.next, s.chain = r.Seq+1, r.Chain
	}
	return s.yield(r, nil)
}

// resync finds the next sound record behind a damaged one, within the bytes of a segment; 0 means
// there is none.
func (s *scanner) resync(b []byte) int {
	for off := 1; off+frameHeader <= len(b); off++ {
		n := binary.LittleEndian.Uint32(b[off:])
		if n == 0 || n > MaxPayload || int64(off)+frameHeader+int64(n) > int64(len(b)) {
			continue
		}
		seq := binary.LittleEndian.Uint64(b[off+frameSeq:])
		if seq > s.next+(1<<32) {
			continue
		}
		if _, _, ok := parseFrame(b[off:], s.table); ok {
			return off
		}
	}
	return 0
}

// parseFrame reads the frame at the start of b. Size is 0 at an end mark or when less than a header
// is left; ok says whether the record is sound.
func parseFrame(b []byte, table *crc32.Table) (r Record, size int, ok bool) {
	if len(b) < frameHeader {
		return r, 0, false
	}
	le := binary.LittleEndian
	n := le.Uint32(b)
	if n == 0 {
		return r, 0, false
	}
	if n > MaxPayload || int64(n) > int64(len(b)-frameHeader) {
		return r, len(b), false
	}
	size = frameHeader + int(n)
	frame := b[:size]
	if crc32.Checksum(frame[frameSeq:], table) != le.Uint32(frame[frameCRC:]) {
		return r, size, false
	}
	r = Record{
		Seq:     le.Uint64(frame[frameSeq:]),
		Time:    time.Unix(0, int64(le.Uint64(frame[frameTime:]))).UTC(),
		Link:    Link{Leaf: sha256.Sum256(frame[frameTime:])},
		Payload: frame[frameHeader:],
	}
	copy(r.Chain[:], frame[frameChain:])
	return r, size, true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// readAll reads an open segment.
func readAll(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}
