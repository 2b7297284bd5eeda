package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

func TestGW04(t *testing.T) {
	t.Parallel()
	cfg := Config{Loops: Loops{Repeats: 5, Changing: 12, Window: time.Minute, Depth: 3, Failures: 3, MaxWait: 30 * time.Second}}
	// rounds repeats a call until it is cut; res says what the n-th result is.
	rounds := func(t *testing.T, f *fakes, l *loops, effect warder.Effect, pause time.Duration, most int, res func(n int) string) int {
		t.Helper()
		for n := range most {
			x := call2026(t, `{"query":"x"}`)
			d, err := loopRequests{l}.Intercept(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			if d.Verdict != warder.Pass {
				if d.Code != warder.CodeRateLimited || d.Reason != "loop_cut" {
					t.Fatalf("round %d: %s %s, want rate_limited loop_cut", n, d.Code, d.Reason)
				}
				return n
			}
			x.Tool = &warder.Tool{Effect: effect}
			pass(t, loopResults{l}, result(t, x, res(n)))
			f.wait(pause)
		}
		return most
	}
	same := func(int) string { return `{"content":[]}` }
	other := func(n int) string { return `{"content":[{"type":"text","text":"` + itoa(n) + `"}]}` }

	t.Run("deny/a runaway loop is cut at the configured number", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		if n := rounds(t, f, f.layer(t, cfg).loops, warder.EffectRead, time.Millisecond, 100, same); n != 5 {
			t.Errorf("cut after %d calls, want 5", n)
		}
	})
	t.Run("deny/a cut loop stays cut until it pauses", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		l := f.layer(t, cfg).loops
		rounds(t, f, l, warder.EffectRead, time.Millisecond, 100, same)
		for range 20 {
			f.wait(30 * time.Second)
			verdict(t, loopRequests{l}, call2026(t, `{"query":"x"}`), warder.CodeRateLimited, "loop_cut")
		}
		f.wait(time.Minute + time.Second)
		pass(t, loopRequests{l}, call2026(t, `{"query":"x"}`))
	})
	t.Run("deny/writing the same again and again, although results differ", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		if n := rounds(t, f, f.layer(t, cfg).loops, warder.EffectWrite, time.Millisecond, 100, other); n != 12 {
			t.Errorf("cut after %d calls, want 12", n)
		}
	})
	t.Run("near_miss/exactly as many as allowed", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		if n := rounds(t, f, f.layer(t, cfg).loops, warder.EffectRead, time.Millisecond, 5, same); n != 5 {
			t.Errorf("cut after %d calls, want none cut", n)
		}
	})
	t.Run("pass/polling with changing results", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		if n := rounds(t, f, f.layer(t, cfg).loops, warder.EffectRead, time.Millisecond, 500, other); n != 500 {
			t.Errorf("cut after %d calls", n)
		}
	})
	t.Run("pass/slow polling without change", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		if n := rounds(t, f, f.layer(t, cfg).loops, warder.EffectUnknown, 13*time.Second, 500, same); n != 500 {
			t.Errorf("cut after %d calls", n)
		}
	})
	t.Run("pass/different arguments, callers, retries with answers", func(t *testing.T) {
		t.Parallel()
		l := newFakes().layer(t, cfg).loops
		for n := range 50 {
			pass(t, loopRequests{l}, call2026(t, `{"page":`+itoa(n)+`}`))
			x := call2026(t, `{}`)
			x.Principal.Subject = itoa(n)
			pass(t, loopRequests{l}, x)
			pass(t, loopRequests{l}, exchange(t, warder.Revision20260728,
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","requestState":"s",`+modernMeta+`}}`))
		}
	})
	t.Run("deny/recursion through tracestate", func(t *testing.T) {
		t.Parallel()
		l := newFakes().layer(t, cfg).loops
		for state, want := range map[string]warder.Reason{
			"": "", "warder=h2": "", "v=1,warder=h3": "recursion_too_deep", "warder=hx": "recursion_too_deep",
		} {
			x := call2026(t, `{}`)
			x.Trace.State = state
			verdict(t, loopRequests{l}, x, warder.CodeRateLimited, want)
		}
	})
	t.Run("deny/credentials refused again and again", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		b := f.layer(t, cfg).backoff
		x := call2026(t, `{}`)
		x.Conn.Header = http.Header{"Authorization": {"Bearer wrong"}}
		x.Principal, x.Failure = nil, warder.Fail(warder.CodeUnauthenticated, "token_invalid", nil)
		record := func() {
			if err := b.Record(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			pass(t, b, x)
			record()
		}
		pass(t, b, x)
		for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
			record()
			d := verdict(t, b, x, warder.CodeRateLimited, "auth_backoff")
			if d.Ask.RetryAfter != wait {
				t.Errorf("RetryAfter = %v, want %v", d.Ask.RetryAfter, wait)
			}
			f.wait(wait)
			pass(t, b, x)
		}
		good := call2026(t, `{}`)
		if err := b.Record(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		record()
		pass(t, b, x) // the count began anew
	})
	t.Run("near_miss/requests without credentials do not count", func(t *testing.T) {
		t.Parallel()
		b := newFakes().layer(t, cfg).backoff
		x := call2026(t, `{}`)
		x.Principal, x.Failure = nil, warder.Fail(warder.CodeUnauthenticated, "token_missing", nil)
		for range 50 {
			if err := b.Record(t.Context(), x); err != nil {
				t.Fatal(err)
			}
			pass(t, b, x)
		}
	})
	t.Run("near_miss/calls that need a stronger login do not count", func(t *testing.T) {
		t.Parallel()
		b := newFakes().layer(t, cfg).backoff
		x := call2026(t, `{}`)
		x.Conn.Header = http.Header{"Authorization": {"Bearer good"}}
		x.Failure = warder.Fail(warder.CodeUnauthenticated, "step_up_required", nil)
		for range 50 {
			if err := b.Record(t.Context(), x); err != nil {
				t.Fatal(err)
			}
			pass(t, b, x)
		}
	})
	t.Run("dependency_killed/a forgotten call does not disturb its result", func(t *testing.T) {
		t.Parallel()
		l := newFakes().layer(t, cfg).loops
		pass(t, loopResults{l}, result(t, call2026(t, `{}`), `{}`))
	})
}

func TestTableForgetsTheOldest(t *testing.T) {
	t.Parallel()
	tab := newTable[int](1, false)
	for i := range 100 { // all in one set
		e, mu := tab.lock(uint64(i)<<20|1, int64(i+1), true)
		if e == nil {
			t.Fatal("no place")
		}
		e.value = i
		mu.Unlock()
	}
	for i := range 100 {
		e, mu := tab.lock(uint64(i)<<20|1, 200, false)
		mu.Unlock()
		if got, want := e != nil, i >= 100-ways; got != want {
			t.Errorf("entry %d kept = %t, want %t", i, got, want)
		}
	}
	kept := newTable[int](1, true)
	for i := range ways + 1 {
		e, mu := kept.lock(uint64(i)<<20|1, 1, true)
		if (e == nil) != (i == ways) {
			t.Fatalf("entry %d: place = %t", i, e != nil)
		}
		if e != nil {
			e.until = 10
		}
		mu.Unlock()
	}
	e, mu := kept.lock(99<<20|1, 10, true)
	mu.Unlock()
	if e == nil {
		t.Error("an entry that ended was kept")
	}
}
