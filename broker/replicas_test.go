package broker_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/servicetest"
	"github.com/warder-mcp/warder/store"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

// gateway is one replica with a connection pool and a clock of its own.
func gateway(t *testing.T, dsn string, box *seal.Box) *broker.Broker {
	t.Helper()
	db, err := store.OpenPostgres(t.Context(), store.PostgresConfig{DSN: secret.New([]byte(dsn))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := broker.New(t.Context(), broker.Config{}, broker.Deps{State: db.State(), Box: box, Record: (&trail{}).record})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestReplicasShareOneDatabase: two gateways on PostgreSQL never spend the same use or approval twice, keep
// the order of a plan, and wake each other.
func TestReplicasShareOneDatabase(t *testing.T) {
	t.Parallel()
	dsn := servicetest.Postgres(t)
	box, err := seal.New(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	one := gateway(t, dsn, box)
	two := gateway(t, dsn, box)
	both := []*broker.Broker{one, two}

	q := request()
	q.Uses = 5
	g := granted(t, one, q)
	eventually(t, "the grant is known", func() bool { return find(two, principal(), "delete") != nil })
	var passed atomic.Int64
	crowd := func(n int, try func(*broker.Broker) error) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				switch err := try(both[i%2]); {
				case err == nil:
					passed.Add(1)
				case !errors.Is(err, broker.ErrUsedUp):
					t.Errorf("try: %v", err)
				}
			})
		}
		all.Wait()
	}
	crowd(12, func(b *broker.Broker) error { return b.Grants.Use(t.Context(), &g.Grant) })
	if passed.Load() != 5 {
		t.Errorf("%d uses passed, want 5", passed.Load())
	}

	h := open(t, one, call())
	if _, err := two.Holds.Decide(t.Context(), yes(h, boss())); err != nil {
		t.Fatal(err)
	}
	if held, err := one.Holds.Wait(t.Context(), h.ID, 10*time.Second); err != nil || held.Status != broker.HoldApproved {
		t.Errorf("woke with %v, %v, want approved", held.Status, err)
	}
	passed.Store(0)
	crowd(12, func(b *broker.Broker) error { _, err := b.Holds.Consume(t.Context(), h.ID, call()); return err })
	if passed.Load() != 1 {
		t.Errorf("%d calls used one approval", passed.Load())
	}

	tools := []string{"a", "b", "c"}
	plan(t, one, tools...)
	var reached, running atomic.Int64
	var all sync.WaitGroup
	for caller := range 4 {
		random := rand.New(rand.NewPCG(1, uint64(caller)))
		all.Go(func() {
			for range 30 {
				attempt(t, both[caller%2], tools, random, &reached, &running)
			}
		})
	}
	all.Wait()
	if reached.Load() > 3 {
		t.Errorf("%d steps succeeded, the plan has 3", reached.Load())
	}
}

// TestDatabaseIsGoneAndComesBack: while PostgreSQL is away bounded uses are refused and the age grows; then
// everything goes on, and nothing is lost.
func TestDatabaseIsGoneAndComesBack(t *testing.T) {
	t.Parallel()
	dsn, server := servicetest.PostgresServer(t)
	box, err := seal.New(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	b := gateway(t, dsn, box)
	q := request()
	q.Uses = 2
	g := granted(t, b, q)
	server.Stop()
	if err := b.Grants.Use(t.Context(), &g.Grant); err == nil || errors.Is(err, broker.ErrUsedUp) {
		t.Errorf("use without a database: %v, want its error", err)
	}
	eventually(t, "the age grows", func() bool { return b.Age(time.Now()) > 200*time.Millisecond })
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	recovered := func() bool { return b.Age(time.Now()) < 2*time.Second && b.Grants.Use(t.Context(), &g.Grant) == nil }
	for range 20 {
		if recovered() {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	if got, err := b.Grants.Get(t.Context(), g.ID); err != nil || got.Left != 1 {
		t.Errorf("after recovery the grant is %+v, %v, want one use left", got, err)
	}
}
