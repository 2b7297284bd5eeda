package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestPRT11(t *testing.T) {
	t.Parallel()
	off := Config{}
	on := Config{Deprecated: Deprecated{
		Roots: true, Sampling: true, Logging: true, HTTPSSE: true,
		Budget: Sampling{PerMinute: 6, Concurrent: 2, PerCall: 3, MaxTokens: 100},
	}}
	const sample = `{"messages":[],"maxTokens":100}`
	revisions := []warder.Revision{warder.Revision20251125, warder.Revision20260728}

	t.Run("transport", func(t *testing.T) {
		t.Parallel()
		x := &warder.Exchange{Door: warder.DoorSSE}
		verdict(t, transport{newFakes().layer(t, off).deprecated}, x, warder.CodeMethodNotAllowed, "http_sse_off")
		pass(t, transport{newFakes().layer(t, on).deprecated}, x)
		pass(t, transport{newFakes().layer(t, off).deprecated}, &warder.Exchange{Door: warder.DoorHTTP})
	})
	t.Run("deny/questions that are off", func(t *testing.T) {
		t.Parallel()
		for _, rev := range revisions {
			c := deprecatedResponses{newFakes().layer(t, off).deprecated}
			verdict(t, c, asked(t, rev, formCaps, wire.MethodSampling, sample), warder.CodeDenied, "sampling_off")
			verdict(t, c, asked(t, rev, formCaps, wire.MethodRootsList, `{}`), warder.CodeDenied, "roots_off")
		}
	})
	t.Run("near_miss/questions that are not deprecated", func(t *testing.T) {
		t.Parallel()
		for _, rev := range revisions {
			pass(t, deprecatedResponses{newFakes().layer(t, off).deprecated}, asked(t, rev, formCaps, wire.MethodElicit, `{"message":"m"}`))
		}
	})
	t.Run("pass/questions that are on", func(t *testing.T) {
		t.Parallel()
		for _, rev := range revisions {
			c := deprecatedResponses{newFakes().layer(t, on).deprecated}
			pass(t, c, asked(t, rev, formCaps, wire.MethodSampling, sample))
			pass(t, c, asked(t, rev, formCaps, wire.MethodRootsList, `{}`))
		}
	})
	t.Run("requests and notifications of the client", func(t *testing.T) {
		t.Parallel()
		level := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`)
		roots := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
		c := deprecatedRequests{newFakes().layer(t, off).deprecated}
		verdict(t, c, level, warder.CodeUnknownMethod, "logging_off")
		verdict(t, c, roots, warder.CodeUnknownMethod, "roots_off")
		c = deprecatedRequests{newFakes().layer(t, on).deprecated}
		pass(t, c, level)
		pass(t, c, roots)
	})
	t.Run("deny/log level is taken away", func(t *testing.T) {
		t.Parallel()
		raw := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/logLevel":"debug","x":1}}}`
		for _, tt := range []struct {
			cfg  Config
			want string
		}{{off, `{"x":1}`}, {on, `{"io.modelcontextprotocol/logLevel":"debug","x":1}`}} {
			x := exchange(t, warder.Revision20260728, raw)
			pass(t, deprecatedRequests{newFakes().layer(t, tt.cfg).deprecated}, x)
			if diff := cmp.Diff(tt.want, string(x.Request.At(x.Request.Params.Get("_meta")))); diff != "" {
				t.Errorf("_meta (-want +got):\n%s", diff)
			}
		}
	})
	t.Run("log messages and the logging capability", func(t *testing.T) {
		t.Parallel()
		message := answer(t, call2026(t, `{}`), `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`)
		verdict(t, deprecatedResponses{newFakes().layer(t, off).deprecated}, message, warder.CodeUnknownMethod, "logging_off")
		pass(t, deprecatedResponses{newFakes().layer(t, on).deprecated}, message)
		for cfg, want := range map[*Config]string{&off: `{"tools":{}}`, &on: `{"logging":{},"tools":{}}`} {
			x := result(t, exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`), `{"capabilities":{"logging":{},"tools":{}}}`)
			pass(t, deprecatedResponses{newFakes().layer(t, *cfg).deprecated}, x)
			if diff := cmp.Diff(want, string(x.Response.At(x.Response.Result.Get("capabilities")))); diff != "" {
				t.Errorf("capabilities (-want +got):\n%s", diff)
			}
		}
	})
	t.Run("deny/a sampling loop is cut", func(t *testing.T) {
		t.Parallel()
		for _, rev := range revisions {
			f := newFakes()
			d := f.layer(t, on).deprecated
			passed := 0
			for range 20 {
				x := asked(t, rev, formCaps, wire.MethodSampling, sample)
				dec, err := deprecatedResponses{d}.Intercept(t.Context(), x)
				if err != nil {
					t.Fatal(err)
				}
				if dec.Verdict != warder.Pass {
					if dec.Reason != "sampling_loop" || dec.Code != warder.CodeRateLimited {
						t.Fatalf("%s: %s %s, want rate_limited sampling_loop", rev, dec.Code, dec.Reason)
					}
					break
				}
				passed++
				d.answered(x, 1)
				f.wait(15 * time.Second)
			}
			if passed != 3 {
				t.Errorf("%s: %d questions passed, want 3", rev, passed)
			}
		}
	})
	// question is one of many different requests that lead to sampling.
	question := func(t *testing.T, n int, params string) *warder.Exchange {
		t.Helper()
		x := asked(t, warder.Revision20251125, formCaps, wire.MethodSampling, params)
		x.Inbound = message(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"n":`+itoa(n)+`}}}`)
		return x
	}
	t.Run("deny/too many questions in a minute", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		d := f.layer(t, on).deprecated
		for n := range 6 {
			x := question(t, n, sample)
			pass(t, deprecatedResponses{d}, x)
			d.answered(x, 1)
		}
		verdict(t, deprecatedResponses{d}, question(t, 7, sample), warder.CodeRateLimited, "sampling_rate")
		other := question(t, 7, sample)
		other.Principal = mallory()
		pass(t, deprecatedResponses{d}, other)
		f.wait(10 * time.Second)
		pass(t, deprecatedResponses{d}, question(t, 8, sample))
	})
	t.Run("deny/too many questions at once", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		d := f.layer(t, on).deprecated
		pass(t, deprecatedResponses{d}, question(t, 1, sample))
		pass(t, deprecatedResponses{d}, question(t, 2, sample))
		verdict(t, deprecatedResponses{d}, question(t, 3, sample), warder.CodeRateLimited, "sampling_concurrent")
		reply := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":9,"result":{"role":"assistant","content":{"type":"text","text":"x"},"model":"m"}}`)
		reply.Question = message(t, `{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{}}`)
		pass(t, deprecatedRequests{d}, reply)
		pass(t, deprecatedResponses{d}, question(t, 4, sample))
		verdict(t, deprecatedResponses{d}, question(t, 5, sample), warder.CodeRateLimited, "sampling_concurrent")
		modern := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","inputResponses":{"a":{"role":"assistant","model":"m"},"b":{"roots":[]}},`+modernMeta+`}}`)
		pass(t, deprecatedRequests{d}, modern)
		f.wait(10 * time.Second)
		pass(t, deprecatedResponses{d}, question(t, 6, sample))
		f.wait(answerWait + time.Second) // questions that nobody answers stop counting
		pass(t, deprecatedResponses{d}, question(t, 8, sample))
	})
	t.Run("deny/too much, or the context of others", func(t *testing.T) {
		t.Parallel()
		d := newFakes().layer(t, on).deprecated
		for params, want := range map[string]warder.Reason{
			`{"messages":[],"maxTokens":101}`:                                   "sampling_tokens",
			`{"messages":[]}`:                                                   "sampling_tokens",
			`{"messages":[],"maxTokens":"1"}`:                                   "sampling_tokens",
			`{"messages":[],"maxTokens":1.5}`:                                   "sampling_tokens",
			`{"messages":[],"maxTokens":10,"includeContext":"allServers"}`:      "sampling_context",
			`{"messages":[],"maxTokens":10,"includeContext":"allServer\u0073"}`: "sampling_context",
		} {
			verdict(t, deprecatedResponses{d}, question(t, 1, params), warder.CodeRateLimited, want)
		}
	})
	t.Run("dependency_killed/no principal to charge", func(t *testing.T) {
		t.Parallel()
		x := question(t, 1, sample)
		x.Principal = nil
		fails(t, deprecatedResponses{newFakes().layer(t, on).deprecated}, x)
	})
}
