package wire

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func modernMeta() ModernMeta {
	return ModernMeta{Version: "2026-07-28", ClientInfo: []byte(`{"name":"c","version":"1"}`), Capabilities: []byte(`{"roots":{}}`), LogLevel: "info"}
}

const metaJSON = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/logLevel":"info"`

func TestRequestToModernAndBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in, modern, legacy string
	}{
		{
			"no params", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{` + metaJSON + `}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{}}}`,
		},
		{
			"no _meta", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{` + metaJSON + `}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{}}}`,
		},
		{
			"_meta with a token, task dropped", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"task":{"ttl":1},"name":"a","_meta":{"progressToken":1}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":1,` + metaJSON + `}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":1}}}`,
		},
		{
			"client lies about its version", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"1999-01-01","io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/logLevel":"info"}}}`,
			`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{}}}`,
		},
		{
			"notification", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			modern, err := RequestToModern(mustDecode(t, c.in), modernMeta(), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.modern, string(modern.Raw)); diff != "" {
				t.Errorf("modern (-want +got):\n%s", diff)
			}
			if got, ok := ReadModernMeta(modern); ok && cmp.Diff(modernMeta(), got) != "" {
				t.Errorf("meta read back: %s", cmp.Diff(modernMeta(), got))
			}
			legacy, err := RequestToLegacy(modern, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.legacy, string(legacy.Raw)); diff != "" {
				t.Errorf("legacy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRequestToModernDropsWhatIsNotSaid(t *testing.T) {
	t.Parallel()
	in := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/clientInfo":{"name":"liar"},"io.modelcontextprotocol/logLevel":"debug"}}}`)
	got, err := RequestToModern(in, ModernMeta{Version: "2026-07-28"}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	if diff := cmp.Diff(want, string(got.At(got.Params.Get("_meta")))); diff != "" {
		t.Errorf("_meta (-want +got):\n%s", diff)
	}
}

func TestRequestToLegacyDropsState(t *testing.T) {
	t.Parallel()
	in := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"inputResponses":{"q":{}},"name":"a","requestState":"s"}}`)
	got, err := RequestToLegacy(in, Limits{})
	if err != nil || string(got.Raw) != `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}` {
		t.Errorf("got %s, %v", got.Raw, err)
	}
}

func TestResultTranslation(t *testing.T) {
	t.Parallel()
	modern := func(method string) func(*warder.Message) (*warder.Message, error) {
		return func(m *warder.Message) (*warder.Message, error) { return ResultToModern(m, method, Limits{}) }
	}
	legacy := func(method string, rev warder.Revision) func(*warder.Message) (*warder.Message, error) {
		return func(m *warder.Message) (*warder.Message, error) { return ResultToLegacy(m, method, rev, Limits{}) }
	}
	result := func(s string) string { return `{"jsonrpc":"2.0","id":1,"result":` + s + `}` }
	failure := func(code string) string {
		return `{"jsonrpc":"2.0","id":1,"error":{"code":` + code + `,"message":"m"}}`
	}
	for _, c := range []struct {
		name     string
		do       func(*warder.Message) (*warder.Message, error)
		in, want string
	}{
		{"call to modern", modern(MethodToolsCall), result(`{"content":[]}`), result(`{"content":[],"resultType":"complete"}`)},
		{"empty to modern", modern(MethodComplete), result(`{}`), result(`{"resultType":"complete"}`)},
		{"list to modern", modern(MethodToolsList), result(`{"tools":[]}`), result(`{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}`)},
		{"read to modern", modern(MethodResourcesRead), result(`{"contents":[]}`), result(`{"contents":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}`)},
		{
			"hostile hints to modern", modern(MethodPromptsList), result(`{"prompts":[],"cacheScope":"public","ttlMs":86400000,"resultType":"input_required"}`),
			result(`{"prompts":[],"cacheScope":"private","ttlMs":0,"resultType":"complete"}`),
		},
		{"not found to modern", modern(MethodResourcesRead), failure("-32002"), failure("-32602")},
		{"reserved code to modern", modern(MethodToolsCall), failure("-32042"), failure("-32603")},
		{"era code of a stateful server", modern(MethodToolsCall), failure("-32022"), failure("-32603")},
		{"own code to modern", modern(MethodToolsCall), failure("-32000"), failure("-32000")},
		{"call to legacy", legacy(MethodToolsCall, "2025-11-25"), result(`{"resultType":"complete","content":[],"structuredContent":{"a":1}}`), result(`{"content":[],"structuredContent":{"a":1}}`)},
		{"list to legacy", legacy(MethodToolsList, "2025-11-25"), result(`{"tools":[{"name":"a"}],"ttlMs":5,"cacheScope":"public","resultType":"complete"}`), result(`{"tools":[{"name":"a"}]}`)},
		{"structured array to legacy", legacy(MethodToolsCall, "2025-11-25"), result(`{"content":[],"structuredContent":[1]}`), result(`{"content":[]}`)},
		{"structured object to 2025-03-26", legacy(MethodToolsCall, "2025-03-26"), result(`{"content":[],"structuredContent":{"a":1}}`), result(`{"content":[]}`)},
		{"not found to legacy", legacy(MethodResourcesRead, "2025-11-25"), failure("-32602"), failure("-32002")},
		{"invalid params to legacy", legacy(MethodToolsCall, "2025-11-25"), failure("-32602"), failure("-32602")},
		{"notification", modern(MethodToolsCall), `{"jsonrpc":"2.0","method":"notifications/progress"}`, `{"jsonrpc":"2.0","method":"notifications/progress"}`},
		{"question", legacy(MethodToolsCall, "2025-11-25"), `{"jsonrpc":"2.0","id":1,"method":"ping"}`, `{"jsonrpc":"2.0","id":1,"method":"ping"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.do(mustDecode(t, c.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got.Raw)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHello(t *testing.T) {
	t.Parallel()
	legacy := mustDecode(t, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{},"extensions":{"x/y":{}}},"serverInfo":{"name":"s","version":"1"},"instructions":"do"}}`)
	h, err := ParseInitializeResult(legacy)
	if err != nil {
		t.Fatal(err)
	}
	want := Hello{
		Revision: "2025-11-25", ServerInfo: []byte(`{"name":"s","version":"1"}`), Capabilities: []byte(`{"tools":{},"tasks":{},"extensions":{"x/y":{}}}`),
		Instructions: "do", ProtocolVersions: []string{"2025-11-25"}, Raw: legacy,
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	d := mustDecode(t, string(DiscoverResult([]byte("2"), h, []warder.Revision{"2025-11-25", "2026-07-28"})))
	wantRaw := `{"jsonrpc":"2.0","id":2,"result":{"resultType":"complete","supportedVersions":["2025-11-25","2026-07-28"],"capabilities":{"tools":{},"extensions":{"x/y":{}}},"instructions":"do","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}}`
	if diff := cmp.Diff(wantRaw, string(d.Raw)); diff != "" {
		t.Errorf("discover result (-want +got):\n%s", diff)
	}
	m, err := ParseDiscoverResult(d)
	if err != nil || m.Revision != "2026-07-28" || !m.Announces("2025-11-25") || m.Announces("2024-11-05") || m.Instructions != "do" || string(m.ServerInfo) != `{"name":"s","version":"1"}` {
		t.Errorf("discover read back: %+v, %v", m, err)
	}
	i := InitializeResult([]byte(`"x"`), m, "2025-06-18")
	wantRaw = `{"jsonrpc":"2.0","id":"x","result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"},"instructions":"do"}}`
	if diff := cmp.Diff(wantRaw, string(i)); diff != "" {
		t.Errorf("initialize result (-want +got):\n%s", diff)
	}
	bare := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"unknown","version":"0"}}}`
	if got := InitializeRequest([]byte("1"), "2025-11-25", nil, nil); string(got) != bare {
		t.Errorf("initialize request %s", got)
	}
	probe := `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{` + metaJSON + `}}}`
	if got := DiscoverRequest([]byte("1"), modernMeta()); string(got) != probe {
		t.Errorf("discover request %s", got)
	}
}

func TestHelloRefuses(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"error":                 `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`,
		"no version":            `{"jsonrpc":"2.0","id":1,"result":{"capabilities":{}}}`,
		"version number":        `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"supportedVersions":[1],"capabilities":{}}}`,
		"no capabilities":       `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"x","supportedVersions":["x"]}}`,
		"capabilities array":    `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"x","supportedVersions":["x"],"capabilities":[]}}`,
		"instructions not text": `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"x","supportedVersions":["x"],"capabilities":{},"instructions":{}}}`,
	} {
		m := mustDecode(t, raw)
		if _, err := ParseInitializeResult(m); !errors.Is(err, ErrHello) {
			t.Errorf("%s: initialize: %v", name, err)
		}
		if _, err := ParseDiscoverResult(m); !errors.Is(err, ErrHello) {
			t.Errorf("%s: discover: %v", name, err)
		}
	}
}

func TestInputRoundTrip(t *testing.T) {
	t.Parallel()
	asked := []Question{
		{Key: "a", Method: MethodElicit, Params: []byte(`{"message":"ok?","requestedSchema":{"type":"object","properties":{}}}`)},
		{Key: `b"`, Method: MethodRootsList},
	}
	m := mustDecode(t, string(InputRequired([]byte("1"), asked, "w1.state")))
	if ResultType(m) != ResultInputRequired || string(RequestState(m)) != `"w1.state"` {
		t.Errorf("type %q, state %s", ResultType(m), RequestState(m))
	}
	got, err := InputRequests(m)
	if diff := cmp.Diff(asked, got); diff != "" || err != nil {
		t.Errorf("questions, %v (-want +got):\n%s", err, diff)
	}
	call := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","requestState":"old"}}`)
	retry, err := WithInputResponses(call, []byte("2"), map[string][]byte{`b"`: []byte(`{"roots":[]}`), "a": []byte(`{"action":"accept"}`)}, RequestState(m), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t","requestState":"w1.state","inputResponses":{"a":{"action":"accept"},"b\"":{"roots":[]}}}}`
	if diff := cmp.Diff(want, string(retry.Raw)); diff != "" {
		t.Errorf("retry (-want +got):\n%s", diff)
	}
	answers, err := InputResponses(retry)
	if diff := cmp.Diff(map[string][]byte{"a": []byte(`{"action":"accept"}`), `b"`: []byte(`{"roots":[]}`)}, answers); diff != "" || err != nil {
		t.Errorf("answers, %v (-want +got):\n%s", err, diff)
	}
	if RequestDigest(call) != RequestDigest(retry) {
		t.Error("the retry has another digest than the call")
	}
	bare, err := WithInputResponses(retry, []byte("3"), nil, nil, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if string(bare.Raw) != `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t"}}` {
		t.Errorf("without answers: %s", bare.Raw)
	}
}

func TestInputRequestsRefuses(t *testing.T) {
	t.Parallel()
	for name, result := range map[string]string{
		"nothing asked":    `{"resultType":"input_required"}`,
		"array":            `{"resultType":"input_required","inputRequests":[]}`,
		"state not text":   `{"resultType":"input_required","requestState":{}}`,
		"no method":        `{"resultType":"input_required","inputRequests":{"a":{}}}`,
		"not an object":    `{"resultType":"input_required","inputRequests":{"a":1}}`,
		"call as question": `{"resultType":"input_required","inputRequests":{"a":{"method":"tools/call","params":{}}}}`,
		"ping as question": `{"resultType":"input_required","inputRequests":{"a":{"method":"ping"}}}`,
		"params array":     `{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list","params":[]}}}`,
	} {
		if _, err := InputRequests(mustDecode(t, `{"jsonrpc":"2.0","id":1,"result":`+result+`}`)); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, params := range map[string]string{"array": `{"inputResponses":[]}`, "answer not an object": `{"inputResponses":{"a":1}}`} {
		if _, err := InputResponses(mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+params+`}`)); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := InputRequests(mustDecode(t, `{"jsonrpc":"2.0","id":1,"result":{"inputRequests":{"a":1}}}`)); got != nil || err != nil {
		t.Errorf("complete result: %v, %v", got, err)
	}
}

func TestQuestionTranslation(t *testing.T) {
	t.Parallel()
	legacy := mustDecode(t, `{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"mode":"url","url":"https://example.com","message":"m","elicitationId":"e1","task":{},"_meta":{"progressToken":1}}}`)
	q, err := QuestionToModern(legacy, "9")
	if err != nil {
		t.Fatal(err)
	}
	want := Question{Key: "9", Method: MethodElicit, Params: []byte(`{"mode":"url","url":"https://example.com","message":"m"}`)}
	if diff := cmp.Diff(want, q); diff != "" {
		t.Errorf("question (-want +got):\n%s", diff)
	}
	back := `{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"mode":"url","url":"https://example.com","message":"m","elicitationId":"e2"}}`
	if got := QuestionToLegacy(q, []byte("7"), "e2"); string(got) != back {
		t.Errorf("request %s", got)
	}
	if got := QuestionToLegacy(Question{Method: MethodRootsList}, []byte("7"), "e2"); string(got) != `{"jsonrpc":"2.0","id":7,"method":"roots/list"}` {
		t.Errorf("request %s", got)
	}
	for _, raw := range []string{`{"jsonrpc":"2.0","id":9,"method":"tools/call"}`, `{"jsonrpc":"2.0","id":9,"result":{}}`, `{"jsonrpc":"2.0","method":"roots/list"}`} {
		if _, err := QuestionToModern(mustDecode(t, raw), "k"); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestErrorHelpers(t *testing.T) {
	t.Parallel()
	m := mustDecode(t, `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28",5,"x"]}}}`)
	code, text := ErrorCode(m)
	if code != -32022 || text != "no" || !ModernError(m) {
		t.Errorf("code %d, message %q, modern %v", code, text, ModernError(m))
	}
	if diff := cmp.Diff([]string{"2026-07-28", "x"}, SupportedVersions(m)); diff != "" {
		t.Errorf("supported (-want +got):\n%s", diff)
	}
	if other := mustDecode(t, `{"jsonrpc":"2.0","id":1,"result":{}}`); ModernError(other) || SupportedVersions(other) != nil {
		t.Error("a result is no modern error")
	}
}
