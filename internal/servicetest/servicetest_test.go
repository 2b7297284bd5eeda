package servicetest

import (
	"errors"
	"testing"
)

// TestPostgresServer proves that data outlives a kill, and that the address stays the same.
func TestPostgresServer(t *testing.T) {
	t.Parallel()
	dsn, server := PostgresServer(t)
	if err := execute(t.Context(), dsn, "CREATE TABLE kept (a INTEGER)"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := execute(t.Context(), dsn, "SELECT * FROM kept"); err == nil {
		t.Error("it answers after it was killed")
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err == nil {
		t.Error("it was started twice")
	}
	if err := execute(t.Context(), dsn, "SELECT * FROM kept"); err != nil {
		t.Errorf("after it was killed: %v", err)
	}
	server.Stop()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if err := execute(t.Context(), dsn, "SELECT * FROM kept"); err != nil {
		t.Errorf("after it was stopped: %v", err)
	}
}

func TestRedisServer(t *testing.T) {
	t.Parallel()
	address, server := RedisServer(t)
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := ping(t.Context(), address); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	server.Stop()
	if err := ping(t.Context(), address); err == nil {
		t.Error("it answers after it was stopped")
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	if _, err := find("no-such-program", "/nonexistent/*/bin/x"); !errors.Is(err, ErrMissing) {
		t.Errorf("find = %v, want ErrMissing", err)
	}
}
