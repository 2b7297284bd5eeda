package wire

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/tools/mcpschema"
)

// allMethods lists every method constant.
func allMethods() []string {
	return []string{
		MethodInitialize, MethodDiscover, MethodPing, MethodToolsList, MethodToolsCall, MethodPromptsList, MethodPromptsGet,
		MethodResourcesList, MethodResourceTemplates, MethodResourcesRead, MethodResourcesSubscribe, MethodResourcesUnsubscribe,
		MethodComplete, MethodSetLevel, MethodListen, MethodSampling, MethodElicit, MethodRootsList, MethodTasksGet,
		MethodTasksList, MethodTasksResult, MethodTasksCancel, MethodTasksUpdate,
		NotifyInitialized, NotifyCancelled, NotifyProgress, NotifyMessage, NotifyToolsChanged, NotifyPromptsChanged,
		NotifyResourcesChanged, NotifyResourceUpdated, NotifyRootsChanged, NotifyElicitComplete, NotifyTaskStatus, NotifyTasks,
		NotifySubscribed,
	}
}

// methods lists what Method says of a revision, by union of the schema.
func methods(rev warder.Revision) map[string][]string {
	out := map[string][]string{}
	for _, name := range allMethods() {
		info, ok := Method(rev, name)
		if !ok || info.Sub == ExtensionTasks {
			continue // the schema does not hold the extension
		}
		kind := "Notification"
		if info.Request {
			kind = "Request"
		}
		if info.Client {
			out["Client"+kind] = append(out["Client"+kind], name)
		}
		if info.Server {
			out["Server"+kind] = append(out["Server"+kind], name)
		}
		if info.Input {
			out["InputRequest"] = append(out["InputRequest"], name)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// TestMethodFacts counts what every revision has, and tells the revisions apart.
func TestMethodFacts(t *testing.T) {
	t.Parallel()
	for rev, want := range map[warder.Revision]string{
		"2024-11-05": "13 4 3 7 0", "2025-03-26": "13 4 3 7 0", "2025-06-18": "13 4 4 7 0", "2025-11-25": "17 5 8 9 0", "2026-07-28": "10 1 0 8 3",
	} {
		got := methods(rev)
		var counts []string
		for _, union := range []string{"ClientRequest", "ClientNotification", "ServerRequest", "ServerNotification", "InputRequest"} {
			counts = append(counts, strconv.Itoa(len(got[union])))
		}
		if diff := cmp.Diff(want, strings.Join(counts, " ")); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", rev, diff)
		}
	}
	for _, c := range []struct {
		rev    warder.Revision
		method string
		want   MethodInfo
		ok     bool
	}{
		{"2024-11-05", MethodComplete, MethodInfo{Request: true, Client: true}, true},
		{"2025-03-26", MethodComplete, MethodInfo{Request: true, Client: true, Capability: "completions"}, true},
		{"2025-11-25", MethodTasksCancel, MethodInfo{Request: true, Client: true, Server: true, Capability: "tasks", Sub: "cancel"}, true},
		{"2026-07-28", MethodTasksUpdate, MethodInfo{Request: true, Client: true, Capability: "extensions", Sub: ExtensionTasks}, true},
		{"2026-07-28", NotifyTasks, MethodInfo{Server: true, Capability: "extensions", Sub: ExtensionTasks}, true},
		{"2026-07-28", MethodTasksList, MethodInfo{}, false},
		{"2026-07-28", MethodElicit, MethodInfo{Request: true, Input: true, Capability: "elicitation"}, true},
		{"2025-03-26", MethodElicit, MethodInfo{}, false},
		{"2026-07-28", "Tools/Call", MethodInfo{}, false},
		{"2027-01-01", MethodToolsCall, MethodInfo{}, false},
		{"", MethodToolsCall, MethodInfo{}, false},
	} {
		got, ok := Method(c.rev, c.method)
		if diff := cmp.Diff(c.want, got); diff != "" || ok != c.ok {
			t.Errorf("Method(%s, %s) ok = %v (-want +got):\n%s", c.rev, c.method, ok, diff)
		}
	}
}

func TestDeclared(t *testing.T) {
	t.Parallel()
	caps := Parse([]byte(`{"tools":{"listChanged":true},"resources":{"subscribe":false},"prompts":null,"extensions":{"io.modelcontextprotocol/tasks":{}}}`))
	for method, want := range map[string]bool{
		MethodToolsCall: true, NotifyToolsChanged: true, MethodResourcesRead: true, MethodPromptsGet: false,
		MethodComplete: false, MethodTasksGet: true, MethodListen: true, NotifyResourceUpdated: false,
	} {
		info, ok := Method("2026-07-28", method)
		if got := info.Declared(caps); got != want || !ok {
			t.Errorf("%s: declared = %v, want %v", method, got, want)
		}
	}
}

// TestMethodSchemas compares the table with the published schemas.
func TestMethodSchemas(t *testing.T) {
	t.Parallel()
	dir := mcpschema.Folder(t)
	for _, rev := range warder.Revisions() {
		raw, err := os.ReadFile(filepath.Join(dir, string(rev)+".schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		got := methods(rev)
		for _, union := range []string{"ClientRequest", "ClientNotification", "ServerRequest", "ServerNotification", "InputRequest"} {
			want := schemaMethods(t, raw, union)
			if diff := cmp.Diff(want, got[union]); diff != "" {
				t.Errorf("%s %s (-schema +table):\n%s", rev, union, diff)
			}
		}
	}
}

// schemaMethods lists the methods of a union of a published schema, sorted.
func schemaMethods(t *testing.T, raw []byte, union string) []string {
	t.Helper()
	root := Parse(raw)
	defs := root.Get("definitions")
	if !defs.Exists() {
		defs = root.Get("$defs")
	}
	var out []string
	add := func(ref Value) {
		text, _ := ref.Get("$ref").Text()
		name := text[strings.LastIndexByte(text, '/')+1:]
		method, ok := defs.Find(name, "properties", "method", "const").Text()
		if !ok {
			t.Errorf("%s: no method in %s", union, name)
		}
		out = append(out, method)
	}
	u := defs.Get(union)
	if method, ok := u.Find("properties", "method", "const").Text(); ok {
		return []string{method} // a union of one
	}
	for _, ref := range u.Get("anyOf").Elements() {
		add(ref)
	}
	slices.Sort(out)
	return out
}

// TestBuiltShapes compares what Warder writes with the published definitions: every required member
// is there, and no member is unknown.
func TestBuiltShapes(t *testing.T) {
	t.Parallel()
	dir := mcpschema.Folder(t)
	h := Hello{Capabilities: []byte(`{"tools":{}}`), ServerInfo: []byte(`{"name":"s","version":"1"}`), Instructions: "i"}
	one := []byte("1")
	part := func(raw []byte, path ...string) Value { return Root(mustDecode(t, string(raw))).Find(path...) }
	listed := func(method, member string) []byte {
		m, err := ResultToModern(mustDecode(t, `{"jsonrpc":"2.0","id":1,"result":{"`+member+`":[]}}`), method, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return m.Raw
	}
	question := InputRequired(one, []Question{{Key: "k", Method: MethodSampling, Params: []byte("{}")}}, "s")
	for _, c := range []struct {
		rev  warder.Revision
		name string
		got  Value
	}{
		{"2026-07-28", "DiscoverResult", part(DiscoverResult(one, h, warder.Revisions()), "result")},
		{"2026-07-28", "ResultMetaObject", part(DiscoverResult(one, h, warder.Revisions()), "result", "_meta")},
		{"2026-07-28", "DiscoverRequest", part(DiscoverRequest(one, modernMeta()))},
		{"2026-07-28", "RequestMetaObject", part(DiscoverRequest(one, modernMeta()), "params", "_meta")},
		{"2026-07-28", "InputRequiredResult", part(question, "result")},
		{"2026-07-28", "CreateMessageRequest", part(question, "result", "inputRequests", "k")},
		{"2026-07-28", "ListToolsResult", part(listed(MethodToolsList, "tools"), "result")},
		{"2026-07-28", "ListPromptsResult", part(listed(MethodPromptsList, "prompts"), "result")},
		{"2026-07-28", "ListResourcesResult", part(listed(MethodResourcesList, "resources"), "result")},
		{"2026-07-28", "ListResourceTemplatesResult", part(listed(MethodResourceTemplates, "resourceTemplates"), "result")},
		{"2026-07-28", "ReadResourceResult", part(listed(MethodResourcesRead, "contents"), "result")},
		{"2026-07-28", "CallToolResult", part(listed(MethodToolsCall, "content"), "result")},
		{"2026-07-28", "GetPromptResult", part(listed(MethodPromptsGet, "messages"), "result")},
		{"2025-11-25", "InitializeRequestParams", part(InitializeRequest(one, "2025-11-25", nil, nil), "params")},
		{"2025-11-25", "InitializeResult", part(InitializeResult(one, h, "2025-11-25"), "result")},
	} {
		raw, err := os.ReadFile(filepath.Join(dir, string(c.rev)+".schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		def := Parse(raw).Find("$defs", c.name)
		if !def.Exists() || !c.got.Exists() {
			t.Errorf("%s: schema %v, built %v", c.name, def.Exists(), c.got.Exists())
		}
		for _, v := range def.Get("required").Elements() {
			if key, _ := v.Text(); !c.got.Get(key).Exists() {
				t.Errorf("%s: %s is missing in %s", c.name, key, c.got.Raw())
			}
		}
		for key := range c.got.Members() {
			if !def.Find("properties", key.Unescaped()).Exists() {
				t.Errorf("%s: %s is unknown to the schema", c.name, key.Raw())
			}
		}
	}
}
