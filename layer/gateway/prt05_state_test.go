package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/seal"
	docstore "github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/wire"
)

// retry returns the stateless call that brings a state back.
func retry(tb testing.TB, arguments, state string) *warder.Exchange {
	tb.Helper()
	return exchange(tb, warder.Revision20260728, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search","arguments":`+arguments+
		`,"inputResponses":{"q1":{"action":"accept"}},"requestState":`+string(wire.Quote(state))+`,`+modernMeta+`}}`)
}

// inner is what a server wants to see again.
const inner = `the server's "state" with ü`

// sealed lets a server's state pass to the client and returns what the client gets.
func sealed(t *testing.T, s *state, x *warder.Exchange) string {
	t.Helper()
	pass(t, stateResponses{s}, result(t, x, `{"resultType":"input_required","requestState":`+string(wire.Quote(inner))+`}`))
	token, ok := wire.At(x.Response, x.Response.Result.Get("requestState")).Text()
	if !ok || token == inner || strings.Contains(token, inner) {
		t.Fatalf("the client got %q for state %q", token, inner)
	}
	return token
}

func TestPRT05(t *testing.T) {
	t.Parallel()
	state := func(x *warder.Exchange) string {
		text, _ := wire.At(x.Request, x.Request.Params.Get("requestState")).Text()
		return text
	}
	t.Run("pass/state comes back as the server gave it", func(t *testing.T) {
		t.Parallel()
		s := newFakes().layer(t, Default()).state
		x := retry(t, `{"a":1}`, sealed(t, s, call2026(t, `{"a":1}`)))
		pass(t, stateRequests{s}, x)
		if diff := cmp.Diff(inner, state(x)); diff != "" {
			t.Errorf("state for the server (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(inner, string(x.Resume)); diff != "" {
			t.Errorf("Resume (-want +got):\n%s", diff)
		}
	})
	t.Run("near_miss/equal request, written otherwise", func(t *testing.T) {
		t.Parallel()
		s := newFakes().layer(t, Default()).state
		pass(t, stateRequests{s}, retry(t, `{ "b":2, "a":1 }`, sealed(t, s, call2026(t, `{"a":1,"b":2}`))))
	})
	t.Run("pass/no state", func(t *testing.T) {
		t.Parallel()
		pass(t, stateRequests{newFakes().layer(t, Default()).state}, call2026(t, `{}`))
	})
	type spoiled struct {
		name  string
		cfg   Config
		spoil func(f *fakes, x *warder.Exchange, token string) *warder.Exchange
		want  warder.Reason
	}
	flip := func(token string) string {
		i := len(token) - 20
		c := byte('A')
		if token[i] == 'A' {
			c = 'B'
		}
		return token[:i] + string(c) + token[i+1:]
	}
	for _, tt := range []spoiled{
		{"deny/tampered", Default(), func(_ *fakes, _ *warder.Exchange, token string) *warder.Exchange { return retry(t, `{}`, flip(token)) }, "state_tampered"},
		{"deny/raw state of the server", Default(), func(*fakes, *warder.Exchange, string) *warder.Exchange { return retry(t, `{}`, inner) }, "state_malformed"},
		{"deny/name of a suspended call, guessed", Default(), func(*fakes, *warder.Exchange, string) *warder.Exchange { return retry(t, `{}`, "park:ABC") }, "state_malformed"},
		{"deny/another caller", Default(), func(_ *fakes, x *warder.Exchange, _ string) *warder.Exchange { x.Principal = mallory(); return x }, "state_of_another"},
		{"deny/another request", Default(), func(_ *fakes, _ *warder.Exchange, token string) *warder.Exchange {
			return retry(t, `{"path":"/etc"}`, token)
		}, "state_of_another_request"},
		{"deny/the same request to another server", Default(), func(_ *fakes, x *warder.Exchange, _ string) *warder.Exchange {
			x.Server = &warder.Server{Name: "other"}
			return x
		}, "state_of_another_request"},
		{"deny/expired", Default(), func(f *fakes, x *warder.Exchange, _ string) *warder.Exchange { f.wait(11 * time.Minute); return x }, "state_expired"},
		{"near_miss/just in time", Default(), func(f *fakes, x *warder.Exchange, _ string) *warder.Exchange { f.wait(9 * time.Minute); return x }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakes()
			s := f.layer(t, tt.cfg).state
			token := sealed(t, s, call2026(t, `{}`))
			verdict(t, stateRequests{s}, tt.spoil(f, retry(t, `{}`, token), token), warder.CodeInvalidParams, tt.want)
		})
	}
	t.Run("deny/replayed, also after a long time", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		s := f.layer(t, Default()).state
		token := sealed(t, s, call2026(t, `{}`))
		pass(t, stateRequests{s}, retry(t, `{}`, token))
		verdict(t, stateRequests{s}, retry(t, `{}`, token), warder.CodeInvalidParams, "state_replayed")
		f.wait(10*time.Minute - time.Second)
		verdict(t, stateRequests{s}, retry(t, `{}`, token), warder.CodeInvalidParams, "state_replayed")
	})
	t.Run("pass/what let the call through comes back, also without a state of the server", func(t *testing.T) {
		t.Parallel()
		deps := newFakes().deps(t)
		deps.Once = docstore.NewMemory(deps.Now)
		l, err := build(Default(), deps)
		if err != nil {
			t.Fatal(err)
		}
		for _, given := range []string{`,"requestState":"mine"`, ``} {
			meta := strings.Replace(modernMeta, `"io.modelcontextprotocol/clientCapabilities":{}`, `"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}`, 1)
			first := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{},`+meta+`}}`)
			first.Approval, first.Grant = "hold", &warder.Grant{ID: "grant", Uses: 1}
			pass(t, stateResponses{l.state}, result(t, first, `{"resultType":"input_required","inputRequests":{"q1":{"method":"elicitation/create","params":{"message":"Which?","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}}}}}`+given+`}`))
			token, _ := wire.At(first.Response, first.Response.Result.Get("requestState")).Text()
			x := retry(t, `{}`, token)
			pass(t, stateRequests{l.state}, x)
			if diff := cmp.Diff(warder.Leg{Approval: "hold", Grant: "grant"}, x.Continues); diff != "" {
				t.Errorf("leg (-want +got):\n%s", diff)
			}
			if got := x.Request.Params.Get("requestState").Present(); got != (given != "") {
				t.Errorf("the server is shown a state: %v", got)
			}
			verdict(t, stateRequests{l.state}, retry(t, `{}`, token), warder.CodeInvalidParams, "state_replayed")

			// Another replica did not see it come back, but shares what was spent.
			other := deps
			other.Used = NewUsed(deps.Now)
			replica, err := build(Default(), other)
			if err != nil {
				t.Fatal(err)
			}
			verdict(t, stateRequests{replica.state}, retry(t, `{}`, token), warder.CodeInvalidParams, "state_replayed")
		}
	})
	t.Run("near_miss/a state that may be used again stands for nothing", func(t *testing.T) {
		t.Parallel()
		deps := newFakes().deps(t)
		deps.Once = docstore.NewMemory(deps.Now)
		cfg := Default()
		cfg.State.Reusable = true
		l, err := build(cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		first := call2026(t, `{}`)
		first.Approval = "hold"
		x := retry(t, `{}`, sealed(t, l.state, first))
		pass(t, stateRequests{l.state}, x)
		if x.Continues != (warder.Leg{}) {
			t.Errorf("leg %+v", x.Continues)
		}
	})
	t.Run("deny/replayed after a reload", func(t *testing.T) {
		t.Parallel()
		deps := newFakes().deps(t)
		deps.Used = NewUsed(deps.Now)
		before, err := build(Default(), deps)
		if err != nil {
			t.Fatal(err)
		}
		after, err := build(Default(), deps)
		if err != nil {
			t.Fatal(err)
		}
		token := sealed(t, before.state, call2026(t, `{}`))
		pass(t, stateRequests{before.state}, retry(t, `{}`, token))
		verdict(t, stateRequests{after.state}, retry(t, `{}`, token), warder.CodeInvalidParams, "state_replayed")
	})
	t.Run("pass/presented again where that is configured", func(t *testing.T) {
		t.Parallel()
		cfg := Default()
		cfg.State.Reusable = true
		s := newFakes().layer(t, cfg).state
		token := sealed(t, s, call2026(t, `{}`))
		pass(t, stateRequests{s}, retry(t, `{}`, token))
		pass(t, stateRequests{s}, retry(t, `{}`, token))
	})
	t.Run("near_miss/presented again after it did not reach the server", func(t *testing.T) {
		t.Parallel()
		s := newFakes().layer(t, Default()).state
		token := sealed(t, s, call2026(t, `{}`))
		held := retry(t, `{}`, token)
		pass(t, stateRequests{s}, held)
		if err := (stateRequests{s}).Record(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		second := retry(t, `{}`, token)
		pass(t, stateRequests{s}, second)
		replay := retry(t, `{}`, token)
		verdict(t, stateRequests{s}, replay, warder.CodeInvalidParams, "state_replayed")
		if err := (stateRequests{s}).Record(t.Context(), replay); err != nil { // the refused one frees nothing
			t.Fatal(err)
		}
		second.Forwarded = true
		if err := (stateRequests{s}).Record(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		verdict(t, stateRequests{s}, retry(t, `{}`, token), warder.CodeInvalidParams, "state_replayed")
	})
	t.Run("dependency_killed/another gateway's key", func(t *testing.T) {
		t.Parallel()
		token := sealed(t, newFakes().layer(t, Default()).state, call2026(t, `{}`))
		verdict(t, stateRequests{newFakes().layer(t, Default()).state}, retry(t, `{}`, token), warder.CodeInvalidParams, "state_unknown_key")
	})
	t.Run("dependency_killed/no room to remember used states", func(t *testing.T) {
		t.Parallel()
		s := newFakes().layer(t, Default()).state
		s.used = newTable[struct{}](1, true)
		refused := 0
		for range tableShards * ways * 4 {
			d, err := stateRequests{s}.Intercept(t.Context(), retry(t, `{}`, sealed(t, s, call2026(t, `{}`))))
			if err != nil {
				refused++
			} else if d.Verdict != warder.Pass {
				t.Fatal(d.Reason)
			}
		}
		if refused == 0 {
			t.Error("more states were remembered than there is room for")
		}
	})
	t.Run("dependency_killed/nobody to bind to", func(t *testing.T) {
		t.Parallel()
		s := newFakes().layer(t, Default()).state
		x := result(t, call2026(t, `{}`), `{"resultType":"input_required","requestState":"s"}`)
		x.Principal = nil
		fails(t, stateResponses{s}, x)
	})
	t.Run("deny/results that cannot be sealed", func(t *testing.T) {
		t.Parallel()
		s := newFakes().layer(t, Default()).state
		for body, want := range map[string]warder.Reason{
			`{"resultType":"input_required","requestState":7}`:                                                    "state_malformed",
			`{"resultType":"input_required","requestState":"` + strings.Repeat("x", seal.MaxPayload+1) + `"}`:     "state_too_large",
			`{"resultType":"input_required","inputRequests":[]}`:                                                  "questions_malformed",
			`{"resultType":"input_required","inputRequests":{"a":{"method":"tools/call","params":{}}}}`:           "question_unknown",
			`{"resultType":"input_required","inputRequests":{` + manyQuestions(maxAsked+1) + `},"_meta":{"x":1}}`: "questions_too_many",
		} {
			verdict(t, stateResponses{s}, result(t, call2026(t, `{}`), body), warder.CodeUpstreamFailed, want)
		}
		list := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+modernMeta+`}}`)
		verdict(t, stateResponses{s}, result(t, list, `{"resultType":"input_required","requestState":"x"}`), warder.CodeUpstreamFailed, "input_not_allowed")
	})
}

func manyQuestions(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, `"q`+itoa(i)+`":{"method":"ping"}`)
	}
	return strings.Join(parts, ",")
}

const formCaps = `{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}`

// asked returns a call of a client with these capabilities that a server answers with one question,
// in the given era.
func asked(tb testing.TB, rev warder.Revision, caps, method, params string) *warder.Exchange {
	tb.Helper()
	question := `{"method":"` + method + `","params":` + params + `}`
	if rev.Modern() {
		x := exchange(tb, rev, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":`+caps+`}}}`)
		return result(tb, x, `{"resultType":"input_required","inputRequests":{"q":`+question+`}}`)
	}
	x := exchange(tb, rev, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search"}}`)
	x.Client.Capabilities = []byte(caps)
	return answer(tb, x, `{"jsonrpc":"2.0","id":9,`+question[1:])
}

func TestPRT05Questions(t *testing.T) {
	t.Parallel()
	all := Config{Elicitation: Elicitation{Form: true, URL: true}, Deprecated: Deprecated{Sampling: true, Roots: true}}
	form := func(properties, message string) string {
		return `{"mode":"form","message":"` + message + `","requestedSchema":{"type":"object","properties":{` + properties + `}}}`
	}
	link := func(u string) string {
		return `{"mode":"url","message":"m","elicitationId":"e","url":"` + u + `"}`
	}
	tests := []struct {
		name, caps, method, params string
		cfg                        Config
		code                       warder.Code
		want                       warder.Reason
	}{
		{"pass/form", formCaps, wire.MethodElicit, form(`"name":{"type":"string"},"age":{"type":"integer"}`, "Who are you?"), all, "", ""},
		{"pass/form without mode", `{"elicitation":{}}`, wire.MethodElicit, `{"message":"m","requestedSchema":{"type":"object","properties":{"x":{"type":"string"}}}}`, all, "", ""},
		{"pass/sampling", formCaps, wire.MethodSampling, `{"messages":[],"maxTokens":10}`, all, "", ""},
		{"pass/roots", formCaps, wire.MethodRootsList, `{}`, all, "", ""},
		{"pass/https link", formCaps, wire.MethodElicit, link("https://auth.example.com/login?x=1"), all, "", ""},
		{"pass/http on this machine", formCaps, wire.MethodElicit, link("http://127.0.0.1:8080/x"), all, "", ""},
		{"near_miss/choice of a secret's name", formCaps, wire.MethodElicit, form(`"token":{"type":"string","enum":["a","b"]}`, "Pick a password policy"), all, "", ""},
		{"near_miss/number of tokens", formCaps, wire.MethodElicit, form(`"max_tokens":{"type":"integer","description":"How many tokens to use"}`, "m"), all, "", ""},
		{"near_miss/pinned and secretary", formCaps, wire.MethodElicit, form(`"pinned":{"type":"string"},"secretary":{"type":"string"},"keyboard":{"type":"string"}`, "m"), all, "", ""},
		{"near_miss/yes or no about a password", formCaps, wire.MethodElicit, form(`"confirm":{"type":"boolean","title":"Reset password?"}`, "Reset the password?"), all, "", ""},

		{"deny/asks for a password", formCaps, wire.MethodElicit, form(`"password":{"type":"string"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/camel case", formCaps, wire.MethodElicit, form(`"userPassword":{"type":"string"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/in the title", formCaps, wire.MethodElicit, form(`"x":{"type":"string","title":"API key"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/in the description", formCaps, wire.MethodElicit, form(`"x":{"type":"string","description":"your credit-card number: card number"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/in the message", formCaps, wire.MethodElicit, form(`"x":{"type":"string"}`, "Enter your Passphrase."), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/pin as a number", formCaps, wire.MethodElicit, form(`"pin":{"type":"integer"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/token", formCaps, wire.MethodElicit, form(`"token":{"type":"string"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/escaped key", formCaps, wire.MethodElicit, form(`"\u0070assword":{"type":"string"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/another language", formCaps, wire.MethodElicit, form(`"x":{"type":"string","title":"Passwort"}`, "m"), all, warder.CodeUpstreamFailed, "form_asks_secret"},
		{"deny/http link", formCaps, wire.MethodElicit, link("http://auth.example.com/"), all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/script link", formCaps, wire.MethodElicit, link("javascript:alert(1)"), all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/file link", formCaps, wire.MethodElicit, link("file:///etc/passwd"), all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/user in front of the host", formCaps, wire.MethodElicit, link("https://bank.example.com@evil.example/"), all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/backslash", formCaps, wire.MethodElicit, link(`https://evil.example\\\\@bank.example.com/`), all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/letters that look alike", formCaps, wire.MethodElicit, link("https://b\u0430nk.example/"), all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/name that begins with localhost", formCaps, wire.MethodElicit, link("http://localhost.evil.example/"), all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/no link", formCaps, wire.MethodElicit, `{"mode":"url","message":"m"}`, all, warder.CodeUpstreamFailed, "link_forbidden"},
		{"deny/unknown mode", formCaps, wire.MethodElicit, `{"mode":"voice","message":"m"}`, all, warder.CodeUpstreamFailed, "elicitation_mode"},
		{"deny/form not declared", `{}`, wire.MethodElicit, form(`"x":{"type":"string"}`, "m"), all, warder.CodeMissingCapability, "question_undeclared"},
		{"deny/form where links alone are declared", `{"elicitation":{"url":{}}}`, wire.MethodElicit, form(`"x":{"type":"string"}`, "m"), all, warder.CodeMissingCapability, "question_undeclared"},
		{"deny/link where forms alone are declared", `{"elicitation":{}}`, wire.MethodElicit, link("https://a.example/"), all, warder.CodeMissingCapability, "question_undeclared"},
		{"deny/sampling not declared", `{}`, wire.MethodSampling, `{"messages":[],"maxTokens":10}`, all, warder.CodeMissingCapability, "question_undeclared"},
		{"deny/roots not declared", `{}`, wire.MethodRootsList, `{}`, all, warder.CodeMissingCapability, "question_undeclared"},
		{"deny/form not configured", formCaps, wire.MethodElicit, form(`"x":{"type":"string"}`, "m"), Config{}, warder.CodeDenied, "question_forbidden"},
		{"deny/link not configured", formCaps, wire.MethodElicit, link("https://a.example/"), Config{Elicitation: Elicitation{Form: true}}, warder.CodeDenied, "question_forbidden"},
		{"deny/unknown question", formCaps, "tools/call", `{}`, all, warder.CodeUpstreamFailed, "question_unknown"},
	}
	for _, tt := range tests {
		for _, rev := range []warder.Revision{warder.Revision20251125, warder.Revision20260728} {
			t.Run(tt.name+"/"+string(rev), func(t *testing.T) {
				t.Parallel()
				c := stateResponses{newFakes().layer(t, tt.cfg).state}
				verdict(t, c, asked(t, rev, tt.caps, tt.method, tt.params), tt.code, tt.want)
			})
		}
	}
	t.Run("deny/links in the error of 2025-11-25", func(t *testing.T) {
		t.Parallel()
		c := stateResponses{newFakes().layer(t, all).state}
		for body, want := range map[string]warder.Reason{
			`{"code":-32042,"message":"m","data":{"elicitations":[` + link("https://a.example/") + `]}}`:                                      "",
			`{"code":-32042,"message":"m","data":{"elicitations":[` + link("https://a.example/") + `,` + link("http://evil.example/") + `]}}`: "link_forbidden",
			`{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"form"}]}}`:                                                         "elicitation_mode",
			`{"code":-32000,"message":"m","data":{"elicitations":[` + link("http://evil.example/") + `]}}`:                                    "",
		} {
			x := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search"}}`)
			x.Client.Capabilities = []byte(formCaps)
			verdict(t, c, answer(t, x, `{"jsonrpc":"2.0","id":1,"error":`+body+`}`), warder.CodeUpstreamFailed, want)
		}
	})
}

func BenchmarkStateRoundTrip(b *testing.B) {
	s := newFakes().layer(b, Config{State: State{Reusable: true}}).state
	b.ReportAllocs()
	for b.Loop() {
		x := call2026(b, `{"a":1}`)
		x.Response = message(b, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s"}}`)
		if _, err := (stateResponses{s}).Intercept(b.Context(), x); err != nil {
			b.Fatal(err)
		}
	}
}
