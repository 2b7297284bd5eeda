package gateway

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/warder-mcp/warder"
)

// burst sends messages until one is refused, or until max have passed.
func burst(t *testing.T, c warder.Interceptor, x *warder.Exchange, most int) (int, warder.Decision) {
	t.Helper()
	for n := range most {
		d, err := c.Intercept(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		if d.Verdict != warder.Pass {
			return n, d
		}
	}
	return most, warder.Decision{}
}

func TestGW03(t *testing.T) {
	t.Parallel()
	wide, tight := Rate{1e6, 1e6}, Rate{10, 5}
	base := Rates{Peer: wide, Principal: wide, Client: wide, Agent: wide, Tenant: wide, Server: wide, Tool: wide, MaxKeys: 1024}
	full := func() *warder.Principal {
		p := alice()
		p.Tenant, p.Agent = "acme", "planner"
		return p
	}
	tests := []struct {
		name   string
		narrow func(*Rates)
		reason warder.Reason
		other  func(*warder.Exchange) // makes the exchange one that another bucket counts
	}{
		{"principal", func(r *Rates) { r.Principal = tight }, "rate_principal", func(x *warder.Exchange) { x.Principal.Subject = "bob" }},
		{"client", func(r *Rates) { r.Client = tight }, "rate_client", func(x *warder.Exchange) { x.Principal.Client = "cli" }},
		{"agent", func(r *Rates) { r.Agent = tight }, "rate_agent", func(x *warder.Exchange) { x.Principal.Agent = "writer" }},
		{"tenant", func(r *Rates) { r.Tenant = tight }, "rate_tenant", func(x *warder.Exchange) { x.Principal.Tenant = "umbrella" }},
		{"server", func(r *Rates) { r.Server = tight }, "rate_server", func(x *warder.Exchange) { x.Server = &warder.Server{Name: "mail"} }},
		{"tool", func(r *Rates) { r.Tool = tight }, "rate_tool", func(x *warder.Exchange) { x.Request.Target = "delete" }},
	}
	for _, tt := range tests {
		t.Run("deny/"+tt.name+" above its burst, then at its rate", func(t *testing.T) {
			t.Parallel()
			f, cfg := newFakes(), base
			tt.narrow(&cfg)
			c := callerRates{f.layer(t, Config{Rates: cfg}).rates}
			x := call2026(t, `{}`)
			x.Principal = full()
			n, d := burst(t, c, x, 100)
			if n != 5 || d.Reason != tt.reason || d.Code != warder.CodeRateLimited {
				t.Fatalf("burst: %d passed, then %s %s; want 5, then %s", n, d.Code, d.Reason, tt.reason)
			}
			if d.Ask == nil || d.Ask.RetryAfter <= 0 || d.Public == "" {
				t.Errorf("the refusal does not say when to try again: %+v", d)
			}
			f.wait(300 * time.Millisecond)
			if n, _ := burst(t, c, x, 100); n != 3 {
				t.Errorf("after 300ms at 10/s: %d passed, want 3", n)
			}
			other := call2026(t, `{}`)
			other.Principal = full()
			tt.other(other)
			if n, _ := burst(t, c, other, 5); n != 5 {
				t.Errorf("another %s: %d of 5 passed", tt.name, n)
			}
		})
	}
	t.Run("pass/sustained at the rate", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		cfg := base
		cfg.Principal = tight
		c := callerRates{f.layer(t, Config{Rates: cfg}).rates}
		x := call2026(t, `{}`)
		for range 1000 {
			pass(t, c, x)
			f.wait(100 * time.Millisecond)
		}
	})
	t.Run("near_miss/a burst of exactly the size", func(t *testing.T) {
		t.Parallel()
		cfg := base
		cfg.Principal = tight
		if n, _ := burst(t, callerRates{newFakes().layer(t, Config{Rates: cfg}).rates}, call2026(t, `{}`), 5); n != 5 {
			t.Errorf("%d passed, want 5", n)
		}
	})
	t.Run("pass/one caller over his limit does not starve another on the same server", func(t *testing.T) {
		t.Parallel()
		cfg := base
		cfg.Principal, cfg.Server = Rate{10, 5}, Rate{100, 20}
		c := callerRates{newFakes().layer(t, Config{Rates: cfg}).rates}
		greedy, modest := call2026(t, `{}`), call2026(t, `{}`)
		greedy.Principal = mallory()
		for range 10_000 {
			_, _ = c.Intercept(t.Context(), greedy)
		}
		if n, d := burst(t, c, modest, 5); n != 5 {
			t.Errorf("the other caller: %d of 5 passed, then %s", n, d.Reason)
		}
	})
	peer := func(addr string) *warder.Exchange {
		return &warder.Exchange{Door: warder.DoorHTTP, Conn: warder.Conn{Peer: netip.MustParseAddrPort(addr)}}
	}
	t.Run("deny/peer, IPv6 by /64", func(t *testing.T) {
		t.Parallel()
		cfg := base
		cfg.Peer = tight
		c := peerRates{newFakes().layer(t, Config{Rates: cfg}).rates}
		if n, d := burst(t, c, peer("[2001:db8::1]:1"), 100); n != 5 || d.Reason != "rate_peer" {
			t.Fatalf("%d passed, then %s; want 5, then rate_peer", n, d.Reason)
		}
		verdict(t, c, peer("[2001:db8::ffff:2]:2"), warder.CodeRateLimited, "rate_peer")
		pass(t, c, peer("[2001:db8:0:1::1]:1"))
		pass(t, c, peer("192.0.2.1:1"))
		pass(t, c, &warder.Exchange{Door: warder.DoorStdio})
	})
	t.Run("dependency_killed/no address, no principal", func(t *testing.T) {
		t.Parallel()
		r := newFakes().layer(t, Config{Rates: base}).rates
		verdict(t, peerRates{r}, &warder.Exchange{Door: warder.DoorHTTP}, warder.CodeRateLimited, "peer_unknown")
		x := call2026(t, `{}`)
		x.Principal = nil
		fails(t, callerRates{r}, x)
	})
	t.Run("dependency_killed/a full table refuses new callers and keeps the old", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		b := newBuckets(ways)
		l := limit{int64(time.Second), int64(10 * time.Second)}
		clk := newClock(f.Now)
		for key := range uint64(ways) {
			if _, ok := b.take(key<<32|1, l, clk.since()); !ok {
				t.Fatalf("key %d refused", key)
			}
		}
		if wait, ok := b.take(99<<32|1, l, clk.since()); ok || wait >= 0 {
			t.Fatalf("a key beyond the table: wait %v, ok %t, want refusal", wait, ok)
		}
		if _, ok := b.take(3<<32|1, l, clk.since()); !ok {
			t.Error("a known key was refused")
		}
		f.wait(3 * time.Second) // all buckets are full again and give their places up
		if _, ok := b.take(99<<32|1, l, clk.since()); !ok {
			t.Error("a key was refused although buckets are full again")
		}
	})
}

// Whatever the arrivals, no interval admits more than burst + rate × length.
func TestBucketsNeverExceedTheRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		per := rapid.IntRange(1, 1000).Draw(t, "per_second")
		size := rapid.IntRange(1, 50).Draw(t, "burst")
		l, err := Rate{float64(per), size}.limit("x", Rate{})
		if err != nil {
			t.Fatal(err)
		}
		b := newBuckets(ways)
		now, admitted := int64(1), []int64{}
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, int64(200*time.Millisecond)), 1, 200).Draw(t, "gaps") {
			now += gap
			if _, ok := b.take(7, l, now); ok {
				admitted = append(admitted, now)
			}
		}
		for i, first := range admitted {
			for j := i; j < len(admitted); j++ {
				if most := int64(size) + (admitted[j]-first)/l.interval; int64(j-i+1) > most {
					t.Fatalf("%d admitted in %v at %d/s burst %d, at most %d", j-i+1, time.Duration(admitted[j]-first), per, size, most)
				}
			}
		}
	})
}

func TestBucketsConcurrently(t *testing.T) {
	t.Parallel()
	b := newBuckets(64)
	l := limit{int64(time.Hour), 100 * int64(time.Hour)}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if _, ok := b.take(42, l, 1); ok {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 100 {
		t.Errorf("%d passed, want 100", n)
	}
}

func BenchmarkRates(b *testing.B) {
	c := callerRates{newFakes().layer(b, fast()).rates}
	x := call2026(b, `{}`)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Intercept(b.Context(), x)
	}
}
