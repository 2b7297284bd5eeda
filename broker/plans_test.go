package broker_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
)

func plan(tb testing.TB, b *broker.Broker, tools ...string) broker.PlanRecord {
	tb.Helper()
	q := broker.PlanRequest{Principal: issuer + "|ada", TTL: time.Hour, Reason: "release", By: ada()}
	for _, tool := range tools {
		q.Steps = append(q.Steps, broker.Step{Server: "files", Tools: []string{tool}})
	}
	p, err := b.Plans.Request(tb.Context(), q)
	if err != nil {
		tb.Fatal(err)
	}
	if p, err = b.Plans.Approve(tb.Context(), p.ID, boss(), "test"); err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestPlanGrantsOneStepAfterTheOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	p := plan(t, b, "build", "test", "release")
	for i, tool := range []string{"build", "test", "release"} {
		for _, other := range []string{"build", "test", "release"} {
			if got := find(b, principal(), other); (got != nil) != (other == tool) {
				t.Fatalf("at step %d, %s: found %v", i+1, other, got)
			}
		}
		g := find(b, principal(), tool)
		if g.Plan != p.ID || g.Step != i+1 || !b.Plans.Active(g) {
			t.Fatalf("step %d: %+v", i+1, g)
		}
		if i < 2 && b.Plans.Later(principal(), "files", "release") != p.ID {
			t.Errorf("at step %d nobody says why release is not granted", i+1)
		}
		if err := b.Grants.Use(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if err := b.Grants.Use(t.Context(), g); !errors.Is(err, broker.ErrUsedUp) {
			t.Errorf("step %d beside itself: %v", i+1, err)
		}
		for range 2 { // twice is once
			if err := b.Plans.Settle(t.Context(), g, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := b.Plans.Get(t.Context(), p.ID); err != nil || got.Status != broker.PlanDone {
		t.Errorf("plan is %v, %v, want done", got.Status, err)
	}
	for _, tool := range []string{"build", "test", "release"} {
		if find(b, principal(), tool) != nil {
			t.Errorf("%s is still granted after the plan", tool)
		}
	}
}

func TestPlanStepMayFail(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	p := plan(t, b, "build", "test")
	for n := range 3 {
		g := find(b, principal(), "build")
		if g == nil {
			t.Fatalf("try %d: no grant", n+1)
		}
		if err := b.Grants.Use(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if err := b.Plans.Settle(t.Context(), g, false); err != nil {
			t.Fatal(err)
		}
	}
	if find(b, principal(), "build") != nil || find(b, principal(), "test") != nil {
		t.Error("a plan that failed still grants")
	}
	if got, err := b.Plans.Get(t.Context(), p.ID); err != nil || got.Status != broker.PlanFailed {
		t.Errorf("plan is %v, %v, want failed", got.Status, err)
	}
}

func TestPlanCollapses(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *rig, *broker.Broker, broker.PlanRecord){
		"revoked": func(t *testing.T, _ *rig, b *broker.Broker, p broker.PlanRecord) {
			t.Helper()
			if _, err := b.Plans.Revoke(t.Context(), p.ID, boss(), "stop"); err != nil {
				t.Fatal(err)
			}
		},
		"its time is over": func(_ *testing.T, r *rig, _ *broker.Broker, _ broker.PlanRecord) { r.clock.add(time.Hour) },
		"unused":           func(_ *testing.T, r *rig, _ *broker.Broker, _ broker.PlanRecord) { r.clock.add(30 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			b := r.open(t, broker.Config{})
			p := plan(t, b, "build", "test")
			end(t, r, b, p)
			if got := find(b, principal(), "build"); got != nil {
				t.Errorf("still granted: %+v", got)
			}
		})
	}
}

func TestPlanIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	for name, q := range map[string]broker.PlanRequest{
		"no steps":    {Principal: issuer + "|ada", TTL: time.Hour, By: ada()},
		"no tools":    {Principal: issuer + "|ada", TTL: time.Hour, By: ada(), Steps: []broker.Step{{Server: "files"}}},
		"without end": {Principal: issuer + "|ada", By: ada(), Steps: []broker.Step{{Server: "files", Tools: []string{"a"}}}},
	} {
		if _, err := b.Plans.Request(t.Context(), q); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	p, err := b.Plans.Request(t.Context(), broker.PlanRequest{Principal: issuer + "|ada", TTL: time.Hour, By: ada(), Steps: []broker.Step{{Server: "files", Tools: []string{"a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Plans.Approve(t.Context(), p.ID, ada(), "cli"); !errors.Is(err, broker.ErrForbidden) {
		t.Errorf("own plan approved: %v", err)
	}
	if _, err := b.Plans.Deny(t.Context(), p.ID, boss(), "no"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Plans.Approve(t.Context(), p.ID, boss(), "cli"); !errors.Is(err, broker.ErrDecided) {
		t.Errorf("denied plan approved: %v", err)
	}
}

// TestPlanNeverSkips: two replicas, callers that try any tool in any order, calls that fail now and then.
// However they interleave, the calls that pass follow the order of the plan, one at a time.
func TestPlanNeverSkips(t *testing.T) {
	t.Parallel()
	tools := []string{"a", "b", "c", "d", "e"}
	for seed := range uint64(8) {
		r := newRig(t)
		one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
		plan(t, one, tools...)
		var reached, running atomic.Int64
		var all sync.WaitGroup
		for caller := range 6 {
			b := []*broker.Broker{one, two}[caller%2]
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			all.Go(func() {
				for range 60 {
					attempt(t, b, tools, random, &reached, &running)
				}
			})
		}
		all.Wait()
		if n := reached.Load(); n > int64(len(tools)) {
			t.Errorf("seed %d: %d steps succeeded, the plan has %d", seed, n, len(tools))
		}
	}
}

func attempt(t *testing.T, b *broker.Broker, tools []string, random *rand.Rand, reached, running *atomic.Int64) {
	t.Helper()
	n := random.IntN(len(tools))
	g := find(b, principal(), tools[n])
	if g == nil || b.Grants.Use(t.Context(), g) != nil {
		return
	}
	if running.Add(1) > 1 {
		t.Errorf("two steps ran beside each other")
	}
	if int64(n) != reached.Load() {
		t.Errorf("step %d ran after %d had succeeded", n+1, reached.Load())
	}
	success := random.IntN(8) > 0
	if success {
		reached.Add(1)
	}
	running.Add(-1)
	if err := b.Plans.Settle(t.Context(), g, success); err != nil {
		t.Errorf("settle: %v", err)
	}
}

func TestPlanFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := &flaky{Store: r.store}
	r.store = f
	b := r.open(t, broker.Config{})
	plan(t, b, "build", "test")
	g := find(b, principal(), "build")
	if err := b.Grants.Use(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	f.set(true)
	if err := b.Plans.Settle(t.Context(), g, true); !errors.Is(err, errStore) {
		t.Errorf("settle: %v, want the store's error", err)
	}
	if find(b, principal(), "test") != nil {
		t.Error("the next step is granted though nobody could write that this one succeeded")
	}
	if b.Plans.Active(&warder.Grant{Plan: "unknown", Step: 1}) {
		t.Error("a plan nobody knows is active")
	}
}
