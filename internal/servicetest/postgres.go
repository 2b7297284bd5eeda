package servicetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shared is the environment variable that holds the connection string of the server of [Main].
const shared = "WARDER_TEST_POSTGRES"

// Main runs the tests of a package with one PostgreSQL server for all of them, and exits. It is not
// durable: nothing that a test kills.
func Main(m *testing.M) {
	os.Exit(run(m, os.Stderr))
}

func run(m *testing.M, stderr io.Writer) int {
	dsn, server, err := newPostgres("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=200")
	if errors.Is(err, ErrMissing) {
		return m.Run() // each test that needs it says so
	}
	if err == nil {
		defer func() { _ = server.close() }() // the tests have been judged
		err = os.Setenv(shared, dsn)
	}
	if err != nil {
		fmt.Fprintf(stderr, "PostgreSQL: %v\n", err)
		return 1
	}
	return m.Run()
}

// Postgres returns the connection string of an empty database that is removed after the test. It is on
// the server of [Main]; without one it gets a server of its own.
func Postgres(tb testing.TB) string {
	tb.Helper()
	admin := os.Getenv(shared)
	if admin == "" {
		dsn, server, err := newPostgres("-c", "fsync=off")
		needed(tb, "PostgreSQL", err)
		own(tb, server)
		admin = dsn
	}
	name := "t" + strings.ToLower(rand.Text())
	if err := execute(tb.Context(), admin, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		if err := execute(context.WithoutCancel(tb.Context()), admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("remove database: %v", err)
		}
	})
	return strings.Replace(admin, "dbname=postgres", "dbname="+name, 1)
}

// PostgresServer returns the connection string of an empty, durable server that ends with the test.
func PostgresServer(tb testing.TB) (string, *Server) {
	tb.Helper()
	dsn, server, err := newPostgres()
	needed(tb, "PostgreSQL", err)
	own(tb, server)
	return dsn, server
}

func newPostgres(options ...string) (_ string, _ *Server, err error) {
	initdb, err := find("initdb", "/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", nil, err
	}
	dir, credential, err := folder("postgres")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	data := filepath.Join(dir, "data")
	cmd := exec.CommandContext(context.Background(), initdb, "-D", data, "-U", "warder", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	dsn := "host=" + dir + " user=warder dbname=postgres"
	s := &Server{
		dir: dir, user: credential, quick: syscall.SIGQUIT, // an immediate shutdown: nothing is written any more
		argv:    append([]string{filepath.Join(filepath.Dir(initdb), "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses="}, options...),
		answers: func(ctx context.Context) error { return execute(ctx, dsn, "SELECT 1") },
	}
	return dsn, s, s.Start()
}

func execute(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
