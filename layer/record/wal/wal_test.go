package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, dir string, o Options) (*Log, Recovery) {
	t.Helper()
	o.ID = ID{1, 2, 3}
	l, rec, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l, rec
}

func payloads(t *testing.T, dir string) []string {
	t.Helper()
	var got []string
	for r, err := range Records(dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Seq != uint64(len(got)) {
			t.Fatalf("sequence number %d at place %d", r.Seq, len(got))
		}
		got = append(got, string(r.Payload))
	}
	return got
}

func TestAppendAndReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var want []string
	for range 3 {
		l, rec := open(t, dir, Options{SegmentBytes: 2048})
		if rec.Next != uint64(len(want)) || rec.Cut != 0 {
			t.Fatalf("recovery %+v, want next %d", rec, len(want))
		}
		for range 50 {
			p := fmt.Sprintf("record %d %s", len(want), bytes.Repeat([]byte("x"), len(want)%90))
			want = append(want, p)
			if len(want)%3 == 0 {
				if err := l.Append([]byte(p)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			seq, err := l.AppendSync(t.Context(), []byte(p))
			if err != nil || seq != uint64(len(want)-1) {
				t.Fatalf("AppendSync = %d, %v", seq, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(want, payloads(t, dir)); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*.wal"))
	if len(names) < 4 {
		t.Errorf("%d segments, want rotation", len(names))
	}
	for _, n := range names {
		if st, _ := os.Stat(n); st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", n, st.Mode())
		}
	}
	from := 0
	for r, err := range Records(dir, 77) {
		if err != nil || r.Seq != uint64(77+from) {
			t.Fatalf("Records from 77: %d, %v", r.Seq, err)
		}
		from++
	}
	if from != 73 {
		t.Errorf("%d records from 77, want 73", from)
	}
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	const workers, each = 32, 40
	var wg sync.WaitGroup
	seen := make([]bool, workers*each)
	var mu sync.Mutex
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				seq, err := l.AppendSync(t.Context(), fmt.Appendf(nil, "%d/%d", w, i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[seq] {
					t.Errorf("sequence number %d given twice", seq)
				}
				seen[seq] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	st := l.Stats()
	t.Logf("%d records, %d syncs: %.1f records a sync", st.Records, st.Syncs, float64(st.Records)/float64(st.Syncs))
	if st.Records != workers*each || st.Syncs*2 > st.Records {
		t.Errorf("stats %+v: want every record and at least two records a sync", st)
	}
	if got := len(payloads(t, dir)); got != workers*each {
		t.Errorf("%d records on disk, want %d", got, workers*each)
	}
}

func TestAsynchronousRecordFollowsWithinDelay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, Options{FlushDelay: 20 * time.Millisecond})
	if err := l.Append([]byte("later")); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); l.Durable() == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 2*time.Second {
			t.Fatal("record not durable after 2 s")
		}
	}
}

func TestTornTailIsCutAndKept(t *testing.T) {
	t.Parallel()
	for name, tear := range map[string]func([]byte) []byte{
		"cut in the payload": func(b []byte) []byte { return b[:len(b)-3] },
		"cut in the header":  func(b []byte) []byte { return b[:len(b)-9-frameHeader+10] },
		"garbage":            func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xa5}, 300)...) },
		"bad checksum":       func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, _ := open(t, dir, Options{})
			for _, p := range []string{"first", "second", "third rec"} {
				if _, err := l.AppendSync(t.Context(), []byte(p)); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, segmentName(0))
			b, _ := os.ReadFile(file)
			if err := os.WriteFile(file, tear(b), 0o600); err != nil {
				t.Fatal(err)
			}
			l, rec := open(t, dir, Options{})
			if rec.Cut == 0 || rec.Saved == "" {
				t.Fatalf("recovery %+v does not report the cut", rec)
			}
			saved, err := os.ReadFile(filepath.Join(dir, rec.Saved))
			if err != nil || int64(len(saved)) != rec.Cut {
				t.Fatalf("saved tail %d bytes, %v; want %d", len(saved), err, rec.Cut)
			}
			if _, err := l.AppendSync(t.Context(), []byte("after")); err != nil {
				t.Fatal(err)
			}
			want := []string{"first", "second", "third rec", "after"}
			if name != "garbage" {
				want = []string{"first", "second", "after"}
			}
			if d := cmp.Diff(want, payloads(t, dir)); d != "" {
				t.Errorf("records (-want +got):\n%s", d)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	l, _ := open(t, t.TempDir(), Options{QueueBytes: 1000, FlushDelay: time.Hour})
	var err error
	n := 0
	for ; err == nil; n++ {
		err = l.Append(make([]byte, 100))
	}
	if !errors.Is(err, ErrFull) || n != 1000/156+1 {
		t.Errorf("append %d: %v, want ErrFull", n, err)
	}
	if err := l.Healthy(100); !errors.Is(err, ErrFull) {
		t.Errorf("Healthy = %v, want ErrFull", err)
	}
	if err := l.Append(make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large record: %v, want ErrTooLarge", err)
	}
}

func TestStoreGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "wal")
	l, _, err := Open(dir, Options{ID: ID{9}, Retry: 5 * time.Millisecond, FlushDelay: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendSync(t.Context(), []byte("one")); err != nil {
		t.Fatal(err)
	}
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendSync(t.Context(), []byte("two")); !errors.Is(err, ErrBroken) {
		t.Fatalf("append without a store: %v, want ErrBroken", err)
	}
	if err := l.Append([]byte("kept")); err != nil {
		t.Fatalf("asynchronous append: %v", err)
	}
	if err := l.Healthy(0); !errors.Is(err, ErrBroken) {
		t.Fatalf("Healthy = %v, want ErrBroken", err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); l.Healthy(0) != nil; time.Sleep(time.Millisecond) {
		if time.Since(start) > 2*time.Second {
			t.Fatal("log does not recover")
		}
	}
	if _, err := l.AppendSync(t.Context(), []byte("three")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"one", "kept", "three"}, payloads(t, dir)); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}
