package wal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSegment feeds changed segments to reader and recovery: neither may panic or loop, the reader
// yields nothing but records that continue the chain, and what recovery accepts can be continued.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	l, _, err := Open(dir, Options{ID: ID{1, 2, 3}, SegmentBytes: 4096})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 5 {
		if _, err := l.AppendSync(f.Context(), bytes.Repeat([]byte{'a' + byte(i)}, 10+i)); err != nil {
			f.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, segmentName(0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, 0, byte(0))
	f.Add(whole[:200], 150, byte(9))
	f.Fuzz(func(t *testing.T, b []byte, at int, change byte) {
		if len(b) > 1<<16 {
			return
		}
		b = bytes.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= change
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(0)), b, fileMode); err != nil {
			t.Fatal(err)
		}
		for _, err := range Scan(dir) {
			_ = err // every damage is fine; the point is that the walk ends
		}
		before := readable(t, dir)
		l, rec, err := Open(dir, Options{ID: ID{1, 2, 3}, SegmentBytes: 4096})
		if err != nil {
			return
		}
		if int(rec.Next) != before {
			t.Fatalf("recovery keeps %d records, the reader sees %d", rec.Next, before)
		}
		if _, err := l.AppendSync(t.Context(), []byte("next")); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if after := readable(t, dir); after != before+1 {
			t.Fatalf("%d records after an append to %d", after, before)
		}
	})
}

func readable(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	chain := Genesis(ID{1, 2, 3})
	for r, err := range Records(dir, 0) {
		if d, ok := errors.AsType[*DamageError](err); ok {
			_ = d
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && !r.Follows(chain) {
			t.Fatalf("record %d does not continue the chain", r.Seq)
		}
		chain = r.Chain
		n++
	}
	return n
}
