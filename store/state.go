package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder/internal/state"
)

// State is the part of the database that keeps documents.
type State struct {
	db    *DB
	swept atomic.Int64 // when ended documents were last removed, Unix nanoseconds
}

var _ state.Store = (*State)(nil)

const (
	sweepEvery = time.Minute
	sweepBatch = 1000 // rows removed at once, so that no write waits long
)

const selectDocs = "SELECT kind, id, owner, topic, not_after, deleted, body, seq FROM docs "

// live is the condition of documents that exist; its parameter is the time.
const live = "deleted = 0 AND (not_after = 0 OR not_after > ?)"

// Get implements state.Store.
func (s *State) Get(ctx context.Context, kind, id string) (state.Doc, error) {
	list, err := s.read(ctx, selectDocs+"WHERE kind = ? AND id = ? AND "+live, kind, id, s.db.now().UnixNano())
	if err == nil && len(list) == 0 {
		err = state.ErrNotFound
	}
	if err != nil {
		return state.Doc{}, fmt.Errorf("read %s %q: %w", kind, id, err)
	}
	return list[0], nil
}

// List implements state.Store.
func (s *State) List(ctx context.Context, q state.Query) ([]state.Doc, error) {
	query, args := selectDocs+"WHERE kind = ? AND id > ? AND "+live, []any{q.Kind, q.After, s.db.now().UnixNano()}
	if q.Owner != "" {
		query, args = query+" AND owner = ?", append(args, q.Owner)
	}
	if q.Topic != "" {
		query, args = query+" AND topic = ?", append(args, q.Topic)
	}
	list, err := s.read(ctx, query+" ORDER BY id LIMIT ?", append(args, limited(q.Limit))...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", q.Kind, err)
	}
	return list, nil
}

// Changes implements state.Store.
func (s *State) Changes(ctx context.Context, after int64, limit int) ([]state.Doc, error) {
	list, err := s.read(ctx, selectDocs+"WHERE seq > ? ORDER BY seq LIMIT ?", after, limited(limit))
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return list, nil
}

func limited(n int) int {
	if n <= 0 || n > state.MaxList {
		return state.MaxList
	}
	return n
}

// Latest implements state.Store.
func (s *State) Latest(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.db.present()
	var seq int64
	if err == nil {
		err = s.db.queryRow(ctx, "SELECT value FROM sequence").Scan(&seq)
	}
	if err != nil {
		return 0, fmt.Errorf("read sequence: %w", err)
	}
	return seq, nil
}

// Watch implements state.Store.
func (s *State) Watch(ctx context.Context) <-chan struct{} { return s.db.feed.watch(ctx) }

func (s *State) read(ctx context.Context, query string, args ...any) ([]state.Doc, error) {
	if err := s.db.present(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rows, err := s.db.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	var list []state.Doc
	for rows.Next() {
		d, err := scanDoc(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// A scanner is a row.
type scanner interface{ Scan(dest ...any) error }

func scanDoc(row scanner) (state.Doc, error) {
	var d state.Doc
	var notAfter, deleted int64
	if err := row.Scan(&d.Kind, &d.ID, &d.Owner, &d.Topic, &notAfter, &deleted, &d.Body, &d.Seq); err != nil {
		return d, err
	}
	d.Version, d.Deleted = d.Seq, deleted != 0
	if d.Deleted {
		d.Body = nil
	} else if notAfter != 0 {
		d.NotAfter = time.Unix(0, notAfter).UTC()
	}
	return d, nil
}

// write runs do in a transaction with n sequence numbers of its own, of which first is the lowest.
func (s *State) write(ctx context.Context, n int, do func(tx *tx, first, now int64) error) error {
	now := s.db.now().UnixNano()
	err := s.db.update(ctx, func(tx *tx) error {
		if err := s.sweep(ctx, tx, now); err != nil {
			return err
		}
		var last int64
		if err := tx.QueryRowContext(ctx, "UPDATE sequence SET value = value + ? RETURNING value", n).Scan(&last); err != nil {
			return fmt.Errorf("count: %w", err)
		}
		return do(tx, last-int64(n)+1, now)
	})
	if err == nil {
		s.db.feed.hint()
	}
	return err
}

// sweep removes some of what is gone, now and then.
func (s *State) sweep(ctx context.Context, tx *tx, now int64) error {
	last := s.swept.Load()
	if now-last < int64(sweepEvery) || !s.swept.CompareAndSwap(last, now) {
		return nil
	}
	result, err := tx.ExecContext(ctx, `DELETE FROM docs WHERE seq IN (
		SELECT seq FROM docs WHERE gone_at > 0 AND gone_at <= ? ORDER BY gone_at LIMIT ?)`, now, sweepBatch)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	if n, err := result.RowsAffected(); err == nil && n == sweepBatch {
		s.swept.Store(last) // there is more: go on with the next write
	}
	return nil
}

// Put implements state.Store.
func (s *State) Put(ctx context.Context, docs ...state.Doc) ([]state.Doc, error) {
	if err := state.CheckAll(docs); err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, nil
	}
	out := make([]state.Doc, len(docs))
	err := s.write(ctx, len(docs), func(tx *tx, first, now int64) error {
		for i := range docs {
			out[i] = docs[i]
			out[i].Seq, out[i].Version, out[i].Deleted = first+int64(i), first+int64(i), false
			if err := put(ctx, tx, &out[i], docs[i].Version, now); err != nil {
				return fmt.Errorf("%s %q: %w", docs[i].Kind, docs[i].ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	return out, nil
}

// put writes one document over the given version, 0 for none.
func put(ctx context.Context, tx *tx, d *state.Doc, over, now int64) error {
	var notAfter, goneAt int64
	if !d.NotAfter.IsZero() {
		notAfter, goneAt = d.NotAfter.UnixNano(), d.NotAfter.Add(state.Tombstones).UnixNano()
	}
	body := d.Body
	if body == nil {
		body = []byte{}
	}
	var result sql.Result
	var err error
	if over == 0 {
		result, err = tx.ExecContext(ctx, `INSERT INTO docs (kind, id, owner, topic, not_after, gone_at, deleted, body, seq)
			VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)
			ON CONFLICT (kind, id) DO UPDATE SET owner = excluded.owner, topic = excluded.topic,
				not_after = excluded.not_after, gone_at = excluded.gone_at, deleted = 0, body = excluded.body, seq = excluded.seq
			WHERE docs.deleted = 1 OR docs.not_after > 0 AND docs.not_after <= ?`,
			d.Kind, d.ID, d.Owner, d.Topic, notAfter, goneAt, body, d.Seq, now)
	} else {
		result, err = tx.ExecContext(ctx, `UPDATE docs SET owner = ?, topic = ?, not_after = ?, gone_at = ?, body = ?, seq = ?
			WHERE kind = ? AND id = ? AND seq = ? AND `+live,
			d.Owner, d.Topic, notAfter, goneAt, body, d.Seq, d.Kind, d.ID, over, now)
	}
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = state.ErrConflict
	}
	return err
}

// Take implements state.Store.
func (s *State) Take(ctx context.Context, kind, id string) (state.Doc, error) {
	d, err := s.remove(ctx, kind, id, 0)
	if err != nil {
		return state.Doc{}, fmt.Errorf("take %s %q: %w", kind, id, err)
	}
	return d, nil
}

// Delete implements state.Store.
func (s *State) Delete(ctx context.Context, kind, id string, version int64) error {
	if _, err := s.remove(ctx, kind, id, version); err != nil {
		return fmt.Errorf("delete %s %q: %w", kind, id, err)
	}
	return nil
}

// remove leaves a tombstone in the place of a document, and returns the document.
func (s *State) remove(ctx context.Context, kind, id string, version int64) (d state.Doc, err error) {
	err = s.write(ctx, 1, func(tx *tx, seq, now int64) error {
		d, err = scanDoc(tx.QueryRowContext(ctx, selectDocs+"WHERE kind = ? AND id = ? AND "+live, kind, id, now))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return state.ErrNotFound
		case err != nil:
			return err
		case version != 0 && version != d.Version:
			return state.ErrConflict
		}
		_, err = tx.ExecContext(ctx, `UPDATE docs SET deleted = 1, body = ?, not_after = 0, gone_at = ?, seq = ?
			WHERE kind = ? AND id = ?`, []byte{}, now+int64(state.Tombstones), seq, kind, id)
		return err
	})
	return d, err
}
