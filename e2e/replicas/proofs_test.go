package replicas

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/issuer"
)

// holder is a client with a token that is bound to its key.
func (f *fleet) holder(g *gate, subject string) *client {
	f.t.Helper()
	p, err := jose.NewProver(time.Now)
	if err != nil {
		f.t.Fatal(err)
	}
	c := f.client(g, f.mint(issuer.Claims{Subject: subject, Binding: p.Thumbprint()}))
	c.prover = p
	return c
}

// at is the same client at another gateway.
func (c *client) at(g *gate) *client {
	out := *c
	out.http = g.f.client(g, "").http
	return &out
}

// again sends a proof that was made before.
func (c *client) again(proof string) answer {
	old := *c
	old.proof = proof
	return old.call("modern", "echo", "replayed")
}

// TestProofsAreSharedAndSurviveRedis proves that a proof which one gateway saw is refused by the other, and
// that no proof is accepted twice although Redis was killed and remembers nothing. Control IAM-06.
func TestProofsAreSharedAndSurviveRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t, setup{})
	a, b := f.gates[0], f.gates[1]
	c := f.holder(a, "ana")
	bearer := f.client(b, f.mint(issuer.Claims{Subject: "ben"}))
	var used []string
	for i := range 30 {
		at := c.at(f.gates[i%2])
		if got := at.call("modern", "echo", "x"); !got.good() {
			t.Fatalf("call with a fresh proof: %v", got)
		}
		used = append(used, at.sent)
	}
	replays := func(when string) {
		t.Helper()
		for i, proof := range used {
			for j, g := range f.gates {
				if got := c.at(g).again(proof); got.good() || got.status != http.StatusUnauthorized && got.status != http.StatusServiceUnavailable {
					t.Errorf("%s: proof %d at gateway %d: %v, want it refused", when, i, j, got)
				}
			}
		}
	}
	replays("at once")
	concurrently(t, c, f)

	f.redis.Kill()
	until(t, "calls with proofs are refused", 10*time.Second, func() bool {
		got := c.at(a).call("modern", "echo", "x")
		return got.status == http.StatusServiceUnavailable
	})
	for _, g := range f.gates {
		at := c.at(g)
		got := at.call("modern", "echo", "x")
		if got.status != http.StatusServiceUnavailable {
			t.Errorf("without Redis: a proof got %v, want 503", got)
		}
		used = append(used, at.sent)
		if got := bearer.at(g).call("modern", "echo", "x"); !got.good() {
			t.Errorf("without Redis: a bearer token got %v", got)
		}
	}
	if err := f.redis.Start(); err != nil {
		t.Fatal(err)
	}
	replays("right after Redis is back")
	begun := time.Now()
	until(t, "fresh proofs are accepted again", 30*time.Second, func() bool {
		at := c.at(a)
		ok := at.call("modern", "echo", "x").good()
		if ok {
			used = append(used, at.sent)
		}
		return ok && c.at(b).call("modern", "echo", "x").good()
	})
	t.Logf("fresh proofs were accepted %v after Redis was back", time.Since(begun).Round(time.Millisecond))
	replays("after Redis is back and fresh proofs pass")
}

// concurrently sends one proof to both gateways at once, again and again: one passes.
func concurrently(t *testing.T, c *client, f *fleet) {
	t.Helper()
	for range 20 {
		proof, err := c.prover.Proof(http.MethodPost, c.name+"/mcp/modern", c.token, "")
		if err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		good := make(chan bool, 8)
		for i := range 8 {
			at := c.at(f.gates[i%2])
			work.Go(func() { good <- at.again(proof).good() })
		}
		work.Wait()
		close(good)
		n := 0
		for ok := range good {
			if ok {
				n++
			}
		}
		if n != 1 {
			t.Errorf("one proof, eight times at once: %d passed, want 1", n)
		}
	}
}

// TestNoncesAreShared proves that a nonce of one gateway is one of the other.
func TestNoncesAreShared(t *testing.T) {
	t.Parallel()
	f := newFleet(t, setup{identity: ", dpop: {nonce: true}"})
	c := f.holder(f.gates[0], "ana")
	if got := c.call("modern", "echo", "x"); got.status != http.StatusUnauthorized || c.nonce == "" || !strings.Contains(got.header.Get("Www-Authenticate"), "use_dpop_nonce") {
		t.Fatalf("without a nonce: %v", got)
	}
	if got := c.at(f.gates[1]).call("modern", "echo", "x"); !got.good() {
		t.Errorf("the other gateway's nonce: %v", got)
	}
	if got := c.call("modern", "echo", "x"); !got.good() {
		t.Errorf("its own nonce: %v", got)
	}
	made := c.at(f.gates[1])
	made.nonce += "x"
	if got := made.call("modern", "echo", "x"); got.good() {
		t.Errorf("an invented nonce: %v", got)
	}
}
