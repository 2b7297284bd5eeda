package shape_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
	"github.com/warder-mcp/warder/wire/shape"
)

func load(tb testing.TB) *shape.Set {
	tb.Helper()
	set, err := shape.Load()
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func decode(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatalf("decode %.200s: %v", raw, err)
	}
	return m
}

const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"progressToken":7}`

func call(n int) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + strings.Repeat("a", n) + `"},` + meta + `}}`
}

func TestCheckMessage(t *testing.T) {
	t.Parallel()
	set := load(t)
	for _, tt := range []struct {
		name   string
		rev    warder.Revision
		method string // asked, for answers
		raw    string
		closed bool
		want   string // violation; empty: fits
	}{
		{"call", warder.Revision20260728, "", call(3), false, ""},
		{"call closed", warder.Revision20260728, "", call(3), true, ""},
		{"escaped names", warder.Revision20260728, "", strings.Replace(call(3), `"name":"echo"`, `"\u006eame":"echo"`, 1), true, ""},
		{"white space", warder.Revision20260728, "", strings.ReplaceAll(call(3), `:`, " : "), true, ""},
		{"no name", warder.Revision20251125, "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`, false, "/params/name: required: this member"},
		{"no params", warder.Revision20251125, "", `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, false, "/params: required: an object"},
		{"no meta", warder.Revision20260728, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`, false, "/params/_meta: required: this member"},
		{"no capabilities", warder.Revision20260728, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, false, "/params/_meta/io.modelcontextprotocol~1clientCapabilities: required: this member"},
		{"optional params", warder.Revision20251125, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, false, ""},
		{"extra open", warder.Revision20251125, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":1}}`, false, ""},
		{"extra closed", warder.Revision20251125, "", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x/y":1}}`, true, "/params/x~1y: additionalProperties: no member of this name"},
		{"meta where the schema is silent", warder.Revision20251125, "", `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t","_meta":{}}}`, true, ""},
		{"level", warder.Revision20250618, "", `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"loud"}}`, false, `/params/level: enum: "alert", "critical", "debug", "emergency", "error", "info", "notice", "warning"`},
		{"uri", warder.Revision20250618, "", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a b"}}`, false, "/params/uri: format: a string of format uri"},
		{"content", warder.Revision20250618, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"a"},{"type":"image","data":"%%","mimeType":"image/png"}]}}`, false, "/result/content/1/data: format: a string of format byte"},
		{"content type", warder.Revision20241105, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"audio","data":"","mimeType":"a/b"}]}}`, false, `/result/content/0/type: enum: "text", "image", "resource"`},
		{"question instead of result", warder.Revision20260728, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"m","requestedSchema":{"type":"object","properties":{}}}}}}}`, false, ""},
		{"question where none may be", warder.Revision20260728, "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","tools":[],"ttlMs":0,"cacheScope":"private"}}`, false, `/result/resultType: const: "complete"`},
		{"priority", warder.Revision20250618, "tools/call", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"a","annotations":{"priority":1.5}}]}}`, false, "/result/content/0/annotations/priority: maximum: at most 1"},
		{"error without id", warder.Revision20250618, "tools/call", `{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}`, false, "/id: required: this member"},
		{"unknown method", warder.Revision20250618, "", `{"jsonrpc":"2.0","id":1,"method":"tools/destroy"}`, false, "/params: const: a method of this revision and direction"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := decode(t, tt.raw)
			q := shape.Query{Revision: tt.rev, Method: tt.method, Closed: tt.closed}
			if tt.method == "" {
				q.Method = m.Method
			}
			v, ok := set.CheckMessage(q, m)
			got := ""
			if !ok {
				got = v.String()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMethods proves that the tables of this package and the facts of package wire name the same
// methods, forms and directions.
func TestMethods(t *testing.T) {
	t.Parallel()
	set := load(t)
	count := 0
	for _, rev := range warder.Revisions() {
		for _, method := range allMethods() {
			info, known := wire.Method(rev, method)
			for _, from := range []warder.Direction{warder.FromClient, warder.FromServer} {
				want := shape.Unknown
				if known && info.From(from) && !info.Input {
					want = shape.Notification
					if info.Request {
						want = shape.Request
					}
				}
				if got := set.Lookup(rev, from, method); got != want {
					t.Errorf("%s %s from %d: table says %d, wire says %d", rev, method, from, got, want)
				}
				count++
			}
		}
	}
	t.Logf("%d combinations", count)
}

func allMethods() []string {
	return []string{
		wire.MethodInitialize, wire.MethodDiscover, wire.MethodPing, wire.MethodToolsList, wire.MethodToolsCall, wire.MethodPromptsList,
		wire.MethodPromptsGet, wire.MethodResourcesList, wire.MethodResourceTemplates, wire.MethodResourcesRead, wire.MethodResourcesSubscribe,
		wire.MethodResourcesUnsubscribe, wire.MethodComplete, wire.MethodSetLevel, wire.MethodListen, wire.MethodSampling, wire.MethodElicit,
		wire.MethodRootsList, wire.MethodTasksGet, wire.MethodTasksList, wire.MethodTasksResult, wire.MethodTasksCancel, wire.MethodTasksUpdate,
		wire.NotifyInitialized, wire.NotifyCancelled, wire.NotifyProgress, wire.NotifyMessage, wire.NotifyToolsChanged, wire.NotifyPromptsChanged,
		wire.NotifyResourcesChanged, wire.NotifyResourceUpdated, wire.NotifyRootsChanged, wire.NotifyElicitComplete, wire.NotifyTaskStatus,
		wire.NotifyTasks, wire.NotifySubscribed, "tools/destroy", "",
	}
}

func TestBadElements(t *testing.T) {
	t.Parallel()
	set := load(t)
	good := `{"name":"a","inputSchema":{"type":"object"}}`
	m := decode(t, `{"jsonrpc":"2.0","id":1,"result":{"tools":[`+good+`,{"name":1},`+good+`,7]}}`)
	bad, ok := set.BadElements(shape.Query{Revision: warder.Revision20251125, Method: "tools/list"}, m, "tools")
	if diff := cmp.Diff([]int{1, 3}, bad); diff != "" || !ok {
		t.Errorf("ok=%v (-want +got):\n%s", ok, diff)
	}
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := shape.Load(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	set := load(b)
	result := func(n int) string {
		return `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"` + strings.Repeat("a", n) + `"}]}}`
	}
	var tools strings.Builder
	for i := range 50 {
		if i > 0 {
			tools.WriteByte(',')
		}
		fmt.Fprintf(&tools, `{"name":"tool%d","description":"%s","inputSchema":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a"]}}`, i, strings.Repeat("d", 200))
	}
	for _, bench := range []struct {
		name, raw, method string
		closed            bool
	}{
		{"call_0.6k", call(350), "tools/call", false},
		{"call_0.6k_closed", call(350), "tools/call", true},
		{"call_100k", call(100_000), "tools/call", false},
		{"result_0.6k", result(500), "tools/call", false},
		{"result_1M", result(1_000_000), "tools/call", false},
		{"image_1M", strings.Replace(strings.Replace(result(1_000_000), `"type":"text"`, `"type":"image","mimeType":"image/png"`, 1), `"text":"`, `"data":"`, 1), "tools/call", false},
		{"escapes_1M", strings.ReplaceAll(result(500_000), "aa", `\n`), "tools/call", false},
		{"list_50", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[` + tools.String() + `]}}`, "tools/list", false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			m := decode(b, bench.raw)
			q := shape.Query{Revision: warder.Revision20260728, Method: bench.method, Closed: bench.closed}
			b.SetBytes(int64(len(bench.raw)))
			b.ReportAllocs()
			for b.Loop() {
				if v, ok := set.CheckMessage(q, m); !ok {
					b.Fatal(v)
				}
			}
		})
	}
}

// FuzzSchema proves that the check never panics, agrees with itself in both forms, and explains
// every refusal.
func FuzzSchema(f *testing.F) {
	set := load(f)
	f.Add(call(3), uint8(4), "tools/call")
	f.Add(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"resource","resource":{"uri":"a:b","blob":"AA=="}}]}}`, uint8(3), "tools/call")
	f.Add(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"\u0074ext","text":"\\\""}]}}`, uint8(4), "tools/call")
	f.Add(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.5}}`, uint8(0), "")
	f.Add(`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"x"}}`, uint8(2), "ping")
	f.Fuzz(func(t *testing.T, raw string, rev uint8, asked string) {
		m, err := wire.Decode([]byte(raw), wire.Limits{})
		if err != nil {
			return
		}
		revisions := warder.Revisions()
		q := shape.Query{Revision: revisions[int(rev)%len(revisions)], From: warder.Direction(rev >> 7), Method: asked}
		if m.Method != "" {
			q.Method = m.Method
		}
		v, ok := set.CheckMessage(q, m)
		if ok != (v.Keyword == "") {
			t.Errorf("ok=%v with violation %q", ok, v)
		}
		q.Closed = true
		if _, closed := set.CheckMessage(q, m); closed && !ok {
			t.Error("the closed reading admits what the published one refuses")
		}
		q.Closed = false
		if m.Kind != warder.KindResult {
			return
		}
		q.Part = shape.Result
		if _, slow := set.Check(q, wire.At(m, m.ResultSpan)); slow != ok {
			t.Errorf("by members %v, by bytes %v", ok, slow)
		}
	})
}
