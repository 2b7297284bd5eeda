package output

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/unit"
)

func textResult(n int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"%s"}]}}`, strings.Repeat("a", n))
}

func TestOUT03(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000_200, 0)
	limits := Config{
		MaxMessage: unit.KiB, MaxAnswer: 4 * unit.KiB,
		Volume: Volume{Window: 10 * time.Minute, Alert: 8 * unit.KiB, Limit: 16 * unit.KiB},
	}.orDefault()
	fresh := func(now *time.Time) *sizes { return newSizes(limits, func() time.Time { return *now }) }

	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		d := judge(t, fresh(&start), answered(t, callEcho, textResult(100)))
		mustPass(t, d)
		if len(d.Findings) > 0 {
			t.Errorf("got findings %v, want none", d.Findings)
		}
	})
	t.Run("near_miss", func(t *testing.T) {
		t.Parallel()
		s := fresh(&start)
		envelope := len(textResult(0))
		mustPass(t, judge(t, s, answered(t, callEcho, textResult(1024-envelope))))
		x := answered(t, callEcho, textResult(1024-envelope))
		x.BytesOut = 3 * 1024
		mustPass(t, judge(t, s, x))
		x = answered(t, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}`, textResult(100))
		x.BytesOut = 1 << 40 // a stream that does not end is bounded by the volume alone
		mustPass(t, judge(t, s, x))
	})
	t.Run("deny_large_message", func(t *testing.T) {
		t.Parallel()
		mustRefuse(t, judge(t, fresh(&start), answered(t, callEcho, textResult(1024))), warder.CodeTooLarge, "message_too_large")
	})
	t.Run("deny_large_answer", func(t *testing.T) {
		t.Parallel()
		x := answered(t, callEcho, textResult(900))
		x.BytesOut = 3500
		mustRefuse(t, judge(t, fresh(&start), x), warder.CodeTooLarge, "answer_too_large")
	})
	t.Run("deny_slow_drip", func(t *testing.T) {
		t.Parallel()
		now := start
		s := fresh(&now)
		alerts, refused := 0, 0
		for range 60 {
			now = now.Add(5 * time.Second)
			d := judge(t, s, answered(t, callEcho, textResult(400)))
			if len(d.Findings) > 0 && d.Findings[0].Rule == "volume_high" {
				alerts++
			}
			if d.Verdict == warder.Deny {
				mustRefuse(t, d, warder.CodeRateLimited, "volume_exceeded")
				refused++
			}
		}
		if alerts != 1 || refused == 0 {
			t.Errorf("got %d alerts and %d refusals, want 1 alert, then refusals", alerts, refused)
		}
		other := answered(t, callEcho, textResult(400))
		other.Principal = &warder.Principal{Issuer: "local", Subject: "bob"}
		mustPass(t, judge(t, s, other))
		now = now.Add(21 * time.Minute)
		mustPass(t, judge(t, s, answered(t, callEcho, textResult(400))))
	})
	t.Run("pass_unusual_is_reported", func(t *testing.T) {
		t.Parallel()
		s := newSizes(Default(), func() time.Time { return start })
		tool := &warder.Tool{Digest: warder.Digest{7}}
		for range 30 {
			x := answered(t, callEcho, textResult(1000))
			x.Tool = tool
			if d := judge(t, s, x); len(d.Findings) > 0 {
				t.Fatalf("got %v for a usual result", d.Findings)
			}
		}
		x := answered(t, callEcho, textResult(100_000))
		x.Tool = tool
		d := judge(t, s, x)
		mustPass(t, d)
		if len(d.Findings) != 1 || d.Findings[0].Rule != "result_unusually_large" {
			t.Errorf("got findings %v, want result_unusually_large", d.Findings)
		}
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		for name, s := range map[string]*sizes{"no limits": {}, "no message": fresh(&start)} {
			x := answered(t, callEcho, textResult(1))
			if name == "no message" {
				x.Response = nil
			}
			if d, err := s.Intercept(t.Context(), x); err == nil {
				t.Errorf("%s: got %s and no error, want an error, which denies", name, d.Verdict)
			}
		}
	})
}

// TestVolumeSlides proves that the window never forgets more than it should: any window-long
// stretch that holds more than the limit is refused before its end.
func TestVolumeSlides(t *testing.T) {
	t.Parallel()
	v := &volume{}
	base := time.Unix(1_000_000_000, 0)
	window := time.Minute
	var sum int64
	for i := range 120 {
		sum, _ = v.add(base.Add(time.Duration(i)*time.Second), window, 10, 1<<40)
	}
	if sum < 600-20 || sum > 600+20 {
		t.Errorf("got %d after two minutes of 10 a second, want about 600", sum)
	}
	if sum, _ = v.add(base.Add(10*time.Minute), window, 1, 1<<40); sum != 1 {
		t.Errorf("got %d after a pause, want 1", sum)
	}
}

func BenchmarkOUT03(b *testing.B) {
	s := newSizes(Default(), time.Now)
	x := answered(b, callEcho, textResult(500))
	x.Tool = &warder.Tool{Digest: warder.Digest{7}}
	b.ReportAllocs()
	for b.Loop() {
		if d, err := s.Intercept(b.Context(), x); err != nil || d.Verdict == warder.Challenge {
			b.Fatal(d, err)
		}
	}
}
