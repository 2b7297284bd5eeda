package broker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
)

// A clock goes only when told.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// A trail remembers events, or cannot be written.
type trail struct {
	mu     sync.Mutex
	events []warder.Event
	broken bool
}

func (r *trail) record(_ context.Context, e warder.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return errors.New("disk full")
	}
	r.events = append(r.events, e)
	return nil
}

func (r *trail) set(broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
}

func (r *trail) reasons() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		out = append(out, string(e.Reason))
	}
	return out
}

// A rig is one store with as many replicas as a test wants.
type rig struct {
	clock *clock
	trail *trail
	store state.Store
	box   *seal.Box
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	c := newClock()
	box, err := seal.New(seal.NewKey())
	if err != nil {
		tb.Fatal(err)
	}
	return &rig{clock: c, trail: &trail{}, store: state.NewMemory(c.Now), box: box}
}

func (r *rig) open(tb testing.TB, cfg broker.Config) *broker.Broker {
	tb.Helper()
	b, err := broker.New(tb.Context(), cfg, broker.Deps{State: r.store, Box: r.box, Record: r.trail.record, Now: r.clock.Now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Error(err)
		}
	})
	return b
}

const issuer = "https://idp.example"

func ada() broker.Person { return broker.Person{Issuer: issuer, Subject: "ada"} }
func boss() broker.Person {
	return broker.Person{Issuer: issuer, Subject: "boss", Groups: []string{"ops"}, Operator: true}
}

func second() broker.Person {
	return broker.Person{Issuer: issuer, Subject: "second", Groups: []string{"ops", "sec"}, Operator: true}
}

func principal() *warder.Principal {
	return &warder.Principal{Issuer: issuer, Subject: "ada", Client: "app", Groups: []string{"dev"}, Transport: "bearer"}
}

// eventually tries until a replica has caught up.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	tb.Errorf("never: %s", what)
}

func request() broker.GrantRequest {
	return broker.GrantRequest{
		Principal: issuer + "|ada", Server: "files", Tools: []string{"delete"}, TTL: time.Hour, Reason: "clean up", By: ada(),
	}
}

// granted asks for and approves a grant.
func granted(tb testing.TB, b *broker.Broker, q broker.GrantRequest) broker.GrantRecord {
	tb.Helper()
	g, err := b.Grants.Request(tb.Context(), q)
	if err != nil {
		tb.Fatal(err)
	}
	if g, err = b.Grants.Approve(tb.Context(), g.ID, boss(), "test"); err != nil {
		tb.Fatal(err)
	}
	return g
}

func find(b *broker.Broker, p *warder.Principal, tool string) *warder.Grant {
	return b.Grants.Find(&broker.Need{Principal: p, Server: "files", Tool: tool})
}

// A flaky store fails when told, after or instead of what it was asked to do.
type flaky struct {
	state.Store
	mu   sync.Mutex
	fail bool
}

var errStore = errors.New("store unreachable")

func (f *flaky) set(fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *flaky) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return errStore
	}
	return nil
}

func (f *flaky) Get(ctx context.Context, kind, id string) (state.Doc, error) {
	if err := f.err(); err != nil {
		return state.Doc{}, err
	}
	return f.Store.Get(ctx, kind, id)
}

func (f *flaky) Put(ctx context.Context, docs ...state.Doc) ([]state.Doc, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Put(ctx, docs...)
}

func (f *flaky) Changes(ctx context.Context, after int64, limit int) ([]state.Doc, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Changes(ctx, after, limit)
}

func (f *flaky) List(ctx context.Context, q state.Query) ([]state.Doc, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.List(ctx, q)
}
