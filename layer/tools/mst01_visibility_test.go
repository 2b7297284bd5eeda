package tools

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestMST01(t *testing.T) {
	t.Parallel()
	t.Run("pass", testMST01Pass)
	t.Run("near_miss", testMST01NearMiss)
	t.Run("deny", testMST01Deny)
	t.Run("deny_same_answer", testSameAnswer)
	t.Run("dependency_killed", testMST01DependencyKilled)
}

func testMST01Pass(t *testing.T) {
	t.Parallel()
	a, b, c := toolOf("a", "one"), toolOf("b", "two"), toolOf("c", "three")
	t.Run("a list is filtered, ordered and private", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.approve(t, kindTool, a, b, c)
		r.policy.hide("b")
		spaced := strings.Replace(a, `","`, "\" , \n\t\"", 1)
		got := r.list(t, modern, wire.MethodToolsList, `{"resultType":"complete","ttlMs":5000,"cacheScope":"public","tools":[`+c+`,`+b+`,`+spaced+`]}`)
		want := `{"resultType":"complete","ttlMs":5000,"cacheScope":"private","tools":[` + spaced + `,` + c + `]}`
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
	})
	t.Run("cacheScope is added", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.approve(t, kindTool, a)
		got := r.list(t, modern, wire.MethodToolsList, resultOf("tools", a))
		if want := `{"tools":[` + a + `],"cacheScope":"private"}`; got != want {
			t.Errorf("list = %s, want %s", got, want)
		}
	})
	t.Run("resources and templates", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.policy.hide("file:///secret", "db://{table}")
		got := r.list(t, legacy, wire.MethodResourcesList, resultOf("resources", `{"uri":"file:///b"}`, `{"uri":"file:///secret"}`, `{"uri":"file:///a"}`))
		if want := `{"resources":[{"uri":"file:///a"},{"uri":"file:///b"}]}`; got != want {
			t.Errorf("resources = %s, want %s", got, want)
		}
		got = r.list(t, legacy, wire.MethodResourceTemplates, resultOf("resourceTemplates", `{"uriTemplate":"db://{table}"}`, `{"uriTemplate":"x://{y}"}`))
		if want := `{"resourceTemplates":[{"uriTemplate":"x://{y}"}]}`; got != want {
			t.Errorf("templates = %s, want %s", got, want)
		}
		d, err := r.request(t, r.exchange(t, legacy, wire.MethodResourcesRead, `{"uri":"file:///a"}`))
		wantPass(t, d, err)
	})
	t.Run("prompts", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.approve(t, kindPrompt, promptOf("p", "x"), promptOf("q", "y"))
		r.policy.hide("q")
		if got, want := r.list(t, legacy, wire.MethodPromptsList, resultOf("prompts", promptOf("q", "y"), promptOf("p", "x"))), resultOf("prompts", promptOf("p", "x")); got != want {
			t.Errorf("prompts = %s, want %s", got, want)
		}
	})
	t.Run("names that look alike are flagged", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		list := []string{toolOf("send_file", ""), toolOf("send_fi1e", ""), toolOf("send-fіle", ""), toolOf("other", "")}
		r.approve(t, kindTool, list...)
		x := r.exchange(t, legacy, wire.MethodToolsList, `{}`)
		d, err := r.answer(t, x, resultOf("tools", list...))
		wantPass(t, d, err)
		var evidence []string
		for _, f := range d.Findings {
			evidence = append(evidence, f.Rule+": "+f.Evidence)
		}
		want := []string{`lookalike_name: "send_fi1e" looks like "send-fіle"`, `lookalike_name: "send_file" looks like "send-fіle"`}
		if diff := cmp.Diff(want, evidence); diff != "" {
			t.Errorf("findings (-want +got):\n%s", diff)
		}
	})
}

func testMST01NearMiss(t *testing.T) {
	t.Parallel()
	a, b := toolOf("a", "one"), toolOf("b", "two")
	t.Run("an ordered visible list keeps its bytes", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.approve(t, kindTool, a, b)
		x := r.exchange(t, legacy, wire.MethodToolsList, `{}`)
		m, err := wire.Decode([]byte(" {\"jsonrpc\":\"2.0\" ,\"id\":1,\"result\":{\"tools\":[ "+a+" , "+b+" ]}} "), wire.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		x.Response = m
		d, err := run(t.Context(), x, r.layer.Response, nil)
		wantPass(t, d, err)
		if x.Response != m {
			t.Error("the message was written anew although nothing had to change")
		}
	})
	t.Run("a name that is similar to a hidden one", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.approve(t, kindTool, toolOf("delete", ""), toolOf("delete2", ""))
		r.upstream.offer(kindTool, toolOf("delete", ""), toolOf("delete2", ""))
		r.policy.hide("delete")
		d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("delete2")))
		wantPass(t, d, err)
	})
	t.Run("a tool that is new since the last list", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.approve(t, kindTool, a, b)
		r.upstream.offer(kindTool, a)
		d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("a")))
		wantPass(t, d, err)
		r.upstream.offer(kindTool, a, b)
		r.pass(6 * time.Second)
		d, err = r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("b")))
		wantPass(t, d, err)
	})
	t.Run("another error of the server", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		x := r.exchange(t, legacy, wire.MethodResourcesRead, `{"uri":"file:///a"}`)
		x.Response = errorAnswer(t, -32603, "disk failed")
		d, err := run(t.Context(), x, r.layer.Response, nil)
		wantPass(t, d, err)
	})
}

func errorAnswer(t *testing.T, code int, message string) *warder.Message {
	t.Helper()
	m, err := wire.Decode(wire.ErrorResponse([]byte("1"), code, message, []byte(`{"uri":"file:///secret"}`)), wire.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func testMST01Deny(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, method, params string }{
		{"hidden tool", wire.MethodToolsCall, call("hidden")},
		{"unknown tool", wire.MethodToolsCall, call("unknown")},
		{"hidden and quarantined tool", wire.MethodToolsCall, call("hidden_bad")},
		{"hidden prompt", wire.MethodPromptsGet, call("hidden")},
		{"unknown prompt", wire.MethodPromptsGet, call("unknown")},
		{"completion for a hidden prompt", wire.MethodComplete, `{"ref":{"type":"ref/prompt","name":"hidden"},"argument":{"name":"a","value":""}}`},
		{"completion for a hidden template", wire.MethodComplete, `{"ref":{"type":"ref/resource","uri":"file:///{hidden}"},"argument":{"name":"a","value":""}}`},
		{"hidden resource", wire.MethodResourcesRead, `{"uri":"file:///secret"}`},
		{"subscription to a hidden resource", wire.MethodResourcesSubscribe, `{"uri":"file:///secret"}`},
		{"listening to a hidden resource", wire.MethodListen, `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///a","file:///secret"]}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			r.approve(t, kindTool, toolOf("hidden", ""), toolOf("seen", ""))
			r.approve(t, kindPrompt, promptOf("hidden", ""))
			r.upstream.offer(kindTool, toolOf("hidden", ""), toolOf("hidden_bad", ""), toolOf("seen", ""))
			r.upstream.offer(kindPrompt, promptOf("hidden", ""))
			r.policy.hide("hidden", "hidden_bad", "file:///secret", "file:///{hidden}")
			x := r.exchange(t, modern, tt.method, tt.params)
			d, err := r.request(t, x)
			wantRefusal(t, d, err, mst01, warder.CodeNotFound, "not_found")
			if d.Public != "" {
				t.Errorf("the refusal says %q, want nothing beyond its code", d.Public)
			}
			d, err = r.request(t, x, mst01)
			if err == nil && d.Control == mst01 {
				t.Errorf("with the control off it still refuses: %+v", d)
			}
		})
	}
}

// testSameAnswer proves that "not there" and "not yours" cannot be told apart: not by what is
// answered, and not by what the gateway does to find out.
func testSameAnswer(t *testing.T) {
	t.Parallel()
	public := func(d warder.Decision) warder.Decision {
		d.Detail = "" // for operators
		return d
	}
	t.Run("tools", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.approve(t, kindTool, toolOf("hidden", ""))
		r.upstream.offer(kindTool, toolOf("hidden", ""))
		r.policy.hide("hidden")
		for _, wait := range []time.Duration{0, time.Second, 6 * time.Second, 61 * time.Second} {
			asked := map[string]int64{}
			answers := map[string]warder.Decision{}
			for _, name := range []string{"hidden", "unknown"} {
				r.definitions.MarkStale("notes", kindTool)
				if _, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("hidden"))); err != nil {
					t.Fatal(err)
				}
				r.pass(wait)
				before := r.upstream.asked.Load()
				d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call(name)))
				if err != nil {
					t.Fatal(err)
				}
				asked[name], answers[name] = r.upstream.asked.Load()-before, public(d)
			}
			if diff := cmp.Diff(answers["unknown"], answers["hidden"]); diff != "" {
				t.Errorf("after %s the answers differ (-unknown +hidden):\n%s", wait, diff)
			}
			if asked["unknown"] != asked["hidden"] {
				t.Errorf("after %s the server is asked %d times for an unknown name and %d times for a hidden one", wait, asked["unknown"], asked["hidden"])
			}
		}
	})
	t.Run("resources", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.policy.hide("file:///secret")
		hidden, err := r.request(t, r.exchange(t, legacy, wire.MethodResourcesRead, `{"uri":"file:///secret"}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range []int{warder.RPCInvalidParams, warder.RPCResourceNotFound} {
			x := r.exchange(t, legacy, wire.MethodResourcesRead, `{"uri":"file:///missing"}`)
			x.Response = errorAnswer(t, code, "No such file: file:///missing")
			missing, err := run(t.Context(), x, r.layer.Response, nil)
			if diff := cmp.Diff(public(hidden), public(missing)); err != nil || diff != "" {
				t.Errorf("code %d: %v, the answers differ (-hidden +missing):\n%s", code, err, diff)
			}
		}
	})
	t.Run("guessing names costs the server little", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.upstream.offer(kindTool, toolOf("a", ""))
		for range 200 {
			d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("guess")))
			wantRefusal(t, d, err, mst01, warder.CodeNotFound, "not_found")
		}
		if n := r.upstream.asked.Load(); n > 2 {
			t.Errorf("200 guesses asked the server %d times", n)
		}
	})
}

func testMST01DependencyKilled(t *testing.T) {
	t.Parallel()
	a := toolOf("a", "one")
	broken := errors.New("policy engine gone")
	start := func(t *testing.T) *rig {
		t.Helper()
		r := newRig(t, Config{})
		r.approve(t, kindTool, a)
		r.upstream.offer(kindTool, a)
		r.policy.broken = broken
		return r
	}
	for method, params := range map[string]string{
		wire.MethodToolsCall: call("a"), wire.MethodResourcesRead: `{"uri":"file:///a"}`,
		wire.MethodListen: `{"notifications":{"resourceSubscriptions":["file:///a"]}}`,
	} {
		t.Run("policy for "+method, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			if d, err := r.request(t, r.exchange(t, modern, method, params), tdp04); !errors.Is(err, broken) {
				t.Errorf("decision = %+v, %v, want the policy's error", d, err)
			}
		})
	}
	for method, result := range map[string]string{
		wire.MethodToolsList: resultOf("tools", a), wire.MethodResourcesList: resultOf("resources", `{"uri":"file:///a"}`),
	} {
		t.Run("policy for "+method, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			if d, err := r.answer(t, r.exchange(t, modern, method, `{}`), result, tdp04); !errors.Is(err, broken) {
				t.Errorf("decision = %+v, %v, want the policy's error", d, err)
			}
		})
	}
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		r := start(t)
		r.policy.broken = nil
		r.upstream.stop(warder.Fail(warder.CodeTimeout, "list_timeout", nil))
		d, err := r.request(t, r.exchange(t, legacy, wire.MethodToolsCall, call("a")), tdp04)
		wantRefusal(t, d, err, mst01, warder.CodeTimeout, "list_timeout")
	})
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		r := start(t)
		for method, params := range map[string]string{wire.MethodToolsCall: call("a"), wire.MethodResourcesRead: `{"uri":"file:///a"}`} {
			x := r.exchange(t, legacy, method, params)
			x.Server = nil
			d, err := r.request(t, x, tdp04)
			wantError(t, d, err)
		}
		x := r.exchange(t, legacy, wire.MethodToolsList, `{}`)
		x.Server = nil
		d, err := r.answer(t, x, resultOf("tools", a), tdp04)
		wantError(t, d, err)
	})
}
