package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// A dialect is what differs between the databases. Everything else is the same SQL.
type dialect interface {
	// bind writes the parameters "?" as the database wants them.
	bind(query string) string
	// schema writes the statements of a migration as the database wants them.
	schema(statements string) string
	// lock makes the transaction the only one that writes, until it ends. Its end announces a change.
	lock(ctx context.Context, t *sql.Tx) error
	// snapshot is how to begin a transaction that only reads and sees one moment.
	snapshot() *sql.TxOptions
	// version is the number of migrations that were applied.
	version(ctx context.Context, q querier) (int, error)
	setVersion(ctx context.Context, t *tx, version int) error
}

// sqlite is the dialect of SQLite. Its transactions for writing begin with the write lock.
type sqlite struct{}

func (sqlite) bind(query string) string            { return query }
func (sqlite) schema(statements string) string     { return statements }
func (sqlite) lock(context.Context, *sql.Tx) error { return nil }
func (sqlite) snapshot() *sql.TxOptions            { return &sql.TxOptions{ReadOnly: true} }
func (sqlite) version(ctx context.Context, q querier) (have int, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have)
	return have, err
}

func (sqlite) setVersion(ctx context.Context, t *tx, version int) error {
	_, err := t.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
	return err
}

// postgres is the dialect of PostgreSQL.
type postgres struct{}

// writers is the key of the advisory lock that writers hold, "warder" in ASCII.
const writers = 0x776172646572

// changed is the channel that hears of every write.
const changed = "warder_changed"

func (postgres) bind(query string) string {
	parts := strings.Split(query, "?")
	if len(parts) == 1 {
		return query
	}
	var b strings.Builder
	b.WriteString(parts[0])
	for i, part := range parts[1:] {
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(i + 1))
		b.WriteString(part)
	}
	return b.String()
}

// schema compares texts byte by byte, as SQLite does.
func (postgres) schema(statements string) string {
	return strings.NewReplacer(" TEXT ", ` TEXT COLLATE "C" `, " BLOB ", " BYTEA ").Replace(statements)
}

// lock waits for the other writers of all gateways. PostgreSQL releases the lock after the commit is
// visible, so sequence numbers, which are given out under it, become visible in their order; without it
// a transaction with a lower number could commit after one with a higher number had been read, and a
// follower would never see it. The price is that writes do not overlap: their rate is bounded by the
// time of one commit.
func (postgres) lock(ctx context.Context, t *sql.Tx) error {
	_, err := t.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1), pg_notify($2, '')", int64(writers), changed)
	return err
}

func (postgres) snapshot() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

func (postgres) version(ctx context.Context, q querier) (int, error) {
	var table sql.NullString
	if err := q.QueryRowContext(ctx, "SELECT to_regclass('warder_version')::text").Scan(&table); err != nil || !table.Valid {
		return 0, err
	}
	var have int
	err := q.QueryRowContext(ctx, "SELECT value FROM warder_version").Scan(&have)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return have, err
}

func (postgres) setVersion(ctx context.Context, t *tx, version int) error {
	if _, err := t.Tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS warder_version (
		id INTEGER PRIMARY KEY CHECK (id = 1), value BIGINT NOT NULL)`); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `INSERT INTO warder_version (id, value) VALUES (1, ?)
		ON CONFLICT (id) DO UPDATE SET value = excluded.value`, version)
	return err
}
