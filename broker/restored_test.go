package broker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/internal/state"
)

// A restorable is a store that can be put back to another, as a restored backup is.
type restorable struct{ now atomic.Pointer[state.Memory] }

var _ state.Store = (*restorable)(nil)

func (r *restorable) Get(ctx context.Context, kind, id string) (state.Doc, error) {
	return r.now.Load().Get(ctx, kind, id)
}

func (r *restorable) Put(ctx context.Context, docs ...state.Doc) ([]state.Doc, error) {
	return r.now.Load().Put(ctx, docs...)
}

func (r *restorable) Take(ctx context.Context, kind, id string) (state.Doc, error) {
	return r.now.Load().Take(ctx, kind, id)
}

func (r *restorable) Delete(ctx context.Context, kind, id string, version int64) error {
	return r.now.Load().Delete(ctx, kind, id, version)
}

func (r *restorable) List(ctx context.Context, q state.Query) ([]state.Doc, error) {
	return r.now.Load().List(ctx, q)
}

func (r *restorable) Changes(ctx context.Context, after int64, limit int) ([]state.Doc, error) {
	return r.now.Load().Changes(ctx, after, limit)
}

func (r *restorable) Latest(ctx context.Context) (int64, error) { return r.now.Load().Latest(ctx) }

func (r *restorable) Watch(ctx context.Context) <-chan struct{} { return r.now.Load().Watch(ctx) }

// TestRestoredStoreIsReadAnew puts the store back to a moment before a second grant, a hold and an agent
// were made and before the first grant was revoked.
func TestRestoredStoreIsReadAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	live, backup := state.NewMemory(r.clock.Now), state.NewMemory(r.clock.Now)
	store := &restorable{}
	store.now.Store(live)
	r.store = store
	b := r.open(t, broker.Config{})
	first := granted(t, b, request())
	docs, err := live.List(t.Context(), state.Query{Kind: "grant"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range docs {
		docs[i].Version = 0
		if _, err := backup.Put(t.Context(), docs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Grants.Revoke(t.Context(), first.ID, boss(), ""); err != nil {
		t.Fatal(err)
	}
	q := request()
	q.Tools = []string{"other"}
	granted(t, b, q)
	open(t, b, call())
	if find(b, principal(), "other") == nil || find(b, principal(), request().Tools[0]) != nil {
		t.Fatal("the store before the restoration is not followed")
	}
	store.now.Store(backup)
	eventually(t, "the restored store", func() bool { return find(b, principal(), "other") == nil })
	if g := find(b, principal(), request().Tools[0]); g == nil || g.ID != first.ID {
		t.Errorf("grant of the backup: %+v", g)
	}
	if h, ok := b.Holds.Find(call()); ok {
		t.Errorf("a hold that the backup does not know: %+v", h)
	}
	q.Tools = []string{"later"} // what is written from now on is followed again
	granted(t, b, q)
	if find(b, principal(), "later") == nil {
		t.Error("a grant made after the restoration is not found")
	}
}

// BenchmarkStart is how long a broker takes to read 10,000 active grants of 1,000 people at its start.
func BenchmarkStart(b *testing.B) {
	r := newRig(b)
	now := r.clock.Now()
	for i := range 10_000 {
		id := fmt.Sprintf("g%05d", i)
		body := fmt.Appendf(nil, `{"ID":%q,"Principal":"https://idp.example|p%d","Server":"files","Tools":["t%d"],"NotBefore":%q,"NotAfter":%q,"status":"active","used":1}`,
			id, i%1000, i%50, now.Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339))
		if _, err := r.store.Put(b.Context(), state.Doc{Kind: "grant", ID: id, Body: body, NotAfter: now.Add(time.Hour)}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		br, err := broker.New(b.Context(), broker.Config{}, broker.Deps{State: r.store, Box: r.box, Record: r.trail.record, Now: r.clock.Now})
		if err != nil {
			b.Fatal(err)
		}
		who := &warder.Principal{Issuer: "https://idp.example", Subject: "p7"}
		if br.Grants.Find(&broker.Need{Principal: who, Server: "files", Tool: "t7"}) == nil {
			b.Fatal("a grant is missing")
		}
		if err := br.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSpentApprovalsAndGrantsGoOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	h := open(t, b, call())
	if b.Holds.Spent(h.ID, call()) {
		t.Error("an approval that nobody gave counts as spent")
	}
	if _, err := b.Holds.Decide(t.Context(), yes(h, boss())); err != nil {
		t.Fatal(err)
	}
	if b.Holds.Spent(h.ID, call()) {
		t.Error("an approval that was not used counts as spent")
	}
	if err := consume(t, b, h, call()); err != nil {
		t.Fatal(err)
	}
	other := call()
	other.Context = [32]byte{9}
	if !b.Holds.Spent(h.ID, call()) || b.Holds.Spent(h.ID, other) || b.Holds.Spent("x", call()) {
		t.Error("an approval is good for another call than the one that used it")
	}
}
