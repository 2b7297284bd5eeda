package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder/internal/state"
)

// Ids that may be used once are remembered in one of three places.
//
// PostgreSQL alone: a table. It survives everything that the database survives.
//
// This process's memory, for one gateway with SQLite, and the memory of a Redis server, are fast but
// can be lost. What was lost must not be accepted again, and what was lost cannot be listed; but it can
// be recognised by its end. An id says until when it must be remembered, and one that was used before
// the loss has at most as long left after the loss as the longest had that was ever kept in memory
// only. That longest time is in the database before the id that needs it is accepted. So after a loss
// at the time t, every id that ends before t + longest is refused as used. As most ids are proofs with
// the same window, that refuses proofs made before t and hardly any made after it.
//
// Ids that must be remembered for longer than two minutes, such as those of client assertions, are rare
// and are written to the database at once, so they do not stretch the longest time. They come back into
// memory after a loss. Proofs come with every call and last five minutes; they stretch the longest time
// for themselves alone: of the other ids, none with more than two minutes left was in memory only.
// A gateway that closes writes what it remembers to the database, so that it
// refuses nothing when it starts again.

const (
	longWindow  = 2 * time.Minute                // ids with more time left are in the database at once
	proofWindow = 5*time.Minute + 10*time.Second // proofs with more time left, from clocks that are ahead, too
	windowStep  = time.Second                    // the longest time is rounded up to these, so that it is written seldom
	maxRemember = 1 << 21                        // ids in memory; beyond them nothing is accepted until some have ended
)

// memoryOnly is how much time an id may have left to be kept in memory only.
func memoryOnly(id string) time.Duration {
	if strings.HasPrefix(id, state.ProofID) {
		return proofWindow
	}
	return longWindow
}

// A digest stands for an id: 128 bits of its SHA-256. Nobody finds an id with the digest of another's.
type digest [16]byte

func digestOf(id string) digest {
	sum := sha256.Sum256([]byte(id))
	return digest(sum[:16])
}

// ErrFull says that so many ids were used that no further one can be remembered.
var ErrFull = errors.New("too many ids to remember")

// tableReplays remembers in the database.
type tableReplays struct {
	db    *DB
	swept atomic.Int64 // Unix nanoseconds
}

// Add implements state.Replays.
func (r *tableReplays) Add(ctx context.Context, id string, until time.Time) (bool, error) {
	now := r.db.now()
	if !now.Before(until) {
		return false, nil
	}
	r.sweep(ctx, now)
	return r.add(ctx, digestOf(id), until, now)
}

// insertReplay writes an id unless it is there and has not ended.
const insertReplay = `INSERT INTO replays (digest, until) VALUES (?, ?)
	ON CONFLICT (digest) DO UPDATE SET until = excluded.until WHERE replays.until <= ?`

func (r *tableReplays) add(ctx context.Context, d digest, until, now time.Time) (bool, error) {
	if err := r.db.present(); err != nil {
		return false, fmt.Errorf("remember id: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	result, err := r.db.write.ExecContext(ctx, r.db.dialect.bind(insertReplay), d[:], until.UnixNano(), now.UnixNano())
	if err != nil {
		return false, fmt.Errorf("remember id: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("remember id: %w", err)
	}
	return n == 1, nil
}

// sweep removes ended ids now and then. What it cannot remove now it removes later.
func (r *tableReplays) sweep(ctx context.Context, now time.Time) {
	last := r.swept.Load()
	if now.UnixNano()-last < int64(sweepEvery) || !r.swept.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, _ = r.db.write.ExecContext(ctx, r.db.dialect.bind("DELETE FROM replays WHERE until <= ?"), now.UnixNano()) // the next Add reports an outage
}

// lacks reports whether the table does not have the id.
func (r *tableReplays) lacks(ctx context.Context, d digest, now time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var n int
	err := r.db.queryRow(ctx, "SELECT count(*) FROM replays WHERE digest = ? AND until > ?", d[:], now.UnixNano()).Scan(&n)
	return n == 0, err
}

func (*tableReplays) close(context.Context) error { return nil }

// each calls do for every id in the table that has not ended.
func (r *tableReplays) each(ctx context.Context, now time.Time, do func(d digest, until time.Time)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rows, err := r.db.query(ctx, "SELECT digest, until FROM replays WHERE until > ?", now.UnixNano())
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	for rows.Next() {
		var d []byte
		var until int64
		if err := rows.Scan(&d, &until); err != nil {
			return err
		}
		if len(d) != len(digest{}) {
			return fmt.Errorf("digest of %d bytes", len(d))
		}
		do(digest(d), time.Unix(0, until))
	}
	return rows.Err()
}

// A window is the longest time that an id had left when it was kept in memory only. It is in the
// database, for all gateways, before an id of that length is accepted.
type window struct {
	db     *DB
	mu     sync.Mutex
	widest atomic.Int64 // nanoseconds; what is in the database is never less
}

// cover makes sure that the window is at least this long.
func (w *window) cover(ctx context.Context, left time.Duration) error {
	if int64(left) <= w.widest.Load() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	widest := int64(left.Truncate(windowStep))
	if widest < int64(left) {
		widest += int64(windowStep)
	}
	if widest <= w.widest.Load() {
		return nil
	}
	if err := w.db.present(); err != nil {
		return fmt.Errorf("remember ids: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := w.db.write.ExecContext(ctx, w.db.dialect.bind("UPDATE replay_memory SET widest = ?, saved = 0 WHERE widest < ?"), widest, widest); err != nil {
		return fmt.Errorf("remember ids: %w", err)
	}
	w.widest.Store(widest)
	return nil
}

// read returns the window of all gateways.
func (w *window) read(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var widest int64
	err := w.db.queryRow(ctx, "SELECT widest FROM replay_memory").Scan(&widest)
	return time.Duration(widest), err
}

// memoryReplays remembers in this process, for one gateway.
type memoryReplays struct {
	db     *DB
	table  *tableReplays // ids with a long time left, and all of them after a close
	window window
	shards [64]shard

	mu     sync.Mutex
	ready  atomic.Bool
	refuse refusal // ids that may have been used before this process
}

// A refusal recognises ids that may have been used before a loss. The zero value refuses nothing.
type refusal struct {
	lost   time.Time     // the moment of the loss
	widest time.Duration // the longest time that an id had left that was in memory only
}

// holds reports whether an id that ends at a moment may have been lost.
func (r *refusal) holds(id string, until time.Time) bool {
	return !r.lost.IsZero() && !until.After(r.lost.Add(min(r.widest, memoryOnly(id))))
}

// A shard is a part of the memory with a lock of its own.
type shard struct {
	mu    sync.Mutex
	seen  map[digest]int64 // Unix nanoseconds of the end
	swept time.Time
	_     [24]byte // keeps the locks of two shards off one cache line
}

func newMemoryReplays(db *DB) *memoryReplays {
	r := &memoryReplays{db: db, table: &tableReplays{db: db}, window: window{db: db}}
	for i := range r.shards {
		r.shards[i].seen = map[digest]int64{}
	}
	return r
}

// Add implements state.Replays.
func (r *memoryReplays) Add(ctx context.Context, id string, until time.Time) (bool, error) {
	if !r.ready.Load() {
		if err := r.load(ctx); err != nil {
			return false, fmt.Errorf("remember ids: %w", err)
		}
	}
	now := r.db.now()
	left := until.Sub(now)
	if left <= 0 || r.refuse.holds(id, until) {
		return false, nil
	}
	long := left > memoryOnly(id)
	if !long {
		if err := r.window.cover(ctx, left); err != nil {
			return false, err
		}
	}
	d := digestOf(id)
	if fresh, err := r.remember(d, until, now); err != nil || !fresh || !long {
		return fresh, err
	}
	r.table.sweep(ctx, now)
	return r.table.add(ctx, d, until, now)
}

func (r *memoryReplays) remember(d digest, until, now time.Time) (bool, error) {
	s := &r.shards[d[0]%byte(len(r.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if end, known := s.seen[d]; known && end > now.UnixNano() {
		return false, nil
	}
	full := len(s.seen) >= maxRemember/len(r.shards)
	if pause := now.Sub(s.swept); pause >= longWindow/8 || full && pause >= time.Second {
		s.swept = now
		for k, end := range s.seen {
			if end <= now.UnixNano() {
				delete(s.seen, k)
			}
		}
		full = len(s.seen) >= maxRemember/len(r.shards)
	}
	if full {
		return false, ErrFull
	}
	s.seen[d] = until.UnixNano()
	return true, nil
}

// load takes over what an earlier process left. It happens with the first id and not when the database
// is opened, because commands open it beside a running gateway.
func (r *memoryReplays) load(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready.Load() {
		return nil
	}
	now := r.db.now()
	var saved bool
	var refuse refusal
	err := r.db.update(ctx, func(tx *tx) error {
		var widest int64
		if err := tx.QueryRowContext(ctx, "SELECT widest, saved FROM replay_memory").Scan(&widest, &saved); err != nil {
			return err
		}
		if !saved {
			refuse = refusal{lost: now, widest: time.Duration(widest)}
		}
		r.window.widest.Store(widest)
		_, err := tx.ExecContext(ctx, "UPDATE replay_memory SET saved = 0")
		return err
	})
	if err != nil {
		return err
	}
	var full error
	if err := r.table.each(ctx, now, func(d digest, until time.Time) {
		if _, err := r.remember(d, until, now); err != nil {
			full = err
		}
	}); err != nil || full != nil {
		return errors.Join(err, full)
	}
	r.refuse = refuse
	r.ready.Store(true)
	return nil
}

// close writes what is remembered to the database.
func (r *memoryReplays) close(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready.Load() {
		return nil
	}
	now := r.db.now()
	err := r.db.update(ctx, func(tx *tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM replays WHERE until <= ?", now.UnixNano()); err != nil {
			return err
		}
		insert, err := tx.PrepareContext(ctx, "INSERT INTO replays (digest, until) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING")
		if err != nil {
			return err
		}
		defer func() { _ = insert.Close() }() // the transaction decides
		for i := range r.shards {
			if err := r.shards[i].save(ctx, insert, now); err != nil {
				return err
			}
		}
		// What this process itself refuses from before, it goes on to refuse through the next.
		if r.refuse.lost.Add(r.refuse.widest).After(now) {
			return nil
		}
		_, err = tx.ExecContext(ctx, "UPDATE replay_memory SET saved = 1, widest = 0")
		return err
	})
	if errors.Is(err, ErrGone) {
		return nil // there is nothing to write to, and no next process that would read it
	}
	if err != nil {
		return fmt.Errorf("save used ids: %w", err)
	}
	return nil
}

func (s *shard) save(ctx context.Context, insert *sql.Stmt, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, until := range s.seen {
		if until <= now.UnixNano() {
			continue
		}
		if _, err := insert.ExecContext(ctx, d[:], until); err != nil {
			return err
		}
	}
	return nil
}

var _ state.Replays = (*memoryReplays)(nil)
