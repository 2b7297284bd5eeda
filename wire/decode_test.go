package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func TestDecodeAccepts(t *testing.T) {
	t.Parallel()
	type want struct {
		Kind   warder.Kind
		Method string
		ID     string
		Target string
		Depth  int
	}
	for _, c := range []struct {
		name string
		raw  string
		want want
	}{
		{
			"tools/call", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}`,
			want{warder.KindRequest, "tools/call", "1", "echo", 3},
		},
		{
			"white space around", " \r\n\t{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n ",
			want{warder.KindRequest, "ping", "1", "", 1},
		},
		{
			"method last, name escaped", `{"params":{"name":"\u0065cho"},"id":"a","jsonrpc":"2.0","method":"tools\/call"}`,
			want{warder.KindRequest, "tools/call", `"a"`, "echo", 2},
		},
		{
			"resources/read", `{"jsonrpc":"2.0","id":-7,"method":"resources/read","params":{"uri":"file:///x"}}`,
			want{warder.KindRequest, "resources/read", "-7", "file:///x", 2},
		},
		{
			"tasks/get", `{"jsonrpc":"2.0","id":0,"method":"tasks/get","params":{"taskId":"t1"}}`,
			want{warder.KindRequest, "tasks/get", "0", "t1", 2},
		},
		{
			"completion for a prompt", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}`,
			want{warder.KindRequest, "completion/complete", "1", "p", 3},
		},
		{
			"completion for a template", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"u{x}"}}}`,
			want{warder.KindRequest, "completion/complete", "1", "u{x}", 3},
		},
		{
			"greatest id", `{"jsonrpc":"2.0","id":9007199254740991,"method":"ping"}`,
			want{warder.KindRequest, "ping", "9007199254740991", "", 1},
		},
		{
			"least id", `{"jsonrpc":"2.0","id":-9007199254740991,"method":"ping"}`,
			want{warder.KindRequest, "ping", "-9007199254740991", "", 1},
		},
		{
			"longest id", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 256) + `","method":"ping"}`,
			want{warder.KindRequest, "ping", `"` + strings.Repeat("x", 256) + `"`, "", 1},
		},
		{
			"notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			want{warder.KindNotification, "notifications/initialized", "", "", 1},
		},
		{
			"result", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"x"}],"_meta":{"a":1}}}`,
			want{warder.KindResult, "", "1", "", 4},
		},
		{
			"error", `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":[1]}}`,
			want{warder.KindError, "", "1", "", 3},
		},
		{
			"error without id", `{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"}}`,
			want{warder.KindError, "", "", "", 2},
		},
		{
			"error with null id", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no"}}`,
			want{warder.KindError, "", "", "", 2},
		},
		{
			"unknown method", `{"jsonrpc":"2.0","id":1,"method":"x/y","params":{"unheard of":{"of":1}}}`,
			want{warder.KindRequest, "x/y", "1", "", 3},
		},
		{
			"same key in different objects", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":{"a":{"A":1}},"b":[{"a":1},{"A":2}]}}`,
			want{warder.KindRequest, "x", "1", "", 4},
		},
		{
			"valid surrogate pair", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\ud83d\ude00"}}`,
			want{warder.KindRequest, "x", "1", "", 2},
		},
		{
			"deepest", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":` + strings.Repeat("[", 62) + strings.Repeat("]", 62) + `}}`,
			want{warder.KindRequest, "x", "1", "", 64},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := mustDecode(t, c.raw)
			got := want{m.Kind, m.Method, string(m.IDBytes()), m.Target, m.Depth}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(strings.Trim(c.raw, " \r\n\t"), string(m.Raw)); diff != "" {
				t.Errorf("raw (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeSpans(t *testing.T) {
	t.Parallel()
	m := mustDecode(t, `{ "jsonrpc" : "2.0", "id" : "7",
		"method" : "tools/call" , "params" : { "name":"n" , "argu\u006dents": {"x": [1, 2]} , "strange": null,
		"_meta":{"progressToken":3, "io.modelcontextprotocol/protocolVersion" : "2026-07-28","\u00e9":1}} }`)
	show := func(o warder.Object) []string {
		var out []string
		for _, member := range o {
			out = append(out, fmt.Sprintf("%s|%s|%s", member.Key, m.At(member.Name), m.At(member.Value)))
		}
		return out
	}
	want := [][]string{
		{
			`name|"name"|"n"`, `arguments|"argu\u006dents"|{"x": [1, 2]}`, `strange|"strange"|null`,
			`_meta|"_meta"|{"progressToken":3, "io.modelcontextprotocol/protocolVersion" : "2026-07-28","\u00e9":1}`,
		},
		{`progressToken|"progressToken"|3`, `io.modelcontextprotocol/protocolVersion|"io.modelcontextprotocol/protocolVersion"|"2026-07-28"`, `é|"\u00e9"|1`},
	}
	if diff := cmp.Diff(want, [][]string{show(m.Params), show(m.Meta)}); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if len(m.Envelope) != 4 || m.Result != nil || m.Failure != nil || m.ResultSpan.Present() {
		t.Errorf("envelope %v, result %v, failure %v", m.Envelope, m.Result, m.Failure)
	}
	empty := mustDecode(t, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	if empty.Result == nil || empty.Meta != nil || empty.Params != nil {
		t.Errorf("an empty result must be present, absent parts nil: %+v", empty)
	}
}

// TestDecodeEnvelope holds what JSON-RPC and Warder forbid at the top level.
func TestDecodeEnvelope(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, raw string
		want      warder.Reason
	}{
		{"nothing", ``, ReasonEmpty},
		{"only white space", " \n", ReasonEmpty},
		{"array", `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, ReasonNotObject},
		{"string", `"x"`, ReasonNotObject},
		{"null", `null`, ReasonNotObject},
		{"no version", `{"id":1,"method":"ping"}`, ReasonNotJSONRPC},
		{"version 1", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, ReasonNotJSONRPC},
		{"version as number", `{"jsonrpc":2.0,"id":1,"method":"ping"}`, ReasonNotJSONRPC},
		{"version escaped", `{"jsonrpc":"2\u002e0","id":1,"method":"ping"}`, ReasonNotJSONRPC},
		{"neither method nor result", `{"jsonrpc":"2.0","id":1}`, ReasonAmbiguous},
		{"method and result", `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, ReasonAmbiguous},
		{"method and error", `{"jsonrpc":"2.0","id":1,"method":"ping","error":{"code":1,"message":""}}`, ReasonAmbiguous},
		{"result and error", `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`, ReasonAmbiguous},
		{"result and params", `{"jsonrpc":"2.0","id":1,"result":{},"params":{}}`, ReasonAmbiguous},
		{"error and params", `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""},"params":{}}`, ReasonAmbiguous},
		{"unknown member", `{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}`, ReasonBadMember},
		{"member in capitals alone", `{"jsonrpc":"2.0","id":1,"METHOD":"ping"}`, ReasonBadMember},
		{"id null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, ReasonBadID},
		{"id null in a result", `{"jsonrpc":"2.0","id":null,"result":{}}`, ReasonBadID},
		{"id missing in a result", `{"jsonrpc":"2.0","result":{}}`, ReasonBadID},
		{"id true", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, ReasonBadID},
		{"id object", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, ReasonBadID},
		{"id array", `{"jsonrpc":"2.0","id":[1],"method":"ping"}`, ReasonBadID},
		{"id fraction", `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, ReasonBadID},
		{"id with zero fraction", `{"jsonrpc":"2.0","id":1.0,"method":"ping"}`, ReasonBadID},
		{"id with exponent", `{"jsonrpc":"2.0","id":1e0,"method":"ping"}`, ReasonBadID},
		{"id minus zero", `{"jsonrpc":"2.0","id":-0,"method":"ping"}`, ReasonBadID},
		{"id 2^53", `{"jsonrpc":"2.0","id":9007199254740992,"method":"ping"}`, ReasonBadID},
		{"id -2^53", `{"jsonrpc":"2.0","id":-9007199254740992,"method":"ping"}`, ReasonBadID},
		{"id beyond int64", `{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}`, ReasonBadID},
		{"id too long", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 257) + `","method":"ping"}`, ReasonBadID},
		{"id fraction in an error", `{"jsonrpc":"2.0","id":1.5,"error":{"code":1,"message":""}}`, ReasonBadID},
		{"method null", `{"jsonrpc":"2.0","id":1,"method":null}`, ReasonBadMethod},
		{"method number", `{"jsonrpc":"2.0","id":1,"method":1}`, ReasonBadMethod},
		{"method empty", `{"jsonrpc":"2.0","id":1,"method":""}`, ReasonBadMethod},
		{"method too long", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("m", 129) + `"}`, ReasonBadMethod},
		{"method with line break", `{"jsonrpc":"2.0","id":1,"method":"tools/call\n"}`, ReasonBadMethod},
		{"method with space", `{"jsonrpc":"2.0","id":1,"method":"tools/call "}`, ReasonBadMethod},
		{"method with U+0000", `{"jsonrpc":"2.0","id":1,"method":"tools/call\u0000"}`, ReasonBadMethod},
		{"method beyond ASCII", `{"jsonrpc":"2.0","id":1,"method":"tools/cаll"}`, ReasonBadMethod},
		{"params array", `{"jsonrpc":"2.0","id":1,"method":"x","params":[]}`, ReasonNotObject},
		{"params null", `{"jsonrpc":"2.0","id":1,"method":"x","params":null}`, ReasonNotObject},
		{"params string", `{"jsonrpc":"2.0","id":1,"method":"x","params":"{}"}`, ReasonNotObject},
		{"result null", `{"jsonrpc":"2.0","id":1,"result":null}`, ReasonNotObject},
		{"result array", `{"jsonrpc":"2.0","id":1,"result":[]}`, ReasonNotObject},
		{"error null", `{"jsonrpc":"2.0","id":1,"error":null}`, ReasonNotObject},
		{"error string", `{"jsonrpc":"2.0","id":1,"error":"x"}`, ReasonNotObject},
		{"error without code", `{"jsonrpc":"2.0","id":1,"error":{"message":"x"}}`, ReasonBadError},
		{"error with fractional code", `{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":"x"}}`, ReasonBadError},
		{"error with text code", `{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"x"}}`, ReasonBadError},
		{"error without message", `{"jsonrpc":"2.0","id":1,"error":{"code":1}}`, ReasonBadError},
		{"error with null message", `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":null}}`, ReasonBadError},
		{"_meta null", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":null}}`, ReasonNotObject},
		{"_meta array", `{"jsonrpc":"2.0","id":1,"result":{"_meta":[]}}`, ReasonNotObject},
		{"tool name null", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":null}}`, ReasonBadTarget},
		{"tool name array", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["echo"]}}`, ReasonBadTarget},
		{"uri number", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":1}}`, ReasonBadTarget},
		{"task id object", `{"jsonrpc":"2.0","id":1,"method":"tasks/cancel","params":{"taskId":{}}}`, ReasonBadTarget},
		{"reference name number", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"name":1}}}`, ReasonBadTarget},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, err := Decode([]byte(c.raw), Limits{})
			if got := reasonOf(err); got != c.want || m != nil {
				t.Errorf("Decode = %v, %v; want %s", m, err, c.want)
			}
		})
	}
}

// places puts members into every kind of object of a message.
func places() map[string]string {
	return map[string]string{
		"envelope":          `{%s,"jsonrpc":"2.0","id":1,"method":"tools/call"}`,
		"envelope, last":    `{"jsonrpc":"2.0","id":1,"method":"tools/call",%s}`,
		"params":            `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"n",%s}}`,
		"params, first":     `{"jsonrpc":"2.0","id":1,"params":{%s,"name":"n"},"method":"tools/call"}`,
		"arguments":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"n","arguments":{%s}}}`,
		"arguments, nested": `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"n","arguments":{"o":{"o":[0,{%s}]}}}}`,
		"_meta":             `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"n","_meta":{%s}}}`,
		"_meta, nested":     `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"n","_meta":{"io.modelcontextprotocol/clientInfo":{%s}}}}`,
		"result":            `{"jsonrpc":"2.0","id":1,"result":{%s}}`,
		"result, nested":    `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"x"},{%s}]}}`,
		"result _meta":      `{"jsonrpc":"2.0","id":1,"result":{"_meta":{%s}}}`,
		"error":             `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m",%s}}`,
		"error data":        `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","data":{%s}}}`,
	}
}

// A differential is a piece of an object that parsers are known to read differently.
type differential struct {
	name, members string
	want          warder.Reason
}

// keyDifferentials are about member names.
func keyDifferentials() []differential {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"m%d":1,`, i)
		}
		return b.String()
	}
	return []differential{
		{"duplicate key", `"k":"benign","k":"evil"`, ReasonDuplicateKey},
		{"duplicate key apart", `"k":1,"x":{"y":[1]},"k":2`, ReasonDuplicateKey},
		{"duplicate by escape", `"k":1,"\u006b":2`, ReasonDuplicateKey},
		{"duplicate by escaped slash", `"a/b":1,"a\/b":2`, ReasonDuplicateKey},
		{"duplicate empty key", `"":1,"":2`, ReasonDuplicateKey},
		{"case", `"key":1,"Key":2`, ReasonKeyCollision},
		{"case, capitals first", `"KEY":1,"key":2`, ReasonKeyCollision},
		{"case by escape", `"key":1,"\u004bey":2`, ReasonKeyCollision},
		{"long s", `"arguments":1,"argument` + "\u017f" + `":2`, ReasonKeyCollision},
		{"long s by escape", `"uris":1,"uri\u017f":2`, ReasonKeyCollision},
		{"capital S and long s", `"S":1,"` + "\u017f" + `":2`, ReasonKeyCollision},
		{"Kelvin sign", `"key":1,"` + "\u212a" + `ey":2`, ReasonKeyCollision},
		{"Kelvin sign and K", `"K":1,"\u212a":2`, ReasonKeyCollision},
		{"accents", `"é":1,"É":2`, ReasonKeyCollision},
		{"Greek sigmas", `"σ":1,"ς":2`, ReasonKeyCollision},
		{"Greek sigma and capital", `"Σ":1,"ς":2`, ReasonKeyCollision},
		{"Angstrom sign", `"å":1,"` + "\u212b" + `":2`, ReasonKeyCollision},
		{"case behind many members", many(40) + `"key":1,"KEY":2`, ReasonKeyCollision},
		{"case of the first of many", `"key":1,` + many(40) + `"KEY":2`, ReasonKeyCollision},
		{"case at the hash set's edge", `"key":1,` + many(15) + `"KEY":2`, ReasonKeyCollision},
		{"case right behind the edge", `"key":1,` + many(16) + `"KEY":2`, ReasonKeyCollision},
		{"U+0000 behind a key", `"k\u0000":1,"k":2`, ReasonBadKey},
		{"U+0000 in a key alone", `"\u0000":1`, ReasonBadKey},
		{"raw U+0000 in a key", "\"k\x00\":1", ReasonBadJSON},
	}
}

// syntaxDifferentials are about everything else.
func syntaxDifferentials() []differential {
	return []differential{
		{"invalid UTF-8 in a value", "\"k\":\"\xff\"", ReasonBadUTF8},
		{"invalid UTF-8 in a key", "\"k\xc3\":1", ReasonBadUTF8},
		{"overlong UTF-8", "\"k\":\"\xc0\xaf\"", ReasonBadUTF8},
		{"surrogate as UTF-8", "\"k\":\"\xed\xa0\x80\"", ReasonBadUTF8},
		{"beyond U+10FFFF", "\"k\":\"\xf4\x90\x80\x80\"", ReasonBadUTF8},
		{"lone high surrogate", `"k":"\ud800"`, ReasonSurrogate},
		{"lone low surrogate", `"k":"a\udc00b"`, ReasonSurrogate},
		{"surrogates in the wrong order", `"k":"\ude00\ud83d"`, ReasonSurrogate},
		{"high surrogate before text", `"k":"\ud800x"`, ReasonSurrogate},
		{"high surrogate twice", `"k":"\ud83d\ud83d"`, ReasonSurrogate},
		{"surrogate in a key", `"\ud800":1`, ReasonSurrogate},
		{"line break in a string", "\"k\":\"a\nb\"", ReasonBadJSON},
		{"tab in a string", "\"k\":\"a\tb\"", ReasonBadJSON},
		{"line break in a key", "\"k\n\":1", ReasonBadJSON},
		{"trailing comma", `"k":1,`, ReasonBadJSON},
		{"trailing comma in an array", `"k":[1,]`, ReasonBadJSON},
		{"two commas", `"k":1,,"l":2`, ReasonBadJSON},
		{"comment", `"k":1/*"k":2*/`, ReasonBadJSON},
		{"line comment", "\"k\":1//x\n", ReasonBadJSON},
		{"unquoted key", `k:1`, ReasonBadJSON},
		{"single quotes", `'k':1`, ReasonBadJSON},
		{"number as key", `1:1`, ReasonBadJSON},
		{"leading zero", `"k":01`, ReasonBadJSON},
		{"plus sign", `"k":+1`, ReasonBadJSON},
		{"hexadecimal", `"k":0x1`, ReasonBadJSON},
		{"bare point", `"k":1.`, ReasonBadJSON},
		{"leading point", `"k":.1`, ReasonBadJSON},
		{"NaN", `"k":NaN`, ReasonBadJSON},
		{"infinity", `"k":-Infinity`, ReasonBadJSON},
		{"capital literal", `"k":True`, ReasonBadJSON},
		{"undefined", `"k":undefined`, ReasonBadJSON},
		{"unknown escape", `"k":"\x41"`, ReasonBadJSON},
		{"short escape", `"k":"\u00"`, ReasonBadJSON},
		{"missing colon", `"k" 1`, ReasonBadJSON},
		{"missing value", `"k":`, ReasonBadJSON},
		{"wrong bracket", `"k":[1}`, ReasonBadJSON},
		{"form feed as space", "\"k\":\f1", ReasonBadJSON},
		{"no-break space as space", "\"k\":\u00a01", ReasonBadJSON},
		{"byte order mark inside", "\"k\":\ufeff1", ReasonBadJSON},
		{"nesting", `"k":` + strings.Repeat("[", 64) + strings.Repeat("]", 64), ReasonTooDeep},
		{"nesting of objects", `"k":` + strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64), ReasonTooDeep},
		{"very deep, never closed", `"k":` + strings.Repeat("[", 20000), ReasonTooDeep},
	}
}

// TestDecodeDifferentials puts everything that parsers are known to read differently into every
// place of a message.
func TestDecodeDifferentials(t *testing.T) {
	t.Parallel()
	for _, c := range append(keyDifferentials(), syntaxDifferentials()...) {
		for place, template := range places() {
			t.Run(c.name+" in "+place, func(t *testing.T) {
				t.Parallel()
				raw := strings.Replace(template, "%s", c.members, 1)
				if c.name == "trailing comma" && (place == "envelope" || place == "params, first") {
					raw = strings.Replace(template, "%s,", c.members+",", 1) // two commas in a row
				}
				m, err := Decode([]byte(raw), Limits{})
				if got := reasonOf(err); got != c.want || m != nil {
					t.Errorf("Decode(%.200q) = %v, %v; want %s", raw, m, err, c.want)
				}
			})
		}
	}
}

// TestDecodeKnownNames collides the names that decide with spellings that lenient parsers take for
// them.
func TestDecodeKnownNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, raw string
		want      warder.Reason
	}{
		{"Method", `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, ReasonKeyCollision},
		{"ID", `{"jsonrpc":"2.0","id":1,"ID":2,"method":"ping"}`, ReasonKeyCollision},
		{"Name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","Name":"delete"}}`, ReasonKeyCollision},
		{"name with long s", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{},"argumentſ":{}}}`, ReasonKeyCollision},
		{"taskId and taskID", `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","taskID":"b"}}`, ReasonKeyCollision},
		{"task id with Kelvin sign", `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","tasKId":"b"}}`, ReasonKeyCollision},
		{"_META", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{},"_META":{}}}`, ReasonKeyCollision},
		{"Name alone", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"delete"}}`, ReasonMisspelt},
		{"ARGUMENTS alone", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","ARGUMENTS":{"path":"/"}}}`, ReasonMisspelt},
		{"arguments with long s alone", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argument\u017f":{}}}`, ReasonMisspelt},
		{"taskid alone", `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"tasKId":"a"}}`, ReasonMisspelt},
		{"RequestState alone", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","RequestState":"s"}}`, ReasonMisspelt},
		{"version in _meta in capitals", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"IO.modelcontextprotocol/protocolVersion":"x"}}}`, ReasonMisspelt},
		{"ResultType", `{"jsonrpc":"2.0","id":1,"result":{"ResultType":"input_required"}}`, ReasonMisspelt},
		{"capital beside arguments is theirs", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"Name":1}}}`, ""},
		{"method twice, once escaped", `{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call"}`, ReasonDuplicateKey},
		{"trailing value", `{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"tools/call"}`, ReasonTrailingData},
		{"trailing value on a new line", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n{}", ReasonTrailingData},
		{"trailing brace", `{"jsonrpc":"2.0","id":1,"method":"ping"}}`, ReasonTrailingData},
		{"trailing U+0000", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\x00", ReasonTrailingData},
		{"cut", `{"jsonrpc":"2.0","id":1,"method":"ping"`, ReasonBadJSON},
		{"cut in a string", `{"jsonrpc":"2.0","id":1,"method":"pi`, ReasonBadJSON},
		{"byte order mark", "\xef\xbb\xbf" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`, ReasonBOM},
		{"UTF-16", "\xff\xfe{\x00", ReasonBadUTF8},
		{"broken tail", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":}`, ReasonBadJSON},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Decode([]byte(c.raw), Limits{}); reasonOf(err) != c.want {
				t.Errorf("Decode = %v, want %s", err, c.want)
			}
		})
	}
}

func TestDecodeLimits(t *testing.T) {
	t.Parallel()
	raw := `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":[1,2,3],"b":{"c":"0123456789"}}}`
	for _, c := range []struct {
		name string
		lim  Limits
		want warder.Reason
	}{
		{"as large as allowed", Limits{Bytes: int64(len(raw)), Depth: 3, Members: 4, Nodes: 11, StringBytes: 12}, ""},
		{"too large", Limits{Bytes: int64(len(raw)) - 1}, ReasonTooLarge},
		{"too deep", Limits{Depth: 2}, ReasonTooDeep},
		{"too many members", Limits{Members: 3}, ReasonTooManyValues},
		{"too many values", Limits{Nodes: 10}, ReasonTooManyValues},
		{"string too long", Limits{StringBytes: 11}, ReasonTooLong},
		{"depth cannot be raised", Limits{Depth: 1000}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Decode([]byte(raw), c.lim); reasonOf(err) != c.want {
				t.Errorf("Decode = %v, want %q", err, c.want)
			}
		})
	}
	deep := `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}}`
	if _, err := Decode([]byte(deep), Limits{Depth: 1000}); reasonOf(err) != ReasonTooDeep {
		t.Errorf("depth 65 with limit 1000: got %v", err)
	}
}

// TestDecodeErrorsSayNothing: errors must not repeat what a client or server wrote.
func TestDecodeErrorsSayNothing(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`{"SECRET":1,"SECRET":2}`, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"SECRET`, `{"SECRET":SECRET}`,
		`{"jsonrpc":"2.0","id":1,"SECRET":2,"method":"x"}`, "{\"SECRET\":\"\xffSECRET\"}",
	} {
		_, err := Decode([]byte(raw), Limits{})
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("Decode(%q) = %v", raw, err)
		}
	}
}

// TestDecodeReuse: what one message left in the pooled scanner must not show in the next.
func TestDecodeReuse(t *testing.T) {
	t.Parallel()
	for range 100 {
		_, _ = Decode([]byte(`{"jsonrpc":"2.0","id":1,"method":"x","params":{"left":1,"_meta":{"over":[{"`), Limits{})
		_, _ = Decode([]byte(`{"a":{"b":{"c":{"B":1,"b":1}}}}`), Limits{})
		m := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"B":1,"A":2}}`)
		if len(m.Params) != 2 || m.Params[0].Key != "B" || m.Meta != nil || m.Depth != 2 {
			t.Fatalf("got %+v", m)
		}
	}
}

// TestDecodeManySiblings: the keys of one object must not collide with those of its neighbours.
func TestDecodeManySiblings(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `"m%d":{},`, i)
	}
	object := "{" + b.String() + `"last":1}`
	mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":[`+object+","+object+`],"b":`+object+`}}`)
}

func TestValidID(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		`0`: true, `-1`: true, `"0"`: true, `""`: true, `9007199254740991`: true,
		``: false, `01`: false, `-01`: false, `-0`: false, `-`: false, `+1`: false, `1e3`: false, `null`: false, `"`: false,
		`00000000000000000001`: false, `９`: false,
	} {
		if got := ValidID([]byte(raw)); got != want {
			t.Errorf("ValidID(%s) = %v, want %v", raw, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]warder.Reason{
		`1`: "", `"x"`: "", `[{"a":1},{"A":1}]`: "", `{"result":{"_meta":1}}`: "", ` null `: "",
		``: ReasonEmpty, `1 2`: ReasonTrailingData, `{"a":1,"A":1}`: ReasonKeyCollision, `[1,]`: ReasonBadJSON, `]`: ReasonBadJSON,
	} {
		if err := Validate([]byte(raw), Limits{}); reasonOf(err) != want {
			t.Errorf("Validate(%s) = %v, want %q", raw, err, want)
		}
	}
}

func TestDecodeAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("NOT EXERCISED: allocations of Decode, because the race detector makes sync.Pool forget at random; run without -race")
	}
	raw := call(80)
	mustDecode(t, string(raw))
	got := testing.AllocsPerRun(200, func() {
		if _, err := Decode(raw, Limits{}); err != nil {
			t.Fatal(err)
		}
	})
	if got > 3 {
		t.Errorf("Decode allocates %v times, want at most 3", got)
	}
}

// TestMisspeltKnowsWhatInternKnows: the two lists are one.
func TestMisspeltKnowsWhatInternKnows(t *testing.T) {
	t.Parallel()
	n := 0
	for _, key := range []string{
		"name", "arguments", "uri", "taskId", "requestState", "inputResponses", "progressToken", "resultType", "cacheScope",
		"content", "structuredContent", "isError", "code", "message", "supportedVersions", "roots", "elicitationId",
		MetaVersion, MetaClientInfo, MetaCapabilities, MetaLogLevel, MetaSubscription, MetaServerInfo,
	} {
		if intern([]byte(key)) != key || !misspelt(appendFolded(nil, []byte(strings.ToUpper(key)))) {
			t.Errorf("%s: interned %q, known when misspelt %v", key, intern([]byte(key)), misspelt(appendFolded(nil, []byte(key))))
		}
		n++
	}
	if intern([]byte("vendor")) != "" || misspelt([]byte("VENDOR")) || n == 0 {
		t.Error("an unknown name is known")
	}
}
