// Package store keeps Warder's state: one SQLite file in write-ahead mode, written by one connection
// at a time and durable when a call returns. It implements interfaces that the users of the state
// declare, such as [registry.Store]; nothing else in Warder speaks SQL.
//
//	db, err := store.Open(ctx, "/var/lib/warder/warder.db")
//	reg, err := registry.New(ctx, registry.Config{}, registry.Deps{Store: db.Registry()})
//
// The file holds decisions that open the gate, so it belongs to the user who runs Warder alone:
// it is created with mode 0600, and a file or folder that others may write to is refused.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
)

// readers is how many queries run at once besides the one writer. Reads come from polling and from
// commands, never from the path of a message.
const readers = 2

// A DB is an open database. It is safe for concurrent use, also by several processes.
type DB struct {
	path  string
	file  fs.FileInfo // as it was opened
	write *sql.DB     // one connection; transactions take the write lock at once
	read  *sql.DB
}

// Open opens the database file, creates it when it is missing, checks that it is whole, and brings
// its tables up to date.
func Open(ctx context.Context, path string) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := prepare(path); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db := &DB{path: path}
	if err := db.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
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

// migrate applies the migrations that the file has not seen, each in a transaction of its own. The
// number of the last one applied is the user_version of the file.
func (db *DB) migrate(ctx context.Context) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	var have int
	if err := db.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
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
	return db.update(ctx, func(tx *sql.Tx) error {
		var have int // another process may have been faster
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
			return err
		}
		if have >= version {
			return nil
		}
		if _, err := tx.ExecContext(ctx, string(statements)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}

// update runs do in a transaction that holds the write lock, and commits unless do fails.
func (db *DB) update(ctx context.Context, do func(*sql.Tx) error) error {
	if err := db.present(); err != nil {
		return err
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// present fails when the path no longer names the file that is open: what is written to a removed
// file is lost, and what is read from it is no longer what the operator decides.
func (db *DB) present() error {
	info, err := os.Stat(db.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	if !os.SameFile(info, db.file) {
		return ErrGone
	}
	return nil
}

// Path returns the absolute path of the file.
func (db *DB) Path() string { return db.path }

// Close ends every connection.
func (db *DB) Close() error {
	var errs []error
	for _, conn := range []*sql.DB{db.read, db.write} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}
