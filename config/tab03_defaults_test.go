package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/internal/strictyaml"
)

var day = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestTAB03(t *testing.T) {
	t.Run("pass an empty file, which exposes nothing", func(t *testing.T) {
		for _, text := range []string{"", "\n", "# nothing\n", "---\n", "null\n", "{}\n", "version: 1\n"} {
			cfg, err := Parse("warder.yaml", []byte(text))
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if len(cfg.Listen) != 0 || len(cfg.Servers) != 0 || len(cfg.Groups) != 0 || cfg.Admin.Address != "" {
				t.Errorf("%q exposes something: %+v", text, cfg)
			}
			if w := (Defaults{}).Weakenings(cfg, day); len(w) != 0 {
				t.Errorf("%q weakens: %v", text, w)
			}
		}
	})
	t.Run("near_miss plaintext on loopback, and elsewhere by a named key that is reported", func(t *testing.T) {
		for _, address := range []string{"127.0.0.1:80", "[::1]:80", "localhost:80"} {
			if _, err := Parse("warder.yaml", []byte("listen: [{address: \""+address+"\"}]\n")); err != nil {
				t.Errorf("%s: %v", address, err)
			}
		}
		cfg, err := Parse("warder.yaml", []byte("network: {insecure_plaintext: true}\nlisten: [{address: \"0.0.0.0:80\"}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := Defaults{}.Weakenings(cfg, day)
		if len(got) != 1 || got[0].Path != "network.insecure_plaintext" || got[0].Control != "NET-05" {
			t.Errorf("weakenings = %v, want network.insecure_plaintext for NET-05", got)
		}
	})
	t.Run("deny plaintext outside loopback", func(t *testing.T) {
		for _, address := range []string{":80", "0.0.0.0:80", "[::]:80", "192.0.2.1:80", "gate.example.com:80"} {
			cfg := Default()
			cfg.Listen = []Listener{{Address: address}}
			if got := (Defaults{}).Refuse(cfg); len(got) != 1 || got[0].Path != "listen[0]" {
				t.Errorf("%s: refusals = %v, want one at listen[0]", address, got)
			}
			if _, err := Parse("warder.yaml", []byte("listen: [{address: \""+address+"\"}]\n")); err == nil {
				t.Errorf("%s: accepted", address)
			}
		}
	})
	t.Run("dependency_killed the file cannot be read", func(t *testing.T) {
		if cfg, err := Load(filepath.Join(t.TempDir(), "warder.yaml")); err == nil || cfg != nil {
			t.Errorf("Load = %v, %v; want no configuration and an error", cfg, err)
		}
		dir := t.TempDir() // a folder instead of a file
		if cfg, err := Load(dir); err == nil || cfg != nil {
			t.Errorf("Load of a folder = %v, %v; want no configuration and an error", cfg, err)
		}
		name := filepath.Join(dir, "cut.yaml")
		if err := os.WriteFile(name, []byte("listen: [{addre"), 0o600); err != nil {
			t.Fatal(err)
		}
		if cfg, err := Load(name); err == nil || cfg != nil {
			t.Errorf("Load of half a file = %v, %v; want no configuration and an error", cfg, err)
		}
	})
}

// TestEverySecurityKeyIsStrictByDefault tries every boolean omitted, null, false and true: the first
// three are the same strict configuration, the last is reported unless the key is declared harmless.
func TestEverySecurityKeyIsStrictByDefault(t *testing.T) {
	known := switches()
	used := map[string]bool{}
	for _, b := range booleans("", reflect.TypeFor[Config](), nil) {
		t.Run(b.path, func(t *testing.T) {
			toggle, ok := known[b.declared]
			if !ok {
				t.Fatalf("%s is in no list: say in switches() which control it weakens, or that it is harmless", b.declared)
			}
			used[b.declared] = true
			read := func(value string) *Config {
				cfg := Default()
				_ = strictyaml.Decode("t.yaml", []byte(b.document(value)), cfg, nil)
				return cfg
			}
			omitted := read("")
			same := []string{"null", "false"}
			if toggle.on {
				same = []string{"null", "true"}
			}
			for _, value := range same {
				if diff := cmp.Diff(Flatten(omitted), Flatten(read(value))); diff != "" {
					t.Errorf("%s: %s is not the same as leaving it out (-omitted +%s):\n%s", b.path, value, value, diff)
				}
			}
			if got := (Defaults{}).Weakenings(omitted, day); len(got) != 0 {
				t.Errorf("left out, it weakens: %v", got)
			}
			got := Defaults{}.Weakenings(read("true"), day)
			if toggle.control != "" && (len(got) != 1 || got[0].Control != toggle.control || got[0].Means == "") {
				t.Errorf("true is reported as %v, want one weakening of %s", got, toggle.control)
			}
			if toggle.control == "" && len(got) != 0 {
				t.Errorf("true is reported as %v, but declared harmless", got)
			}
		})
	}
	for declared := range known {
		if !used[declared] && !slices.Contains(others(), declared) {
			t.Errorf("switches() names %q, which is no boolean of the configuration and not tested below", declared)
		}
	}
}

// others lists the keys of switches() that are not booleans; TestOtherWeakenings tries each.
func others() []string {
	return []string{
		"proxy.Config min_revision", "identity.Audience shared_unsafe", "tools.Config trust", "tools.Config servers",
		"input.Config open_arguments", "upstream.Run instances", "output.Config public_servers", "issuer.Trust subject_prefix",
	}
}

func TestOtherWeakenings(t *testing.T) {
	for _, tc := range []struct{ text, path, control string }{
		{"limits: {min_revision: 2025-03-26}", "limits.min_revision", "PRT-01"},
		{"limits: {min_revision: 2025-06-18}", "", ""},
		{"identity: {base_url: https://g.example.com, issuers: [{url: https://i.example.com, jwks: {url: https://i.example.com/k}, audience: {shared_unsafe: all}}]}", "identity.issuers[0].audience.shared_unsafe", "IAM-05"},
		{"tools: {trust: first_use}", "tools.trust", "TDP-04"},
		{"tools: {trust: approved}", "", ""},
		{"tools: {servers: {a: approved, b: first_use}}", "tools.servers", "TDP-04"},
		{"tools: {servers: {a: approved}}", "", ""},
		{"input: {open_arguments: [a]}", "input.open_arguments", "INV-04"},
		{"input: {open_arguments: []}", "", ""},
		{"servers: [{name: a, run: {command: [x], instances: shared}}]", "servers[0].run.instances", "PRT-06"},
		{"servers: [{name: a, run: {command: [x], instances: principal}}]", "", ""},
		{"identity: {base_url: https://g.example.com}\nissuer: {url: https://g.example.com/issuer, trust: [{issuer: https://i.example.com, use: [id_jag], jwks_uri: https://i.example.com/k, subject_prefix: 'i:'}]}", "issuer.trust[0].subject_prefix", "AUT-07"},
		{"output: {public_servers: [a]}", "output.public_servers", "PRT-07"},
	} {
		t.Run(tc.text, func(t *testing.T) {
			cfg, ps := parse(t, tc.text+"\n")
			if ps != nil {
				t.Fatal(ps)
			}
			got := Defaults{}.Weakenings(cfg, day)
			if tc.path == "" {
				if len(got) != 0 {
					t.Errorf("weakenings = %v, want none", got)
				}
				return
			}
			if len(got) != 1 || got[0].Path != tc.path || string(got[0].Control) != tc.control {
				t.Errorf("weakenings = %v, want %s at %s", got, tc.control, tc.path)
			}
		})
	}
}

// A boolean is a key of the file whose value is true or false.
type boolean struct {
	path     string
	declared string
	steps    []string // keys from the top; "[]" is a list, "*" a name
}

// document writes a file with the value; an empty value leaves the key out.
func (b boolean) document(value string) string {
	text := "{"
	if value != "" {
		text = "{" + b.steps[len(b.steps)-1] + ": " + value
	}
	text += "}"
	for _, step := range slices.Backward(b.steps[:len(b.steps)-1]) {
		switch step {
		case "[]":
			text = "[" + text + "]"
		case "*":
			text = "{PRT-02: " + text + "}"
		default:
			text = "{" + step + ": " + text + "}"
		}
	}
	return text
}

func booleans(path string, t reflect.Type, steps []string) []boolean {
	var out []boolean
	for _, k := range strictyaml.Keys(t) {
		at, here := strictyaml.Join(path, k.Name), append(slices.Clone(steps), k.Name)
		inner, suffix := element(k.Type)
		for s := suffix; s != ""; {
			if rest, ok := strings.CutPrefix(s, "[]"); ok {
				s, here = rest, append(here, "[]")
			} else {
				s, here = strings.TrimPrefix(s, ".*"), append(here, "*")
			}
		}
		switch {
		case inner.Kind() == reflect.Bool && suffix == "":
			out = append(out, boolean{path: at, declared: declared(strictyaml.Owner(t, k), k.Name), steps: here})
		case inner.Kind() == reflect.Struct && !strictyaml.IsScalar(inner):
			out = append(out, booleans(at+suffix, inner, here)...)
		}
	}
	return out
}

func TestWeakeningsNamesExceptions(t *testing.T) {
	cfg, err := Parse("warder.yaml", []byte("controls:\n  GW-04: {mode: off, owner: ops@example.com, until: 2026-11-22}\n  PRT-02: {mode: monitor, owner: ops@example.com, until: 2026-11-21}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Weakening{{Path: "controls.GW-04", Control: "GW-04", Means: "mode off until 2026-11-22, answered for by ops@example.com"}}
	if diff := cmp.Diff(want, Defaults{}.Weakenings(cfg, day)); diff != "" {
		t.Errorf("weakenings; the exception of PRT-02 ended yesterday (-want +got):\n%s", diff)
	}
}
