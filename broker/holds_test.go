package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
)

func call() *broker.Call {
	return &broker.Call{
		Principal: principal().Key(), Server: "files", Tool: "delete", Method: "tools/call", Digest: [32]byte{1}, Context: [32]byte{2},
		Parameters: []byte(`{"arguments":{"path":"/srv/secret-name"},"name":"delete"}`), Effect: warder.EffectDestructive,
	}
}

func open(tb testing.TB, b *broker.Broker, c *broker.Call) broker.Hold {
	tb.Helper()
	h, err := b.Holds.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func yes(h broker.Hold, by broker.Person) broker.HoldDecision {
	return broker.HoldDecision{Hold: h.ID, Nonce: h.Nonce, Approve: true, By: by, Channel: "test"}
}

func TestHoldLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	h := open(t, b, call())
	if again := open(t, b, call()); again.ID != h.ID {
		t.Errorf("the same call opened another hold")
	}
	if err := consume(t, b, h, call()); !errors.Is(err, broker.ErrEnded) {
		t.Errorf("used before a decision: %v", err)
	}
	for name, tt := range map[string]struct {
		change func(*broker.HoldDecision)
		want   error
	}{
		"another nonce":  {func(d *broker.HoldDecision) { d.Nonce = "x" }, broker.ErrNonce},
		"no nonce":       {func(d *broker.HoldDecision) { d.Nonce = "" }, broker.ErrNonce},
		"the caller":     {func(d *broker.HoldDecision) { d.By = ada() }, broker.ErrForbidden},
		"nobody":         {func(d *broker.HoldDecision) { d.By = broker.Person{} }, broker.ErrForbidden},
		"any user":       {func(d *broker.HoldDecision) { d.By = broker.Person{Issuer: issuer, Subject: "eve"} }, broker.ErrForbidden},
		"unknown hold":   {func(d *broker.HoldDecision) { d.Hold = "x" }, broker.ErrNotFound},
		"denied by ada":  {func(d *broker.HoldDecision) { d.By, d.Approve = ada(), false }, broker.ErrForbidden},
		"nonce of ten 0": {func(d *broker.HoldDecision) { d.Nonce = strings.Repeat("0", 10) }, broker.ErrNonce},
	} {
		d := yes(h, boss())
		tt.change(&d)
		if _, err := b.Holds.Decide(t.Context(), d); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := b.Holds.Decide(t.Context(), yes(h, boss())); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*broker.Call){
		"parameters":    func(c *broker.Call) { c.Digest[0]++ },
		"circumstances": func(c *broker.Call) { c.Context[0]++ },
		"principal":     func(c *broker.Call) { c.Principal = "t\x1fi\x1fs\x1fc\x1fa" },
	} {
		c := call()
		change(c)
		if err := consume(t, b, h, c); !errors.Is(err, broker.ErrForbidden) {
			t.Errorf("other %s: %v, want ErrForbidden", name, err)
		}
	}
	if err := consume(t, b, h, call()); err != nil {
		t.Fatal(err)
	}
	if err := consume(t, b, h, call()); !errors.Is(err, broker.ErrUsedUp) {
		t.Errorf("replay: %v, want ErrUsedUp", err)
	}
	if next := open(t, b, call()); next.ID == h.ID || next.Nonce == h.Nonce {
		t.Error("the same call after its approval was used did not ask anew")
	}
	if diff := cmp.Diff([]string{"opened", "approved", "used", "opened"}, r.trail.reasons()); diff != "" {
		t.Errorf("trail (-want +got):\n%s", diff)
	}
}

func consume(tb testing.TB, b *broker.Broker, h broker.Hold, c *broker.Call) error {
	tb.Helper()
	_, err := b.Holds.Consume(tb.Context(), h.ID, c)
	return err
}

func TestHoldTimesOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	late := open(t, b, call())
	r.clock.add(5 * time.Minute)
	if _, err := b.Holds.Decide(t.Context(), yes(late, boss())); !errors.Is(err, broker.ErrEnded) {
		t.Errorf("decided late: %v", err)
	}
	eventually(t, "the denial is in the trail", func() bool { return slices.Contains(r.trail.reasons(), "timeout") })
	h := open(t, b, call())
	if _, err := b.Holds.Decide(t.Context(), yes(h, boss())); err != nil {
		t.Fatal(err)
	}
	r.clock.add(2 * time.Minute)
	if err := consume(t, b, h, call()); !errors.Is(err, broker.ErrEnded) {
		t.Errorf("used late: %v", err)
	}
}

func TestDeniedCallIsNotAskedAgainAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	h := open(t, b, call())
	no := yes(h, boss())
	no.Approve = false
	if _, err := b.Holds.Decide(t.Context(), no); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.Holds.Find(call()); !ok || got.Status != broker.HoldDenied {
		t.Errorf("found %v %v, want the denial", got.Status, ok)
	}
	r.clock.add(5 * time.Minute)
	if _, ok := b.Holds.Find(call()); ok {
		t.Error("the denial is remembered for ever")
	}
}

// TestApprovalIsUsedOnce: many callers at two replicas compete for one approval.
func TestApprovalIsUsedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
	for round := range 5 {
		c := call()
		c.Digest[1] = byte(round)
		h := open(t, one, c)
		if _, err := one.Holds.Decide(t.Context(), yes(h, boss())); err != nil {
			t.Fatal(err)
		}
		var passed atomic.Int64
		var all sync.WaitGroup
		for i := range 16 {
			b := []*broker.Broker{one, two}[i%2]
			all.Go(func() {
				if _, err := b.Holds.Consume(t.Context(), h.ID, c); err == nil {
					passed.Add(1)
				} else if !errors.Is(err, broker.ErrUsedUp) {
					t.Errorf("consume: %v", err)
				}
			})
		}
		all.Wait()
		if passed.Load() != 1 {
			t.Fatalf("%d calls used one approval", passed.Load())
		}
	}
}

func TestWaitWakesForTheOtherReplica(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
	h := open(t, one, call())
	got := make(chan broker.Hold, 1)
	go func() {
		held, err := one.Holds.Wait(t.Context(), h.ID, time.Minute)
		if err != nil {
			t.Error(err)
		}
		got <- held
	}()
	if _, err := two.Holds.Decide(t.Context(), yes(h, boss())); err != nil {
		t.Fatal(err)
	}
	select {
	case held := <-got:
		if held.Status != broker.HoldApproved {
			t.Errorf("woke for %s", held.Status)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody woke")
	}
	pending := open(t, one, &broker.Call{Principal: principal().Key(), Digest: [32]byte{9}})
	if held, err := one.Holds.Wait(t.Context(), pending.ID, time.Millisecond); err != nil || held.Status != broker.HoldPending {
		t.Errorf("wait = %v, %v, want pending", held.Status, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := one.Holds.Wait(ctx, pending.ID, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v, want canceled", err)
	}
}

// TestEveryListAgrees: two policies ask two groups; one person of each must agree.
func TestEveryListAgrees(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	c := call()
	c.Rule.All = [][]string{{"group:ops"}, {"group:sec"}}
	h := open(t, b, c)
	if held, err := b.Holds.Decide(t.Context(), yes(h, boss())); err != nil || held.Status != broker.HoldPending {
		t.Errorf("after ops: %v, %v, want pending", held.Status, err)
	}
	if _, err := b.Holds.Decide(t.Context(), yes(h, boss())); !errors.Is(err, broker.ErrDecided) {
		t.Errorf("ops again: %v", err)
	}
	if held, err := b.Holds.Decide(t.Context(), yes(h, second())); err != nil || held.Status != broker.HoldApproved {
		t.Errorf("after sec: %v, %v, want approved", held.Status, err)
	}
}

func TestParametersAreSealedAndShownToApprovers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{Approvals: broker.ApprovalConfig{Approvers: []string{"group:ops"}}})
	h := open(t, b, call())
	d, err := r.store.Get(t.Context(), "hold", h.ID)
	if err != nil || strings.Contains(string(d.Body), "secret-name") {
		t.Errorf("the store has the parameters in clear: %s, %v", d.Body, err)
	}
	shown, err := b.Holds.Show(t.Context(), h.ID, boss())
	if err != nil || string(shown.Parameters) != string(call().Parameters) {
		t.Errorf("shown %s, %v", shown.Parameters, err)
	}
	if _, err := b.Holds.Show(t.Context(), h.ID, ada()); !errors.Is(err, broker.ErrForbidden) {
		t.Errorf("shown to anybody: %v", err)
	}
	large := call()
	large.Digest[5]++
	large.Parameters = make([]byte, broker.MaxParameters+1)
	if _, err := b.Holds.Open(t.Context(), large); !errors.Is(err, broker.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for _, e := range r.trail.events {
		if strings.Contains(e.Detail, "secret-name") {
			t.Errorf("the trail has the parameters: %s", e.Detail)
		}
	}
}

func TestFlood(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{Approvals: broker.ApprovalConfig{Pending: 3, PerHour: 4, Queue: 10}})
	of := func(person string, n int, effect warder.Effect, risk float64) *broker.Call {
		c := call()
		p := principal()
		p.Subject = person
		c.Principal, c.Digest, c.Effect, c.Risk = p.Key(), [32]byte{byte(n), 77}, effect, risk
		return c
	}
	put := func(c *broker.Call) error {
		err := b.Holds.Admit(c)
		if err == nil {
			open(t, b, c)
		}
		return err
	}
	for n := range 3 {
		if err := put(of("eve", n, warder.EffectWrite, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(of("eve", 2, warder.EffectWrite, 0)); err != nil {
		t.Errorf("a call that waits already: %v", err)
	}
	if err := put(of("eve", 3, warder.EffectWrite, 0)); !errors.Is(err, broker.ErrTooManyPending) {
		t.Errorf("one too many: %v", err)
	}
	r.clock.add(10 * time.Minute) // they time out
	if err := put(of("eve", 4, warder.EffectWrite, 0)); err != nil {
		t.Errorf("after the others timed out: %v", err)
	}
	if err := put(of("eve", 5, warder.EffectWrite, 0)); !errors.Is(err, broker.ErrTooManyAsked) {
		t.Errorf("more than in an hour: %v", err)
	}
	r.clock.add(time.Hour)
	for n := range 8 { // eight of ten places are for the harmless
		if err := put(of(fmt.Sprintf("bot-%d", n), n, warder.EffectWrite, 0)); err != nil {
			t.Fatal(n, err)
		}
	}
	if err := put(of("bot-8", 8, warder.EffectWrite, 0)); !errors.Is(err, broker.ErrQueueFull) {
		t.Errorf("the harmless flood: %v", err)
	}
	critical := of("carol", 9, warder.EffectDestructive, 60)
	if err := put(critical); err != nil {
		t.Errorf("the critical one was buried: %v", err)
	}
	queue := b.Holds.Queue(boss())
	if len(queue) != 9 || queue[0].Holds[0].Principal != critical.Principal {
		t.Errorf("queue of %d begins with %+v, want the critical one", len(queue), queue[0].Holds[0])
	}
	if got := b.Holds.Queue(broker.Person{}); len(got) != 0 {
		t.Errorf("nobody sees %d calls", len(got))
	}
}

// TestFloodAtOnce: calls that are admitted at the same moment count before they are opened.
func TestFloodAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{Approvals: broker.ApprovalConfig{Pending: 3}})
	var admitted atomic.Int64
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			c := call()
			c.Digest = [32]byte{byte(n), 33}
			if b.Holds.Admit(c) == nil {
				admitted.Add(1)
			}
		})
	}
	all.Wait()
	if admitted.Load() != 3 {
		t.Errorf("%d calls were admitted at once, want 3", admitted.Load())
	}
}

func TestEqualCallsStandTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	for _, person := range []string{"ada", "bob", "eve"} {
		c := call()
		p := principal()
		p.Subject = person
		c.Principal = p.Key()
		open(t, b, c)
	}
	if queue := b.Holds.Queue(boss()); len(queue) != 1 || len(queue[0].Holds) != 3 {
		t.Errorf("queue = %+v, want one batch of three", queue)
	}
}

func TestHoldFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := &flaky{Store: r.store}
	r.store = f
	b := r.open(t, broker.Config{})
	h := open(t, b, call())
	if _, err := b.Holds.Decide(t.Context(), yes(h, boss())); err != nil {
		t.Fatal(err)
	}
	f.set(true)
	if err := consume(t, b, h, call()); !errors.Is(err, errStore) {
		t.Errorf("consume: %v, want the store's error", err)
	}
	f.set(false)
	r.trail.set(true)
	if err := consume(t, b, h, call()); err == nil {
		t.Error("used without a trail")
	}
	r.trail.set(false)
	if err := consume(t, b, h, call()); !errors.Is(err, broker.ErrUsedUp) {
		t.Errorf("consume: %v, want ErrUsedUp: an approval whose use could not be written down is gone", err)
	}
}
