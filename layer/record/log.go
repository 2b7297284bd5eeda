package record

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/tlog"
	"github.com/warder-mcp/warder/layer/record/wal"
)

// Names in the folder of the trail.
const (
	walDir       = "wal"
	treeDir      = "tree"
	idFile       = "id"
	saltFile     = "salt"
	keyFile      = "checkpoint.key"
	verifierFile = "checkpoint.pub"
	lockFile     = "lock"
	captureFile  = "capture.key"
	captureDir   = "bodies"
)

// ErrTampered means that the trail on disk is not the one that was written: the signed tree knows
// records that the write-ahead file lacks, or knows them otherwise. The gateway does not start on it.
var ErrTampered = errors.New("audit trail was changed from outside; run \"warder audit verify\" and move the folder away to begin a new trail")

// A Log is the audit trail of one process. It outlives reloads of the configuration. It is safe for
// concurrent use.
type Log struct {
	dir      string
	wal      *wal.Log
	tree     *tlog.Tree
	salt     salt
	verifier string
	notary   *tlog.Notary
	recovery wal.Recovery
	logger   *slog.Logger
	now      func() time.Time
	lock     *os.File
	vault    *vault // nil unless capture is on

	late    *lateIntents
	lost    atomic.Uint64 // records that could not be queued
	buffers sync.Pool     // *[]byte
	quiet   *limiter      // bounds records about peers without a principal

	integrator *integrator
	stop       context.CancelFunc
	running    sync.WaitGroup
}

// OpenLog opens the trail in dir, which is created if it is missing, and starts the goroutines that
// write and integrate. One process at a time may have it open. It returns [ErrTampered] when the
// signed tree and the write-ahead file disagree.
func OpenLog(ctx context.Context, dir string, cfg Config, logger *slog.Logger) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create audit folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open audit folder: %w", err)
	}
	defer root.Close()
	l := &Log{dir: dir, logger: logger, now: time.Now, quiet: &limiter{}}
	if l.lock, err = lockFolder(root); err != nil {
		return nil, err
	}
	if err := l.open(ctx, root, cfg); err != nil {
		return nil, errors.Join(err, l.lock.Close())
	}
	l.announce()
	return l, nil
}

func (l *Log) open(ctx context.Context, root *os.Root, cfg Config) error {
	id, signer, err := l.secrets(root, cfg.Origin)
	if err != nil {
		return err
	}
	if l.notary, err = tlog.NewNotary(signer); err != nil {
		return err
	}
	if cfg.Capture.Enabled {
		if l.vault, err = openVault(root, cfg.Capture, l.logger); err != nil {
			return err
		}
	}
	l.tree, err = tlog.Open(ctx, filepath.Join(l.dir, treeDir), signer, cfg.Checkpoint, l.logger)
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.integrator = newIntegrator(l.tree, filepath.Join(l.dir, walDir), l.logger)
	l.wal, l.recovery, err = wal.Open(filepath.Join(l.dir, walDir), wal.Options{
		ID: id, SegmentBytes: int64(cfg.Segment), QueueBytes: int(cfg.Queue), FlushDelay: cfg.Delay,
		Logger: l.logger, Durable: l.integrator.durable,
	})
	if err != nil {
		stop()
		return errors.Join(fmt.Errorf("open audit trail: %w", err), l.tree.Close(ctx))
	}
	if err := l.agree(); err != nil {
		stop()
		return errors.Join(err, l.wal.Close(), l.tree.Close(ctx))
	}
	l.late = newLateIntents(cfg.Delay, int(cfg.Queue), l.write)
	l.running.Go(func() { l.integrator.run(run, l.wal.Durable) })
	l.running.Go(func() { l.late.run(run, l.sayLost) })
	return nil
}

// agree compares the tree with the write-ahead file at the last record the tree knows.
func (l *Log) agree() error {
	next, chain := l.tree.Next()
	if next > l.wal.Durable() {
		return fmt.Errorf("%w: the tree holds %d records, the file %d", ErrTampered, next, l.wal.Durable())
	}
	if next == 0 {
		return nil
	}
	for r, err := range wal.Records(filepath.Join(l.dir, walDir), next-1) {
		if err != nil || r.Seq != next-1 || r.Chain != chain {
			return fmt.Errorf("%w: record %d differs from the tree", ErrTampered, next-1)
		}
		return nil
	}
	return fmt.Errorf("%w: record %d is missing", ErrTampered, next-1)
}

// secrets reads or makes the keys of the folder.
func (l *Log) secrets(root *os.Root, origin string) (id wal.ID, signer string, err error) {
	raw, err := ensure(root, idFile, 0o600, func() ([]byte, error) {
		_, _ = rand.Read(id[:]) // never fails since Go 1.24
		return hex.AppendEncode(nil, id[:]), nil
	})
	if err != nil {
		return id, "", err
	}
	if n, err := hex.Decode(id[:], bytes.TrimSpace(raw)); err != nil || n != len(id) {
		return id, "", fmt.Errorf("audit folder: %s is damaged", idFile)
	}
	raw, err = ensure(root, saltFile, 0o600, func() ([]byte, error) {
		_, _ = rand.Read(l.salt[:])
		return l.salt[:], nil
	})
	if err != nil || len(raw) != len(l.salt) {
		return id, "", errors.Join(fmt.Errorf("audit folder: %s is damaged", saltFile), err)
	}
	copy(l.salt[:], raw)
	if origin == "" {
		origin = "warder/" + hex.EncodeToString(id[:4])
	}
	raw, err = ensure(root, keyFile, 0o600, func() ([]byte, error) {
		private, public, err := tlog.GenerateKey(origin)
		if err != nil {
			return nil, err
		}
		_, err = ensure(root, verifierFile, 0o644, func() ([]byte, error) { return []byte(public + "\n"), nil })
		return []byte(private), err
	})
	if err != nil {
		return id, "", err
	}
	public, err := root.ReadFile(verifierFile)
	l.verifier = strings.TrimSpace(string(public))
	return id, string(bytes.TrimSpace(raw)), err
}

// ensure reads a file of the folder, or makes it, whole or not at all.
func ensure(root *os.Root, name string, mode os.FileMode, generate func() ([]byte, error)) ([]byte, error) {
	b, err := root.ReadFile(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if b, err = generate(); err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	draft := name + ".tmp"
	f, err := root.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return b, root.Rename(draft, name)
}

// announce writes down what was found at start.
func (l *Log) announce() {
	if l.recovery.Cut > 0 {
		detail := fmt.Sprintf("%d bytes behind record %d were not a complete record; they are kept in %s",
			l.recovery.Cut, l.recovery.Next, l.recovery.Saved)
		l.logger.Warn("audit trail had a torn end", slog.Int64("bytes", l.recovery.Cut), slog.String("kept_in", l.recovery.Saved))
		l.emit(warder.Event{Type: warder.EventLifecycle, Reason: "torn_end", Detail: detail})
	}
	if back := l.recovery.Last.Sub(l.now()); back > clockTolerance {
		l.logger.Warn("clock is behind the audit trail", slog.Duration("back", back))
		l.emit(warder.Event{Type: warder.EventLifecycle, Reason: "clock_back", Detail: "the last record is " + back.String() + " ahead of the clock"})
	}
}

// clockTolerance is how far the clock may step back without a remark.
const clockTolerance = time.Second

// emit queues an event of the log's own.
func (l *Log) emit(e warder.Event) {
	if err := l.Emit(e); err != nil {
		l.lost.Add(1)
	}
}

// stamp fills id and time where the caller left them empty.
func (l *Log) stamp(e *warder.Event) {
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	e.Time = e.Time.UTC()
	if e.ID == "" {
		e.ID = warder.NewID(e.Time)
	}
	e.Target = clean(e.Target, maxTarget)
	e.Detail = clean(e.Detail, maxDetail)
}

// Emit queues an event; it is durable within the configured delay. An error means that it was not
// taken.
func (l *Log) Emit(e warder.Event) error {
	l.stamp(&e)
	return l.write(AppendEvent(nil, &e))
}

func (l *Log) write(document []byte) error {
	if err := l.wal.Append(document); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Append returns when the event is durable. An error means that it is not, or may not be.
func (l *Log) Append(ctx context.Context, e warder.Event) error {
	_, err := l.append(ctx, e)
	return err
}

func (l *Log) append(ctx context.Context, e warder.Event) (uint64, error) {
	l.stamp(&e)
	seq, err := l.wal.AppendSync(ctx, AppendEvent(nil, &e))
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	return seq, nil
}

// AppendWait returns when the event is durable, part of the tree, and covered by a signed checkpoint:
// for approvals, configuration changes and everything else that must not be deniable. It takes up to
// two checkpoint intervals.
func (l *Log) AppendWait(ctx context.Context, e warder.Event) error {
	seq, err := l.append(ctx, e)
	if err != nil {
		return err
	}
	if err := l.integrator.wait(ctx, seq); err != nil {
		return fmt.Errorf("audit: record is durable but not yet in a checkpoint: %w", err)
	}
	return nil
}

// Healthy returns nil while records are accepted.
func (l *Log) Healthy() error { return l.wal.Healthy(typicalRecord) }

// typicalRecord is the room in bytes that must be left for an exchange to be admitted.
const typicalRecord = 4 << 10

// Hash is the salted SHA-256 of b as it stands in the trail, to find a known request again.
func (l *Log) Hash(b []byte) string { return string(l.salt.sum(nil, b)) }

// VerifierKey is the public key of the checkpoints (https://c2sp.org/signed-note).
func (l *Log) VerifierKey() string { return l.verifier }

// Stats counts the work of the trail.
type Stats struct {
	wal.Stats
	Lost       uint64 // records that could not be queued
	Suppressed uint64 // refusals of unidentified peers that were counted, not recorded one by one
	Integrated uint64 // records in the tree
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	return Stats{
		Stats: l.wal.Stats(), Lost: l.lost.Load(), Suppressed: l.quiet.suppressed.Load(),
		Integrated: l.integrator.next.Load(),
	}
}

// Close makes everything durable, integrates it, publishes a checkpoint and releases the folder.
func (l *Log) Close(ctx context.Context) error {
	l.late.flush()
	walErr := l.wal.Close()
	l.stop()
	l.running.Wait()
	treeErr := l.integrator.drain(ctx, l.wal.Durable())
	var vaultErr error
	if l.vault != nil {
		vaultErr = l.vault.root.Close()
	}
	return errors.Join(walErr, treeErr, l.tree.Close(ctx), vaultErr, l.lock.Close())
}

// sayLost writes down how many records were lost or suppressed since the last time.
func (l *Log) sayLost() {
	if n := l.lost.Load(); n > 0 && l.Healthy() == nil {
		if l.Emit(warder.Event{Type: warder.EventLifecycle, Reason: "records_lost", Detail: fmt.Sprintf("%d records could not be written", n)}) == nil {
			l.lost.Add(-n)
		}
	}
	if n := l.quiet.report(l.now()); n > 0 {
		l.emit(warder.Event{
			Type: warder.EventAuth, Outcome: warder.OutcomeRefused, Reason: "refusals_suppressed",
			Detail: fmt.Sprintf("%d more refusals of unidentified peers", n),
		})
	}
}
