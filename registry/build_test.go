package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

const search = `{"name":"search","title":"Search","description":"Finds notes.","inputSchema":{"type":"object",` +
	`"properties":{"q":{"type":"string","maxLength":200},"limit":{"type":"integer","minimum":1,"maximum":50}},"required":["q"]},` +
	`"outputSchema":{"type":"object","properties":{"hits":{"type":"array"}}},"annotations":{"readOnlyHint":true},"_meta":{"x":1.5}}`

func TestBuild(t *testing.T) {
	t.Parallel()
	tool, err := Build("notes", KindTool, []byte(search))
	if err != nil {
		t.Fatal(err)
	}
	if tool.Server != "notes" || tool.Name != "search" || tool.State != warder.Quarantined || tool.Effect != warder.EffectUnknown {
		t.Errorf("Build = %s/%s, %v, %v, want a quarantined notes/search", tool.Server, tool.Name, tool.State, tool.Effect)
	}
	if tool.Digest != sha256.Sum256(tool.Definition) {
		t.Error("the digest is not that of the canonical definition")
	}
	if v, err := tool.Input.Validate([]byte(`{"limit":99}`)); err != nil || len(v) != 2 {
		t.Errorf("Input.Validate = %v, %v, want two violations", v, err)
	}
	if v, err := tool.Output.Validate([]byte(`{"hits":3}`)); err != nil || len(v) != 1 {
		t.Errorf("Output.Validate = %v, %v, want one violation", v, err)
	}
}

func TestBuildKinds(t *testing.T) {
	t.Parallel()
	tests := []struct{ kind, definition, want string }{
		{KindPrompt, `{"name":"p","arguments":[{"name":"a"}]}`, "p"},
		{KindResource, `{"uri":"file:///a","name":"n"}`, "file:///a"},
		{KindTemplate, `{"uriTemplate":"file:///{x}","name":"n"}`, "file:///{x}"},
		{KindInstructions, `"Be kind.\n"`, InstructionsName},
	}
	for _, tt := range tests {
		tool, err := Build("s", tt.kind, []byte(tt.definition))
		if err != nil || tool.Name != tt.want || tool.Input != nil {
			t.Errorf("Build(%s) = %+v, %v, want the name %q", tt.kind, tool, err, tt.want)
		}
	}
}

// TestDigestMeansTheMeaning proves both halves of the digest: whatever is written differently and
// means the same has the same digest, whatever means something else has another.
func TestDigestMeansTheMeaning(t *testing.T) {
	t.Parallel()
	want, err := Build("s", KindTool, []byte(search))
	if err != nil {
		t.Fatal(err)
	}
	same := map[string]string{
		"white space": strings.ReplaceAll(search, `,"`, ",\n\t \""),
		"escapes":     strings.ReplaceAll(search, "Finds", `\u0046inds`),
		"numbers":     strings.ReplaceAll(strings.ReplaceAll(search, "200", "2.0e2"), "1.5", "1.50"),
		"order":       reorder(t, search),
	}
	for name, source := range same {
		got, err := Build("s", KindTool, []byte(source))
		if err != nil || got.Digest != want.Digest {
			t.Errorf("%s: %v, the digest differs although the meaning does not: %s", name, err, source)
		}
	}
	different := map[string]string{
		"description":   strings.Replace(search, "Finds", "finds", 1),
		"annotation":    strings.Replace(search, "true", "false", 1),
		"meta":          strings.Replace(search, "1.5", "1.6", 1),
		"number":        strings.Replace(search, "200", "201", 1),
		"array order":   strings.Replace(search, `["q"]`, `["q","limit"]`, 1),
		"unknown field": strings.Replace(search, `"title"`, `"extra":null,"title"`, 1),
		"hidden":        strings.Replace(search, "notes", "notes\u200b", 1),
	}
	for name, source := range different {
		got, err := Build("s", KindTool, []byte(source))
		if err != nil || got.Digest == want.Digest {
			t.Errorf("%s: %v, the digest is the same although the meaning is not: %s", name, err, source)
		}
	}
}

// reorder writes the members of every object in another order.
func reorder(t *testing.T, source string) string {
	t.Helper()
	var write func(v any) []byte
	write = func(v any) []byte {
		object, ok := v.(map[string]any)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		var parts [][]byte
		for key, part := range object {
			parts = append(parts, append([]byte(`"`+key+`":`), write(part)...))
		}
		rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		return append(append([]byte("{"), bytes.Join(parts, []byte(","))...), '}')
	}
	var v any
	if err := json.Unmarshal([]byte(source), &v); err != nil {
		t.Fatal(err)
	}
	return string(write(v))
}

// TestEveryByteCounts changes every byte of a definition in turn: the result is refused, or it means
// the same, or it has another digest.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	want, err := Build("s", KindTool, []byte(search))
	if err != nil {
		t.Fatal(err)
	}
	var original any
	if err := json.Unmarshal([]byte(search), &original); err != nil {
		t.Fatal(err)
	}
	refused, other := 0, 0
	for i := range len(search) {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			changed := []byte(search)
			changed[i] ^= flip
			got, err := Build("s", KindTool, changed)
			switch {
			case err != nil:
				refused++
			case got.Digest != want.Digest:
				other++
			default:
				var now any
				if err := json.Unmarshal(changed, &now); err != nil || !cmp.Equal(original, now) {
					t.Errorf("byte %d changed to %q keeps the digest: %s", i, changed[i], changed)
				}
			}
		}
	}
	if refused == 0 || other == 0 {
		t.Errorf("%d changes refused, %d got another digest: the test proves nothing", refused, other)
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	in := func(schema string) string { return `{"name":"t","inputSchema":` + schema + `}` }
	tests := []struct{ name, kind, definition string }{
		{"not JSON", KindTool, `{"name":`},
		{"duplicate member", KindTool, `{"name":"a","name":"b","inputSchema":{"type":"object"}}`},
		{"colliding member", KindTool, `{"name":"a","Name":"b","inputSchema":{"type":"object"}}`},
		{"not an object", KindTool, `["t"]`},
		{"no name", KindTool, `{"inputSchema":{"type":"object"}}`},
		{"a name that is no text", KindTool, `{"name":1,"inputSchema":{"type":"object"}}`},
		{"an empty name", KindTool, `{"name":"","inputSchema":{"type":"object"}}`},
		{"a long name", KindTool, `{"name":"` + strings.Repeat("a", 300) + `","inputSchema":{"type":"object"}}`},
		{"a hidden character in the name", KindTool, `{"name":"t\u200b","inputSchema":{"type":"object"}}`},
		{"a direction mark in the name", KindPrompt, `{"name":"\u202et"}`},
		{"no input schema", KindTool, `{"name":"t"}`},
		{"an input schema of another type", KindTool, in(`{"type":"string"}`)},
		{"an input schema that is no schema", KindTool, in(`{"type":"object","properties":3}`)},
		{"a remote reference", KindTool, in(`{"type":"object","properties":{"a":{"$ref":"http://attacker.example/"}}}`)},
		{"an output schema that is no schema", KindTool, `{"name":"t","inputSchema":{"type":"object"},"outputSchema":{"type":"x"}}`},
		{"a number that rounding changes", KindTool, in(`{"type":"object","properties":{"a":{"maximum":9007199254740993}}}`)},
		{"a number out of range", KindTool, in(`{"type":"object","properties":{"a":{"maximum":1e400}}}`)},
		{"instructions that are no text", KindInstructions, `{}`},
		{"an unknown kind", "agent", `{"name":"t"}`},
		{"too long", KindPrompt, `{"name":"p","description":"` + strings.Repeat("a", 1<<20) + `"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tool, err := Build("s", tt.kind, []byte(tt.definition)); !errors.Is(err, ErrInvalid) || tool != nil {
				t.Errorf("Build = %v, %v, want ErrInvalid", tool, err)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	properties := func(s string) string { return `{"type":"object","properties":{` + s + `}}` }
	tests := []struct {
		name, schema string
		want         []warder.Header
		refused      bool
	}{
		{name: "none", schema: properties(`"a":{"type":"string"}`)},
		{
			name: "nested", schema: properties(`"b":{"type":"object","properties":{"c":{"type":"boolean","x-mcp-header":"Flag"}}},"a":{"type":"integer","x-mcp-header":"A"}`),
			want: []warder.Header{{Name: "A", Pointer: []string{"a"}, Type: "integer"}, {Name: "Flag", Pointer: []string{"b", "c"}, Type: "boolean"}},
		},
		{name: "a property of that name is no annotation", schema: properties(`"x-mcp-header":{"type":"string"}`)},
		{name: "a default is no annotation", schema: properties(`"a":{"default":{"x-mcp-header":"A"}}`)},
		{name: "empty", schema: properties(`"a":{"type":"string","x-mcp-header":""}`), refused: true},
		{name: "no token", schema: properties(`"a":{"type":"string","x-mcp-header":"A B"}`), refused: true},
		{name: "line break", schema: properties(`"a":{"type":"string","x-mcp-header":"A\r\nX"}`), refused: true},
		{name: "no text", schema: properties(`"a":{"type":"string","x-mcp-header":1}`), refused: true},
		{name: "number", schema: properties(`"a":{"type":"number","x-mcp-header":"A"}`), refused: true},
		{name: "union", schema: properties(`"a":{"type":["string","null"],"x-mcp-header":"A"}`), refused: true},
		{name: "no type", schema: properties(`"a":{"x-mcp-header":"A"}`), refused: true},
		{name: "twice ignoring case", schema: properties(`"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}`), refused: true},
		{name: "in items", schema: properties(`"a":{"items":{"type":"string","x-mcp-header":"A"}}`), refused: true},
		{name: "in a composition", schema: `{"type":"object","allOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`, refused: true},
		{name: "in a definition", schema: `{"type":"object","$defs":{"d":{"type":"string","x-mcp-header":"A"}}}`, refused: true},
		{name: "in a pattern", schema: `{"type":"object","patternProperties":{"a":{"type":"string","x-mcp-header":"A"}}}`, refused: true},
		{name: "at the root", schema: `{"type":"object","x-mcp-header":"A"}`, refused: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tool, err := Build("s", KindTool, []byte(`{"name":"t","inputSchema":`+tt.schema+`}`))
			if tt.refused {
				if !errors.Is(err, ErrInvalid) {
					t.Errorf("Build = %v, want ErrInvalid", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tool.Headers); diff != "" {
				t.Errorf("Headers mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"plain text, Grüße 世界 😀", "plain text, Grüße 世界 😀"},
		{"a\nb\tc\r", `a\nb\tc\r`},
		{"zero\u200bwidth", `zero\u{200B}width`},
		{"tag\U000E0041\U000E007F", `tag\u{E0041}\u{E007F}`},
		{"\u202eright", `\u{202E}right`},
		{"no\u00a0break", `no\u{00A0}break`},
		{"heart\ufe0f", `heart\u{FE0F}`},
		{"filler\u3164", `filler\u{3164}`},
		{"\x00\x1b[31m", `\u{0000}\u{001B}[31m`},
		{"bad\xff", `bad\u{FFFD}`},
		{"private\ue000", `private\u{E000}`},
	}
	for _, tt := range tests {
		if got := Visible(tt.in); got != tt.want {
			t.Errorf("Visible(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	old := `{"a":{"b":[1,2,3],"s":"same","x/y":"old"},"gone":true}`
	now := `{"a":{"b":[1,5],"s":"same","x/y":"new\u200b"},"came":{"k":null}}`
	got, err := Compare([]byte(old), []byte(now))
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{Pointer: "/a/b/1", Op: "replace", Old: "2", New: "5"},
		{Pointer: "/a/b/2", Op: "remove", Old: "3"},
		{Pointer: "/a/x~1y", Op: "replace", Old: `"old"`, New: `"new\u{200B}"`},
		{Pointer: "/came", Op: "add", New: `{"k": null}`},
		{Pointer: "/gone", Op: "remove", Old: "true"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Compare mismatch (-want +got):\n%s", diff)
	}
	if same, err := Compare([]byte(old), []byte(old)); err != nil || same != nil {
		t.Errorf("Compare with itself = %v, %v, want nothing", same, err)
	}
	if whole, err := Compare(nil, []byte(`"x"`)); err != nil || len(whole) != 1 || whole[0].Op != "add" {
		t.Errorf("Compare with nothing = %v, %v, want one addition", whole, err)
	}
}

func TestWriteChanges(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 100)
	changes, err := Compare([]byte(`{"d":"`+long+`reap`+long+`"}`), []byte(`{"d":"`+long+`send`+long+`","n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := WriteChanges(&b, changes); err != nil {
		t.Fatal(err)
	}
	around := strings.Repeat("word ", 8)
	want := "replace /d\n  - …" + around + "reap" + around + "…\n  + …" + around + "send" + around + "…\nadd /n\n  + 1\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("WriteChanges mismatch (-want +got):\n%s", diff)
	}
}

// FuzzBuild looks for definitions that make Build panic, or whose canonical form builds differently.
func FuzzBuild(f *testing.F) {
	f.Add(KindTool, []byte(search))
	f.Add(KindPrompt, []byte(`{"name":"p","arguments":[{"name":"a","required":true}]}`))
	f.Add(KindInstructions, []byte(`"be kind"`))
	f.Add(KindTool, []byte(`{"name":"t","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`))
	f.Add(KindResource, []byte(`{"uri":"a:b"}`))
	f.Fuzz(func(t *testing.T, kind string, definition []byte) {
		tool, err := Build("s", kind, definition)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || tool != nil {
				t.Fatalf("Build = %v, %v, want ErrInvalid alone", tool, err)
			}
			return
		}
		again, err := Build("s", kind, tool.Definition)
		if err != nil {
			t.Fatalf("the canonical form %s is refused: %v", tool.Definition, err)
		}
		if again.Digest != tool.Digest || again.Name != tool.Name || !bytes.Equal(again.Definition, tool.Definition) {
			t.Errorf("the canonical form of %s is not stable", definition)
		}
		if diff := cmp.Diff(tool.Headers, again.Headers); diff != "" {
			t.Errorf("annotations differ (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build("s", KindTool, []byte(search)); err != nil {
			b.Fatal(err)
		}
	}
}
