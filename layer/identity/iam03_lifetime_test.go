package identity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestIAM03(t *testing.T) {
	t.Parallel()
	tooLong := outcome{"IAM-03", warder.Challenge, warder.CodeUnauthenticated, "token_lifetime", "invalid_token"}
	lives := func(d time.Duration) func(*bench) *warder.Exchange {
		return func(b *bench) *warder.Exchange {
			now := b.clock.now()
			return exchange("Bearer " + b.sign("at+jwt", b.claims(map[string]any{"iat": now.Unix(), "exp": now.Add(d).Unix()})))
		}
	}
	tests := []struct {
		name   string
		change func(*Config, *Deps)
		x      func(*bench) *warder.Exchange
		want   outcome
	}{
		{"pass ten minutes", nil, lives(10 * time.Minute), passed()},
		{"pass exactly an hour", nil, lives(time.Hour), passed()},
		{"pass a day where that is configured", func(c *Config, _ *Deps) { c.Issuers[1].MaxLifetime = 24 * time.Hour }, lives(24 * time.Hour), passed()},
		{"pass the local user", nil, stdio, passed()},
		{"deny two hours", nil, lives(2 * time.Hour), tooLong},
		{"near_miss a second more than an hour", nil, lives(time.Hour + time.Second), tooLong},
		{"near_miss what is left is short", nil, func(b *bench) *warder.Exchange {
			now := b.clock.now()
			return exchange("Bearer " + b.sign("at+jwt", b.claims(map[string]any{"iat": now.Add(-2 * time.Hour).Unix(), "exp": now.Add(time.Minute).Unix()})))
		}, tooLong},
		{"near_miss a lower limit", func(c *Config, _ *Deps) { c.Issuers[1].MaxLifetime = 5 * time.Minute }, lives(10 * time.Minute), tooLong},
		{"dependency_killed the issuer's limit is unknown", nil, func(b *bench) *warder.Exchange {
			for _, ic := range b.layer.Connect {
				if l, ok := ic.(*lifetime); ok {
					clear(l.limits)
				}
			}
			return lives(time.Minute)(b)
		}, tooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.change)
			x := tt.x(b)
			for range 2 { // a remembered token is judged as well
				if diff := cmp.Diff(tt.want, outcomeOf(b.connect(x))); diff != "" {
					t.Errorf("outcome (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// calling is a call of a tool, as the authority layer sees it.
func calling(t *testing.T, scopes, method, params string) *warder.Exchange {
	t.Helper()
	m, err := wire.Decode(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params), wire.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return &warder.Exchange{
		Door: warder.DoorHTTP, Endpoint: "files", Server: servers()["files"], Inbound: m, Request: m,
		Principal: &warder.Principal{Issuer: otherIDP, Subject: "bob", Scopes: strings.Fields(scopes)},
	}
}

func TestToolScopes(t *testing.T) {
	t.Parallel()
	const read = `{"name":"read","arguments":{"path":"/srv/a","limit":10,"mode":"text","deep":{"x":true}}}`
	tests := []struct {
		name, scopes, method, params string
		want                         warder.Reason
		ask                          []string // scopes of the challenge
	}{
		{"pass the tool", "tool:read", "tools/call", read, "", nil},
		{"pass the tool of the server", "a tool:files/read b", "tools/call", read, "", nil},
		{"pass every tool of the server", "tool:files/*", "tools/call", read, "", nil},
		{"pass one of several", "tool:files/write tool:files/read", "tools/call", read, "", nil},
		{"pass no scope for tools", "files:read", "tools/call", read, "", nil},
		{"pass a list", "tool:write", "tools/list", `{}`, "", nil},
		{"pass text", "tool:read?/mode=text", "tools/call", read, "", nil},
		{"pass text in quotes", "tool:read?/mode=%22text%22", "tools/call", read, "", nil},
		{"pass number", "tool:read?/limit=10.0", "tools/call", read, "", nil},
		{"pass beginning and range", "tool:files/read?/path^=/srv/&/limit>=1&/limit<=10&/deep/x=true", "tools/call", read, "", nil},
		{"pass the looser alternative", "tool:read?/limit<=5 tool:read?/limit<=50", "tools/call", read, "", nil},
		{"deny another tool", "tool:write", "tools/call", read, "scope_tool", []string{"tool:files/read"}},
		{"deny the tool of another server", "tool:mail/read", "tools/call", read, "scope_tool", []string{"tool:files/read"}},
		{"deny every tool of another server", "tool:mail/*", "tools/call", read, "scope_tool", []string{"tool:files/read"}},
		{"near_miss name that begins alike", "tool:rea", "tools/call", read, "scope_tool", []string{"tool:files/read"}},
		{"near_miss name in another case", "tool:READ", "tools/call", read, "scope_tool", []string{"tool:files/read"}},
		{"deny path outside", "tool:read?/path^=/etc/", "tools/call", read, "scope_argument", []string{"tool:files/read"}},
		{"near_miss argument is absent", "tool:read?/user=bob", "tools/call", read, "scope_argument", []string{"tool:files/read"}},
		{"near_miss no arguments", "tool:read?/limit<=10", "tools/call", `{"name":"read"}`, "scope_argument", []string{"tool:files/read"}},
		{"near_miss number as text", "tool:read?/limit<=10", "tools/call", `{"name":"read","arguments":{"limit":"5"}}`, "scope_argument", []string{"tool:files/read"}},
		{"deny number over the limit", "tool:read?/limit<=9", "tools/call", read, "scope_argument", []string{"tool:files/read"}},
		{"deny one of two bounds", "tool:read?/mode=text&/limit<=9", "tools/call", read, "scope_argument", []string{"tool:files/read"}},
		{"deny a resource", "tool:read", "resources/read", `{"uri":"file:///etc/passwd"}`, "scope_tools_only", nil},
		{"deny a prompt", "tool:read", "prompts/get", `{"name":"p"}`, "scope_tools_only", nil},
		{"deny a method that is not known", "tool:read", "x/do", `{}`, "scope_tools_only", nil},
		{"deny bound that cannot be read", "tool:read tool:read?path=1", "tools/call", `{"name":"x"}`, "scope_malformed", nil},
		{"deny every tool of every server", "tool:*", "tools/call", read, "scope_malformed", nil},
		{"deny no tool", "tool:", "tools/call", read, "scope_malformed", nil},
		{"deny a bound without value", "tool:read?/path^=", "tools/call", read, "scope_malformed", nil},
		{"deny a limit that is no number", "tool:read?/limit<=NaN", "tools/call", read, "scope_malformed", nil},
		{"deny percent without digits", "tool:read%zz", "tools/call", read, "scope_malformed", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, err := newToolScopes(Config{BaseURL: base}).Intercept(t.Context(), calling(t, tt.scopes, tt.method, tt.params))
			if err != nil || d.Reason != tt.want || (d.Verdict == warder.Pass) != (tt.want == "") {
				t.Fatalf("%+v, %v, want %q", d, err, tt.want)
			}
			if tt.want != "" && (d.Code != warder.CodeInsufficientScope || d.Ask.Error != "insufficient_scope") {
				t.Errorf("challenge = %v %+v", d.Code, d.Ask)
			}
			if d.Ask != nil {
				if diff := cmp.Diff(tt.ask, d.Ask.Scopes); diff != "" {
					t.Errorf("scopes of the challenge (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// FuzzToolScope: a scope for one tool never covers another.
func FuzzToolScope(f *testing.F) {
	for _, s := range []string{"tool:read", "tool:files/read?/path^=/srv/", "tool:files/*", "tool:?/a=1", "tool:a%2Fb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isToolScope(s) {
			return
		}
		scope, err := parseToolScope(s)
		if err == nil && scope.tool != "*" && scope.names("files", "other\x00tool") && scope.tool != "other\x00tool" {
			t.Fatalf("%q covers every tool: %+v", s, scope)
		}
	})
}
