package replicas

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/layer/record"
)

// tries is how often something is revoked: 200 times with WARDER_REPLICAS=200.
func tries(t *testing.T) int {
	t.Helper()
	text := os.Getenv("WARDER_REPLICAS")
	if text == "" {
		return 9
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("WARDER_REPLICAS: %v", err)
	}
	return n
}

// TestRevocationReachesTheLastByte opens streams at one gateway and revokes who or what holds them at the
// other: every stream ends, nothing more arrives, and the record says why. Control JIT-04.
func TestRevocationReachesTheLastByte(t *testing.T) {
	modern := newUpstream(t, true)
	more := fmt.Sprintf("  - {name: second, url: %q, era: modern, timeout: 10s}\n  - {name: third, url: %q, era: modern, timeout: 10s}\n", modern.URL, modern.URL)
	f := newFleet(t, setup{servers: more})
	a, b := f.gates[0], f.gates[1]
	operate[admin.Agent](a, "agents.register", map[string]string{"name": "bot"}, admin.AgentRegistration{Owner: "ops", Clients: []string{"bot-client"}, Tools: []string{"*/*"}})
	kinds := []string{"principal", "token", "session", "client", "agent", "server", "tool", "grant", "grant itself"}
	rounds := make([]*round, tries(t))
	for n := range rounds {
		rounds[n] = &round{f: f, n: n, kind: kinds[n%len(kinds)], server: "modern", up: f.modern}
	}
	var work sync.WaitGroup
	for _, r := range rounds {
		work.Go(func() { r.prepare(a) })
		if r.n%16 == 15 {
			work.Wait()
		}
	}
	work.Wait()
	took := make([]time.Duration, 0, len(rounds))
	for _, r := range rounds {
		if t.Failed() {
			return
		}
		r.up = map[string]*upstream{"modern": f.modern, "second": modern, "third": modern}[r.server]
		took = append(took, r.run(a, b))
		work.Wait()
		work.Go(func() { r.lift(a) })
	}
	work.Wait()
	slices.Sort(took)
	at := func(p int) time.Duration { return took[min(len(took)-1, len(took)*p/100)].Round(10 * time.Microsecond) }
	fmt.Printf("revocation: p50=%v p99=%v max=%v of %d\n", at(50), at(99), took[len(took)-1].Round(10*time.Microsecond), len(took))
	if at(99) >= 2*time.Second {
		t.Errorf("99th percentile = %v, want less than 2s", at(99))
	}
}

// A round revokes once.
type round struct {
	f       *fleet
	n       int
	kind    string
	value   string
	server  string
	up      *upstream
	subject string
	token   string
	streams []*stream
}

// prepare gives the caller of the round what it needs.
func (r *round) prepare(a *gate) {
	f, t := r.f, r.f.t
	r.subject = fmt.Sprintf("ana-%d", r.n)
	claims := issuer.Claims{Subject: r.subject, Session: fmt.Sprintf("sid-%d", r.n), Client: fmt.Sprintf("client-%d", r.n)}
	switch r.kind {
	case "agent":
		claims.Client = "bot-client"
	case "tool":
		r.server = "second"
	case "server":
		r.server = "third"
	}
	claims.Audience = f.resource(r.server)
	r.token = f.mint(claims)
	iss := f.name + "/issuer|"
	r.value = map[string]string{
		"principal": iss + r.subject, "token": iss + tokenID(t, r.token), "session": iss + claims.Session, "client": claims.Client,
		"agent": "bot", "server": "third", "tool": "second/chat",
	}[r.kind]
	if !r.granted() {
		return
	}
	g := operate[admin.Grant](a, "grants.request", nil, admin.GrantRequest{
		Principal: iss + r.subject, Server: r.server, Tools: []string{"danger_chat", "danger"}, TTLSeconds: 1200, Reason: "test",
	})
	operate[admin.Grant](a, "grants.approve", map[string]string{"id": g.ID}, admin.Reason{})
	r.value = g.ID
}

// granted reports rounds that revoke a grant, which only the call under it feels.
func (r *round) granted() bool { return strings.HasPrefix(r.kind, "grant") }

// onlyCall reports rounds that revoke what only one call feels.
func (r *round) onlyCall() bool { return r.granted() || r.kind == "tool" }

// run opens the streams at b, revokes at a, and returns how long it took until the last of them ended.
func (r *round) run(a, b *gate) time.Duration {
	t := r.f.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r.open(ctx, b)
	begun := time.Now()
	if r.kind == "grant itself" {
		operate[admin.Grant](a, "grants.revoke", map[string]string{"id": r.value}, admin.Reason{})
	} else {
		operate[admin.Revocation](a, "revocations.create", nil, admin.RevocationRequest{Kind: r.kind, Value: r.value})
	}
	answered := time.Since(begun)
	var most time.Duration
	for _, s := range r.streams {
		select {
		case <-s.done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s %s: the %s goes on", r.kind, r.value, s.what)
			continue
		}
		most = max(most, s.last.Sub(begun))
		if testing.Verbose() && s.last.Sub(begun) > 500*time.Millisecond {
			t.Logf("try %d, %s, %s: ended after %v, the operator was answered after %v", r.n, r.kind, s.what, s.last.Sub(begun), answered)
		}
	}
	r.recorded(b)
	return most
}

// lift gives back what later rounds need.
func (r *round) lift(a *gate) {
	switch r.kind {
	case "agent", "server", "tool":
		operate[struct{}](a, "revocations.lift", nil, admin.RevocationTarget{Kind: r.kind, Value: r.value})
	default:
	}
}

// open opens the streams that the revocation is to end.
func (r *round) open(ctx context.Context, b *gate) {
	t := r.f.t
	t.Helper()
	c, chat := r.f.client(b, r.token), "chat"
	until(t, "what was revoked before is restored", 10*time.Second, func() bool { return c.call(r.server, "echo", "probe").good() })
	if r.granted() {
		chat = "danger_chat"
		until(t, "the grant is known", 10*time.Second, func() bool { return c.call(r.server, "danger", "probe").good() })
	}
	ready := r.calls(ctx, c, chat)
	if !r.onlyCall() {
		ready = append(ready, r.outside(ctx, b)...)
	}
	for i, c := range ready {
		select {
		case <-c:
		case <-ctx.Done():
			t.Fatalf("try %d, %s: stream %d did not begin", r.n, r.kind, i)
		}
	}
}

// calls opens a call that says something every 5 ms and, unless only that is revoked, one that says nothing.
func (r *round) calls(ctx context.Context, c *client, chat string) (ready []<-chan struct{}) {
	talk := c.follow("call that talks", c.request(ctx, r.server, "tools/call", chat, callParams(chat, fmt.Sprintf("chat-%d", r.n), 0)))
	r.streams, ready = append(r.streams, talk), append(ready, talk.begun)
	if !r.onlyCall() {
		id := fmt.Sprintf("silent-%d", r.n)
		ready = append(ready, r.up.runs(id))
		r.streams = append(r.streams, c.follow("silent call", c.request(ctx, r.server, "tools/call", "silent", callParams("silent", id, 0))))
	}
	return ready
}

// outside opens the streams that are no calls.
func (r *round) outside(ctx context.Context, b *gate) (ready []<-chan struct{}) {
	listen := r.f.client(b, r.token)
	s := listen.follow("subscription", listen.request(ctx, r.server, "subscriptions/listen", "", `"notifications":{"toolsListChanged":true}`))
	r.streams, ready = append(r.streams, s), append(ready, s.begun)
	session := r.f.client(b, r.token)
	session.open(r.server)
	s = session.get(ctx, r.server)
	r.streams = append(r.streams, s)
	return append(ready, s.begun)
}

// recorded waits until the record of every stream says that a revocation ended it.
func (r *round) recorded(b *gate) {
	t := r.f.t
	t.Helper()
	found := 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		found = 0
		for _, e := range b.events(record.Filter{Subject: r.subject, Type: "exchange"}) {
			if e.Control == "JIT-04" {
				found++
			}
		}
		if found >= len(r.streams) {
			break
		}
	}
	if found != len(r.streams) {
		var all []string
		for _, e := range b.events(record.Filter{Subject: r.subject}) {
			all = append(all, fmt.Sprintf("%s %s %s %s %s", e.Type, e.Method, e.Target, e.Control, e.Reason))
		}
		var ends []string
		for _, s := range r.streams {
			ends = append(ends, fmt.Sprintf("%s: %d %v %q", s.what, s.status, s.err, s.tail[max(0, len(s.tail)-300):]))
		}
		t.Errorf("try %d, %s %s: %d of %d ends are in the trail with JIT-04:\n%s\n%s", r.n, r.kind, r.value, found, len(r.streams), strings.Join(all, "\n"), strings.Join(ends, "\n"))
	}
}
