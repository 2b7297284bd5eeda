package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/state/statetest"
)

// TestReplaysAfterACrash proves that a gateway that was killed refuses what an earlier one may have
// accepted, and nothing that was made after it started.
func TestReplaysAfterACrash(t *testing.T) {
	t.Parallel()
	path, clock := file(t), statetest.NewClock()
	add := func(db *DB, id string, left time.Duration, want bool) {
		t.Helper()
		if got, err := db.Replays().Add(t.Context(), id, clock.Now().Add(left)); err != nil || got != want {
			t.Errorf("Add(%s, %v) = %v, %v, want %v", id, left, got, err, want)
		}
	}
	killed := open(t, path, WithClock(clock.Now))
	add(killed, "proof", time.Minute, true)
	add(killed, "assertion", 10*time.Minute, true)
	clock.Add(10 * time.Second)

	next := open(t, path, WithClock(clock.Now)) // killed never closed
	add(next, "proof", 50*time.Second, false)
	add(next, "assertion", 590*time.Second, false)
	add(next, "not seen by anybody, but older than the process", 59*time.Second, false)
	clock.Add(time.Millisecond)
	add(next, "new", time.Minute, true)
	add(next, "new assertion", 10*time.Minute, true)
	clock.Add(9 * time.Minute)
	add(next, "assertion", 50*time.Second-time.Millisecond, false)
}

// TestProofsStayInMemory proves that the proof of a call is not written to the database, that a gateway that
// was killed refuses those of before all the same, and that other ids do not pay for it.
func TestProofsStayInMemory(t *testing.T) {
	t.Parallel()
	path, clock := file(t), statetest.NewClock()
	const left = 5*time.Minute + time.Second
	add := func(db *DB, id string, left time.Duration, want bool) {
		t.Helper()
		if got, err := db.Replays().Add(t.Context(), id, clock.Now().Add(left)); err != nil || got != want {
			t.Errorf("Add(%s, %v) = %v, %v, want %v", id, left, got, err, want)
		}
	}
	rows := func(db *DB) (n int) {
		t.Helper()
		if err := db.queryRow(t.Context(), "SELECT count(*) FROM replays").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	killed := open(t, path, WithClock(clock.Now))
	add(killed, "dpop:a", left, true)
	add(killed, "dpop:a", left, false)
	if n := rows(killed); n != 0 {
		t.Errorf("%d ids in the database, want none", n)
	}
	add(killed, "dpop:of a clock that is far ahead", 2*left, true)
	add(killed, "assertion", left, true)
	if n := rows(killed); n != 2 {
		t.Errorf("%d ids in the database, want 2", n)
	}
	clock.Add(10 * time.Second)

	next := open(t, path, WithClock(clock.Now)) // killed never closed
	add(next, "dpop:a", left-10*time.Second, false)
	add(next, "dpop:of a clock that is far ahead", 2*left-10*time.Second, false)
	add(next, "dpop:not seen by anybody, but older than the process", left, false)
	add(next, "assertion", left-10*time.Second, false)
	add(next, "assertion that nobody saw", longWindow+time.Second, true)
	clock.Add(time.Millisecond)
	add(next, "dpop:b", left, true)
	clock.Add(left - 10*time.Second - time.Millisecond - 1)
	add(next, "dpop:a", 1, false)
}

// TestReplaysAfterAClose proves that a gateway that ended in good order passes on what it remembers, so
// that the next refuses exactly that.
func TestReplaysAfterAClose(t *testing.T) {
	t.Parallel()
	path, clock := file(t), statetest.NewClock()
	until := clock.Now().Add(time.Minute)
	for round := range 3 {
		db, err := Open(t.Context(), path, WithClock(clock.Now))
		if err != nil {
			t.Fatal(err)
		}
		for old := range round {
			if ok, err := db.Replays().Add(t.Context(), fmt.Sprint(old), until); err != nil || ok {
				t.Errorf("round %d: id %d was accepted again (%v)", round, old, err)
			}
		}
		if ok, err := db.Replays().Add(t.Context(), fmt.Sprint(round), until); err != nil || !ok {
			t.Errorf("round %d: a new id was refused (%v)", round, err)
		}
		closeDB(t, db)
		clock.Add(time.Second)
	}
}

// TestReplaysAfterRedis proves that a gateway that is configured without Redis, after it had one, refuses
// what it may have accepted with it, and the other way round.
func TestReplaysAfterRedis(t *testing.T) {
	t.Parallel()
	path := file(t)
	until := time.Now().Add(time.Minute)
	with := withRedis(t, open(t, path))
	waitFresh(t, with.Replays())
	if ok, err := with.Replays().Add(t.Context(), "a", until.Add(10*time.Second)); err != nil || !ok {
		t.Fatalf("Add = %v, %v", ok, err)
	}
	without, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := without.Replays().Add(t.Context(), "a", until.Add(10*time.Second)); err != nil || ok {
		t.Errorf("without Redis: Add = %v, %v, want a refusal", ok, err)
	}
	waitFresh(t, without.Replays())
	late := time.Now().Add(65 * time.Second)
	if ok, err := without.Replays().Add(t.Context(), "b", late); err != nil || !ok {
		t.Errorf("Add = %v, %v", ok, err)
	}
	closeDB(t, without)
	if ok, err := withRedis(t, open(t, path)).Replays().Add(t.Context(), "b", late); err != nil || ok {
		t.Errorf("with another Redis: Add = %v, %v, want a refusal", ok, err)
	}
}

// TestReplaysOfCommands proves that a command that opens the file beside a running gateway changes
// nothing about what the gateway remembers.
func TestReplaysOfCommands(t *testing.T) {
	t.Parallel()
	path := file(t)
	gateway := open(t, path)
	until := time.Now().Add(time.Minute)
	if ok, err := gateway.Replays().Add(t.Context(), "a", until); err != nil || !ok {
		t.Fatalf("Add = %v, %v", ok, err)
	}
	command, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	closeDB(t, command)
	if ok, err := open(t, path).Replays().Add(t.Context(), "a", until); err != nil || ok {
		t.Errorf("after a crash: Add = %v, %v, want a refusal", ok, err)
	}
}

func TestReplaysAreBounded(t *testing.T) {
	t.Parallel()
	clock := statetest.NewClock()
	r := newMemoryReplays(open(t, file(t), WithClock(clock.Now)))
	s := &r.shards[0]
	for i := range maxRemember / len(r.shards) {
		s.seen[digest{0, byte(i), byte(i >> 8), byte(i >> 16)}] = clock.Now().Add(time.Minute).UnixNano()
	}
	if _, err := r.remember(digest{0, 1, 1, 1, 1}, clock.Now().Add(time.Minute), clock.Now()); !errors.Is(err, ErrFull) {
		t.Errorf("remember = %v, want ErrFull", err)
	}
	clock.Add(time.Minute)
	if ok, err := r.remember(digest{0, 1, 1, 1, 1}, clock.Now().Add(time.Minute), clock.Now()); err != nil || !ok {
		t.Errorf("remember after the ends = %v, %v", ok, err)
	}
	if len(s.seen) != 1 {
		t.Errorf("%d ids are left, want 1", len(s.seen))
	}
}
