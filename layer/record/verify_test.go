package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/tlog"
	"github.com/warder-mcp/warder/layer/record/wal"
)

// A frame is one record as it stands in a segment, for an attacker who knows the format.
type frame []byte

const frameHead = 56

func (f frame) payload() []byte { return f[frameHead:] }

// forge returns a frame with another payload, number or clock and a checksum that fits.
func (f frame) forge(seq uint64, payload []byte, at time.Time, before [32]byte) (frame, [32]byte) {
	out := append(frame(nil), f[:frameHead]...)
	out = append(out, payload...)
	binary.LittleEndian.PutUint32(out, uint32(len(payload)))
	binary.LittleEndian.PutUint64(out[8:], seq)
	binary.LittleEndian.PutUint64(out[48:], uint64(at.UnixNano()))
	leaf := sha256.Sum256(out[48:])
	chain := sha256.Sum256(append(slices.Clone(before[:]), leaf[:]...))
	copy(out[16:], chain[:])
	binary.LittleEndian.PutUint32(out[4:], crc32.Checksum(out[8:], crc32.MakeTable(crc32.Castagnoli)))
	return out, chain
}

func (f frame) time() time.Time {
	return time.Unix(0, int64(binary.LittleEndian.Uint64(f[48:])))
}

// rechain forges a whole file: every record is renumbered and chained anew, as somebody would who may
// write the folder but has not the checkpoint key.
func rechain(fs []frame, genesis [32]byte) []frame {
	out := make([]frame, len(fs))
	for i, f := range fs {
		out[i], genesis = f.forge(uint64(i), f.payload(), f.time(), genesis)
	}
	return out
}

// attack changes the records of a closed trail of 40 records, all in one segment.
type attack func(fs []frame, genesis [32]byte) []frame

func swap(i, j int) func([]frame) []frame {
	return func(fs []frame) []frame { fs[i], fs[j] = fs[j], fs[i]; return fs }
}

func edit(i int) func([]frame) []frame {
	return func(fs []frame) []frame {
		f := slices.Clone(fs[i])
		copy(f[frameHead:], bytes.Replace(f.payload(), []byte("step-"), []byte("STEP-"), 1))
		fs[i] = f
		return fs
	}
}

func remove(i, j int) func([]frame) []frame {
	return func(fs []frame) []frame { return slices.Delete(fs, i, j) }
}

func plainly(change func([]frame) []frame) attack {
	return func(fs []frame, _ [32]byte) []frame { return change(fs) }
}

func cunningly(change func([]frame) []frame) attack {
	return func(fs []frame, genesis [32]byte) []frame { return rechain(change(fs), genesis) }
}

func TestVerifyLocates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		attack attack
		kind   string
		seq    uint64
		until  uint64
	}{
		{"edit", plainly(edit(17)), ProblemEdited, 17, 18},
		{"edit of the first record", plainly(edit(0)), ProblemEdited, 0, 1},
		{"edit with a new chain", cunningly(edit(17)), ProblemEdited, 17, 18},
		{"edit of the last record with a new chain", cunningly(edit(39)), ProblemEdited, 39, 40},
		{"delete", plainly(remove(20, 21)), ProblemDeleted, 20, 21},
		{"delete several", plainly(remove(20, 25)), ProblemDeleted, 20, 25},
		{"delete the first", plainly(remove(0, 3)), ProblemDeleted, 0, 3},
		{"delete with a new chain", cunningly(remove(20, 21)), ProblemDeleted, 20, 21},
		{"delete several with a new chain", cunningly(remove(20, 25)), ProblemDeleted, 20, 25},
		{"reorder", plainly(swap(8, 9)), ProblemReordered, 8, 9},
		{"reorder far apart", plainly(swap(8, 30)), ProblemReordered, 8, 30},
		{"reorder with a new chain", cunningly(swap(8, 30)), ProblemReordered, 8, 9},
		{"truncate", plainly(remove(35, 40)), ProblemTruncated, 35, 40},
		{"insert with a new chain", cunningly(func(fs []frame) []frame {
			f, _ := fs[3].forge(0, []byte(`{"id":"forged"}`), fs[3].time(), [32]byte{})
			return slices.Insert(fs, 12, f)
		}), ProblemInserted, 12, 13},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, key := trail(t, 40)
			change(t, dir, tt.attack)
			rep, err := Verify(t.Context(), dir, key)
			if err != nil {
				t.Fatal(err)
			}
			if rep.OK() || !slices.ContainsFunc(rep.Problems, func(p Problem) bool {
				return p.Kind == tt.kind && p.Seq == tt.seq && p.Until == tt.until
			}) {
				t.Errorf("problems %+v, want %s of records %d to %d", rep.Problems, tt.kind, tt.seq, tt.until)
			}
			if len(rep.Problems) > 4 {
				t.Errorf("%d problems for one change: %+v", len(rep.Problems), rep.Problems)
			}
		})
	}
}

// trail makes a closed trail of n records and returns its folder and verifier key.
func trail(t *testing.T, n int) (dir, key string) {
	t.Helper()
	dir = t.TempDir()
	l := openLog(t, dir, testConfig())
	for i := range n {
		if err := l.Emit(warder.Event{Type: warder.EventLifecycle, Detail: fmt.Sprintf("step-%02d", i)}); err != nil {
			t.Fatal(err)
		}
		if i%13 == 12 { // several commits and blocks
			if err := l.integrator.wait(t.Context(), uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeLog(t, l)
	rep, err := Verify(t.Context(), dir, l.VerifierKey())
	if err != nil || !rep.OK() || rep.Records != uint64(n) || rep.Covered != uint64(n) || len(rep.Warnings) != 0 {
		t.Fatalf("untouched trail: %+v, %v", rep, err)
	}
	return dir, l.VerifierKey()
}

// change rewrites the only segment.
func change(t *testing.T, dir string, a attack) {
	t.Helper()
	name := filepath.Join(walOf(dir), "0000000000000000.wal")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const head = 72
	var fs []frame
	for rest := b[head:]; len(rest) >= frameHead; {
		size := frameHead + int(binary.LittleEndian.Uint32(rest))
		fs = append(fs, frame(slices.Clone(rest[:size])))
		rest = rest[size:]
	}
	id, err := logID(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := slices.Clone(b[:head])
	for _, f := range a(fs, wal.Genesis(id)) {
		out = append(out, f...)
	}
	if bytes.Equal(out, b) {
		t.Fatal("the attack changed nothing")
	}
	if err := os.WriteFile(name, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyClockBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	l.now = time.Now
	closeLog(t, l)
	id, err := logID(dir)
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)
	w, _, err := wal.Open(walOf(dir), wal.Options{ID: id, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []time.Duration{0, time.Minute, -100 * time.Millisecond, -30 * time.Second, time.Hour} {
		clock = clock.Add(step)
		if _, err := w.AppendSync(t.Context(), []byte(`{"id":"x","time":"2026-07-28T00:00:00Z","type":"lifecycle"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), dir, l.VerifierKey())
	if err != nil || !rep.OK() {
		t.Fatalf("%+v, %v", rep, err)
	}
	if len(rep.Warnings) != 1 || rep.Warnings[0].Kind != ProblemClockBack || rep.Warnings[0].Seq != 3 || rep.Warnings[0].Detail != "by 30s" {
		t.Errorf("warnings %+v, want a clock set back before record 3", rep.Warnings)
	}
	l2 := openLog(t, dir, testConfig()) // the last record is in the future or past of this machine
	if back := time.Until(l2.recovery.Last); back > clockTolerance {
		if got := events(t, dir, Filter{Type: warder.EventLifecycle}); got[len(got)-1].Reason != "clock_back" {
			t.Errorf("no event about the clock: %+v", got[len(got)-1])
		}
	}
}

// TestVerifyForgedTree: whoever rewrites file and tree alike lacks the key of the checkpoints; whoever
// rolls the whole folder back is caught by a checkpoint that was kept elsewhere.
func TestVerifyForgedTree(t *testing.T) {
	t.Parallel()
	dir, key := trail(t, 30)
	_, foreign, err := tlog.GenerateKey("warder/other")
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), dir, foreign)
	if err != nil || rep.OK() || rep.Problems[0].Kind != ProblemCheckpoint {
		t.Errorf("foreign key: %+v, %v", rep.Problems, err)
	}

	old := t.TempDir()
	if err := os.CopyFS(filepath.Join(old, "copy"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, testConfig())
	if err := l.AppendWait(t.Context(), warder.Event{Type: warder.EventApproval, Target: "evil"}); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	kept, err := os.ReadFile(filepath.Join(dir, treeDir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(t.Context(), dir, key, kept); err != nil || !rep.OK() {
		t.Errorf("with its own earlier checkpoint: %+v, %v", rep.Problems, err)
	}
	if rep, err := Verify(t.Context(), filepath.Join(old, "copy"), key); err != nil || !rep.OK() {
		t.Errorf("an old copy is sound in itself: %+v, %v", rep.Problems, err)
	}
	rep, err = Verify(t.Context(), filepath.Join(old, "copy"), key, kept)
	if err != nil || rep.OK() || rep.Problems[0].Kind != ProblemCheckpoint {
		t.Errorf("rolled back folder: %+v, %v", rep.Problems, err)
	}
}

func TestVerifyTornEndIsNoProblem(t *testing.T) {
	t.Parallel()
	dir, key := trail(t, 10)
	f, err := os.OpenFile(filepath.Join(walOf(dir), "0000000000000000.wal"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte{7}, 200)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), dir, key)
	if err != nil || !rep.OK() || len(rep.Warnings) != 1 || rep.Warnings[0].Kind != ProblemTorn || rep.Warnings[0].Seq != 10 {
		t.Errorf("report %+v, %v", rep, err)
	}
	openLog(t, dir, testConfig())
	waitFor(t, "event about the torn end", func() bool {
		got := events(t, dir, Filter{Type: warder.EventLifecycle})
		return got[len(got)-1].Reason == "torn_end"
	})
}
