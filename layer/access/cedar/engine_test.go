package cedar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/wire"
)

func load(tb testing.TB, text string) *Engine {
	tb.Helper()
	e, err := Load(access.Config{Inline: text, Groups: map[string][]string{"interns": {"dev"}}})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func alice() *warder.Principal {
	return &warder.Principal{
		Issuer: "https://idp.example", Subject: "alice", Client: "app", Groups: []string{"dev"},
		Scopes: []string{"files:read"}, Transport: "bearer",
	}
}

func filesServer() *warder.Server {
	return &warder.Server{Name: "files", Resource: "https://gate.example/mcp/files", Labels: []string{"internal"}}
}

func call(p *warder.Principal, s *warder.Server, tool *warder.Tool, arguments string) *access.Request {
	r := &access.Request{
		Principal: p, Action: wire.MethodToolsCall,
		Resource: access.Resource{Kind: access.KindTool, Server: s, Name: tool.Name, Tool: tool},
		Context: access.Context{
			Door: warder.DoorHTTP, Revision: warder.Revision20260728, Endpoint: s.Name,
			Now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
		},
	}
	if arguments != "" {
		r.Context.Arguments = wire.Parse([]byte(arguments))
	}
	return r
}

func readTool() *warder.Tool {
	return &warder.Tool{Kind: "tool", Server: "files", Name: "read", Effect: warder.EffectRead, Labels: []string{"docs"}}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	const permitDev = `@id("dev") permit (principal in Warder::Group::"dev", action == Warder::Action::"tools/call", resource);`
	tests := []struct {
		name, policies, arguments string
		want                      access.Decision
	}{
		{"nothing denies", ``, `{}`, access.Decision{Reason: "no_permit", Detail: "no policy concerns this request"}},
		{"permit", permitDev, `{}`, access.Decision{Allow: true, Policies: []string{"dev"}}},
		{
			"forbid overrides", permitDev + `@id("no") forbid (principal, action, resource in Warder::Server::"files");`, `{}`,
			access.Decision{Reason: "forbidden", Policies: []string{"no"}},
		},
		{"other server", `permit (principal, action, resource in Warder::Server::"mail");`, `{}`, access.Decision{Reason: "no_permit", Detail: "no policy concerns this request"}},
		{
			"argument matches", `@id("p") permit (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has path && context.arguments.path like "/srv/*" };`,
			`{"path":"/srv/a"}`,
			access.Decision{Allow: true, Policies: []string{"p"}},
		},
		{
			"argument differs", `@id("p") permit (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has path && context.arguments.path like "/srv/*" };`,
			`{"path":"/etc/passwd"}`,
			access.Decision{Reason: "no_permit"},
		},
		{
			"argument of another type denies", permitDev + `@id("big") forbid (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has n && context.arguments.n > 5 };`,
			`{"n":"1"}`,
			access.Decision{Reason: "policy_error", Policies: []string{"big"}, Detail: `policy "big": type error: expected comparable value, got string`},
		},
		{
			"number without Cedar value denies", permitDev + `@id("big") forbid (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has n && context.arguments.n > 5 };`,
			`{"n":1e300}`,
			access.Decision{Reason: "arguments_unrepresentable", Detail: `"n": argument cannot be represented: exponent is out of range`},
		},
		{
			"integral spellings are one number", permitDev + `@id("big") forbid (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has n && context.arguments.n > 5 };`,
			`{"n":60.0e-1}`,
			access.Decision{Reason: "forbidden", Policies: []string{"big"}},
		},
		{"unnamed argument is not read", permitDev, `{"n":1e300}`, access.Decision{Allow: true, Policies: []string{"dev"}}},
		{
			"address", permitDev + `@id("lan") forbid (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has host && context.arguments.host.isInRange(ip("10.0.0.0/8")) };`,
			`{"host":"10.1.2.3"}`,
			access.Decision{Reason: "forbidden", Policies: []string{"lan"}},
		},
		{
			"scope is all that misses", `@id("w") @scopes("files:write files:list") permit (principal, action, resource) when { principal.scopes.contains("files:write") };`,
			`{}`,
			access.Decision{Reason: "no_permit", Scopes: []string{"files:write", "files:list"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := load(t, tt.policies).Authorize(t.Context(), call(alice(), filesServer(), readTool(), tt.arguments))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSchemaErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, policy, want string }{
		{"unknown entity type", `permit (principal is Warder::Robot, action, resource);`, "Robot"},
		{"unknown action", `permit (principal, action == Warder::Action::"tools/kall", resource);`, "tools/kall"},
		{"unknown attribute", `@id("x") permit (principal, action, resource) when { principal.shoe == 1 };`, "shoe"},
		{"unknown context", `permit (principal, action, resource) when { context.weather == "sun" };`, "weather"},
		{"unguarded argument", `permit (principal, action == Warder::Action::"tools/call", resource) when { context.arguments.path == "/" };`, "arguments"},
		{"unguarded member", `permit (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments.path == "/" };`, "path"},
		{"two types", `permit (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has n && (context.arguments.n == 1 || context.arguments.n like "a") };`, "used both as Long and as String"},
		{"whole context", `permit (principal, action, resource) when { context == {} };`, "context as a whole"},
		{"syntax", `permit (principal, action, resource`, "parser error"},
		{"same id", `@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);`, "same id"},
		{"no namespace", `permit (principal in Group::"x", action, resource);`, "Group"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(access.Config{Inline: tt.policy})
			if err == nil {
				t.Fatal("policy was accepted")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "inline") {
				t.Errorf("error %q: want it to name %q and the place", err, tt.want)
			}
			t.Log(err)
		})
	}
}

func many(policies, tools int) (*Engine, []*warder.Tool, error) {
	var b strings.Builder
	fmt.Fprintln(&b, `@id("base") permit (principal in Warder::Group::"dev", action in Warder::Action::"call", resource in Warder::Server::"files") when { resource.effect == "read" && principal.scopes.contains("files:read") && context has arguments && context.arguments has path && context.arguments.path like "/srv/*" };`)
	fmt.Fprintln(&b, `@id("night") forbid (principal, action in Warder::Action::"call", resource) when { context.findings.severity >= 3 };`)
	for i := range policies - 2 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "permit (principal in Warder::Group::\"g%d\", action, resource == Warder::Tool::\"files/tool-%d\");\n", i, i%max(tools, 1))
		case 1:
			fmt.Fprintf(&b, "forbid (principal == Warder::User::\"https://idp.example|u%d\", action in Warder::Action::\"call\", resource) when { resource.effect != \"read\" };\n", i)
		default:
			fmt.Fprintf(&b, "permit (principal in Warder::Group::\"h%d\", action in [Warder::Action::\"list\", Warder::Action::\"read\"], resource in Warder::Server::\"s%d\");\n", i, i)
		}
	}
	e, err := Load(access.Config{Inline: b.String()})
	list := make([]*warder.Tool, tools)
	for i := range list {
		list[i] = &warder.Tool{Kind: "tool", Server: "files", Name: fmt.Sprintf("tool-%d", i), Effect: warder.EffectRead}
	}
	return e, list, err
}

func BenchmarkAuthorize(b *testing.B) {
	for _, size := range []struct{ policies, tools int }{{10, 10}, {10, 2000}, {1000, 10}, {1000, 2000}} {
		b.Run(fmt.Sprintf("policies=%d/tools=%d", size.policies, size.tools), func(b *testing.B) {
			e, tools, err := many(size.policies, size.tools)
			if err != nil {
				b.Fatal(err)
			}
			p, s := alice(), filesServer()
			requests := make([]*access.Request, len(tools))
			for i, tool := range tools {
				requests[i] = call(p, s, tool, `{"path":"/srv/readme.md","limit":10,"query":"hello"}`)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				d, err := e.Authorize(b.Context(), requests[i%len(requests)])
				if err != nil || !d.Allow {
					b.Fatal(d, err)
				}
				i++
			}
		})
	}
}

// BenchmarkAuthorizeCrowd is the call of one of many principals.
func BenchmarkAuthorizeCrowd(b *testing.B) {
	for _, crowd := range []int{1, 10_000, 100_000} {
		b.Run(fmt.Sprintf("principals=%d", crowd), func(b *testing.B) {
			e, tools, err := many(1000, 10)
			if err != nil {
				b.Fatal(err)
			}
			r := call(nil, filesServer(), tools[0], `{"path":"/srv/readme.md"}`)
			people := make([]*warder.Principal, crowd)
			for i := range people {
				people[i] = alice()
				people[i].Subject = fmt.Sprint("user-", i)
			}
			ask := func(i int) {
				r.Principal = people[i%crowd]
				if d, err := e.Authorize(b.Context(), r); err != nil || !d.Allow {
					b.Fatal(d, err)
				}
			}
			for i := range people {
				ask(i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ask(i)
			}
		})
	}
}

func BenchmarkPossible(b *testing.B) {
	e, tools, err := many(1000, 2000)
	if err != nil {
		b.Fatal(err)
	}
	p, s := alice(), filesServer()
	requests := make([]*access.Request, len(tools))
	for i, tool := range tools {
		requests[i] = call(p, s, tool, "")
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range requests {
			if ok, err := e.Possible(b.Context(), r); err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, _, err := many(1000, 0); err != nil {
			b.Fatal(err)
		}
	}
}
