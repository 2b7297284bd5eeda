package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// A probe is one request that parsers may read differently.
type probe struct {
	name   string
	body   []byte
	header http.Header // instead of those that belong to the body
}

// A place is an object of a tools/call, with a member whose other reading would matter.
type place struct {
	name, key, evil string
}

func places() []place {
	return []place{
		{"envelope", "method", `"ping"`},
		{"envelope", "params", `{"name":"evil","arguments":{"tag":"evil"}}`},
		{"envelope", "id", `8`},
		{"envelope", "jsonrpc", `"1.0"`},
		{"params", "name", `"evil"`},
		{"params", "arguments", `{"tag":"evil"}`},
		{"arguments", "tag", `"evil"`},
		{"_meta", "progressToken", `"evil"`},
		{"_meta", "io.modelcontextprotocol/protocolVersion", `"2025-03-26"`},
		{"nested", "k", `"evil"`},
	}
}

// spellings are keys that some parser takes for key.
func spellings(key string) map[string]string {
	first, rest := key[:1], key[1:]
	out := map[string]string{
		"same":        key,
		"title":       strings.ToUpper(first) + rest,
		"upper":       strings.ToUpper(key),
		"escaped":     fmt.Sprintf(`\u%04x`, first[0]) + rest,
		"escaped end": key[:len(key)-1] + fmt.Sprintf(`\u%04X`, key[len(key)-1]),
		"nul":         key + `\u0000`,
		"space":       key + " ",
		"bom":         "\ufeff" + key,
		"zero width":  key + "\u200b",
	}
	if strings.Contains(key, "s") {
		out["long s"] = strings.Replace(key, "s", "ſ", 1)
	}
	if strings.Contains(key, "k") {
		out["kelvin"] = strings.Replace(key, "k", "\u212a", 1)
	}
	return out
}

// A call is a tools/call in parts, so that members can be put before and after those of any object.
type callParts struct {
	modern        bool
	before, after map[string]string
	name          string // JSON
}

func (c callParts) text() []byte {
	wrap := func(place, members string) string {
		return "{" + c.before[place] + members + c.after[place] + "}"
	}
	meta := `"progressToken":"p"`
	if c.modern {
		meta += `,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`
	}
	name := c.name
	if name == "" {
		name = `"safe"`
	}
	arguments := wrap("arguments", `"tag":"good","o":`+wrap("nested", `"k":"good"`))
	params := wrap("params", `"name":`+name+`,"arguments":`+arguments+`,"_meta":`+wrap("_meta", meta))
	return []byte(wrap("envelope", `"jsonrpc":"2.0","id":7,"method":"tools/call","params":`+params))
}

// corpus is every probe for one era.
func corpus(modern bool) []probe {
	plain := callParts{modern: modern}.text()
	list := []probe{{name: "plain", body: plain}}
	add := func(name string, body string) { list = append(list, probe{name: name, body: []byte(body)}) }
	for _, p := range places() {
		for how, key := range spellings(p.key) {
			member := `"` + key + `":` + p.evil
			list = append(list,
				probe{name: fmt.Sprintf("%s %s %s after", p.name, p.key, how), body: callParts{modern: modern, after: map[string]string{p.name: "," + member}}.text()},
				probe{name: fmt.Sprintf("%s %s %s before", p.name, p.key, how), body: callParts{modern: modern, before: map[string]string{p.name: member + ","}}.text()})
		}
	}
	for how, name := range map[string]string{
		"bad utf-8": "\"safe\xff\"", "lone surrogate": `"safe\ud800"`, "nul": `"safe\u0000"`, "overlong": "\"\xc1\xb3afe\"",
		"escaped": `"\u0073afe"`, "escaped evil": `"\u0065vil"`, "other case": `"SAFE"`, "long s": `"ſafe"`, "trailing space": `"safe "`,
		"array": `["safe","evil"]`, "number": `7`, "null": `null`, "object": `{"safe":"evil"}`, "raw newline": "\"safe\n\"", "slash": `"safe\/"`,
	} {
		list = append(list, probe{name: "name " + how, body: callParts{modern: modern, name: name}.text()})
	}
	s := string(plain)
	for how, id := range map[string]string{
		"null": "null", "huge": "12345678901234567890", "fraction": "7.0", "exponent": "7e0", "negative zero": "-0", "leading zero": "07",
		"object": `{"a":1}`, "array": "[7]", "true": "true", "text": `"7"`, "empty": `""`, "bad utf-8": "\"\xff\"",
	} {
		add("id "+how, strings.Replace(s, `"id":7`, `"id":`+id, 1))
	}
	evil := strings.ReplaceAll(strings.ReplaceAll(s, `"safe"`, `"evil"`), `"id":7`, `"id":8`)
	for how, body := range map[string]string{
		"two values": s + evil, "two lines": s + "\n" + evil, "value and junk": s + " x", "value and nul": s + "\x00", "bom": "\ufeff" + s,
		"trailing comma": strings.TrimSuffix(s, "}") + ",}", "comment": "/* */" + s, "line comment": "// x\n" + s, "broken tail": strings.TrimSuffix(s, "}"),
		"single quotes": strings.ReplaceAll(s, `"`, `'`), "batch": "[" + s + "]", "batch of two": "[" + s + "," + evil + "]", "empty batch": "[]",
		"nested batch": "[[" + s + "]]", "text": `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`, "empty": "", "space": "  \n " + s + "\r\n ",
		"form feed": "\f" + s, "utf-16": utf16(s), "nan": strings.Replace(s, `"good"}`, `NaN}`, 1), "deep": strings.Replace(s, `"k":"good"`, `"k":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000), 1),
		"deep 70": strings.Replace(s, `"k":"good"`, `"k":`+strings.Repeat("[", 70)+strings.Repeat("]", 70), 1), "raw newline in text": strings.Replace(s, "good", "go\nod", 1),
		"bad utf-8 in text": strings.Replace(s, "good", "go\xffod", 1), "lone surrogate in text": strings.Replace(s, "good", `go\ud800od`, 1),
		"method escaped": strings.Replace(s, "tools/call", `tools\/c\u0061ll`, 1), "method other case": strings.Replace(s, "tools/call", "Tools/Call", 1),
		"method with space": strings.Replace(s, "tools/call", "tools/call ", 1), "method with nul": strings.Replace(s, "tools/call", `tools/call\u0000`, 1),
		"result and method": strings.Replace(s, `"id":7`, `"id":7,"result":{}`, 1), "no id": strings.Replace(s, `"id":7,`, "", 1), "jsonrpc number": strings.Replace(s, `"2.0"`, `2.0`, 1),
		"arguments null": strings.Replace(s, `"arguments":{"tag"`, `"arguments":null,"x":{"tag"`, 1), "arguments text": strings.Replace(s, `"arguments":{`, `"arguments":"{","x":{`, 1),
		"params array": strings.Replace(strings.Replace(s, `"params":{`, `"params":[{`, 1), `}}}`, `}}]}`, 1), "__proto__": strings.Replace(s, `"k":"good"`, `"__proto__":{"tag":"evil"},"k":"good"`, 1),
		"__proto__ in params": strings.Replace(s, `"params":{`, `"params":{"__proto__":{"name":"evil"},`, 1), "toString": strings.Replace(s, `"name":"safe"`, `"name":"toString"`, 1),
	} {
		add("body "+how, body)
	}
	return append(list, headers(plain, modern)...)
}

// headers are probes whose body is plain and whose headers say something else.
func headers(plain []byte, modern bool) []probe {
	var list []probe
	for how, change := range map[string]map[string][]string{
		"two methods": {"Mcp-Method": {"tools/call", "ping"}}, "two methods turned": {"Mcp-Method": {"ping", "tools/call"}},
		"two names": {"Mcp-Name": {"safe", "evil"}}, "two names turned": {"Mcp-Name": {"evil", "safe"}}, "name list": {"Mcp-Name": {"safe, evil"}},
		"other method": {"Mcp-Method": {"ping"}}, "other name": {"Mcp-Name": {"evil"}}, "method case": {"Mcp-Method": {"Tools/Call"}}, "name case": {"Mcp-Name": {"SAFE"}},
		"name in base64": {"Mcp-Name": {"=?base64?c2FmZQ==?="}}, "evil in base64": {"Mcp-Name": {"=?base64?ZXZpbA==?="}}, "bad base64": {"Mcp-Name": {"=?base64?c2FmZQ?="}},
		"two versions": {"Mcp-Protocol-Version": {"2026-07-28", "2025-11-25"}}, "two versions turned": {"Mcp-Protocol-Version": {"2025-11-25", "2026-07-28"}},
		"unknown version": {"Mcp-Protocol-Version": {"1999-01-01"}}, "utf-16": {"Content-Type": {"application/json; charset=utf-16"}}, "form": {"Content-Type": {"application/x-www-form-urlencoded"}},
		"two types": {"Content-Type": {"application/json", "text/plain"}}, "gzip": {"Content-Encoding": {"gzip"}}, "override": {"X-Http-Method-Override": {"DELETE"}},
		"two sessions": {"Mcp-Session-Id": {"a", "b"}},
	} {
		h := ordinary(modern)
		maps.Copy(h, change)
		list = append(list, probe{name: "header " + how, body: plain, header: h})
	}
	return list
}

func ordinary(modern bool) http.Header {
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2025-11-25"}}
	if modern {
		h["Mcp-Protocol-Version"], h["Mcp-Method"], h["Mcp-Name"] = []string{"2026-07-28"}, []string{"tools/call"}, []string{"safe"}
	}
	return h
}

func utf16(s string) string {
	b := []byte{0xff, 0xfe}
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return string(b)
}

// TestNoDifferential proves, for every probe, that either nothing reached the upstream, or what Warder
// wrote down as decided on is what the upstream executed, with the arguments that were sent.
func TestNoDifferential(t *testing.T) {
	list := oracles(t)
	var yaml strings.Builder
	for _, o := range list {
		fmt.Fprintf(&yaml, "  - {name: %s, url: %q}\n", o.name, o.url)
	}
	g := open(t, kit.Setup{Servers: yaml.String(), Trust: "first_use"})
	var runs []*probeRun
	for _, o := range list {
		tok := token(t, g, o.name)
		v := visit{target: target{tool: "safe", args: `{"tag":"first"}`}, url: g.URL(o.name), token: tok}
		if _, err := goSDK(t.Context(), v); err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		for _, modern := range []bool{true, false} {
			s := &sender{url: g.URL(o.name), token: tok}
			for _, p := range corpus(modern) {
				runs = append(runs, s.probe(t, o, p, modern, len(runs)))
			}
		}
	}
	judge(t, runs, decisions(t, g))
}

// A probeRun is one probe at one upstream, and what came of it.
type probeRun struct {
	probe
	oracle string
	modern bool
	trace  string
	status int
	answer string
	taken  taken
}

// A sender sends probes byte by byte as they are.
type sender struct {
	url, token, session string
}

func (s *sender) probe(t *testing.T, o oracle, p probe, modern bool, n int) *probeRun {
	t.Helper()
	run := &probeRun{probe: p, oracle: o.name, modern: modern, trace: fmt.Sprintf("%032x", n+0xabc000)}
	h := p.header
	if h == nil {
		h = ordinary(modern)
	}
	if !modern {
		if s.session == "" {
			s.open(t)
		}
		if h["Mcp-Session-Id"] == nil {
			h["Mcp-Session-Id"] = []string{s.session}
		}
	}
	o.take(t) // what opening left behind
	h["Traceparent"] = []string{"00-" + run.trace + "-00f067aa0ba902b7-01"}
	var err error
	if run.status, run.answer, _, err = s.send(t.Context(), p.body, h); err != nil {
		t.Errorf("%s %q: %v", o.name, p.name, err)
	}
	if !modern && run.status == http.StatusNotFound {
		s.session = ""
	}
	run.taken = o.take(t)
	return run
}

func (s *sender) send(ctx context.Context, body []byte, h http.Header) (int, string, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header = h.Clone()
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), resp.Header, err
}

// open opens a session.
func (s *sender) open(t *testing.T) {
	t.Helper()
	h := ordinary(false)
	delete(h, "Mcp-Protocol-Version")
	hello := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`
	status, text, got, err := s.send(t.Context(), []byte(hello), h)
	if err != nil || status != http.StatusOK {
		t.Fatalf("initialize: %d %s %v", status, text, err)
	}
	s.session = got.Get("Mcp-Session-Id")
	h = ordinary(false)
	h["Mcp-Session-Id"] = []string{s.session}
	if status, text, _, err := s.send(t.Context(), []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), h); err != nil || status != http.StatusAccepted {
		t.Fatalf("initialized: %d %s %v", status, text, err)
	}
}

// A decision is what the audit trail says of an exchange.
type decision struct {
	Type      string `json:"type"`
	Trace     string `json:"trace_id"`
	Method    string `json:"method"`
	Target    string `json:"target"`
	Outcome   string `json:"outcome"`
	Forwarded bool   `json:"forwarded"`
}

// decisions reads the audit trail by trace.
func decisions(t *testing.T, g *kit.Gateway) map[string][]decision {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // finished exchanges are written behind their answers
	out, err := g.Run(t.Context(), "audit", "show", "--type", "exchange", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var all []decision
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	by := make(map[string][]decision)
	for _, d := range all {
		by[d.Trace] = append(by[d.Trace], d)
	}
	return by
}

// judge holds what was executed against what was decided, and prints the counts.
func judge(t *testing.T, runs []*probeRun, by map[string][]decision) {
	t.Helper()
	type count struct{ refused, same, other int }
	counts := map[string]*count{}
	for _, r := range runs {
		c := counts[r.oracle]
		if c == nil {
			c = &count{}
			counts[r.oracle] = c
		}
		switch refused, err := r.verdict(by[r.trace]); {
		case err != nil:
			c.other++
			t.Errorf("%s modern=%t %q: %v\nsent      %.400q\nexecuted  %s\ndecided   %+v\nanswer    %d %.300s",
				r.oracle, r.modern, r.name, err, r.body, executions(r.taken.Executed), by[r.trace], r.status, r.answer)
		case refused:
			c.refused++
		default:
			c.same++
		}
		if r.name == "plain" && len(r.taken.Executed) != 1 {
			t.Errorf("%s modern=%t: the plain call was not executed: %d %s", r.oracle, r.modern, r.status, r.answer)
		}
	}
	for name, c := range counts {
		t.Logf("differential: %s: %d probes: %d refused and nothing forwarded, %d executed as decided, %d different", name, c.refused+c.same+c.other, c.refused, c.same, c.other)
	}
}

func executions(list []execution) string {
	raw, err := json.Marshal(list)
	return fmt.Sprint(string(raw), " ", err)
}

var errNotDecided = errors.New("the upstream executed what Warder did not decide on")

// verdict judges one run: refused with nothing forwarded, or the same on both sides.
func (r *probeRun) verdict(decided []decision) (refused bool, err error) {
	var allowed []decision
	for _, d := range decided {
		if d.Forwarded && d.Method == "tools/call" {
			allowed = append(allowed, d)
		}
	}
	if len(allowed) == 0 && (r.taken.Arrived > 0 || len(r.taken.Executed) > 0) {
		return false, fmt.Errorf("%w: nothing was decided to be forwarded, %d messages arrived", errNotDecided, r.taken.Arrived)
	}
	if len(allowed) == 0 {
		return true, nil
	}
	if len(r.taken.Executed) > len(allowed) {
		return false, fmt.Errorf("%w: %d calls for %d decisions", errNotDecided, len(r.taken.Executed), len(allowed))
	}
	for i, e := range r.taken.Executed {
		if e.Tool != allowed[i].Target {
			return false, fmt.Errorf("%w: %q instead of %q", errNotDecided, e.Tool, allowed[i].Target)
		}
		if want, ok := sentArguments(r.body); ok && !sameJSON(want, e.Arguments) {
			return false, fmt.Errorf("%w: other arguments, want %s", errNotDecided, want)
		}
	}
	return false, nil
}

// sentArguments reads the arguments of a single message that Warder accepted: it is one JSON value
// without duplicates, so that every parser reads the same.
func sentArguments(body []byte) (json.RawMessage, bool) {
	var m struct {
		Params map[string]json.RawMessage `json:"params"`
	}
	if json.Unmarshal(body, &m) != nil {
		return nil, false
	}
	return m.Params["arguments"], m.Params["arguments"] != nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// TestDifferentialsExist proves that the corpus tells the upstreams apart when Warder is not between:
// the same bytes make them execute different things. The Node server is left out, because some probes
// end it.
func TestDifferentialsExist(t *testing.T) {
	list := []oracle{goSDKOracle(t), mcpGoOracle(t)}
	apart, executed := 0, map[string]int{}
	for _, p := range corpus(false) {
		if p.header == nil {
			p.header = ordinary(false)
		}
		seen := map[string]bool{}
		for _, o := range list {
			s := &sender{url: o.url}
			_, _, _, _ = s.send(t.Context(), p.body, p.header) // what matters is what was executed
			got := o.take(t)
			what := "nothing"
			for _, e := range got.Executed {
				executed[o.name]++
				var arguments any
				_ = json.Unmarshal(e.Arguments, &arguments) // null if there are none
				what = fmt.Sprint(e.Tool, arguments)
			}
			seen[what] = true
		}
		if len(seen) > 1 {
			apart++
		}
	}
	t.Logf("differential: without Warder %d of %d probes are read differently; executed: %v", apart, len(corpus(false)), executed)
	if apart == 0 {
		t.Error("the corpus finds no difference between the upstreams")
	}
}
