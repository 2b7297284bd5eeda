// Package statetest is the conformance suite of package state: every implementation passes it.
//
//	statetest.Run(t, func(t *testing.T, now func() time.Time) state.Store { return state.NewMemory(now) })
//	statetest.RunReplays(t, func(t *testing.T, now func() time.Time) state.Replays { … })
package statetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/internal/state"
)

// Open returns an empty store whose clock is now. It ends with the test.
type Open func(t *testing.T, now func() time.Time) state.Store

// A Clock is a clock that a test moves. It is safe for concurrent use.
type Clock struct{ ns atomic.Int64 }

// NewClock returns a clock that shows the present second and stands still.
func NewClock() *Clock {
	c := &Clock{}
	c.ns.Store(time.Now().Truncate(time.Second).UnixNano())
	return c
}

// Now returns what the clock shows.
func (c *Clock) Now() time.Time { return time.Unix(0, c.ns.Load()).UTC() }

// Add moves the clock.
func (c *Clock) Add(d time.Duration) { c.ns.Add(int64(d)) }

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(t *testing.T, s state.Store, clock *Clock)
	}{
		{"round trip", roundTrip},
		{"versions", versions},
		{"all or none", allOrNone},
		{"bounds", bounds},
		{"ends", ends},
		{"take", take},
		{"delete", remove},
		{"list", list},
		{"changes", changes},
		{"sweep", sweep},
		{"watch", watch},
		{"concurrent writers lose no update", writers},
		{"concurrent takers get it once", takers},
		{"followers see every write", followers},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			c.test(t, open(t, clock.Now), clock)
		})
	}
	t.Run("model", func(t *testing.T) {
		t.Parallel()
		model(t, open)
	})
}

func mustPut(t *testing.T, s state.Store, docs ...state.Doc) []state.Doc {
	t.Helper()
	out, err := s.Put(t.Context(), docs...)
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
	return out
}

func latest(t *testing.T, s state.Store) int64 {
	t.Helper()
	n, err := s.Latest(t.Context())
	if err != nil {
		t.Fatalf("Latest: %v", err)
	}
	return n
}

func roundTrip(t *testing.T, s state.Store, clock *Clock) {
	t.Helper()
	if n := latest(t, s); n != 0 {
		t.Errorf("Latest of an empty store = %d, want 0", n)
	}
	body := []byte("\x00\xff ? $1 'body'")
	d := state.Doc{
		Kind: "kind", ID: "id|\x1fü", Owner: "owner\x1f?", Topic: "$1'\"", Body: body,
		NotAfter: clock.Now().Add(time.Hour + time.Nanosecond),
	}
	put := mustPut(t, s, d, state.Doc{Kind: "kind", ID: "empty"})
	body[0] = 'x' // the store keeps a copy
	d.Body = []byte("\x00\xff ? $1 'body'")
	d.Version, d.Seq = put[0].Version, put[0].Seq
	if d.Version == 0 || d.Seq == 0 || put[1].Seq <= put[0].Seq || latest(t, s) != put[1].Seq {
		t.Errorf("versions and sequence numbers: %+v, latest %d", put, latest(t, s))
	}
	got, err := s.Get(t.Context(), "kind", d.ID)
	if diff := cmp.Diff(d, got); err != nil || diff != "" {
		t.Errorf("Get: %v, mismatch (-want +got):\n%s", err, diff)
	}
	if got, err := s.Get(t.Context(), "kind", "empty"); err != nil || len(got.Body) != 0 || !got.NotAfter.IsZero() {
		t.Errorf("Get of an empty document = %+v, %v", got, err)
	}
	for _, id := range []string{"other", "", strings.Repeat("x", 5000)} {
		if _, err := s.Get(t.Context(), "kind", id); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("Get of %.10q = %v, want ErrNotFound", id, err)
		}
	}
	if _, err := s.Get(t.Context(), "other", d.ID); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Get of another kind = %v, want ErrNotFound", err)
	}
	if out, err := s.Put(t.Context()); err != nil || len(out) != 0 {
		t.Errorf("Put of nothing = %v, %v", out, err)
	}
}

func versions(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	d := state.Doc{Kind: "k", ID: "a", Body: []byte("1")}
	first := mustPut(t, s, d)[0]
	if _, err := s.Put(t.Context(), d); !errors.Is(err, state.ErrConflict) {
		t.Errorf("Put over a document as if it were not there = %v, want ErrConflict", err)
	}
	first.Body = []byte("2")
	second := mustPut(t, s, first)[0]
	if _, err := s.Put(t.Context(), first); !errors.Is(err, state.ErrConflict) {
		t.Errorf("Put over an old version = %v, want ErrConflict", err)
	}
	if _, err := s.Put(t.Context(), state.Doc{Kind: "k", ID: "b", Version: 1}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("Put over what is not there = %v, want ErrConflict", err)
	}
	if got, err := s.Get(t.Context(), "k", "a"); err != nil || string(got.Body) != "2" || got.Version != second.Version {
		t.Errorf("Get = %+v, %v", got, err)
	}
	// A version of what was deleted does not fit what came after.
	if err := s.Delete(t.Context(), "k", "a", second.Version); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, d)
	for _, old := range []state.Doc{first, second} {
		if _, err := s.Put(t.Context(), old); !errors.Is(err, state.ErrConflict) {
			t.Errorf("Put over the successor of a deleted document = %v, want ErrConflict", err)
		}
	}
}

func allOrNone(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	mustPut(t, s, state.Doc{Kind: "k", ID: "there"})
	before := latest(t, s)
	if _, err := s.Put(t.Context(), state.Doc{Kind: "k", ID: "new"}, state.Doc{Kind: "k", ID: "there"}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("Put = %v, want ErrConflict", err)
	}
	if _, err := s.Put(t.Context(), state.Doc{Kind: "k", ID: "new"}, state.Doc{Kind: "k", ID: "new"}); err == nil {
		t.Error("Put of one document twice succeeded")
	}
	if _, err := s.Get(t.Context(), "k", "new"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Get after a failed Put = %v, want ErrNotFound", err)
	}
	if docs, err := s.Changes(t.Context(), before, 10); err != nil || len(docs) != 0 || latest(t, s) != before {
		t.Errorf("Changes after a failed Put = %v, %v, latest %d, want nothing after %d", docs, err, latest(t, s), before)
	}
}

func bounds(t *testing.T, s state.Store, clock *Clock) {
	t.Helper()
	long := strings.Repeat("x", state.MaxText+1)
	for name, d := range map[string]state.Doc{
		"no kind":     {ID: "a"},
		"no id":       {Kind: "k"},
		"long kind":   {Kind: long[:state.MaxKind+1], ID: "a"},
		"long id":     {Kind: "k", ID: long},
		"long owner":  {Kind: "k", ID: "a", Owner: long},
		"long topic":  {Kind: "k", ID: "a", Topic: long},
		"zero byte":   {Kind: "k", ID: "a\x00b"},
		"no UTF-8":    {Kind: "k", ID: "a", Owner: "\xff"},
		"large body":  {Kind: "k", ID: "a", Body: make([]byte, state.MaxBody+1)},
		"distant end": {Kind: "k", ID: "a", NotAfter: clock.Now().AddDate(400, 0, 0)},
	} {
		if _, err := s.Put(t.Context(), d); err == nil || errors.Is(err, state.ErrConflict) {
			t.Errorf("%s: Put = %v, want an error", name, err)
		}
	}
	mustPut(t, s, state.Doc{
		Kind: long[:state.MaxKind], ID: long[:state.MaxText], Owner: long[:state.MaxText], Topic: long[:state.MaxText],
		Body: make([]byte, state.MaxBody),
	})
}

func ends(t *testing.T, s state.Store, clock *Clock) {
	t.Helper()
	d := mustPut(t, s, state.Doc{Kind: "k", ID: "a", Owner: "o", NotAfter: clock.Now().Add(time.Minute)})[0]
	clock.Add(time.Minute - 1)
	if _, err := s.Get(t.Context(), "k", "a"); err != nil {
		t.Errorf("Get before the end: %v", err)
	}
	clock.Add(1)
	if _, err := s.Get(t.Context(), "k", "a"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Get at the end = %v, want ErrNotFound", err)
	}
	if list, err := s.List(t.Context(), state.Query{Kind: "k"}); err != nil || len(list) != 0 {
		t.Errorf("List at the end = %v, %v, want nothing", list, err)
	}
	if _, err := s.Take(t.Context(), "k", "a"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Take at the end = %v, want ErrNotFound", err)
	}
	if err := s.Delete(t.Context(), "k", "a", 0); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Delete at the end = %v, want ErrNotFound", err)
	}
	if _, err := s.Put(t.Context(), d); !errors.Is(err, state.ErrConflict) {
		t.Errorf("Put over an ended version = %v, want ErrConflict", err)
	}
	again := mustPut(t, s, state.Doc{Kind: "k", ID: "a"})[0]
	if again.Version == d.Version {
		t.Error("a version was given twice")
	}
}

func take(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	put := mustPut(t, s, state.Doc{Kind: "k", ID: "a", Owner: "o", Body: []byte("b")})[0]
	got, err := s.Take(t.Context(), "k", "a")
	if diff := cmp.Diff(put, got); err != nil || diff != "" {
		t.Errorf("Take: %v, mismatch (-want +got):\n%s", err, diff)
	}
	if _, err := s.Take(t.Context(), "k", "a"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("second Take = %v, want ErrNotFound", err)
	}
}

func remove(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	put := mustPut(t, s, state.Doc{Kind: "k", ID: "a"}, state.Doc{Kind: "k", ID: "b"})
	if err := s.Delete(t.Context(), "k", "a", put[1].Version); !errors.Is(err, state.ErrConflict) {
		t.Errorf("Delete of another version = %v, want ErrConflict", err)
	}
	if err := s.Delete(t.Context(), "k", "a", put[0].Version); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if err := s.Delete(t.Context(), "k", "b", 0); err != nil {
		t.Errorf("Delete of any version: %v", err)
	}
	for _, id := range []string{"a", "b", "never"} {
		if err := s.Delete(t.Context(), "k", id, 0); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("Delete of %s, which is not there = %v, want ErrNotFound", id, err)
		}
	}
}

func list(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	var docs []state.Doc
	for _, id := range []string{"b", "Z", "ä", "a", "_", "10", "9"} {
		docs = append(docs, state.Doc{Kind: "k", ID: id, Owner: "o" + id[:1], Topic: "t"})
	}
	docs = append(docs, state.Doc{Kind: "kk", ID: "x", Owner: "ob", Topic: "t"}, state.Doc{Kind: "k", ID: "zz", Owner: "ob", Topic: "u"})
	for i := range docs {
		docs[i].Owner = strings.ToValidUTF8(docs[i].Owner, "?")
	}
	mustPut(t, s, docs...)
	for _, c := range []struct {
		q    state.Query
		want string
	}{
		{state.Query{Kind: "k"}, "10 9 Z _ a b zz ä"},
		{state.Query{Kind: "k", Limit: 2}, "10 9"},
		{state.Query{Kind: "k", After: "9", Limit: 2}, "Z _"},
		{state.Query{Kind: "k", Owner: "ob"}, "b zz"},
		{state.Query{Kind: "k", Owner: "ob", Topic: "u"}, "zz"},
		{state.Query{Kind: "k", Topic: "t", After: "a"}, "b ä"},
		{state.Query{Kind: "none"}, ""},
		{state.Query{}, ""},
	} {
		got, err := s.List(t.Context(), c.q)
		if diff := cmp.Diff(c.want, ids(got)); err != nil || diff != "" {
			t.Errorf("List(%+v): %v, mismatch (-want +got):\n%s", c.q, err, diff)
		}
	}
}

func ids(docs []state.Doc) string {
	var out []string
	for i := range docs {
		id := docs[i].ID
		if docs[i].Deleted {
			id = "-" + id
		}
		out = append(out, id)
	}
	return strings.Join(out, " ")
}

func changes(t *testing.T, s state.Store, clock *Clock) {
	t.Helper()
	docs := mustPut(t, s, state.Doc{Kind: "k", ID: "a"}, state.Doc{Kind: "l", ID: "b", Owner: "o", Topic: "t"}, state.Doc{Kind: "k", ID: "c", Body: []byte("c"), NotAfter: clock.Now().Add(time.Second)})
	mustPut(t, s, docs[0])
	if _, err := s.Take(t.Context(), "l", "b"); err != nil {
		t.Fatal(err)
	}
	clock.Add(time.Minute)
	check := func(after int64, limit int, want string) []state.Doc {
		t.Helper()
		got, err := s.Changes(t.Context(), after, limit)
		if diff := cmp.Diff(want, ids(got)); err != nil || diff != "" {
			t.Errorf("Changes(%d, %d): %v, mismatch (-want +got):\n%s", after, limit, err, diff)
		}
		return got
	}
	all := check(0, 0, "c a -b")
	check(0, 2, "c a")
	check(all[0].Seq, 10, "a -b")
	check(all[2].Seq, 10, "")
	if all[2].Seq != latest(t, s) || all[2].Body != nil || all[2].Kind != "l" || string(all[0].Body) != "c" {
		t.Errorf("Changes = %+v, latest %d", all, latest(t, s))
	}
	mustPut(t, s, state.Doc{Kind: "l", ID: "b"})
	check(all[2].Seq, 10, "b")
}

func sweep(t *testing.T, s state.Store, clock *Clock) {
	t.Helper()
	mustPut(t, s, state.Doc{Kind: "k", ID: "stays"}, state.Doc{Kind: "k", ID: "deleted"}, state.Doc{Kind: "k", ID: "ends", NotAfter: clock.Now().Add(time.Minute)})
	if err := s.Delete(t.Context(), "k", "deleted", 0); err != nil {
		t.Fatal(err)
	}
	clock.Add(state.Tombstones - time.Second)
	mustPut(t, s, state.Doc{Kind: "k", ID: "now"})
	if got, err := s.Changes(t.Context(), 0, 0); err != nil || ids(got) != "stays ends -deleted now" {
		t.Errorf("Changes before the tombstone ends = %q, %v", ids(got), err)
	}
	clock.Add(2*time.Minute + time.Second)
	mustPut(t, s, state.Doc{Kind: "k", ID: "later"})
	if got, err := s.Changes(t.Context(), 0, 0); err != nil || ids(got) != "stays now later" {
		t.Errorf("Changes after the tombstone ended = %q, %v", ids(got), err)
	}
}

func watch(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	hints := s.Watch(ctx)
	drain(hints)
	mustPut(t, s, state.Doc{Kind: "k", ID: "a"})
	select {
	case <-hints:
	case <-time.After(10 * time.Second):
		t.Error("no hint at a write")
	}
	cancel()
	drain(hints)
}

func drain(hints <-chan struct{}) {
	for {
		select {
		case <-hints:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// writers add to one document, each trying again when another was faster.
func writers(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	const people, times = 8, 10
	mustPut(t, s, state.Doc{Kind: "k", ID: "count"})
	var wait sync.WaitGroup
	for range people {
		wait.Go(func() {
			for range times {
				for {
					d, err := s.Get(t.Context(), "k", "count")
					if err != nil {
						t.Errorf("Get: %v", err)
						return
					}
					d.Body = append(d.Body, 'x')
					_, err = s.Put(t.Context(), d)
					if err == nil {
						break
					}
					if !errors.Is(err, state.ErrConflict) {
						t.Errorf("Put: %v", err)
						return
					}
				}
			}
		})
	}
	wait.Wait()
	if d, err := s.Get(t.Context(), "k", "count"); err != nil || len(d.Body) != people*times {
		t.Errorf("%d writes are left of %d (%v)", len(d.Body), people*times, err)
	}
}

func takers(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	const people, docs = 8, 20
	for i := range docs {
		mustPut(t, s, state.Doc{Kind: "k", ID: fmt.Sprint(i)})
	}
	var got [docs]atomic.Int32
	var wait sync.WaitGroup
	for range people {
		wait.Go(func() {
			for i := range docs {
				_, err := s.Take(t.Context(), "k", fmt.Sprint(i))
				switch {
				case err == nil:
					got[i].Add(1)
				case !errors.Is(err, state.ErrNotFound):
					t.Errorf("Take: %v", err)
				}
			}
		})
	}
	wait.Wait()
	for i := range got {
		if n := got[i].Load(); n != 1 {
			t.Errorf("document %d was taken %d times", i, n)
		}
	}
}

// followers read changes while others write. A follower that was once past a sequence number never
// looks back, so it finds out if a write becomes visible after a later one.
func followers(t *testing.T, s state.Store, _ *Clock) {
	t.Helper()
	const people, times = 8, 25
	var wait, watching sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		watching.Go(func() {
			seen, after, last := map[string]bool{}, int64(0), false
			for {
				docs, err := s.Changes(t.Context(), after, 7)
				if err != nil {
					t.Errorf("Changes: %v", err)
					return
				}
				for i := range docs {
					if docs[i].Seq <= after {
						t.Errorf("sequence number %d after %d", docs[i].Seq, after)
					}
					after = docs[i].Seq
					seen[docs[i].ID] = true
				}
				if len(docs) == 0 {
					if last {
						break
					}
					select {
					case <-stop:
						last = true
					default:
					}
				}
			}
			if len(seen) != people*times {
				t.Errorf("a follower saw %d writes of %d", len(seen), people*times)
			}
		})
	}
	for p := range people {
		wait.Go(func() {
			for i := range times {
				docs := []state.Doc{{Kind: "k", ID: fmt.Sprintf("%d-%d", p, i)}}
				if _, err := s.Put(t.Context(), docs...); err != nil {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	wait.Wait()
	close(stop)
	watching.Wait()
}
