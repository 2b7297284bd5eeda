package broker_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
)

func TestGrantIsNothingUntilApproved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	g, err := b.Grants.Request(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if find(b, principal(), "delete") != nil {
		t.Error("a request allows")
	}
	if _, err := b.Grants.Approve(t.Context(), g.ID, ada(), "cli"); !errors.Is(err, broker.ErrForbidden) {
		t.Errorf("own request approved: %v", err)
	}
	if _, err := b.Grants.Approve(t.Context(), g.ID, boss(), "cli"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Grants.Approve(t.Context(), g.ID, second(), "cli"); !errors.Is(err, broker.ErrDecided) {
		t.Errorf("approved twice: %v", err)
	}
	if got := find(b, principal(), "delete"); got == nil || got.ID != g.ID {
		t.Errorf("found %v, want %s", got, g.ID)
	}
	if diff := cmp.Diff([]string{"requested", "approved"}, r.trail.reasons()); diff != "" {
		t.Errorf("trail (-want +got):\n%s", diff)
	}
}

func TestGrantRequestIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{Grants: broker.GrantConfig{MaxTTL: 2 * time.Hour}})
	for name, change := range map[string]func(*broker.GrantRequest){
		"without end":      func(q *broker.GrantRequest) { q.TTL = 0 },
		"too long":         func(q *broker.GrantRequest) { q.TTL = 3 * time.Hour },
		"nobody":           func(q *broker.GrantRequest) { q.Principal = "" },
		"no issuer":        func(q *broker.GrantRequest) { q.Principal = "ada" },
		"nobody asks":      func(q *broker.GrantRequest) { q.By = broker.Person{} },
		"no server":        func(q *broker.GrantRequest) { q.Server = "" },
		"negative uses":    func(q *broker.GrantRequest) { q.Uses = -1 },
		"empty tool":       func(q *broker.GrantRequest) { q.Tools = []string{""} },
		"broken key":       func(q *broker.GrantRequest) { q.Principal = "a\x1fb" },
		"bound of nothing": func(q *broker.GrantRequest) { q.Arguments = []warder.Bound{{Pointer: "/path"}} },
	} {
		q := request()
		change(&q)
		if _, err := b.Grants.Request(t.Context(), q); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if len(r.trail.reasons()) != 0 {
		t.Errorf("the trail has %v", r.trail.reasons())
	}
}

func TestGrantFits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		request func(*broker.GrantRequest)
		need    func(*broker.Need)
		after   time.Duration
		want    bool
	}{
		{name: "the call it is for", want: true},
		{name: "another tool", need: func(n *broker.Need) { n.Tool = "read" }},
		{name: "another server", need: func(n *broker.Need) { n.Server = "mail" }},
		{name: "another person", need: func(n *broker.Need) { n.Principal.Subject = "bob" }},
		{name: "same subject of another issuer", need: func(n *broker.Need) { n.Principal.Issuer = "https://evil.example" }},
		{name: "every tool", request: func(q *broker.GrantRequest) { q.Tools = nil }, need: func(n *broker.Need) { n.Tool = "any" }, want: true},
		{name: "group", request: func(q *broker.GrantRequest) { q.Principal = "group:dev" }, want: true},
		{name: "group of others", request: func(q *broker.GrantRequest) { q.Principal = "group:ops" }},
		{name: "role of the agent", request: func(q *broker.GrantRequest) { q.Principal = "group:bots" }, need: func(n *broker.Need) { n.Principal.Registered = &warder.Agent{Name: "bot", Roles: []string{"bots"}} }, want: true},
		{name: "whole key", request: func(q *broker.GrantRequest) { q.Principal = principal().Key() }, want: true},
		{name: "whole key of another client", request: func(q *broker.GrantRequest) { q.Principal = principal().Key() }, need: func(n *broker.Need) { n.Principal.Client = "other" }},
		{name: "agent", request: func(q *broker.GrantRequest) { q.Agent = "bot" }, need: func(n *broker.Need) { n.Principal.Registered = &warder.Agent{Name: "bot"} }, want: true},
		{name: "not the agent", request: func(q *broker.GrantRequest) { q.Agent = "bot" }, need: func(n *broker.Need) { n.Principal.Registered = &warder.Agent{Name: "other"} }},
		{name: "no agent", request: func(q *broker.GrantRequest) { q.Agent = "bot" }},
		{name: "purpose", request: func(q *broker.GrantRequest) { q.Purpose = "cleanup" }, need: func(n *broker.Need) { n.Purpose = "cleanup" }, want: true},
		{name: "another purpose", request: func(q *broker.GrantRequest) { q.Purpose = "cleanup" }, need: func(n *broker.Need) { n.Purpose = "report" }},
		{name: "bounds that hold", request: bounded, need: func(n *broker.Need) { n.Fits = func(*warder.Grant) bool { return true } }, want: true},
		{name: "bounds that do not hold", request: bounded, need: func(n *broker.Need) { n.Fits = func(*warder.Grant) bool { return false } }},
		{name: "bounds nobody can judge", request: bounded},
		{name: "a moment before the end", request: used, after: time.Hour - time.Second, want: true},
		{name: "at the end", request: used, after: time.Hour},
		{name: "nearly unused for too long", after: 30*time.Minute - time.Second, want: true},
		{name: "unused for too long", after: 30 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			b := r.open(t, broker.Config{})
			q := request()
			if tt.request != nil {
				tt.request(&q)
			}
			g := granted(t, b, q)
			if q.Reason == "used" {
				if err := b.Grants.Use(t.Context(), &g.Grant); err != nil {
					t.Fatal(err)
				}
			}
			r.clock.add(tt.after)
			need := broker.Need{Principal: principal(), Server: "files", Tool: "delete"}
			if tt.need != nil {
				tt.need(&need)
			}
			if got := b.Grants.Find(&need); (got != nil) != tt.want {
				t.Errorf("found %v, want %v", got, tt.want)
			}
		})
	}
}

func bounded(q *broker.GrantRequest) {
	q.Arguments = []warder.Bound{{Pointer: "/path", Prefix: "/srv/"}}
}

func used(q *broker.GrantRequest) { q.Reason = "used" }

// TestGrantSkew: a replica whose clock is behind by no more than the bound takes a fresh grant; one that
// is further behind does not.
func TestGrantSkew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{Grants: broker.GrantConfig{Skew: 5 * time.Second}})
	g := granted(t, b, request())
	r.clock.add(-5 * time.Second)
	if find(b, principal(), "delete") == nil {
		t.Error("refused within the skew")
	}
	r.clock.add(-time.Second)
	if find(b, principal(), "delete") != nil {
		t.Errorf("grant %s found before it began", g.ID)
	}
}

// TestUsesAreNeverExceeded: many callers at two replicas compete for a few uses.
func TestUsesAreNeverExceeded(t *testing.T) {
	t.Parallel()
	for _, uses := range []int{1, 3, 10} {
		t.Run(fmt.Sprint(uses), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
			q := request()
			q.Uses = uses
			g := granted(t, one, q)
			eventually(t, "the other replica knows the grant", func() bool { return find(two, principal(), "delete") != nil })
			var passed atomic.Int64
			var all sync.WaitGroup
			for i := range 4 * uses {
				b := []*broker.Broker{one, two}[i%2]
				all.Go(func() {
					switch err := b.Grants.Use(t.Context(), &g.Grant); {
					case err == nil:
						passed.Add(1)
					case !errors.Is(err, broker.ErrUsedUp):
						t.Errorf("use: %v", err)
					}
				})
			}
			all.Wait()
			if got := int(passed.Load()); got != uses {
				t.Errorf("%d uses passed, want %d", got, uses)
			}
			for _, b := range []*broker.Broker{one, two} {
				eventually(t, "the grant is gone", func() bool { return find(b, principal(), "delete") == nil })
			}
		})
	}
}

func TestGrantsSurviveARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	q := request()
	q.Uses = 2
	g := granted(t, b, q)
	if err := b.Grants.Use(t.Context(), &g.Grant); err != nil {
		t.Fatal(err)
	}
	again := r.open(t, broker.Config{})
	got := find(again, principal(), "delete")
	if got == nil || got.ID != g.ID || got.Left != 1 {
		t.Fatalf("after a restart: %+v, want %s with one use left", got, g.ID)
	}
	if err := again.Grants.Use(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	if err := b.Grants.Use(t.Context(), &g.Grant); !errors.Is(err, broker.ErrUsedUp) {
		t.Errorf("third use: %v, want ErrUsedUp", err)
	}
}

func TestRevokedGrantIsGoneEverywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.open(t, broker.Config{}), r.open(t, broker.Config{})
	g := granted(t, one, request())
	eventually(t, "known", func() bool { return find(two, principal(), "delete") != nil })
	if _, err := two.Grants.Revoke(t.Context(), g.ID, boss(), "incident"); err != nil {
		t.Fatal(err)
	}
	if find(two, principal(), "delete") != nil {
		t.Error("found where it was revoked")
	}
	eventually(t, "gone at the other", func() bool { return find(one, principal(), "delete") == nil })
	if err := one.Grants.Use(t.Context(), &g.Grant); !errors.Is(err, broker.ErrEnded) {
		t.Errorf("use: %v, want ErrEnded", err)
	}
	list, err := one.Grants.List(t.Context(), broker.GrantQuery{Status: broker.GrantRevoked})
	if err != nil || len(list) != 1 || list[0].EndedBy != boss().String() {
		t.Errorf("list = %+v, %v", list, err)
	}
}

func TestTwoPeopleApprove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{Grants: broker.GrantConfig{Needed: 2, Approvers: []string{"group:ops"}}})
	g, err := b.Grants.Request(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	stranger := broker.Person{Issuer: issuer, Subject: "stranger"}
	if _, err := b.Grants.Approve(t.Context(), g.ID, stranger, "cli"); !errors.Is(err, broker.ErrForbidden) {
		t.Errorf("a stranger: %v", err)
	}
	for range 2 {
		_, err = b.Grants.Approve(t.Context(), g.ID, boss(), "cli")
	}
	if !errors.Is(err, broker.ErrDecided) {
		t.Errorf("the same person twice: %v", err)
	}
	if find(b, principal(), "delete") != nil {
		t.Error("one person was enough")
	}
	if _, err := b.Grants.Approve(t.Context(), g.ID, second(), "cli"); err != nil {
		t.Fatal(err)
	}
	if find(b, principal(), "delete") == nil {
		t.Error("two people were not enough")
	}
}

// TestBrokenTrailChangesNothing: what cannot be written down does not happen.
func TestBrokenTrailChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.open(t, broker.Config{})
	g, err := b.Grants.Request(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	r.trail.set(true)
	if _, err := b.Grants.Approve(t.Context(), g.ID, boss(), "cli"); err == nil {
		t.Error("approved without a trail")
	}
	if _, err := b.Grants.Request(t.Context(), request()); err == nil {
		t.Error("requested without a trail")
	}
	if got, err := b.Grants.Get(t.Context(), g.ID); err != nil || got.Status != broker.GrantPending {
		t.Errorf("the grant is %v, %v, want pending", got.Status, err)
	}
}

func TestBrokenStoreDenies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := &flaky{Store: r.store}
	r.store = f
	b := r.open(t, broker.Config{})
	q := request()
	q.Uses = 5
	g := granted(t, b, q)
	f.set(true)
	if err := b.Grants.Use(t.Context(), &g.Grant); !errors.Is(err, errStore) {
		t.Errorf("use: %v, want the store's error", err)
	}
	if _, err := b.Grants.Request(t.Context(), request()); !errors.Is(err, errStore) {
		t.Errorf("request: %v, want the store's error", err)
	}
	r.clock.add(time.Minute)
	if age := b.Age(r.clock.Now()); age < time.Minute {
		t.Errorf("age = %v while the store is gone, want a minute", age)
	}
	f.set(false)
	eventually(t, "it recovers", func() bool { return b.Age(r.clock.Now()) < time.Second })
	if err := b.Grants.Use(t.Context(), &g.Grant); err != nil {
		t.Errorf("use after recovery: %v", err)
	}
	if _, err := broker.New(t.Context(), broker.Config{}, broker.Deps{}); err == nil {
		t.Error("a broker without a store was built")
	}
}

// crowd makes 1,000 grants, each for one of 10,000 principals.
func crowd(b *testing.B, br *broker.Broker) []*warder.Principal {
	b.Helper()
	people := make([]*warder.Principal, 10_000)
	for i := range people {
		people[i] = &warder.Principal{Issuer: issuer, Subject: fmt.Sprintf("user-%d", i), Client: "app", Groups: []string{"dev", "staff", "emea"}}
	}
	for i := range 1000 {
		q := request()
		q.Principal = issuer + "|" + people[i*10].Subject
		q.Tools = []string{"delete", "move"}
		granted(b, br, q)
	}
	q := request()
	q.Principal, q.Server = "group:staff", "mail"
	granted(b, br, q)
	return people
}

func BenchmarkFind(b *testing.B) {
	r := newRig(b)
	br := r.open(b, broker.Config{})
	people := crowd(b, br)
	b.ReportAllocs()
	i := 0
	x := &warder.Exchange{Server: &warder.Server{Name: "files"}, Request: &warder.Message{Method: "tools/call", Target: "delete"}}
	for b.Loop() {
		p := people[i%len(people)]
		x.Principal = p
		got := br.Grants.Lookup(x, "")
		if (got != nil) != (i%len(people)%10 == 0) {
			b.Fatal(p.Subject, got)
		}
		i++
	}
}

func BenchmarkUse(b *testing.B) {
	r := newRig(b)
	br := r.open(b, broker.Config{})
	q := request()
	q.Uses = 1_000_000
	g := granted(b, br, q)
	b.ReportAllocs()
	for b.Loop() {
		if err := br.Grants.Use(b.Context(), &g.Grant); err != nil {
			b.Fatal(err)
		}
	}
}
