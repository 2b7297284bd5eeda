package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/state"
)

// two is a store whose calls go to one gateway and the other in turn.
type two struct {
	stores [2]state.Store
	turn   *atomic.Uint32
}

var _ state.Store = two{}

func newTwo(a, b state.Store) two { return two{[2]state.Store{a, b}, &atomic.Uint32{}} }

func (t two) next() state.Store { return t.stores[t.turn.Add(1)%2] }

func (t two) Get(ctx context.Context, kind, id string) (state.Doc, error) {
	return t.next().Get(ctx, kind, id)
}

func (t two) Put(ctx context.Context, docs ...state.Doc) ([]state.Doc, error) {
	return t.next().Put(ctx, docs...)
}

func (t two) Take(ctx context.Context, kind, id string) (state.Doc, error) {
	return t.next().Take(ctx, kind, id)
}

func (t two) Delete(ctx context.Context, kind, id string, version int64) error {
	return t.next().Delete(ctx, kind, id, version)
}

func (t two) List(ctx context.Context, q state.Query) ([]state.Doc, error) {
	return t.next().List(ctx, q)
}

func (t two) Changes(ctx context.Context, after int64, limit int) ([]state.Doc, error) {
	return t.next().Changes(ctx, after, limit)
}

func (t two) Latest(ctx context.Context) (int64, error) { return t.next().Latest(ctx) }

func (t two) Watch(ctx context.Context) <-chan struct{} { return t.next().Watch(ctx) }

// waitFresh waits until a proof made now is accepted: what could have been used before is over.
func waitFresh(tb testing.TB, r state.Replays) {
	tb.Helper()
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
		if ok, err := r.Add(tb.Context(), fmt.Sprint("wait", time.Now()), time.Now().Add(time.Minute)); err == nil && ok {
			return
		}
	}
	tb.Fatal("no id is accepted any more")
}
