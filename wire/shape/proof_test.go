package shape_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/tools/mcpschema"
	"github.com/warder-mcp/warder/wire"
	"github.com/warder-mcp/warder/wire/shape"
)

// differences are the cases of package documentation in which Warder refuses what the schema
// admits. Any other difference fails the proof.
var differences = []string{
	"format_uri", "format_uri_template", "format_byte", "integer_form", "result_type", "result_of_method",
	"envelope_closed", "id_form",
}

// A judge compares Warder's verdict with the schema's and counts.
type judge struct {
	t         testing.TB
	rev       warder.Revision
	set       *shape.Set
	published *published
	resolved  map[string]*jsonschema.Resolved

	valid, invalid int
	strict         map[string]int
	milder         int
}

func (j *judge) oracle(def string) *jsonschema.Resolved {
	if r, ok := j.resolved[def]; ok {
		return r
	}
	var root map[string]any
	if err := json.Unmarshal(j.published.raw, &root); err != nil {
		j.t.Fatal(err)
	}
	root["allOf"] = []any{map[string]any{"$ref": "#/" + j.published.path + "/" + def}}
	raw, err := json.Marshal(root)
	if err != nil {
		j.t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		j.t.Fatalf("%s: %v", def, err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		j.t.Fatalf("%s: %v", def, err)
	}
	j.resolved[def] = r
	return r
}

func (j *judge) admits(raw []byte, defs ...string) bool {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		j.t.Fatalf("%s: %v", raw, err)
	}
	for _, def := range defs {
		if j.oracle(def).Validate(v) != nil {
			return false
		}
	}
	return true
}

// compare holds one verdict against the other. difference names why ours refused, if it did.
func (j *judge) compare(what string, raw []byte, schema, ours bool, difference string) {
	j.t.Helper()
	switch {
	case schema && ours:
		j.valid++
	case !schema && !ours:
		j.invalid++
	case schema && slices.Contains(differences, difference):
		j.strict[difference]++
	case !schema && difference == "elicited_number":
		j.milder++
	default:
		j.t.Errorf("%s %s: schema admits: %v, Warder admits: %v (%s)\n%.600s", j.rev, what, schema, ours, difference, raw)
	}
}

// classify names the documented difference that a violation is.
func classify(v shape.Violation, raw []byte) string {
	switch {
	case v.Keyword == "format":
		return strings.ReplaceAll("format_"+v.Want[strings.LastIndexByte(v.Want, ' ')+1:], "-", "_")
	case strings.HasSuffix(v.Pointer, "/resultType") && (v.Keyword == "const" || v.Keyword == "enum"):
		return "result_type"
	case (v.Want == "integer" || v.Keyword == "anyOf") && bytes.Contains(raw, []byte("1e2")):
		return "integer_form"
	case v.Keyword == "anyOf" && anyFormat(raw):
		return "format_uri" // a case of an untagged union failed by its format alone
	default:
		return v.String()
	}
}

func anyFormat(raw []byte) bool {
	for _, s := range []string{`"uri":`, `"url":`, `"src":`, `"blob":`, `"data":`} {
		if bytes.Contains(raw, []byte(s)) {
			return true
		}
	}
	return false
}

func newJudge(tb testing.TB, dir string, set *shape.Set, rev warder.Revision) *judge {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, string(rev)+".schema.json"))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := readPublished(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return &judge{t: tb, rev: rev, set: set, published: p, resolved: map[string]*jsonschema.Resolved{}, strict: map[string]int{}}
}

// TestPublished proves that Warder and the published schemas agree on every definition and every
// message of every revision, over generated instances and their systematic mutations.
func TestPublished(t *testing.T) {
	t.Parallel()
	dir := mcpschema.Folder(t)
	set, err := shape.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, rev := range warder.Revisions() {
		t.Run(string(rev), func(t *testing.T) {
			t.Parallel()
			j := newJudge(t, dir, set, rev)
			definitions, others := j.definitions()
			messages := j.messages()
			t.Logf("%s: %d definitions and %d messages; both admit %d, both refuse %d, Warder alone refuses %v, Warder alone admits %d (elicited_number)",
				rev, definitions, messages, j.valid, j.invalid, j.strict, j.milder)
			t.Logf("%s: judged as messages only, or never sent by themselves: %s", rev, strings.Join(others, " "))
		})
	}
}

// definitions judges every definition that a table holds, and names those it does not hold.
func (j *judge) definitions() (judged int, others []string) {
	for _, def := range slices.Sorted(maps.Keys(j.published.defs)) {
		if !j.set.HoldsDefinition(j.rev, def) {
			others = append(others, def)
			continue
		}
		judged++
		for _, instance := range j.published.instances(j.published.defs[def].(map[string]any)) {
			raw, err := json.Marshal(instance)
			if err != nil {
				j.t.Fatal(err)
			}
			if !j.admits(raw, def) {
				j.t.Fatalf("%s %s: the generated instance is not valid: %s", j.rev, def, raw)
			}
			j.definition(def, "instance", raw)
			mutants(instance, func(what string, raw []byte) { j.definition(def, what, raw) })
		}
	}
	return judged, others
}

func (j *judge) definition(def, what string, raw []byte) {
	j.t.Helper()
	v, ours := j.set.CheckDefinition(j.rev, def, wire.Parse(raw))
	difference := ""
	if !ours {
		difference = classify(v, raw)
	} else if def == "ElicitResult" && !j.rev.Modern() && bytes.Contains(raw, []byte("1.5")) {
		difference = "elicited_number"
	}
	j.compare(def+" "+what, raw, j.admits(raw, def), ours, difference)
}

// A case is one method in one direction with the definitions that govern it.
type methodCase struct {
	from            warder.Direction
	name            string // of the request or notification definition
	method          string
	request         bool
	envelope        []string // definitions the whole message must fit
	result, answers string   // definition of the result and of the whole answer
}

func (j *judge) cases() []methodCase {
	var out []methodCase
	for _, side := range []struct {
		from    warder.Direction
		union   string
		request bool
	}{
		{warder.FromClient, "ClientRequest", true},
		{warder.FromClient, "ClientNotification", false},
		{warder.FromServer, "ServerRequest", true},
		{warder.FromServer, "ServerNotification", false},
	} {
		for _, name := range j.members(side.union) {
			s := j.published.defs[name].(map[string]any)["properties"].(map[string]any)
			c := methodCase{from: side.from, name: name, request: side.request}
			c.method = s["method"].(map[string]any)["const"].(string)
			c.envelope = []string{name, "JSONRPCNotification"}
			if side.request {
				c.envelope = []string{name, "JSONRPCRequest"}
				c.result, c.answers = j.answer(name)
			}
			out = append(out, c)
		}
	}
	return out
}

func (j *judge) members(union string) []string {
	s, ok := j.published.defs[union].(map[string]any)
	if !ok {
		return nil
	}
	list, ok := s["anyOf"].([]any)
	if !ok {
		return []string{union}
	}
	var names []string
	for _, one := range list {
		ref := one.(map[string]any)["$ref"].(string)
		names = append(names, ref[strings.LastIndexByte(ref, '/')+1:])
	}
	return names
}

// answer names the definitions of the result and of the message that carries it.
func (j *judge) answer(request string) (result, message string) {
	stem := strings.TrimSuffix(request, "Request")
	message = "JSONRPCResponse"
	if _, ok := j.published.defs["JSONRPCResultResponse"]; ok {
		message = "JSONRPCResultResponse"
	}
	if _, ok := j.published.defs[stem+"ResultResponse"]; ok {
		return "", stem + "ResultResponse"
	}
	if _, ok := j.published.defs[stem+"Result"]; ok {
		return stem + "Result", message
	}
	return "EmptyResult", message
}

// messages judges every method in every direction, its result, and the error object.
func (j *judge) messages() int {
	cases := j.cases()
	for _, c := range cases {
		j.asked(c)
		if c.request {
			j.answered(c)
		}
	}
	j.failures()
	return len(cases)
}

func (j *judge) asked(c methodCase) {
	for _, instance := range j.published.instances(j.published.defs[c.name].(map[string]any)) {
		m := instance.(map[string]any)
		m["jsonrpc"] = "2.0"
		if c.request {
			m["id"] = 1
		}
		if params, ok := m["params"]; ok && len(m) > 0 {
			m["params"] = params
		}
		j.message(c, "instance", encode(m))
		mutants(m, func(what string, raw []byte) { j.message(c, what, raw) })
	}
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// refusedBy names the difference when decoding already refuses.
func refusedBy(err error) string {
	switch {
	case strings.Contains(err.Error(), "unknown_member"), strings.Contains(err.Error(), "bad_member"):
		return "envelope_closed"
	case strings.Contains(err.Error(), "bad_id"):
		return "id_form"
	case strings.Contains(err.Error(), "bad_error"):
		return "integer_form"
	default:
		return err.Error()
	}
}

func (j *judge) message(c methodCase, what string, raw []byte) {
	j.t.Helper()
	schema := j.admits(raw, c.envelope...)
	m, err := wire.Decode(raw, wire.Limits{})
	if err != nil {
		j.compare(c.name+" "+what, raw, schema, false, refusedBy(err))
		return
	}
	want := shape.Notification
	if m.Kind == warder.KindRequest {
		want = shape.Request
	}
	if form := j.set.Lookup(j.rev, c.from, m.Method); m.Method != c.method || form != want {
		j.compare(c.name+" "+what, raw, schema, false, "another method or form")
		return
	}
	v, ours := j.set.CheckMessage(shape.Query{Revision: j.rev, From: c.from, Method: m.Method}, m)
	j.compare(c.name+" "+what, raw, schema, ours, difference(v, ours, raw))
}

func difference(v shape.Violation, ours bool, raw []byte) string {
	if ours {
		return ""
	}
	return classify(v, raw)
}

func (j *judge) answered(c methodCase) {
	var instances []any
	if c.result != "" {
		for _, result := range j.published.instances(j.published.defs[c.result].(map[string]any)) {
			instances = append(instances, map[string]any{"jsonrpc": "2.0", "id": 1, "result": result})
		}
	} else {
		s := j.published.defs[c.answers].(map[string]any)["properties"].(map[string]any)["result"].(map[string]any)
		for _, result := range j.published.instances(s) {
			if r := result.(map[string]any); r["resultType"] == "text" {
				r["resultType"] = "complete"
				if len(r) == 1 || r["inputRequests"] != nil {
					r["resultType"] = "input_required"
				}
			}
			instances = append(instances, map[string]any{"jsonrpc": "2.0", "id": 1, "result": result})
		}
	}
	for _, instance := range instances {
		j.result(c, "result", encode(instance))
		mutants(instance, func(what string, raw []byte) { j.result(c, "result "+what, raw) })
	}
}

func (j *judge) result(c methodCase, what string, raw []byte) {
	j.t.Helper()
	schema := j.admits(raw, c.answers)
	if schema && c.result != "" {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			j.t.Fatal(err)
		}
		schema = j.admits(m["result"], c.result)
	}
	m, err := wire.Decode(raw, wire.Limits{})
	if err != nil || m.Kind != warder.KindResult {
		reason := "not a result"
		if err != nil {
			reason = refusedBy(err)
		}
		j.compare(c.name+" "+what, raw, schema, false, reason)
		return
	}
	v, ours := j.set.CheckMessage(shape.Query{Revision: j.rev, From: c.from, Method: c.method}, m)
	why := difference(v, ours, raw)
	if !ours && schema && c.result == "" && !j.admitsByType(c, m) {
		why = "result_of_method"
	}
	if ours && c.method == wire.MethodElicit && !j.rev.Modern() && bytes.Contains(raw, []byte("1.5")) {
		why = "elicited_number"
	}
	j.compare(c.name+" "+what, raw, schema, ours, why)
}

// admitsByType asks the definition that the result's own resultType names, not the union with
// InputRequiredResult that admits everything.
func (j *judge) admitsByType(c methodCase, m *warder.Message) bool {
	def := strings.TrimSuffix(c.name, "Request") + "Result"
	if wire.At(m, m.Result.Get("resultType")).Equals(wire.ResultInputRequired) {
		def = "InputRequiredResult"
	}
	return j.admits(m.At(m.ResultSpan), def)
}

// failures judges error answers.
func (j *judge) failures() {
	def := "JSONRPCError"
	if _, ok := j.published.defs[def]; !ok {
		def = "JSONRPCErrorResponse"
	}
	for _, instance := range j.published.instances(j.published.defs[def].(map[string]any)) {
		judgeOne := func(what string, raw []byte) {
			schema := j.admits(raw, def)
			m, err := wire.Decode(raw, wire.Limits{})
			if err != nil || m.Kind != warder.KindError {
				j.compare(def+" "+what, raw, schema, false, refusedBy(fmt.Errorf("%w", err)))
				return
			}
			v, ours := j.set.CheckMessage(shape.Query{Revision: j.rev}, m)
			j.compare(def+" "+what, raw, schema, ours, difference(v, ours, raw))
		}
		judgeOne("instance", encode(instance))
		mutants(instance, judgeOne)
	}
}

// FuzzPublished looks for a message that Warder admits and the published schema refuses.
func FuzzPublished(f *testing.F) {
	dir, set := mcpschema.Folder(f), load(f)
	var judges []*judge
	var cases [][]methodCase
	for _, rev := range warder.Revisions() {
		j := newJudge(f, dir, set, rev)
		judges, cases = append(judges, j), append(cases, j.cases())
		for i, c := range j.cases() {
			if i%4 == 0 {
				m := j.published.instances(j.published.defs[c.name].(map[string]any))[0].(map[string]any)
				m["jsonrpc"], m["id"] = "2.0", i
				f.Add(encode(m), uint8(len(judges)-1), uint8(i))
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, rev, which uint8) {
		m, err := wire.Decode(raw, wire.Limits{})
		if err != nil || m.IsAnswer() {
			return
		}
		j := judges[int(rev)%len(judges)]
		c := cases[int(rev)%len(judges)][int(which)%len(cases[int(rev)%len(judges)])]
		want := shape.Notification
		if m.Kind == warder.KindRequest {
			want = shape.Request
		}
		if m.Method != c.method || set.Lookup(j.rev, c.from, m.Method) != want {
			return
		}
		if _, ok := set.CheckMessage(shape.Query{Revision: j.rev, From: c.from, Method: m.Method}, m); ok && !j.admits(raw, c.envelope...) {
			t.Errorf("%s %s: Warder admits what the schema refuses: %s", j.rev, c.name, raw)
		}
	})
}
