package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/servicetest"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/internal/tlsconf"
)

func TestOpenConfig(t *testing.T) {
	t.Parallel()
	address, _ := servicetest.RedisServer(t, "--requirepass", "s3cret")
	write := func(text string) secret.Ref {
		name := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return secret.Ref{File: name}
	}
	redis := Redis{Address: address, Password: write("s3cret\n")}
	postgres := Postgres{DSN: write(servicetest.Postgres(t))}
	for name, cfg := range map[string]Config{
		"nothing": {}, "Redis": {Redis: redis}, "PostgreSQL": {Postgres: postgres}, "both": {Postgres: postgres, Redis: redis},
	} {
		path := file(t)
		db, err := OpenConfig(t.Context(), cfg, path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := db.State().Put(t.Context(), state.Doc{Kind: "k", ID: name}); err != nil {
			t.Errorf("%s: Put: %v", name, err)
		}
		if _, err := db.Replays().Add(t.Context(), name, time.Now().Add(time.Minute)); err != nil {
			t.Errorf("%s: Add: %v", name, err)
		}
		if _, err := os.Stat(path); (err == nil) == cfg.Shared() {
			t.Errorf("%s: file: %v", name, err)
		}
		want := map[string]string{"nothing": "*store.memoryReplays", "PostgreSQL": "*store.tableReplays"}[name]
		if got := fmt.Sprintf("%T", db.Replays()); got != want && (want != "" || got != "*store.redisReplays") {
			t.Errorf("%s: ids are remembered by %s", name, got)
		}
		closeDB(t, db)
	}
}

func TestOpenConfigRefuses(t *testing.T) {
	t.Parallel()
	ref := secret.Ref{Env: "NOT_SET_s3cret"}
	for name, cfg := range map[string]Config{
		"two sources":       {Postgres: Postgres{DSN: secret.Ref{File: "a", Env: "B"}}},
		"no secret":         {Postgres: Postgres{DSN: ref}},
		"one connection":    {Postgres: Postgres{Connections: 1}},
		"password alone":    {Redis: Redis{Password: ref}},
		"TLS alone":         {Redis: Redis{TLS: &tlsconf.Client{}}},
		"no password":       {Redis: Redis{Address: "127.0.0.1:1", Password: ref}},
		"nobody there":      {Redis: Redis{Address: "127.0.0.1:1"}},
		"no authority file": {Redis: Redis{Address: "127.0.0.1:1", TLS: &tlsconf.Client{CAFile: "/nonexistent"}}},
	} {
		db, err := OpenConfig(t.Context(), cfg, file(t))
		if err == nil {
			closeDB(t, db)
			t.Errorf("%s: OpenConfig accepted it", name)
		} else if !strings.Contains(err.Error(), "state") && !strings.Contains(err.Error(), "redis") {
			t.Errorf("%s: OpenConfig = %v, which names nothing", name, err)
		}
	}
}
