package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/servicetest"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/internal/state/statetest"
)

// TestPostgresKilled kills the server in the middle of writes, several times: what was acknowledged is
// there, pairs that were written together are whole, and writing goes on without opening anything again.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	dsn, server := servicetest.PostgresServer(t)
	db := openPostgres(t, dsn)
	s := db.State()
	var mu sync.Mutex
	acknowledged, failed := map[string]bool{}, 0
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				_, err := s.Put(t.Context(), state.Doc{Kind: "a", ID: id, Body: []byte(id)}, state.Doc{Kind: "b", ID: id, Body: []byte(id)})
				mu.Lock()
				if err == nil {
					acknowledged[id] = true
				} else {
					failed++
				}
				mu.Unlock()
				if err != nil {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	for range 3 {
		before := count()
		eventually(t, 20*time.Second, "writes go on", func() bool { return count() > before+20 })
		server.Kill()
		time.Sleep(100 * time.Millisecond)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	before := count()
	eventually(t, 20*time.Second, "writes go on after the last kill", func() bool { return count() > before+20 })
	stop()
	writers.Wait()
	t.Logf("%d writes acknowledged, %d failed", len(acknowledged), failed)
	if failed == 0 {
		t.Error("no write met the outage")
	}
	found := map[string]map[string]bool{"a": {}, "b": {}}
	for after := int64(0); ; {
		docs, err := s.Changes(t.Context(), after, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(docs) == 0 {
			break
		}
		for i := range docs {
			found[docs[i].Kind][docs[i].ID] = string(docs[i].Body) == docs[i].ID
			after = docs[i].Seq
		}
	}
	for id := range acknowledged {
		if !found["a"][id] || !found["b"][id] {
			t.Errorf("the acknowledged %s is gone", id)
		}
	}
	for id := range found["a"] {
		if !found["b"][id] {
			t.Errorf("%s is half there", id)
		}
	}
	if len(found["a"]) != len(found["b"]) {
		t.Errorf("%d and %d documents of pairs", len(found["a"]), len(found["b"]))
	}
}

func eventually(t *testing.T, within time.Duration, what string, is func() bool) {
	t.Helper()
	for begin := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// TestPostgresOutageIsAnError proves that a store that cannot be asked says so, and not "not found".
func TestPostgresOutageIsAnError(t *testing.T) {
	t.Parallel()
	dsn, server := servicetest.PostgresServer(t)
	db := openPostgres(t, dsn)
	s, r := db.State(), db.Replays()
	if _, err := s.Put(t.Context(), state.Doc{Kind: "k", ID: "a"}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	ctx := t.Context()
	calls := map[string]func() error{
		"Get":     func() error { _, err := s.Get(ctx, "k", "a"); return err },
		"Put":     func() error { _, err := s.Put(ctx, state.Doc{Kind: "k", ID: "b"}); return err },
		"Take":    func() error { _, err := s.Take(ctx, "k", "a"); return err },
		"Delete":  func() error { return s.Delete(ctx, "k", "a", 0) },
		"List":    func() error { _, err := s.List(ctx, state.Query{Kind: "k"}); return err },
		"Changes": func() error { _, err := s.Changes(ctx, 0, 0); return err },
		"Latest":  func() error { _, err := s.Latest(ctx); return err },
		"Add":     func() error { _, err := r.Add(ctx, "id", time.Now().Add(time.Minute)); return err },
	}
	for name, call := range calls {
		if err := call(); err == nil || errors.Is(err, state.ErrNotFound) || errors.Is(err, state.ErrConflict) {
			t.Errorf("%s without a server = %v, want an error", name, err)
		}
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "k", "a"); err != nil {
		t.Errorf("Get after the server is back: %v", err)
	}
	if ok, err := r.Add(ctx, "id", time.Now().Add(time.Minute)); err != nil || !ok {
		t.Errorf("Add after the server is back = %v, %v", ok, err)
	}
}

// TestPostgresListen takes the listener's connection away: changes are still heard within the polling
// interval, and soon as fast as before.
func TestPostgresListen(t *testing.T) {
	t.Parallel()
	dsn, server := servicetest.PostgresServer(t)
	here, there := openPostgres(t, dsn), openPostgres(t, dsn)
	hints := there.State().Watch(t.Context())
	heard := func(within time.Duration) time.Duration {
		t.Helper()
		for quiet := false; !quiet; {
			select {
			case <-hints:
			case <-time.After(pollEvery + 200*time.Millisecond):
				quiet = true
			}
		}
		begin := time.Now()
		if _, err := here.State().Put(t.Context(), state.Doc{Kind: "k", ID: fmt.Sprint(begin)}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-hints:
			return time.Since(begin)
		case <-time.After(within):
			t.Fatalf("nothing was heard for %v", within)
			return 0
		}
	}
	t.Logf("heard after %v", heard(pollEvery+time.Second))
	if _, err := here.write.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE query = 'LISTEN `+changed+`'`); err != nil {
		t.Fatal(err)
	}
	t.Logf("heard after %v, with the listener gone", heard(pollEvery+time.Second))
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	t.Logf("heard after %v, with the server restarted", heard(pollEvery+time.Second))
	quick := 0
	for range 3 {
		if heard(pollEvery+time.Second) < pollEvery/4 {
			quick++
		}
	}
	if quick == 0 {
		t.Error("the listener did not come back")
	}
}

// TestPostgresPolling proves that notifications are only a hint: without any, changes are heard.
func TestPostgresPolling(t *testing.T) {
	t.Parallel()
	dsn := servicetest.Postgres(t)
	here, there := openPostgres(t, dsn), openPostgres(t, dsn)
	there.feed.listen = nil
	hints := there.State().Watch(t.Context())
	time.Sleep(pollEvery / 2)
	select {
	case <-hints:
	default:
	}
	if _, err := here.State().Put(t.Context(), state.Doc{Kind: "k", ID: "a"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-hints:
	case <-time.After(3 * pollEvery):
		t.Error("nothing was heard")
	}
}

// TestRedisKilled kills a Redis that keeps nothing on disk: while it is away nothing is accepted, what
// was used before is not accepted afterwards, and new proofs are, without opening anything again.
func TestRedisKilled(t *testing.T) {
	t.Parallel()
	address, server := servicetest.RedisServer(t)
	dsn := servicetest.Postgres(t)
	var gateways [2]state.Replays
	for i := range gateways {
		db := openPostgres(t, dsn)
		if err := db.UseRedis(t.Context(), RedisConfig{Address: address}); err != nil {
			t.Fatal(err)
		}
		gateways[i] = db.Replays()
	}
	waitFresh(t, gateways[0])
	type proof struct {
		id    string
		until time.Time
	}
	var used []proof
	use := func(p proof) (bool, error) { return gateways[len(p.id)%2].Add(t.Context(), p.id, p.until) }
	for i := range 200 {
		p := proof{fmt.Sprintf("proof-%d", i), time.Now().Add(time.Minute).Truncate(time.Second)}
		if i%10 == 0 {
			p.until = p.until.Add(10 * time.Minute)
		}
		if ok, err := use(p); err != nil || !ok {
			t.Fatalf("Add = %v, %v", ok, err)
		}
		used = append(used, p)
	}
	server.Kill()
	for i := range gateways {
		if ok, err := gateways[i].Add(t.Context(), "while it is away", time.Now().Add(time.Minute)); err == nil {
			t.Errorf("Add without a server = %v, want an error", ok)
		}
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	var replays sync.WaitGroup
	for _, g := range gateways {
		for _, p := range used {
			replays.Go(func() {
				for range 3 {
					if ok, err := g.Add(t.Context(), p.id, p.until); ok {
						t.Errorf("%s was accepted again (%v)", p.id, err)
					}
				}
			})
		}
	}
	begin := time.Now()
	for _, g := range gateways {
		waitFresh(t, g)
	}
	t.Logf("new proofs were accepted %v after the server was back", time.Since(begin))
	replays.Wait()
	for _, p := range used {
		if ok, err := use(p); ok || err != nil {
			t.Errorf("%s: Add = %v, %v, want a refusal", p.id, ok, err)
		}
	}
}

// TestRedisForgetsLongOnes replays an id that was long when it was used and is short when it is
// replayed, as the first thing that a Redis without memory hears of.
func TestRedisForgetsLongOnes(t *testing.T) {
	t.Parallel()
	address, server := servicetest.RedisServer(t)
	clock := statetest.NewClock()
	db := open(t, file(t), WithClock(clock.Now))
	if err := db.UseRedis(t.Context(), RedisConfig{Address: address}); err != nil {
		t.Fatal(err)
	}
	clock.Add(time.Minute)
	until := clock.Now().Add(10 * time.Minute)
	if ok, err := db.Replays().Add(t.Context(), "assertion", until); err != nil || !ok {
		t.Fatalf("Add = %v, %v", ok, err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	clock.Add(9 * time.Minute)
	eventually(t, 10*time.Second, "the server answers", func() bool {
		ok, err := db.Replays().Add(t.Context(), "assertion", until)
		if ok {
			t.Fatal("it was accepted again")
		}
		return err == nil
	})
}

// TestRedisComesBackWithOldMemory restarts a Redis that has an old copy of its memory on disk: it knows
// the mark but not what was used since.
func TestRedisComesBackWithOldMemory(t *testing.T) {
	t.Parallel()
	address, server := servicetest.RedisServer(t)
	db := open(t, file(t))
	if err := db.UseRedis(t.Context(), RedisConfig{Address: address}); err != nil {
		t.Fatal(err)
	}
	waitFresh(t, db.Replays())
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Do(t.Context(), client.B().Arbitrary("SAVE").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Minute)
	if ok, err := db.Replays().Add(t.Context(), "after the copy", until); err != nil || !ok {
		t.Fatalf("Add = %v, %v", ok, err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the server answers", func() bool {
		ok, err := db.Replays().Add(t.Context(), "after the copy", until)
		if ok {
			t.Fatal("it was accepted again")
		}
		return err == nil
	})
	waitFresh(t, db.Replays())
}

func TestRedisRefused(t *testing.T) {
	t.Parallel()
	evicting, _ := servicetest.RedisServer(t, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
	guarded, _ := servicetest.RedisServer(t, "--requirepass", "s3cret-of-redis")
	for name, c := range map[string]struct {
		cfg  RedisConfig
		want error
	}{
		"evicts":         {RedisConfig{Address: evicting}, ErrEvicts},
		"no password":    {RedisConfig{Address: guarded}, nil},
		"wrong password": {RedisConfig{Address: guarded, Password: secret.New([]byte("s3cret-but-wrong"))}, nil},
		"plaintext":      {RedisConfig{Address: "redis.example:6379"}, ErrUnprotected},
		"no port":        {RedisConfig{Address: "localhost"}, nil},
		"nobody there":   {RedisConfig{Address: "127.0.0.1:1", Password: secret.New([]byte("s3cret"))}, nil},
	} {
		db := open(t, file(t))
		err := db.UseRedis(t.Context(), c.cfg)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: UseRedis = %v, want %v", name, err, c.want)
		}
	}
	db := open(t, file(t))
	if err := db.UseRedis(t.Context(), RedisConfig{Address: guarded, Password: secret.New([]byte("s3cret-of-redis"))}); err != nil {
		t.Errorf("UseRedis with the password: %v", err)
	}
}

func TestPostgresRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dsn  string
		want error
	}{
		"no URI":        {"postgres://warder:s3cret@host:port/db", nil},
		"no list":       {"password=s3cret host", nil},
		"prefer":        {"postgres://warder:s3cret@db.example/warder", ErrUnprotected},
		"disable":       {"postgres://warder:s3cret@db.example/warder?sslmode=disable", ErrUnprotected},
		"require":       {"postgres://warder:s3cret@db.example/warder?sslmode=require", ErrUnprotected},
		"second host":   {"host=localhost,db.example user=warder password=s3cret sslmode=disable", ErrUnprotected},
		"nobody there":  {"postgres://warder:s3cret@127.0.0.1:1/warder", nil},
		"no such place": {"host=/nonexistent user=warder password=s3cret", nil},
	} {
		db, err := OpenPostgres(t.Context(), PostgresConfig{DSN: secret.New([]byte(c.dsn))})
		if err == nil {
			closeDB(t, db)
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: OpenPostgres = %v, want %v", name, err, c.want)
		}
	}
	for _, dsn := range []string{"postgres://u:p@db.example/d?sslmode=verify-full", "postgres://u:p@localhost/d", "host=/run/postgresql user=u"} {
		if _, err := parseDSN(PostgresConfig{DSN: secret.New([]byte(dsn))}); err != nil {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}
