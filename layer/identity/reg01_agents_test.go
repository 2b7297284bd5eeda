package identity

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func TestREG01(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	agents := registeredAgents{
		"editor": {Name: "editor", Roles: []string{"writers"}, Tools: []string{"files/read", "mail/*"}},
		"off":    {Name: "off", Disabled: true},
		"ended":  {Name: "ended", NotAfter: now},
		"nearly": {Name: "nearly", NotAfter: now.Add(time.Second)},
	}
	of := func(client string, groups ...string) *warder.Principal {
		p := human()
		p.Client, p.Groups = client, groups
		return p
	}
	for _, tt := range []struct {
		name   string
		mode   AgentMode
		agents Agents
		p      *warder.Principal
		want   warder.Reason
	}{
		{name: "pass registered", mode: AgentsRequired, agents: agents, p: of("editor")},
		{name: "pass by actor", mode: AgentsRequired, agents: agents, p: &warder.Principal{Agent: "editor", Client: "x"}},
		{name: "pass unregistered where that is no duty", agents: agents, p: of("x")},
		{name: "near_miss about to end", mode: AgentsRequired, agents: agents, p: of("nearly")},
		{name: "near_miss registry not asked", mode: AgentsOff, agents: agents, p: of("off")},
		{name: "deny unregistered", mode: AgentsRequired, agents: agents, p: of("x"), want: "agent_unregistered"},
		{name: "deny longer name", mode: AgentsRequired, agents: agents, p: of("editor2"), want: "agent_unregistered"},
		{name: "deny disabled", agents: agents, p: of("off"), want: "agent_disabled"},
		{name: "deny ended", agents: agents, p: of("ended"), want: "agent_expired"},
		{name: "deny group that looks like a role", agents: agents, p: of("x", "agent:writers"), want: "group_reserved"},
		{name: "dependency_killed no registry", mode: AgentsRequired, p: of("editor"), want: "agent_unregistered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(Config{AuthorityConfig: AuthorityConfig{Agents: tt.mode}}, tt.agents, func() time.Time { return now })
			x := exchange()
			x.Principal = tt.p
			wantReason(t, judge(t, r, x), tt.want)
		})
	}
	t.Run("pass roles are added to a copy made once", func(t *testing.T) {
		t.Parallel()
		r := newRegistry(Config{}, agents, func() time.Time { return now })
		p := of("editor", "staff")
		var seen []*warder.Principal
		for range 3 {
			x := exchange()
			x.Principal = p
			wantReason(t, judge(t, r, x), "")
			seen = append(seen, x.Principal)
		}
		if diff := cmp.Diff([]string{"staff", "agent:writers"}, seen[0].Groups); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
		if seen[0] == p || seen[1] != seen[0] || seen[2] != seen[0] || p.Registered != nil || !slices.Equal(p.Groups, []string{"staff"}) {
			t.Error("the principal was changed, or copied more than once")
		}
	})
	t.Run("pass a changed registration is seen at once", func(t *testing.T) {
		t.Parallel()
		live := registeredAgents{"editor": {Name: "editor", Roles: []string{"writers"}}}
		r := newRegistry(Config{}, live, func() time.Time { return now })
		p := of("editor")
		x := exchange()
		x.Principal = p
		judge(t, r, x)
		live["editor"] = &warder.Agent{Name: "editor", Roles: []string{"readers"}}
		x.Principal = p
		judge(t, r, x)
		if !slices.Equal(x.Principal.Groups, []string{"agent:readers"}) {
			t.Errorf("groups %v", x.Principal.Groups)
		}
		live["editor"] = &warder.Agent{Name: "editor", Disabled: true}
		x.Principal = p
		wantReason(t, judge(t, r, x), "agent_disabled")
	})
	t.Run("copies are bounded", func(t *testing.T) {
		t.Parallel()
		r := newRegistry(Config{}, agents, func() time.Time { return now })
		for range maxResolved + 10 {
			x := exchange()
			x.Principal = of("editor")
			judge(t, r, x)
		}
		n := 0
		r.resolve.at.Load().Range(func(any, any) bool { n++; return true })
		if n > maxResolved {
			t.Errorf("%d copies, at most %d", n, maxResolved)
		}
	})
	for _, tt := range []struct {
		name, raw string
		tools     []string
		want      warder.Reason
	}{
		{"pass tool of the agent", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, []string{"files/read"}, ""},
		{"pass any tool of the server", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"x"}}`, []string{"files/*"}, ""},
		{"pass any server", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, []string{"*/read"}, ""},
		{"near_miss list", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, nil, ""},
		{"deny other tool", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write"}}`, []string{"files/read"}, "agent_tool"},
		{"deny other server", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, []string{"mail/*"}, "agent_tool"},
		{"deny resource by a pattern for a tool", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"read"}}`, []string{"files/read"}, "agent_tool"},
		{"deny nothing is registered", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`, nil, "agent_tool"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := human()
			p.Registered = &warder.Agent{Name: "editor", Tools: tt.tools}
			wantReason(t, judge(t, &agentTools{}, asked(t, p, tt.raw)), tt.want)
		})
	}
}
