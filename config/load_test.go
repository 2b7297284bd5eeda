package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, text string) (*Config, *Error) {
	t.Helper()
	cfg, err := Parse("warder.yaml", []byte(text))
	if err == nil {
		return cfg, nil
	}
	ps, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("Parse returned %T, want *Error: %v", err, err)
	}
	return nil, ps
}

func TestParseReportsEveryProblem(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string // "line:column: path: message" each, then the hint after " | "
	}{
		{"unknown key with a neighbour", "lisen: []\n", []string{`1:1: lisen: unknown key "lisen" | did you mean "listen"?`}},
		{
			"top-level key in the wrong place", "admin:\n  address: \"127.0.0.1:1\"\n  servers: []\n",
			[]string{`3:3: admin.servers: unknown key "servers" | "servers" is a key of the top level; check the indentation`},
		},
		{"duplicate key", "version: 1\nversion: 1\n", []string{`2:1: version: duplicate key "version" | it stands on line 1 already`}},
		{"second document", "version: 1\n---\nversion: 1\n", []string{`2:1: a second document | keep one document per file: remove the line "---" and what follows`}},
		{
			"three at once", "version: 2\nlisten:\n  - address: 8443\nservers:\n  - name: Files\n    url: https://a.example.com/mcp\n",
			[]string{
				`1:10: version: version 2 is not known | the only version is 1`,
				`3:14: listen[0].address: want text, got a number | put it in quotes: "8443"`,
				`5:11: servers[0].name: name "Files": want lower-case letters and digits with single hyphens, at most 63`,
			},
		},
		{"yes is no boolean", "network: {allow_tls12: yes}\n", []string{`1:24: network.allow_tls12: want true or false, got "yes"`}},
		{"list wanted", "groups: files\n", []string{`1:9: groups: want a list, got text | write [files]`}},
		{"mapping wanted", "admin: [1]\n", []string{`1:8: admin: want a mapping, got a list`}},
		{"alias", "groups: &a []\nservers: *a\n", []string{`1:9: groups: anchors and aliases are not accepted | write the value out`, `2:10: servers: anchors and aliases are not accepted | write the value out`}},
		{"explicit tag", "data: !!binary aGk=\n", []string{`1:7: data: explicit tags are not accepted | remove !!binary`}},
		{"merge key", "admin:\n  <<: {address: x}\n", []string{`2:3: admin.<<: unknown key "<<" | known keys: address, api`}},
		{"plaintext off loopback", "listen:\n  - address: 0.0.0.0:80\n", []string{`2:5: listen[0]: plaintext is refused outside the loopback interface | set tls.cert and tls.key, or listen on 127.0.0.1`}},
		{
			"secret in the file", "listen:\n  - address: \":1\"\n    tls: {cert: {file: a}, key: abc}\n",
			[]string{`3:33: listen[0].tls.key: want a mapping, got text`},
		},
		{
			"two sources of a secret", "listen:\n  - address: \":1\"\n    tls: {cert: {file: a}, key: {file: a, env: B}}\n",
			[]string{`3:33: listen[0].tls.key: secret reference: set exactly one of file, env, exec, vault, aws and age`},
		},
		{"bypass without owner and end", "controls:\n  PRT-02: {mode: off}\n", []string{
			`2:11: controls.PRT-02: mode off needs an owner | say who answers for the exception: owner: name@example.com`,
			`2:11: controls.PRT-02: mode off needs an end | say when the exception ends: until: 2027-01-31`,
		}},
		{"unknown mode", "controls: {PRT-02: {mode: audit}}\n", []string{`1:27: controls.PRT-02.mode: mode "audit": want enforce, monitor or off`}},
		{"bad date", "controls: {PRT-02: {mode: off, owner: a, until: 2026-02-30}}\n", []string{`1:49: controls.PRT-02.until: date "2026-02-30": want YYYY-MM-DD`}},
		{"group of nobody", "groups: [{name: g, servers: [fils]}]\nservers: [{name: files, url: https://a.example.com/mcp}]\n", []string{`1:30: groups[0].servers[0]: no server is named "fils" | did you mean "files"?`}},
		{"same name", "servers: [{name: a, run: {command: [x]}}, {name: a, run: {command: [y]}}]\n", []string{`1:50: servers[1].name: the name "a" is that of servers[0] | names of servers and groups share one space of URLs`}},
		{"not YAML", "a: [1,\n", []string{`2:1: not YAML: did not find expected node content`}},
		{"root is a list", "- a\n", []string{`1:1: want a mapping, got a list`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, ps := parse(t, tc.text)
			var got []string
			for _, p := range ps.Problems {
				line := strings.TrimPrefix(p.String(), "warder.yaml:")
				if p.Hint != "" {
					line += " | " + p.Hint
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	cfg, ps := parse(t, `
version: 1
listen:
  - {address: "127.0.0.1:8443"}
servers:
  - {name: files, resource: "https://gate.example.com/mcp/files", labels: [internal], run: {command: [files]}}
groups:
  - {name: all, servers: [files]}
controls:
  GW-04: {mode: monitor, owner: ops@example.com, until: 2026-12-31}
admin: {address: "localhost:9443"}
`)
	if ps != nil {
		t.Fatalf("Parse: %v", ps)
	}
	if got := cfg.Controls["GW-04"].ModeAt(time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC)); got != Monitor {
		t.Errorf("mode on the last day = %v, want monitor", got)
	}
	if got := cfg.Controls["GW-04"].ModeAt(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)); got != Enforce {
		t.Errorf("mode after the last day = %v, want enforce", got)
	}
	if cfg.Servers[0].Name != "files" || cfg.Groups[0].Servers[0] != "files" {
		t.Errorf("servers and groups = %+v %+v", cfg.Servers, cfg.Groups)
	}
}

func TestRenderShowsTheText(t *testing.T) {
	_, ps := parse(t, "version: 1\nlisten:\n  - addrress: \"127.0.0.1:1\"\n")
	var b strings.Builder
	if err := ps.Render(&b); err != nil {
		t.Fatal(err)
	}
	want := `warder.yaml:3:5: listen[0].addrress: unknown key "addrress"
    3 |   - addrress: "127.0.0.1:1"
      |     ^^^^^^^^
      hint: did you mean "address"?
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRenderHidesControlCharacters(t *testing.T) {
	_, ps := parse(t, "\"a\x1b[2J\u202e\": 1\n")
	if ps == nil {
		t.Fatal("accepted")
	}
	var b strings.Builder
	if err := ps.Render(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") {
		t.Errorf("steering characters reach the terminal: %q", b.String())
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "warder.yaml")
	if _, err := Load(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v, want os.ErrNotExist", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, ".warder"); cfg.Data != want {
		t.Errorf("data = %q, want %q", cfg.Data, want)
	}
	if err := os.WriteFile(name, []byte(strings.Repeat("#", MaxBytes+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err == nil {
		t.Error("a file over the limit was accepted")
	}
}
