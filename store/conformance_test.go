package store

import (
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/servicetest"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/internal/state/statetest"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

func openPostgres(tb testing.TB, dsn string, options ...Option) *DB {
	tb.Helper()
	db, err := OpenPostgres(tb.Context(), PostgresConfig{DSN: secret.New([]byte(dsn))}, options...)
	if err != nil {
		tb.Fatalf("OpenPostgres: %v", err)
	}
	tb.Cleanup(func() { closeDB(tb, db) })
	return db
}

func closeDB(tb testing.TB, db *DB) {
	tb.Helper()
	if err := db.Close(); err != nil {
		tb.Errorf("Close: %v", err)
	}
}

// withRedis makes db remember in a Redis server of its own.
func withRedis(tb testing.TB, db *DB) *DB {
	tb.Helper()
	address, _ := servicetest.RedisServer(tb)
	if err := db.UseRedis(tb.Context(), RedisConfig{Address: address}); err != nil {
		tb.Fatalf("UseRedis: %v", err)
	}
	return db
}

func TestSQLiteState(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T, now func() time.Time) state.Store {
		t.Helper()
		return open(t, file(t), WithClock(now)).State()
	})
}

func TestPostgresState(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T, now func() time.Time) state.Store {
		t.Helper()
		return openPostgres(t, servicetest.Postgres(t), WithClock(now)).State()
	})
}

// A pair of gateways that take turns must be one store.
func TestPostgresStateOfTwoGateways(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T, now func() time.Time) state.Store {
		t.Helper()
		dsn := servicetest.Postgres(t)
		return newTwo(openPostgres(t, dsn, WithClock(now)).State(), openPostgres(t, dsn, WithClock(now)).State())
	})
}

func TestReplays(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, now func() time.Time) *DB{
		"SQLite": func(t *testing.T, now func() time.Time) *DB {
			t.Helper()
			return open(t, file(t), WithClock(now))
		},
		"PostgreSQL": func(t *testing.T, now func() time.Time) *DB {
			t.Helper()
			return openPostgres(t, servicetest.Postgres(t), WithClock(now))
		},
		"Redis and SQLite": func(t *testing.T, now func() time.Time) *DB {
			t.Helper()
			return withRedis(t, open(t, file(t), WithClock(now)))
		},
		"Redis and PostgreSQL": func(t *testing.T, now func() time.Time) *DB {
			t.Helper()
			return withRedis(t, openPostgres(t, servicetest.Postgres(t), WithClock(now)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			statetest.RunReplays(t, func(t *testing.T, now func() time.Time) state.Replays {
				t.Helper()
				return open(t, now).Replays()
			})
		})
	}
}

func BenchmarkReplays(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) { statetest.BenchmarkAdd(b, open(b, file(b)).Replays(), 300*time.Millisecond) })
	b.Run("PostgreSQL", func(b *testing.B) {
		dsn, _ := servicetest.PostgresServer(b)
		statetest.BenchmarkAdd(b, openPostgres(b, dsn).Replays(), time.Minute)
	})
	b.Run("Redis", func(b *testing.B) {
		db := withRedis(b, open(b, file(b)))
		waitFresh(b, db.Replays())
		statetest.BenchmarkAdd(b, db.Replays(), time.Minute)
	})
}

func BenchmarkPut(b *testing.B) {
	put := func(b *testing.B, s state.Store) {
		b.Helper()
		b.ReportAllocs()
		d := state.Doc{Kind: "k", ID: "a", Body: make([]byte, 300)}
		for b.Loop() {
			out, err := s.Put(b.Context(), d)
			if err != nil {
				b.Fatal(err)
			}
			d = out[0]
		}
	}
	b.Run("SQLite", func(b *testing.B) { put(b, open(b, file(b)).State()) })
	b.Run("PostgreSQL", func(b *testing.B) {
		dsn, _ := servicetest.PostgresServer(b)
		put(b, openPostgres(b, dsn).State())
	})
}
