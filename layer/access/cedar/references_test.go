package cedar

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/warder-mcp/warder/layer/access"
)

func TestReferences(t *testing.T) {
	t.Parallel()
	world := World{
		Servers: []string{"files", "mail"}, Groups: []string{"office"},
		Tools: []Definition{
			ToolDefinition("files", "read", []byte(`{"name":"read","inputSchema":{"type":"object","properties":{"path":{"type":"string"},"limit":{"type":"integer"}}}}`)),
			ToolDefinition("files", "delete", []byte(`{"name":"delete","inputSchema":{"type":"object","properties":{"path":{"type":"string"},"tags":{"type":"array"}}}}`)),
			ToolDefinition("mail", "send", []byte(`{"name":"send","inputSchema":{"type":"object","properties":{"to":{"type":["string","null"]}}}}`)),
			ToolDefinition("mail", "free", []byte(`{"name":"free","inputSchema":{"type":"object","additionalProperties":{}}}`)),
		},
		Prompts: []Definition{ToolDefinition("mail", "greet", []byte(`{"name":"greet","arguments":[{"name":"who"}]}`))},
	}
	tests := []struct {
		name, policy string
		what         []string
		near         []string
	}{
		{"all is there", `permit(principal, action == Warder::Action::"tools/call", resource == Warder::Tool::"files/read")
			when { context has arguments && context.arguments has path && context.arguments.path like "/pub/*" };`, nil, nil},
		{"misspelt server", `permit(principal, action, resource in Warder::Server::"filez");`, []string{`no server "filez"`}, []string{"files"}},
		{"misspelt tool", `forbid(principal, action, resource == Warder::Tool::"files/delte");`, []string{`no tool "files/delte"`}, []string{"files/delete"}},
		{"misspelt tool in a condition", `forbid(principal, action == Warder::Action::"tools/call", resource) when { resource.name == "delte" };`, []string{`no definition named "delte"`}, []string{"delete"}},
		{"misspelt tool in a set", `forbid(principal, action == Warder::Action::"tools/call", resource) when { ["send", "raed"].contains(resource.name) };`, []string{`no definition named "raed"`}, []string{"read"}},
		{"misspelt argument", `forbid(principal, action == Warder::Action::"tools/call", resource == Warder::Tool::"files/read")
			when { context has arguments && context.arguments has pth };`, []string{`no files/read takes an argument "pth"`}, []string{"path"}},
		{"argument of another tool", `forbid(principal, action == Warder::Action::"tools/call", resource == Warder::Tool::"mail/send")
			when { context has arguments && context.arguments has tags };`, []string{`no mail/send takes an argument "tags"`}, []string{""}},
		{"argument of one tool of the server", `forbid(principal, action == Warder::Action::"tools/call", resource in Warder::Server::"files")
			when { context has arguments && context.arguments has tags && context.arguments.tags.contains("x") };`, nil, nil},
		{"argument of another type", `forbid(principal, action == Warder::Action::"tools/call", resource == Warder::Tool::"files/read")
			when { context has arguments && context.arguments has limit && context.arguments.limit like "1*" };`, []string{`argument "limit" is used as String, but files/read declares it as integer`}, []string{""}},
		{"argument that may be anything", `forbid(principal, action == Warder::Action::"tools/call", resource == Warder::Tool::"mail/free")
			when { context has arguments && context.arguments has whatever };`, nil, nil},
		{"misspelt endpoint", `forbid(principal, action == Warder::Action::"tools/list", resource == Warder::Endpoint::"offce");`, []string{`no endpoint "offce"`}, []string{"office"}},
		{"prompt argument", `forbid(principal, action == Warder::Action::"prompts/get", resource == Warder::Prompt::"mail/greet")
			when { context has arguments && context.arguments has whom };`, []string{`no mail/greet takes an argument "whom"`}, []string{"who"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := Load(access.Config{Inline: tt.policy})
			if err != nil {
				t.Fatal(err)
			}
			var what, near []string
			for _, f := range e.References(world) {
				what, near = append(what, f.What), append(near, f.Near)
			}
			if diff := cmp.Diff(tt.what, what); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.near, near); diff != "" {
				t.Errorf("suggestions (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNearest checks the distance on single typing errors, which must always lead back.
func TestNearest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z]{4,12}`).Draw(t, "name")
		at := rapid.IntRange(0, len(name)-1).Draw(t, "at")
		typed := map[string]string{
			"left out": name[:at] + name[at+1:], "doubled": name[:at] + name[at:at+1] + name[at:], "other": name[:at] + "_" + name[at+1:],
		}
		for how, word := range typed {
			if got := nearest(word, []string{"zzzzzzzzzzzzzzzzzz", name}); got != name {
				t.Fatalf("%s: %q leads to %q, want %q", how, word, got, name)
			}
		}
	})
}
