package access_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/access/cedar"
	"github.com/warder-mcp/warder/wire"
)

const policies = `
@id("connect") permit (principal in Warder::Group::"dev", action in Warder::Action::"connect", resource == Warder::Server::"files");
@id("call") permit (principal in Warder::Group::"dev", action == Warder::Action::"tools/call", resource in Warder::Server::"files")
when { resource.effect == "read" };
@id("path") forbid (principal, action == Warder::Action::"tools/call", resource)
when { context has arguments && context.arguments has path && context.arguments.path like "/etc/*" };
@id("found") forbid (principal, action in Warder::Action::"call", resource) when { context.findings.severity >= 3 };
@id("write") @scopes("files:write") permit (principal in Warder::Group::"dev", action == Warder::Action::"tools/call", resource in Warder::Server::"files")
when { resource.effect == "write" && principal.scopes.contains("files:write") };
@id("prompt") permit (principal, action == Warder::Action::"prompts/get", resource == Warder::Prompt::"files/review");
@id("uri") permit (principal, action == Warder::Action::"resources/read", resource) when { resource.uri like "file:///srv/*" };
`

func engine(tb testing.TB, text string) *cedar.Engine {
	tb.Helper()
	e, err := cedar.Load(access.Config{Inline: text})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func message(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func start() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func exchange(tb testing.TB, raw string) *warder.Exchange {
	tb.Helper()
	return &warder.Exchange{
		Received: start(), Door: warder.DoorHTTP, Endpoint: "files", Revision: warder.Revision20260728,
		Server:  &warder.Server{Name: "files"},
		Request: message(tb, raw),
		Principal: &warder.Principal{
			Issuer: "https://idp.example", Subject: "alice", Groups: []string{"dev"}, Transport: "bearer",
			NotAfter: start().Add(10 * time.Minute),
		},
		Tool: &warder.Tool{Kind: "tool", Server: "files", Name: "read", Effect: warder.EffectRead},
	}
}

func callOf(arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":` + arguments + `}}`
}

func newLayer(tb testing.TB, cfg access.Config, deps access.Deps) warder.Layer {
	tb.Helper()
	if deps.Now == nil {
		deps.Now = start
	}
	deps.MetadataURL = func(e string) string { return "https://gate.example/.well-known/oauth-protected-resource/mcp/" + e }
	l, err := access.New(cfg, deps)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// control returns the first interceptor of a control.
func control(tb testing.TB, list []warder.Interceptor, id warder.ControlID) warder.Interceptor {
	tb.Helper()
	for _, ic := range list {
		if ic.Control() == id {
			return ic
		}
	}
	tb.Fatalf("no control %s", id)
	return nil
}

type outcome struct {
	Verdict  warder.Verdict
	Code     warder.Code
	Reason   warder.Reason
	Policies []string
}

func run(tb testing.TB, ic warder.Interceptor, x *warder.Exchange) outcome {
	tb.Helper()
	d, err := ic.Intercept(tb.Context(), x)
	if err != nil {
		return outcome{Code: warder.CodeUnavailable, Reason: "control_unavailable"}
	}
	if d.Verdict == warder.Pass {
		return outcome{Verdict: warder.Pass, Policies: x.Policies}
	}
	return outcome{d.Verdict, d.Code, d.Reason, d.Policies}
}

func allowed(policies ...string) outcome { return outcome{Verdict: warder.Pass, Policies: policies} }

func denied(reason warder.Reason, policies ...string) outcome {
	return outcome{warder.Deny, warder.CodeDenied, reason, policies}
}

func TestCVM01(t *testing.T) {
	t.Parallel()
	notFound := outcome{warder.Deny, warder.CodeNotFound, "not_found", nil}
	tests := []struct {
		name, raw string
		change    func(*warder.Exchange)
		want      outcome
	}{
		{"pass call", callOf(`{"path":"/srv/a"}`), nil, allowed("call")},
		{"pass call without arguments", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, nil, allowed("call")},
		{"pass initialize", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`, nil, allowed("connect")},
		{"pass notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil, allowed("connect")},
		{"pass prompt", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"review"}}`, nil, allowed("prompt")},
		{"pass resource", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///srv/a"}}`, nil, allowed("uri")},
		{"pass answer to a question of an allowed call", `{"jsonrpc":"2.0","id":"q1","result":{"action":"accept"}}`, func(x *warder.Exchange) {
			x.Parent = exchange(t, callOf(`{"path":"/srv/a"}`))
		}, allowed("call")},
		{"near_miss answer to a question of a call that is no longer allowed", `{"jsonrpc":"2.0","id":"q1","result":{"action":"accept"}}`, func(x *warder.Exchange) {
			x.Parent = exchange(t, callOf(`{"path":"/srv/a"}`))
			x.Principal.Groups = nil
		}, denied("no_permit")},
		{"near_miss error as answer", `{"jsonrpc":"2.0","id":"q1","error":{"code":-1,"message":"no"}}`, func(x *warder.Exchange) {
			x.Parent = exchange(t, callOf(`{"path":"/etc/shadow"}`))
		}, denied("forbidden", "path")},
		{"deny argument", callOf(`{"path":"/etc/shadow"}`), nil, denied("forbidden", "path")},
		{"near_miss argument written with escapes", callOf(`{"p\u0061th":"\/etc/shadow"}`), nil, denied("forbidden", "path")},
		{"near_miss argument of another type", callOf(`{"path":["/etc/shadow"]}`), nil, denied("policy_error", "path")},
		{"deny finding", callOf(`{}`), func(x *warder.Exchange) {
			x.Decisions = []warder.Decision{warder.Observe(warder.Finding{Rule: "r", Severity: warder.High})}
		}, denied("forbidden", "found")},
		{"near_miss weaker finding", callOf(`{}`), func(x *warder.Exchange) {
			x.Decisions = []warder.Decision{warder.Observe(warder.Finding{Rule: "r", Severity: warder.Medium})}
		}, allowed("call")},
		{"deny other group", callOf(`{}`), func(x *warder.Exchange) { x.Principal.Groups = []string{"devs"} }, denied("no_permit")},
		{"deny other server", callOf(`{}`), func(x *warder.Exchange) { x.Server = &warder.Server{Name: "file"} }, denied("no_permit")},
		{"deny effect", callOf(`{}`), func(x *warder.Exchange) { x.Tool = &warder.Tool{Effect: warder.EffectDestructive} }, denied("no_permit")},
		{"near_miss definition unknown", callOf(`{}`), func(x *warder.Exchange) { x.Tool = nil }, denied("no_permit")},
		{
			"deny scope missing asks for it", callOf(`{}`), func(x *warder.Exchange) { x.Tool = &warder.Tool{Effect: warder.EffectWrite} },
			outcome{warder.Challenge, warder.CodeInsufficientScope, "insufficient_scope", nil},
		},
		{"deny resource", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///etc/passwd"}}`, nil, denied("no_permit")},
		{"deny unknown method", `{"jsonrpc":"2.0","id":1,"method":"tools/kall","params":{}}`, nil, denied("action_unknown")},
		{"deny action group as method", `{"jsonrpc":"2.0","id":1,"method":"connect","params":{}}`, nil, denied("action_unknown")},
		{"deny list at a server that one may connect to", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, nil, denied("no_permit")},
		{"deny hidden server looks like nothing there", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, func(x *warder.Exchange) {
			x.Server = &warder.Server{Name: "mail"}
		}, notFound},
		{"deny group before a server is chosen", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, func(x *warder.Exchange) { x.Server = nil }, notFound},
		{
			"deny nobody", callOf(`{}`), func(x *warder.Exchange) { x.Principal = nil },
			outcome{warder.Deny, warder.CodeUnauthenticated, "principal_missing", nil},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLayer(t, access.Config{}, access.Deps{Authorizer: engine(t, policies)})
			x := exchange(t, tt.raw)
			if tt.change != nil {
				tt.change(x)
			}
			if diff := cmp.Diff(tt.want, run(t, control(t, l.Request, "CVM-01"), x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("deny everything without policies", func(t *testing.T) {
		t.Parallel()
		l := newLayer(t, access.Config{}, access.Deps{Authorizer: engine(t, "")})
		for _, raw := range []string{callOf(`{}`), `{"jsonrpc":"2.0","id":1,"method":"ping"}`, `{"jsonrpc":"2.0","method":"notifications/initialized"}`} {
			if got := run(t, control(t, l.Request, "CVM-01"), exchange(t, raw)); got.Verdict != warder.Deny {
				t.Errorf("%s: %+v, want deny", raw, got)
			}
		}
	})
	t.Run("deny on the second of two messages after a reload", func(t *testing.T) {
		t.Parallel()
		e := engine(t, policies)
		l := newLayer(t, access.Config{}, access.Deps{Authorizer: e})
		x := exchange(t, callOf(`{}`))
		first := run(t, control(t, l.Request, "CVM-01"), x)
		if err := e.Reload(access.Config{Inline: strings.Replace(policies, `resource.effect == "read"`, `resource.effect == "write"`, 1)}); err != nil {
			t.Fatal(err)
		}
		second := exchange(t, callOf(`{}`))
		second.Principal, second.Server, second.Tool = x.Principal, x.Server, x.Tool
		if diff := cmp.Diff([]outcome{allowed("call"), denied("no_permit")}, []outcome{first, run(t, control(t, l.Request, "CVM-01"), second)}); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	})
	t.Run("near_miss a bad reload keeps the policies", func(t *testing.T) {
		t.Parallel()
		e := engine(t, policies)
		if err := e.Reload(access.Config{Inline: "permit"}); err == nil {
			t.Fatal("bad policies were loaded")
		}
		l := newLayer(t, access.Config{}, access.Deps{Authorizer: e})
		if diff := cmp.Diff(allowed("call"), run(t, control(t, l.Request, "CVM-01"), exchange(t, callOf(`{}`)))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
	t.Run("dependency_killed authorizer", func(t *testing.T) {
		t.Parallel()
		l := newLayer(t, access.Config{}, access.Deps{Authorizer: dead{}})
		want := outcome{Code: warder.CodeUnavailable, Reason: "control_unavailable"}
		if diff := cmp.Diff(want, run(t, control(t, l.Request, "CVM-01"), exchange(t, callOf(`{}`)))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
	t.Run("challenge names every scope", func(t *testing.T) {
		t.Parallel()
		l := newLayer(t, access.Config{}, access.Deps{Authorizer: engine(t, policies)})
		x := exchange(t, callOf(`{}`))
		x.Tool = &warder.Tool{Effect: warder.EffectWrite}
		d, err := control(t, l.Request, "CVM-01").Intercept(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		want := &warder.Ask{
			Scheme: "Bearer", Error: "insufficient_scope", Scopes: []string{"files:write"},
			ResourceMetadata: "https://gate.example/.well-known/oauth-protected-resource/mcp/files",
		}
		if diff := cmp.Diff(want, d.Ask); diff != "" {
			t.Errorf("challenge (-want +got):\n%s", diff)
		}
	})
}

type dead struct{}

func (dead) Authorize(context.Context, *access.Request) (access.Decision, error) {
	return access.Decision{Allow: true}, errors.New("decision point unreachable")
}

func (dead) Possible(context.Context, *access.Request) (bool, error) {
	return true, errors.New("decision point unreachable")
}

func TestReassess(t *testing.T) {
	t.Parallel()
	now := start()
	e := engine(t, policies)
	counted := &counting{Authorizer: e}
	l := newLayer(t, access.Config{Reassess: 10 * time.Second}, access.Deps{Authorizer: counted, Now: func() time.Time { return now }})
	x := exchange(t, callOf(`{}`))
	step := func(name string, after time.Duration, want outcome, asked int) {
		t.Helper()
		now = now.Add(after)
		x.Policies = nil
		if diff := cmp.Diff(want, run(t, control(t, l.Response, "CVM-01"), x)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if counted.n != asked {
			t.Errorf("%s: policy was asked %d times, want %d", name, counted.n, asked)
		}
	}
	step("at once", 0, allowed(), 0)
	step("within the interval", 9*time.Second, allowed(), 0)
	step("after the interval", time.Second, allowed("call"), 1)
	step("within the next", 9*time.Second, allowed(), 1)
	step("after the next", time.Second, allowed("call"), 2)
	if err := e.Reload(access.Config{}); err != nil {
		t.Fatal(err)
	}
	step("policies are gone, interval not over", 5*time.Second, allowed(), 2)
	step("interval over", 5*time.Second, denied("no_permit"), 3)
	step("it stays so", 0, denied("no_permit"), 4)
	if err := e.Reload(access.Config{Inline: policies}); err != nil {
		t.Fatal(err)
	}
	step("credential ended", 10*time.Minute, outcome{warder.Deny, warder.CodeUnauthenticated, "credential_ended", nil}, 4)
	if err := l.Complete[0].Record(t.Context(), x); err != nil {
		t.Error(err)
	}
}

type counting struct {
	access.Authorizer
	n int
}

func (c *counting) Authorize(ctx context.Context, r *access.Request) (access.Decision, error) {
	c.n++
	return c.Authorizer.Authorize(ctx, r)
}

func TestVisible(t *testing.T) {
	t.Parallel()
	deps := access.Deps{Authorizer: engine(t, policies), Now: start}
	v, err := access.NewVisibility(deps)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		tool warder.Tool
		want bool
	}{
		{"permitted for some paths", warder.Tool{Kind: "tool", Server: "files", Name: "read", Effect: warder.EffectRead}, true},
		{"effect nobody may have", warder.Tool{Kind: "tool", Server: "files", Name: "rm", Effect: warder.EffectDestructive}, false},
		{"definition of another server", warder.Tool{Kind: "tool", Server: "mail", Name: "read", Effect: warder.EffectRead}, false},
		{"prompt", warder.Tool{Kind: "prompt", Server: "files", Name: "review"}, true},
		{"other prompt", warder.Tool{Kind: "prompt", Server: "files", Name: "delete"}, false},
		{"resource", warder.Tool{Kind: "resource", Server: "files", Name: "file:///srv/x"}, true},
		{"other resource", warder.Tool{Kind: "resource", Server: "files", Name: "file:///etc/x"}, false},
		{"template", warder.Tool{Kind: "template", Server: "files", Name: "file:///srv/{name}"}, true},
		{"instructions", warder.Tool{Kind: "instructions", Server: "files"}, true},
		{"unknown kind", warder.Tool{Kind: "gadget", Server: "files"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := exchange(t, callOf(`{}`))
			for range 2 { // the second answer is the remembered one
				got, err := v.Visible(t.Context(), x, &tt.tool)
				if err != nil || got != tt.want {
					t.Errorf("visible = %v, %v, want %v", got, err, tt.want)
				}
			}
			x.Principal = nil
			if got, err := v.Visible(t.Context(), x, &tt.tool); got || err != nil {
				t.Errorf("visible to nobody = %v, %v", got, err)
			}
		})
	}
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		v, err := access.NewVisibility(access.Deps{Authorizer: dead{}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Visible(t.Context(), exchange(t, callOf(`{}`)), &warder.Tool{Kind: "tool", Server: "files"}); err == nil {
			t.Error("no error while the decision point is unreachable")
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := access.New(access.Config{}, access.Deps{}); err == nil {
		t.Error("a layer without authorizer was built")
	}
	for _, c := range []access.Config{{Reassess: -1}, {Reassess: time.Hour}, {Policies: []string{""}}} {
		if c.Validate() == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	if err := access.Default().Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkEveryMessage(b *testing.B) {
	l := newLayer(b, access.Config{}, access.Deps{Authorizer: engine(b, policies)})
	x := exchange(b, callOf(`{"path":"/srv/readme.md","limit":10}`))
	b.ReportAllocs()
	for b.Loop() {
		if d, err := control(b, l.Request, "CVM-01").Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
			b.Fatal(d, err)
		}
		if d, err := control(b, l.Response, "CVM-01").Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
			b.Fatal(d, err)
		}
	}
}
