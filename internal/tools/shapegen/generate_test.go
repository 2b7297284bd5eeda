package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/tools/mcpschema"
)

const schemas2025 = `{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{
	"ClientRequest":{"anyOf":[{"$ref":"#/$defs/EchoRequest"}]},
	"EchoRequest":{"type":"object","properties":{"method":{"const":"x/echo","type":"string"},"params":{"type":"object",
		"properties":{"level":{"$ref":"#/$defs/Level"},"n":{"type":"integer","minimum":0},"any":{},"uri":{"type":"string","format":"uri"}},"required":["n"]}},"required":["method","params"]},
	"EchoResult":{"allOf":[{"type":"object","properties":{"_meta":{"type":"object","additionalProperties":{}}}},{"$ref":"#/$defs/More"}]},
	"More":{"type":"object","properties":{"list":{"type":"array","maxItems":3,"items":{"type":["string","null"]}}},"required":["list"]},
	"Level":{"type":"string","enum":["high","low"]},
	"Error":{"type":"object","properties":{"code":{"type":"integer"}},"required":["code"]}}}`

func TestGenerate(t *testing.T) {
	t.Parallel()
	got, err := Generate(warder.Revision20251125, []byte(schemas2025))
	if err != nil {
		t.Fatal(err)
	}
	want := `# Messages of MCP 2025-11-25. Written by internal/tools/shapegen; do not edit.
client request x/echo params: {_meta?: {*: any}, any?: any, level?: Level, n: integer[0..], uri?: string<uri>} result: EchoResult
error Error
EchoResult = {_meta?: {*: any}, list: [(string | null)]{..3}}
Error = {code: integer}
Level = ("high" | "low")
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGenerateRefuses proves that nothing of a schema is silently left out of a table.
func TestGenerateRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][2]string{
		"unknown keyword":    {`"minimum":0`, `"multipleOf":2`},
		"unknown format":     {`"format":"uri"`, `"format":"email"`},
		"unknown type":       {`"type":"integer","minimum"`, `"type":"decimal","minimum"`},
		"missing definition": {`"#/$defs/Level"`, `"#/$defs/Gone"`},
		"no method":          {`"const":"x/echo",`, ``},
		"required unknown":   {`"required":["n"]`, `"required":["m"]`},
		"constraint alone":   {`"any":{}`, `"any":{"enum":["a"]}`},
		"clashing allOf":     {`"properties":{"list"`, `"properties":{"_meta":{},"list"`},
	} {
		raw := strings.Replace(schemas2025, change[0], change[1], 1)
		if raw == schemas2025 {
			t.Fatalf("%s: changes nothing", name)
		}
		if _, err := Generate(warder.Revision20251125, []byte(raw)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestFresh proves that the committed tables are what the generator makes of the published schemas.
func TestFresh(t *testing.T) {
	t.Parallel()
	dir := mcpschema.Folder(t)
	out := t.TempDir()
	if err := run(dir, out); err != nil {
		t.Fatal(err)
	}
	for _, rev := range warder.Revisions() {
		want, err := os.ReadFile(filepath.Join(out, string(rev)+".shape"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("../../../wire/shape/tables", string(rev)+".shape"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: run shapegen (-want +got):\n%s", rev, diff)
		}
	}
}
