package record

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/warder-mcp/warder/layer/record/tlog"
	"github.com/warder-mcp/warder/layer/record/wal"
)

// Kinds of problems that [Verify] finds.
const (
	ProblemEdited     = "edited"     // a record is not what was written
	ProblemDeleted    = "deleted"    // records are missing in the middle or at the start
	ProblemReordered  = "reordered"  // records stand in another place
	ProblemTruncated  = "truncated"  // records are missing at the end
	ProblemInserted   = "inserted"   // bytes or records that were never written by the log
	ProblemHeader     = "header"     // a file does not say that it belongs here
	ProblemCheckpoint = "checkpoint" // the signed tree itself is not sound
	ProblemClockBack  = "clock_back" // the clock was set back between two records
	ProblemTorn       = "torn"       // the end was being written when the process died
)

// A Problem is one place where the trail is not as it was written.
type Problem struct {
	Kind    string `json:"kind"`
	Seq     uint64 `json:"seq"`               // first record concerned
	Until   uint64 `json:"until"`             // first record behind it that is not concerned
	Segment string `json:"segment,omitempty"` // file, where known
	Offset  int64  `json:"offset,omitempty"`  // byte in the file
	Detail  string `json:"detail,omitempty"`
}

// A Report is what [Verify] found.
type Report struct {
	Origin   string    `json:"origin"`   // name of the log in its checkpoints
	Records  uint64    `json:"records"`  // sound records in the file
	Covered  uint64    `json:"covered"`  // records that the newest signed checkpoint covers
	First    time.Time `json:"first"`    // clock of the first record
	Last     time.Time `json:"last"`     // clock of the last record
	Problems []Problem `json:"problems"` // what must not be
	Warnings []Problem `json:"warnings"` // what an honest log can show: clock steps, a torn end
}

// OK reports whether the trail is as it was written, as far as the newest checkpoint covers it.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// Verify checks the trail in dir offline: the write-ahead file record by record, the signature of the
// newest checkpoint, the tree, and that the tree holds exactly the records of the file. Earlier
// checkpoints, kept elsewhere, also detect that the whole folder was rolled back. The error says that
// verification was not possible at all; what was found is in the report.
//
// It can be run beside a working gateway; records behind [Report.Covered] are then still on their way
// into the tree.
func Verify(ctx context.Context, dir, verifierKey string, earlier ...[]byte) (Report, error) {
	id, err := logID(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify audit trail: %w", err)
	}
	v := verifier{genesis: wal.Genesis(id)}
	cp, blocks, err := tlog.Read(ctx, filepath.Join(dir, treeDir), verifierKey, earlier...)
	if err != nil {
		v.problem(Problem{Kind: ProblemCheckpoint, Detail: err.Error()})
	}
	v.report.Origin = cp.Origin
	v.expect(blocks)
	for r, err := range wal.Scan(filepath.Join(dir, walDir)) {
		if d, ok := errors.AsType[*wal.DamageError](err); ok {
			v.damage(d)
			continue
		}
		if err != nil {
			return v.report, fmt.Errorf("verify audit trail: %w", err)
		}
		v.record(r)
	}
	v.finish()
	return v.report, nil
}

// A verifier walks the records beside the blocks of the tree.
type verifier struct {
	report   Report
	genesis  wal.Hash
	blocks   []tlog.Block
	at       int    // block that holds the next record, or the first behind it
	next     uint64 // sequence number expected
	lastTime time.Time
	differs  []difference
}

// A difference is a record that is not the one the tree holds in its place.
type difference struct {
	seq        uint64
	have, want tlog.Print
	segment    string
	offset     int64
}

func (v *verifier) problem(p Problem) {
	if p.Until <= p.Seq {
		p.Until = p.Seq + 1
	}
	v.report.Problems = append(v.report.Problems, p)
}

// expect checks that the blocks follow one another, and takes them as what should be there.
func (v *verifier) expect(blocks []tlog.Block) {
	for i, b := range blocks {
		if b.First != v.report.Covered {
			v.problem(Problem{
				Kind: ProblemCheckpoint, Seq: v.report.Covered,
				Detail: fmt.Sprintf("block %d of the tree begins with record %d", i, b.First),
			})
			blocks = blocks[:i]
			break
		}
		v.report.Covered = b.Next()
	}
	v.blocks = blocks
}

// damage turns what the file itself shows into a problem.
func (v *verifier) damage(d *wal.DamageError) {
	p := Problem{Seq: d.Seq, Segment: d.Segment, Offset: d.Offset}
	switch d.Kind {
	case wal.DamageGap:
		p.Kind, p.Until = ProblemDeleted, d.Found
		p.Detail = fmt.Sprintf("record %d is followed by record %d", int64(d.Seq)-1, d.Found)
	case wal.DamageOrder:
		p.Kind, p.Detail = ProblemReordered, fmt.Sprintf("record %d stands where record %d belongs", d.Found, d.Seq)
		p.Seq = d.Found
		v.found(d.Found)
	case wal.DamageTorn:
		p.Kind, p.Until = ProblemTorn, d.Seq+1
		v.report.Warnings = append(v.report.Warnings, p)
		return
	case wal.DamageTrailer:
		p.Kind, p.Detail = ProblemInserted, "bytes behind the last record of a closed file"
	case wal.DamageHeader:
		p.Kind = ProblemHeader
	case wal.DamageChain:
		p.Kind, p.Detail = ProblemEdited, "the record does not continue the chain of the one before"
	default:
		p.Kind, p.Detail = ProblemEdited, "checksum"
	}
	v.problem(p)
}

// found takes a record that turned up elsewhere out of the deleted ones.
func (v *verifier) found(seq uint64) {
	for i, p := range v.report.Problems {
		if p.Kind != ProblemDeleted || seq < p.Seq || seq >= p.Until {
			continue
		}
		before, behind := p, p
		before.Until, behind.Seq = seq, seq+1
		v.report.Problems = slices.Delete(v.report.Problems, i, i+1)
		for _, rest := range []Problem{before, behind} {
			if rest.Seq < rest.Until {
				v.problem(rest)
			}
		}
		return
	}
}

// record compares one sound record with the tree.
func (v *verifier) record(r wal.Record) {
	rep := &v.report
	if rep.Records == 0 {
		rep.First = r.Time
		v.origin(r)
	}
	rep.Records++
	rep.Last = r.Time
	if back := v.lastTime.Sub(r.Time); back > clockTolerance {
		rep.Warnings = append(rep.Warnings, Problem{
			Kind: ProblemClockBack, Seq: r.Seq, Until: r.Seq + 1, Segment: r.Segment, Offset: r.Offset, Detail: "by " + back.String(),
		})
	}
	v.lastTime, v.next = r.Time, max(v.next, r.Seq+1)
	for v.at < len(v.blocks) && v.blocks[v.at].Next() <= r.Seq {
		v.at++
	}
	for v.at > 0 && v.blocks[v.at-1].Next() > r.Seq {
		v.at--
	}
	if v.at == len(v.blocks) {
		return
	}
	b := &v.blocks[v.at]
	have, want := tlog.Print(r.Leaf[:len(tlog.Print{})]), b.Prints[r.Seq-b.First]
	switch {
	case have != want:
		v.differs = append(v.differs, difference{r.Seq, have, want, r.Segment, r.Offset})
	case r.Seq+1 == b.Next() && r.Chain != b.Chain:
		v.chain(b, r)
	}
}

// origin checks that the first record is the first of this log.
func (v *verifier) origin(r wal.Record) {
	if r.Seq == 0 && !r.Follows(v.genesis) {
		v.problem(Problem{Kind: ProblemEdited, Segment: r.Segment, Offset: r.Offset, Detail: "the first record does not begin the chain"})
	}
	if r.Seq > 0 {
		v.problem(Problem{Kind: ProblemDeleted, Until: r.Seq, Segment: r.Segment, Detail: "the file does not begin with record 0"})
	}
}

// chain reports a block whose records look right one by one and yet do not give its chain.
func (v *verifier) chain(b *tlog.Block, r wal.Record) {
	known := slices.ContainsFunc(v.report.Problems, func(p Problem) bool { return p.Seq < b.Next() })
	if known || len(v.differs) > 0 {
		return // a change before it explains it
	}
	v.problem(Problem{
		Kind: ProblemEdited, Seq: b.First, Until: b.Next(), Segment: r.Segment,
		Detail: "the chain over these records is not the one in the tree",
	})
}

// finish names what the differences are, and what is missing at the end.
func (v *verifier) finish() {
	v.classify()
	if v.next < v.report.Covered {
		v.problem(Problem{
			Kind: ProblemTruncated, Seq: v.next, Until: v.report.Covered,
			Detail: fmt.Sprintf("the tree holds %d records, the file ends with %d", v.report.Covered, v.next),
		})
	}
	slices.SortStableFunc(v.report.Problems, func(a, b Problem) int { return cmp.Compare(a.Seq, b.Seq) })
	v.report.Problems = joined(v.report.Problems)
}

// joined makes one problem of neighbouring records that were moved together.
func joined(ps []Problem) []Problem {
	out := ps[:0]
	for _, p := range ps {
		if n := len(out); n > 0 && p.Kind == ProblemReordered && out[n-1].Kind == p.Kind && out[n-1].Until == p.Seq {
			out[n-1].Until = p.Until
			continue
		}
		out = append(out, p)
	}
	return out
}

// classify tells edited, deleted, inserted and moved records apart by looking for each print
// elsewhere.
func (v *verifier) classify() {
	have, want := map[tlog.Print]uint64{}, map[tlog.Print]uint64{}
	for _, d := range v.differs {
		have[d.have], want[d.want] = d.seq, d.seq
	}
	if n := len(v.differs); n > 0 { // records that a deletion pushed off the end
		for seq := v.next; seq < v.report.Covered; seq++ {
			if p, ok := v.print(seq); ok {
				want[p] = seq
			}
		}
	}
	var shift int64 // by how much deletions and insertions before moved the rest
	for _, d := range v.differs {
		_, kept := have[d.want]
		from, moved := want[d.have]
		p := Problem{Seq: d.seq, Segment: d.segment, Offset: d.offset}
		switch {
		case moved && int64(from)-int64(d.seq) == shift:
			continue // explained
		case !kept && !moved:
			p.Kind, p.Detail = ProblemEdited, "the record differs from the one in the tree"
		case moved && v.gone(d.seq, from, have):
			p.Kind, p.Until = ProblemDeleted, from
			p.Detail = fmt.Sprintf("record %d of the tree stands in the place of record %d", from, d.seq)
			shift = int64(from) - int64(d.seq)
		case moved:
			p.Kind, p.Detail = ProblemReordered, fmt.Sprintf("this is record %d", from)
		default:
			p.Kind, p.Detail = ProblemInserted, "the record is not in the tree"
			shift--
		}
		v.problem(p)
	}
}

// gone reports whether no record of the tree from seq to before from is anywhere in the file.
func (v *verifier) gone(seq, from uint64, have map[tlog.Print]uint64) bool {
	if from <= seq {
		return false
	}
	for s := seq; s < from; s++ {
		p, ok := v.print(s)
		if !ok {
			return false
		}
		if _, kept := have[p]; kept {
			return false
		}
	}
	return true
}

// print is what the tree holds for a record.
func (v *verifier) print(seq uint64) (tlog.Print, bool) {
	i, ok := slices.BinarySearchFunc(v.blocks, seq, func(b tlog.Block, seq uint64) int {
		switch {
		case b.Next() <= seq:
			return -1
		case b.First > seq:
			return 1
		default:
			return 0
		}
	})
	if !ok {
		return tlog.Print{}, false
	}
	return v.blocks[i].Prints[seq-v.blocks[i].First], true
}
