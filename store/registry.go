package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/registry"
)

// Registry is the part of the database that package registry uses.
type Registry struct{ db *DB }

var _ registry.Store = (*Registry)(nil)

// Registry returns the tables of package registry.
func (db *DB) Registry() *Registry { return &Registry{db} }

// Generation returns the number of the last change of an approval.
func (r *Registry) Generation(ctx context.Context) (uint64, error) {
	if err := r.db.present(); err != nil {
		return 0, fmt.Errorf("read generation: %w", err)
	}
	var n uint64
	if err := r.db.queryRow(ctx, "SELECT value FROM generation").Scan(&n); err != nil {
		return 0, fmt.Errorf("read generation: %w", err)
	}
	return n, nil
}

// Approvals returns every approval with its definition and the generation they belong to, from one
// transaction.
func (r *Registry) Approvals(ctx context.Context) ([]registry.Approval, uint64, error) {
	list, generation, err := r.approvals(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read approvals: %w", err)
	}
	return list, generation, nil
}

func (r *Registry) approvals(ctx context.Context) ([]registry.Approval, uint64, error) {
	if err := r.db.present(); err != nil {
		return nil, 0, err
	}
	tx, err := r.db.snapshot(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = tx.Rollback() }() // only reads
	var generation uint64
	if err := tx.QueryRowContext(ctx, "SELECT value FROM generation").Scan(&generation); err != nil {
		return nil, 0, err
	}
	rows, err := tx.QueryContext(ctx, `SELECT a.server, a.kind, a.name, a.digest, a.state, a.effect, a.labels,
			a.approved_by, a.approved_at, a.note, d.canonical
		FROM approvals a JOIN definitions d
			ON d.server = a.server AND d.kind = a.kind AND d.name = a.name AND d.digest = a.digest
		ORDER BY a.server, a.kind, a.name, a.digest`)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	var list []registry.Approval
	for rows.Next() {
		a, err := scanApproval(rows)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, a)
	}
	return list, generation, rows.Err()
}

func scanApproval(rows *sql.Rows) (registry.Approval, error) {
	var a registry.Approval
	var digest, state, effect, labels string
	var at int64
	if err := rows.Scan(&a.Server, &a.Kind, &a.Name, &digest, &state, &effect, &labels, &a.By, &at, &a.Note, &a.Canonical); err != nil {
		return a, err
	}
	var err error
	if a.Digest, err = parseDigest(digest); err != nil {
		return a, err
	}
	if a.State, err = parseState(state); err != nil {
		return a, err
	}
	if a.Effect, err = registry.ParseEffect(effect); err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(labels), &a.Labels); err != nil {
		return a, fmt.Errorf("labels: %w", err)
	}
	a.At = time.UnixMilli(at).UTC()
	return a, nil
}

func parseDigest(s string) (warder.Digest, error) {
	var d warder.Digest
	if hex.DecodedLen(len(s)) != len(d) {
		return d, fmt.Errorf("digest of %d characters", len(s))
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err
}

func parseState(s string) (warder.State, error) {
	switch s {
	case warder.Approved.String():
		return warder.Approved, nil
	case warder.Revoked.String():
		return warder.Revoked, nil
	default:
		return warder.Quarantined, fmt.Errorf("unknown state %q", s)
	}
}

const selectDefinitions = "SELECT server, kind, name, digest, canonical, first_seen, last_seen FROM definitions "

// Definitions returns the definitions of one server, or of all for the empty name.
func (r *Registry) Definitions(ctx context.Context, server string) ([]registry.Definition, error) {
	list, err := r.definitions(ctx, selectDefinitions+`WHERE server = ? OR ? = ''
		ORDER BY server, kind, name, first_seen, digest`, server, server)
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	return list, nil
}

// Definition returns one definition, or an error that wraps [registry.ErrUnknown].
func (r *Registry) Definition(ctx context.Context, key registry.Key) (registry.Definition, error) {
	list, err := r.definitions(ctx, selectDefinitions+"WHERE server = ? AND kind = ? AND name = ? AND digest = ?",
		key.Server, key.Kind, key.Name, hex.EncodeToString(key.Digest[:]))
	if err == nil && len(list) == 0 {
		err = registry.ErrUnknown
	}
	if err != nil {
		return registry.Definition{}, fmt.Errorf("read definition: %w", err)
	}
	return list[0], nil
}

func (r *Registry) definitions(ctx context.Context, query string, args ...any) ([]registry.Definition, error) {
	if err := r.db.present(); err != nil {
		return nil, err
	}
	rows, err := r.db.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	var list []registry.Definition
	for rows.Next() {
		var d registry.Definition
		var digest string
		var first, last int64
		if err := rows.Scan(&d.Server, &d.Kind, &d.Name, &digest, &d.Canonical, &first, &last); err != nil {
			return nil, err
		}
		if d.Digest, err = parseDigest(digest); err != nil {
			return nil, err
		}
		d.FirstSeen, d.LastSeen = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		list = append(list, d)
	}
	return list, rows.Err()
}

// Sight records that definitions were seen, returns which were new, and forgets the undecided ones beyond keep per server,
// those longest unseen first, so that a server that invents definitions cannot fill the disk.
func (r *Registry) Sight(ctx context.Context, seen []registry.Definition, keep int) ([]registry.Key, error) {
	var unknown []registry.Key
	err := r.db.update(ctx, func(tx *tx) error {
		var err error
		if unknown, err = sight(ctx, tx, seen); err != nil {
			return err
		}
		servers := map[string]bool{}
		for i := range seen {
			if servers[seen[i].Server] {
				continue
			}
			servers[seen[i].Server] = true
			if err := forget(ctx, tx, seen[i].Server, keep); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("record definitions: %w", err)
	}
	return unknown, nil
}

// sight inserts or touches definitions and returns the keys of the inserted.
func sight(ctx context.Context, tx *tx, seen []registry.Definition) (unknown []registry.Key, err error) {
	touch, err := tx.PrepareContext(ctx, `UPDATE definitions SET last_seen = CASE WHEN last_seen < ? THEN ? ELSE last_seen END
		WHERE server = ? AND kind = ? AND name = ? AND digest = ?`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = touch.Close() }() // the transaction decides
	insert, err := tx.PrepareContext(ctx, `INSERT INTO definitions
		(server, kind, name, digest, canonical, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = insert.Close() }() // the transaction decides
	for i := range seen {
		d := &seen[i]
		digest := hex.EncodeToString(d.Digest[:])
		result, err := touch.ExecContext(ctx, d.LastSeen.UnixMilli(), d.LastSeen.UnixMilli(), d.Server, d.Kind, d.Name, digest)
		if err != nil {
			return nil, err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			if err != nil {
				return nil, err
			}
			continue
		}
		if _, err := insert.ExecContext(ctx, d.Server, d.Kind, d.Name, digest,
			string(d.Canonical), d.FirstSeen.UnixMilli(), d.LastSeen.UnixMilli()); err != nil {
			return nil, err
		}
		unknown = append(unknown, d.Key)
	}
	return unknown, nil
}

func forget(ctx context.Context, tx *tx, server string, keep int) error {
	// The bound of LIMIT is there because SQLite knows OFFSET only after LIMIT.
	_, err := tx.ExecContext(ctx, `DELETE FROM definitions WHERE server = ? AND (kind, name, digest) IN (
		SELECT d.kind, d.name, d.digest FROM definitions d LEFT JOIN approvals a
			ON a.server = d.server AND a.kind = d.kind AND a.name = d.name AND a.digest = d.digest
		WHERE d.server = ? AND a.server IS NULL
		ORDER BY d.last_seen DESC, d.first_seen DESC, d.digest LIMIT 9223372036854775807 OFFSET ?)`, server, server, keep)
	return err
}

// Decide replaces the decision about a known definition. With supersede, approvals of other digests
// of the same subject are revoked in the same transaction.
func (r *Registry) Decide(ctx context.Context, a registry.Approval, supersede bool) error {
	err := r.db.update(ctx, func(tx *tx) error {
		digest := hex.EncodeToString(a.Digest[:])
		var known int
		err := tx.QueryRowContext(ctx, "SELECT 1 FROM definitions WHERE server = ? AND kind = ? AND name = ? AND digest = ?",
			a.Server, a.Kind, a.Name, digest).Scan(&known)
		if errors.Is(err, sql.ErrNoRows) {
			return registry.ErrUnknown
		}
		if err != nil {
			return err
		}
		if supersede {
			if _, err := tx.ExecContext(ctx, `UPDATE approvals
				SET state = 'revoked', approved_by = ?, approved_at = ?, note = ?
				WHERE server = ? AND kind = ? AND name = ? AND digest <> ? AND state = 'approved'`,
				a.By, a.At.UnixMilli(), "superseded by "+digest, a.Server, a.Kind, a.Name, digest); err != nil {
				return err
			}
		}
		if err := putApproval(ctx, tx, a); err != nil {
			return err
		}
		return bump(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("record decision: %w", err)
	}
	return nil
}

func putApproval(ctx context.Context, tx *tx, a registry.Approval) error {
	if a.State != warder.Approved && a.State != warder.Revoked {
		return fmt.Errorf("cannot record state %q", a.State)
	}
	labels := a.Labels
	if labels == nil {
		labels = []string{}
	}
	encoded, err := json.Marshal(labels)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO approvals
		(server, kind, name, digest, state, effect, labels, approved_by, approved_at, note)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (server, kind, name, digest) DO UPDATE SET state = excluded.state, effect = excluded.effect,
			labels = excluded.labels, approved_by = excluded.approved_by,
			approved_at = excluded.approved_at, note = excluded.note`,
		a.Server, a.Kind, a.Name, hex.EncodeToString(a.Digest[:]), a.State.String(), a.Effect.String(),
		string(encoded), a.By, a.At.UnixMilli(), a.Note)
	return err
}

func bump(ctx context.Context, tx *tx) error {
	_, err := tx.ExecContext(ctx, "UPDATE generation SET value = value + 1")
	return err
}

// Pin approves those definitions about whose subject nobody ever decided, and returns which.
func (r *Registry) Pin(ctx context.Context, seen []registry.Definition, by string, at time.Time) ([]registry.Key, error) {
	var pinned []registry.Key
	err := r.db.update(ctx, func(tx *tx) error {
		pinned = nil
		if _, err := sight(ctx, tx, seen); err != nil {
			return err
		}
		for i := range seen {
			var decided bool
			if err := tx.QueryRowContext(ctx,
				"SELECT EXISTS (SELECT 1 FROM approvals WHERE server = ? AND kind = ? AND name = ?)",
				seen[i].Server, seen[i].Kind, seen[i].Name).Scan(&decided); err != nil {
				return err
			}
			if decided {
				continue
			}
			if err := putApproval(ctx, tx, registry.Approval{Key: seen[i].Key, State: warder.Approved, By: by, At: at}); err != nil {
				return err
			}
			pinned = append(pinned, seen[i].Key)
		}
		if len(pinned) == 0 {
			return nil
		}
		return bump(ctx, tx)
	})
	if err != nil {
		return nil, fmt.Errorf("pin definitions: %w", err)
	}
	return pinned, nil
}
