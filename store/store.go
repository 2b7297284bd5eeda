// Package store keeps Warder's state: definitions and what was decided about them ([DB.Registry]),
// documents ([DB.State]) and ids that may be used once ([DB.Replays]). It implements interfaces that
// the users of the state declare; nothing else in Warder speaks SQL or to Redis.
//
//	db, err := store.OpenConfig(ctx, cfg.State, "/var/lib/warder/warder.db")
//	reg, err := registry.New(ctx, registry.Config{}, registry.Deps{Store: db.Registry()})
//	grants, err := broker.New(ctx, broker.Deps{State: db.State()})
//
// One gateway needs no server: its state is one SQLite file in write-ahead mode. Several gateways share
// a PostgreSQL database. The statements are the same for both; what differs stands in dialect.go. Either
// way there is one writer at a time, so the sequence numbers of documents become visible in their order
// and whoever follows them misses none, and a write is durable when the call returns.
//
// Ids that may be used once, one for each call of a client with DPoP, are in this process's memory for
// one gateway, in Redis if there is one, and in PostgreSQL otherwise. What memory forgets in a restart is
// refused afterwards; replays.go says how.
//
// The file holds decisions that open the gate, so it belongs to the user who runs Warder alone:
// it is created with mode 0600, and a file or folder that others may write to is refused.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/state"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Errors that a user can act on.
var (
	ErrPermissions = errors.New("others may read or write it")
	ErrNewer       = errors.New("written by a newer version of Warder")
	ErrCorrupt     = errors.New("the database is damaged")
	ErrGone        = errors.New("the database file was removed or replaced")
	ErrUnprotected = errors.New("the connection is not protected by verified TLS")
	ErrEvicts      = errors.New("the server may forget what has not ended")
)

// readers is how many queries run at once besides the one writer. Reads come from polling and from
// commands, never from the path of a message.
const readers = 2

// A DB is an open database. It is safe for concurrent use, also by several processes.
type DB struct {
	dialect dialect
	path    string
	file    fs.FileInfo // as it was opened; nil for PostgreSQL
	write   *sql.DB     // SQLite: one connection; transactions take the write lock at once
	read    *sql.DB
	now     func() time.Time
	log     *slog.Logger
	feed    *feed
	state   *State
	replays replays
}

// An Option changes what a database assumes.
type Option func(*DB)

// WithClock sets the clock; without it, or with nil, time.Now is the clock.
func WithClock(now func() time.Time) Option { return func(db *DB) { db.now = now } }

// WithLog sets where lost and regained connections are logged; without it they are not.
func WithLog(log *slog.Logger) Option { return func(db *DB) { db.log = log } }

func newDB(d dialect, options []Option) *DB {
	db := &DB{dialect: d}
	for _, o := range options {
		o(db)
	}
	if db.now == nil {
		db.now = time.Now
	}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	db.feed = newFeed(db)
	db.state = &State{db: db}
	return db
}

// Open opens the SQLite file, creates it when it is missing, checks that it is whole, and brings
// its tables up to date.
func Open(ctx context.Context, path string, options ...Option) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := prepare(path); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db := newDB(sqlite{}, options)
	db.path = path
	if err := db.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
	db.replays = newMemoryReplays(db)
	return db, nil
}

// prepare makes the folder and the file with narrow permissions before the driver, which would use
// wide ones, can create them. The journals get the permissions of the file.
func prepare(path string) error {
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // nothing was written through it
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("folder %s: mode %v: %w", dir, info.Mode().Perm(), ErrPermissions)
	}
	file, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return file.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err = root.Lstat(name); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("mode %v: %w", info.Mode().Perm(), ErrPermissions)
	}
	return nil
}

func (db *DB) open(ctx context.Context) error {
	var err error
	if db.file, err = os.Stat(db.path); err != nil {
		return err
	}
	if db.write, err = sql.Open("sqlite", dsn(db.path, url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
	})); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if err := db.check(ctx); err != nil {
		return err
	}
	if err := db.migrate(ctx); err != nil {
		return err
	}
	if db.read, err = sql.Open("sqlite", dsn(db.path, url.Values{
		"_pragma": {"busy_timeout(5000)", "query_only(1)"},
	})); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(readers)
	return nil
}

func dsn(path string, options url.Values) string {
	return (&url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}).String()
}

// check reads every page: a damaged file is refused now and not in the middle of a decision.
func (db *DB) check(ctx context.Context) error {
	var verdict string
	if err := db.write.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("check: %w: %w", ErrCorrupt, err)
	}
	if verdict != "ok" {
		return fmt.Errorf("check: %w: %s", ErrCorrupt, verdict)
	}
	return nil
}

// migrate applies the migrations that the database has not seen, each in a transaction of its own.
func (db *DB) migrate(ctx context.Context) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	have, err := db.dialect.version(ctx, db.write)
	if err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	if have > len(names) {
		return fmt.Errorf("version %d, known are %d: %w", have, len(names), ErrNewer)
	}
	for i, name := range names[have:] {
		if err := db.apply(ctx, have+i+1, name); err != nil {
			return fmt.Errorf("migrate %s: %w", strings.TrimPrefix(name, "migrations/"), err)
		}
	}
	return nil
}

func (db *DB) apply(ctx context.Context, version int, name string) error {
	statements, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	return db.update(ctx, func(tx *tx) error {
		have, err := db.dialect.version(ctx, tx) // another process may have been faster
		if err != nil || have >= version {
			return err
		}
		if _, err := tx.Tx.ExecContext(ctx, db.dialect.schema(string(statements))); err != nil {
			return err
		}
		return db.dialect.setVersion(ctx, tx, version)
	})
}

// A tx is a transaction whose statements write parameters as "?".
type tx struct {
	*sql.Tx
	dialect dialect
}

func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.Tx.ExecContext(ctx, t.dialect.bind(query), args...)
}

func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.Tx.QueryContext(ctx, t.dialect.bind(query), args...)
}

func (t *tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return t.Tx.QueryRowContext(ctx, t.dialect.bind(query), args...)
}

func (t *tx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return t.Tx.PrepareContext(ctx, t.dialect.bind(query))
}

func (db *DB) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return db.read.QueryContext(ctx, db.dialect.bind(query), args...)
}

func (db *DB) queryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return db.read.QueryRowContext(ctx, db.dialect.bind(query), args...)
}

// snapshot begins a transaction that only reads and sees one moment.
func (db *DB) snapshot(ctx context.Context) (*tx, error) {
	t, err := db.read.BeginTx(ctx, db.dialect.snapshot())
	if err != nil {
		return nil, err
	}
	return &tx{t, db.dialect}, nil
}

// update runs do in a transaction, alone among all that write to the database, and commits unless do
// fails.
func (db *DB) update(ctx context.Context, do func(*tx) error) error {
	if err := db.present(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	t, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := db.dialect.lock(ctx, t); err != nil {
		return errors.Join(fmt.Errorf("lock: %w", err), rollback(t))
	}
	if err := do(&tx{t, db.dialect}); err != nil {
		return errors.Join(err, rollback(t))
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// callTimeout bounds one use of the database. A server that hangs is a server that is not there.
const callTimeout = 10 * time.Second

// rollback ends a transaction that failed. One whose connection is lost has ended.
func rollback(t *sql.Tx) error {
	if err := t.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) && !errors.Is(err, driver.ErrBadConn) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// present fails when the path no longer names the file that is open: what is written to a removed
// file is lost, and what is read from it is no longer what the operator decides.
func (db *DB) present() error {
	if db.file == nil {
		return nil
	}
	info, err := os.Stat(db.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	if !os.SameFile(info, db.file) {
		return ErrGone
	}
	return nil
}

// Path returns the absolute path of the file, empty for PostgreSQL.
func (db *DB) Path() string { return db.path }

// State returns the documents.
func (db *DB) State() state.Store { return db.state }

// Replays returns the ids that may be used once.
func (db *DB) Replays() state.Replays { return db.replays }

// replays are Replays that hold something.
type replays interface {
	state.Replays
	close(ctx context.Context) error
}

// Close saves what is only in memory and ends every connection. Nothing may be asked afterwards.
func (db *DB) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if db.replays != nil {
		errs = append(errs, db.replays.close(ctx))
	}
	db.feed.close()
	for _, conn := range []*sql.DB{db.read, db.write} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}

// closeTimeout bounds the saving of what is only in memory.
const closeTimeout = 10 * time.Second
