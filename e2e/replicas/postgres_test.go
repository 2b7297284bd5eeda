package replicas

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/issuer"
)

// TestPostgresAway takes PostgreSQL away for a while: reads go on, calls with effect are refused when
// what is revoked is not known freshly any more, nothing is decided, and all is well again without a restart.
// Control JIT-04.
func TestPostgresAway(t *testing.T) {
	f := newFleet(t, setup{durable: true})
	c := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "ana"}))
	for name, take := range map[string]func(){"killed": f.postgres.Kill, "stopped": f.postgres.Stop} {
		t.Run(name, func(t *testing.T) { away(t, f, c, take) })
	}
}

func away(t *testing.T, f *fleet, c *client, take func()) {
	t.Helper()
	for i, g := range f.gates {
		for _, tool := range []string{"echo", "write"} {
			if got := c.at(g).call("modern", tool, "before"); !got.good() {
				t.Fatalf("before, %s at gateway %d: %v", tool, i, got)
			}
		}
	}
	unseen := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "ben"})) // a token that no gateway has verified
	take()
	gone := time.Now()
	refused := 0
	for time.Since(gone) < 14*time.Second {
		for i, g := range f.gates {
			if got := c.at(g).call("modern", "echo", "away"); !got.good() {
				t.Errorf("a read at gateway %d after %v: %v", i, time.Since(gone), got)
			}
			asked := time.Since(gone)
			got := c.at(g).call("modern", "write", "away")
			switch {
			case got.good() && asked > 3*time.Second:
				t.Errorf("a call with effect passed at gateway %d after %v", i, asked)
			case !got.good():
				refused++
				if got.err != nil || !strings.Contains(got.body, `"reason":"revocation_stale"`) || !strings.Contains(got.body, `"code":"unavailable"`) || got.status != http.StatusServiceUnavailable {
					t.Errorf("a call with effect at gateway %d after %v: %v, want 503 unavailable, revocation_stale", i, asked, got)
				}
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	if refused == 0 {
		t.Error("no call with effect was refused")
	}
	for i, g := range f.gates {
		if got := unseen.at(g).call("modern", "echo", "away"); !got.good() {
			t.Errorf("a read with a token that is new to gateway %d: %v", i, got)
		}
	}
	var out admin.Revocation
	if err := f.gates[0].do(admin.Ask{Operation: "revocations.create", Body: admin.RevocationRequest{Kind: "principal", Value: "x|nobody"}}, &out); err == nil {
		t.Error("a revocation was confirmed that nobody keeps")
	}
	if err := f.postgres.Start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	for _, g := range f.gates {
		until(t, "calls with effect pass again", 15*time.Second, func() bool { return c.at(g).call("modern", "write", "back").good() })
	}
	t.Logf("%d refused; calls with effect passed %v after PostgreSQL was back", refused, time.Since(back).Round(time.Millisecond))
	until(t, "the operator is heard again", 15*time.Second, func() bool {
		return f.gates[1].do(admin.Ask{Operation: "revocations.create", Body: admin.RevocationRequest{Kind: "principal", Value: "x|nobody"}}, &out) == nil
	})
}

// bounded gives a principal a grant for so many calls.
func (f *fleet) bounded(subject string, uses int) string {
	f.t.Helper()
	g := operate[admin.Grant](f.gates[0], "grants.request", nil, admin.GrantRequest{
		Principal: f.name + "/issuer|" + subject, Server: "modern", Tools: []string{"danger"}, TTLSeconds: 1200, Uses: uses, Reason: "test",
	})
	operate[admin.Grant](f.gates[0], "grants.approve", map[string]string{"id": g.ID}, admin.Reason{})
	for _, g := range f.gates {
		until(f.t, "the grant is known", 10*time.Second, func() bool {
			var page admin.Page[admin.Grant]
			err := g.do(admin.Ask{Operation: "grants.list", Query: map[string][]string{"status": {"active"}, "server": {"modern"}}}, &page)
			return err == nil && strings.Contains(fmt.Sprint(page.Items), subject)
		})
	}
	return g.ID
}

// storm makes calls of a tool at every gateway at once until it is told to end; it returns how many passed.
func (f *fleet) storm(c *client, id string, each int, during func()) (passed int) {
	var work sync.WaitGroup
	var mu sync.Mutex
	for i := range 8 {
		at := c.at(f.gates[i%len(f.gates)])
		work.Go(func() {
			for range each {
				if at.call("modern", "danger", id).good() {
					mu.Lock()
					passed++
					mu.Unlock()
				}
			}
		})
	}
	during()
	work.Wait()
	return passed
}

// TestBoundedGrantNeverExceeded uses a grant for a number of calls at both gateways at once, while one of them
// is killed, and while PostgreSQL is: no more calls reach the server than were granted, and none that was
// not used is lost. Control JIT-01.
func TestBoundedGrantNeverExceeded(t *testing.T) {
	f := newFleet(t, setup{durable: true})
	f.t = t
	for _, tc := range []struct {
		name   string
		during func()
		after  func()
		lost   int // uses that may be counted although the call did not arrive
	}{
		{"nothing happens", func() {}, func() {}, 0},
		{"a gateway is killed", func() {
			time.Sleep(150 * time.Millisecond)
			f.gates[1].kill()
		}, func() { f.gates[1].start() }, 4},
		{"PostgreSQL is killed", func() {
			time.Sleep(150 * time.Millisecond)
			if err := f.postgres.Restart(); err != nil {
				t.Error(err)
			}
		}, func() {}, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const uses = 60
			subject, id := "u"+strings.ReplaceAll(tc.name, " ", "-"), "storm "+tc.name
			grant := f.bounded(subject, uses)
			c := f.client(f.gates[0], f.mint(issuer.Claims{Subject: subject}))
			passed := f.storm(c, id, 12, tc.during)
			tc.after()
			first := f.modern.counted(id)
			// What is left can be used, and not more than that.
			until(t, "the rest is used up", 40*time.Second, func() bool {
				f.storm(c, id, 4, func() {})
				var g admin.Grant
				err := f.gates[0].do(admin.Ask{Operation: "grants.get", Path: map[string]string{"id": grant}}, &g)
				return err == nil && g.Status == "used_up"
			})
			total := f.modern.counted(id)
			t.Logf("%d of %d calls of the storm passed, %d reached the server, %d in all", passed, 96, first, total)
			if total > uses || total < uses-tc.lost {
				t.Errorf("%d calls reached the server under a grant for %d, want at least %d", total, uses, uses-tc.lost)
			}
		})
	}
}

// kill ends the gateway with SIGKILL.
func (g *gate) kill() {
	g.dead[g.proc] = true
	if err := kill(g.proc.Pid()); err != nil {
		g.f.t.Error(err)
	}
	<-g.proc.Done()
}

// TestApprovalIsGoodOnce approves a call that waits at both gateways, which both get it many times at once: it
// reaches the server once. Control HIL-01.
func TestApprovalIsGoodOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, setup{})
	c := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "ana"}))
	for n := range 2 {
		id := fmt.Sprintf("gated-%d", n)
		passed := make(chan bool, 24)
		var work sync.WaitGroup
		many := func(count int) {
			for i := range count {
				at := c.at(f.gates[i%2])
				work.Go(func() { passed <- at.call("modern", "gated", id).good() })
			}
		}
		many(8)
		hold := f.waits(f.gates[1], "")
		if f.modern.counted(id) != 0 {
			t.Fatal("a call that waits reached the server")
		}
		operate[admin.Hold](f.gates[1], "holds.approve", map[string]string{"id": hold.ID}, admin.HoldDecision{Nonce: hold.Nonce})
		many(16)
		work.Wait()
		close(passed)
		good := 0
		for ok := range passed {
			if ok {
				good++
			}
		}
		if reached := f.modern.counted(id); reached != 1 || good != 1 {
			t.Errorf("%s: %d calls passed and %d reached the server after one approval, want 1", id, good, reached)
		}
		for _, h := range f.pending(f.gates[0]) { // those that came after the approval was used
			h = operate[admin.Hold](f.gates[0], "holds.get", map[string]string{"id": h.ID}, nil)
			operate[admin.Hold](f.gates[0], "holds.deny", map[string]string{"id": h.ID}, admin.HoldDecision{Nonce: h.Nonce})
		}
	}
}

func (f *fleet) pending(g *gate) []admin.Hold {
	var page admin.Page[admin.Hold]
	if err := g.do(admin.Ask{Operation: "holds.list", Query: map[string][]string{"status": {"pending"}}}, &page); err != nil {
		f.t.Errorf("list holds: %v", err)
	}
	return page.Items
}

// waits returns the first call that waits for a person, as a gateway knows it.
func (f *fleet) waits(g *gate, principal string) admin.Hold {
	f.t.Helper()
	var found admin.Hold
	until(f.t, "a call waits", 10*time.Second, func() bool {
		for _, h := range f.pending(g) {
			if strings.HasSuffix(h.Principal, principal) {
				found = operate[admin.Hold](g, "holds.get", map[string]string{"id": h.ID}, nil)
				return true
			}
		}
		return false
	})
	return found
}

// TestRevokedWhileItWaits revokes the caller of a call that waits for a person, and then approves it: it ends
// at once, and nothing reaches the server. Controls JIT-04 and HIL-01.
func TestRevokedWhileItWaits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, setup{})
	c := f.client(f.gates[1], f.mint(issuer.Claims{Subject: "ana"}))
	ended := make(chan answer, 1)
	go func() { ended <- c.call("modern", "gated", "waits") }()
	hold := f.waits(f.gates[0], "")
	begun := time.Now()
	operate[admin.Revocation](f.gates[0], "revocations.create", nil, admin.RevocationRequest{Kind: "principal", Value: f.name + "/issuer|ana"})
	got := <-ended
	if took := time.Since(begun); took > 2*time.Second || !strings.Contains(got.body, `"reason":"revoked"`) {
		t.Errorf("the call that waits ended after %v with %v, want revoked within 2s", took, got)
	}
	_ = f.gates[0].do(admin.Ask{Operation: "holds.approve", Path: map[string]string{"id": hold.ID}, Body: admin.HoldDecision{Nonce: hold.Nonce}}, nil) // it may be refused
	if got := c.call("modern", "gated", "waits"); got.good() || f.modern.counted("waits") != 0 {
		t.Errorf("the approved call of a revoked caller: %v", got)
	}
}
