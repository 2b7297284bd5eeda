package input

import (
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

func nested(n int) string {
	return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n)
}

func TestINV03(t *testing.T) {
	t.Parallel()
	c := &budget{depth: 10, values: 1000}
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		mustPass(t, judge(t, c, called(t, `{"text":"x","any":{"a":[[1]]}}`)))
		mustPass(t, judge(t, c, sent(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)))
	})
	t.Run("near_miss", func(t *testing.T) {
		t.Parallel()
		mustPass(t, judge(t, c, called(t, nested(9)))) // params is one level, the arguments nine
		mustPass(t, judge(t, c, called(t, `{"any":{"a":`+numbers(980)+`}}`)))
		mustPass(t, judge(t, c, called(t, `{"text":"`+strings.Repeat("[1,", 20_000)+`"}`))) // text, not values
	})
	t.Run("deny_deep", func(t *testing.T) {
		t.Parallel()
		mustRefuse(t, judge(t, c, called(t, nested(10))), warder.CodeInvalidParams, "too_deep")
		mustRefuse(t, judge(t, c, called(t, `{"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`)), warder.CodeInvalidParams, "too_deep")
	})
	t.Run("deny_wide", func(t *testing.T) {
		t.Parallel()
		for _, bomb := range []string{numbers(1000), "[" + strings.TrimSuffix(strings.Repeat(`{"a":[]},`, 600), ",") + "]", "[" + strings.TrimSuffix(strings.Repeat(`"",`, 1000), ",") + "]"} {
			mustRefuse(t, judge(t, c, called(t, `{"any":{"a":`+bomb+`}}`)), warder.CodeInvalidParams, "too_many_values")
		}
	})
	t.Run("deny_bombs_in_bounded_time", func(t *testing.T) {
		t.Parallel()
		x := called(t, `{"any":{"a":`+numbers(90_000)+`}}`)
		start := time.Now()
		mustRefuse(t, judge(t, c, x), warder.CodeInvalidParams, "too_many_values")
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		mustFail(t, &budget{}, called(t, `{}`))
		mustFail(t, c, &warder.Exchange{})
	})
}

func BenchmarkINV03(b *testing.B) {
	c := &budget{depth: 32, values: 10_000}
	for name, arguments := range map[string]string{
		"0.6k": `{"text":"` + strings.Repeat("a", 400) + `"}`, "100k_text": `{"text":"` + strings.Repeat("a", 100_000) + `"}`,
		"9000_values": `{"any":{"a":` + numbers(9000) + `}}`,
	} {
		b.Run(name, func(b *testing.B) {
			x := called(b, arguments)
			b.ReportAllocs()
			for b.Loop() {
				if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
					b.Fatal(d, err)
				}
			}
		})
	}
}

// FuzzScan proves that the scanner agrees with the decoder about how many values there are.
func FuzzScan(f *testing.F) {
	f.Add(`{"a":[1,{"b":"\\\"}"},null],"c":{}}`)
	f.Add(`{"":"","x":[[],[{}]],"\u0061":-1.5e3}`)
	f.Fuzz(func(t *testing.T, params string) {
		m, err := decodeParams(params)
		if err != nil || m.Params == nil {
			return
		}
		v, _ := body(m)
		if got, want := countValues(v.Raw(), 1<<30), count(v); got != want {
			t.Errorf("%s: counted %d values, there are %d", v.Raw(), got, want)
		}
	})
}
