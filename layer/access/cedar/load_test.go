package cedar

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/wire"
)

func TestLoadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.cedar", `permit (principal, action, resource in Warder::Server::"files");`)
	write("b.cedar", "\n"+`@id("b") forbid (principal in Warder::Group::"dev", action, resource);`)
	write("notes.txt", "not a policy")
	pattern := filepath.Join(dir, "*.cedar")
	e, err := Load(access.Config{Policies: []string{pattern}, Groups: map[string][]string{"interns": {"staff"}, "staff": {"dev"}}})
	if err != nil {
		t.Fatal(err)
	}
	if e.Len() != 2 || e.Generation() != 1 {
		t.Errorf("%d policies of generation %d, want 2 of 1", e.Len(), e.Generation())
	}
	p := alice()
	p.Groups = []string{"interns"} // member of dev by nesting
	d, err := e.Authorize(t.Context(), call(p, filesServer(), readTool(), `{}`))
	if err != nil || d.Reason != "forbidden" || !cmp.Equal(d.Policies, []string{"b"}) {
		t.Errorf("decision = %+v, %v, want forbidden by b", d, err)
	}
	p = alice()
	p.Groups = nil
	d, err = e.Authorize(t.Context(), call(p, filesServer(), readTool(), `{}`))
	if err != nil || !cmp.Equal(d.Policies, []string{filepath.Join(dir, "a.cedar") + ":1:1"}) {
		t.Errorf("decision = %+v, %v, want the place as id of a policy without one", d, err)
	}

	write("b.cedar", `permit (`)
	if err := e.Reload(access.Config{Policies: []string{pattern}}); err == nil || !strings.Contains(err.Error(), "b.cedar") {
		t.Errorf("reload of a broken file: %v", err)
	}
	if e.Len() != 2 || e.Generation() != 1 {
		t.Error("a failed reload changed the policies")
	}
	for name, cfg := range map[string]access.Config{
		"no match":  {Policies: []string{filepath.Join(dir, "*.rego")}},
		"no folder": {Policies: []string{filepath.Join(dir, "none", "*.cedar")}},
		"bad glob":  {Policies: []string{filepath.Join(dir, "[")}},
		"circle":    {Groups: map[string][]string{"a": {"b"}, "b": {"a"}}},
		"self":      {Groups: map[string][]string{"a": {"a"}}},
	} {
		if _, err := Load(cfg); err == nil {
			t.Errorf("%s: configuration was accepted", name)
		}
	}
}

func TestLoadReportsEveryFault(t *testing.T) {
	t.Parallel()
	_, err := Load(access.Config{Inline: `@id("one") permit (principal, action, resource) when { principal.shoe == 1 };
@id("two") permit (principal, action, resource) when { context.hat };`})
	if err == nil {
		t.Fatal("policies were accepted")
	}
	for _, want := range []string{`inline:1:1: policy "one"`, `inline:2:1: policy "two"`, "shoe", "hat"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestPlainNumber(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"0": "0", "-0": "0", "-0.0": "0", "1": "1", "-12": "-12", "1.50": "1.5", "100.0": "100", "1e2": "100", "1E+2": "100",
		"1.25e1": "12.5", "125e-2": "1.25", "1e-4": "0.0001", "-2.5e-1": "-0.25", "0e40": "0", "12e0": "12", "120e-1": "12",
	} {
		if got, err := plainNumber(raw); err != nil || got != want {
			t.Errorf("plainNumber(%s) = %s, %v, want %s", raw, got, err, want)
		}
	}
	for _, raw := range []string{"1e41", "1e-41", "1e99999999999999999999", strings.Repeat("9", 61)} {
		if got, err := plainNumber(raw); !errors.Is(err, errUnrepresentable) {
			t.Errorf("plainNumber(%.20s) = %s, %v, want %v", raw, got, err, errUnrepresentable)
		}
	}
}

func TestValueBounds(t *testing.T) {
	t.Parallel()
	e := load(t, `@id("ok") permit (principal, action == Warder::Action::"tools/call", resource);
@id("v") forbid (principal, action == Warder::Action::"tools/call", resource) when { context has arguments && context.arguments has v && context.arguments.v.contains("x") };`)
	for name, arguments := range map[string]string{
		"long string":   `{"v":["` + strings.Repeat("a", maxTextLength+1) + `"]}`,
		"many elements": `{"v":[` + strings.Repeat(`"a",`, maxValues) + `"a"]}`,
		"deep":          `{"v":` + strings.Repeat("[", maxNesting+1) + strings.Repeat("]", maxNesting+1) + `}`,
		"null inside":   `{"v":[null]}`,
		"huge number":   `{"v":[1e300]}`,
		"no object":     `["v"]`,
	} {
		d, err := e.Authorize(t.Context(), call(alice(), filesServer(), readTool(), arguments))
		if err != nil || d.Reason != "arguments_unrepresentable" {
			t.Errorf("%s: %+v, %v, want arguments_unrepresentable", name, d, err)
		}
	}
	for name, arguments := range map[string]string{"set": `{"v":["a","b"]}`, "null is absent": `{"v":null}`} {
		d, err := e.Authorize(t.Context(), call(alice(), filesServer(), readTool(), arguments))
		if err != nil || !d.Allow {
			t.Errorf("%s: %+v, %v, want allow", name, d, err)
		}
	}
}

// TestDocumentedPolicies loads the policies that the control's page and the package comment show.
func TestDocumentedPolicies(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/controls/CVM-01.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```cedar\n")
	text, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("the page shows no policies")
	}
	if e := load(t, text); e.Len() != 3 {
		t.Errorf("the page shows %d policies, want 3", e.Len())
	}
	comment, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ = strings.Cut(string(comment), "//\tpermit")
	text, _, _ = strings.Cut("permit"+rest, ";")
	load(t, strings.ReplaceAll(text, "//", "")+";")
}

// TestReloadWhileDeciding runs decisions and reloads at once; the race detector and the results judge.
func TestReloadWhileDeciding(t *testing.T) {
	t.Parallel()
	e := load(t, `@id("yes") permit (principal, action, resource);`)
	texts := []string{`@id("no") forbid (principal, action, resource);`, `@id("yes") permit (principal, action, resource);`}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			p, s, tool := alice(), filesServer(), readTool()
			for {
				select {
				case <-stop:
					return
				default:
				}
				d, err := e.Authorize(t.Context(), call(p, s, tool, `{}`))
				if err != nil || d.Allow != cmp.Equal(d.Policies, []string{"yes"}) {
					t.Errorf("decision = %+v, %v", d, err)
					return
				}
				if _, err := e.Possible(t.Context(), call(p, s, tool, "")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 100 {
		if err := e.Reload(access.Config{Inline: texts[i%2]}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	work.Wait()
	if d, err := e.Authorize(t.Context(), call(alice(), filesServer(), readTool(), `{}`)); err != nil || !d.Allow {
		t.Errorf("after the last reload: %+v, %v, want allow", d, err)
	}
}

// TestPoliciesDoNotShapeEachOther checks that what one policy reads of an argument does not narrow what
// another sees of it.
func TestPoliciesDoNotShapeEachOther(t *testing.T) {
	t.Parallel()
	const call1 = `(principal, action == Warder::Action::"tools/call", resource)`
	e := load(t, `@id("ok") permit `+call1+`;
@id("member") forbid `+call1+` when { context has arguments && context.arguments has a && context.arguments.a has b && context.arguments.a.b == 7 };
@id("same") forbid `+call1+` when { context has arguments && context.arguments has a && context.arguments has c && context.arguments.a == context.arguments.c };`)
	for arguments, want := range map[string]bool{
		`{"a":{"b":1,"x":2},"c":{"b":1}}`:       true,
		`{"a":{"b":1,"x":2},"c":{"b":1,"x":2}}`: false,
		`{"a":{"b":7},"c":"d"}`:                 false,
		`{"a":"s","c":"t"}`:                     false, // "member" fails on a string, which denies
		`{"c":"t"}`:                             true,
	} {
		d, err := e.Authorize(t.Context(), call(alice(), filesServer(), readTool(), arguments))
		if err != nil || d.Allow != want {
			t.Errorf("%s: %+v, %v, want allow = %v", arguments, d, err, want)
		}
	}
}

// FuzzPolicies checks that no policy text panics the loader and that whatever it accepts decides
// without panic.
func FuzzPolicies(f *testing.F) {
	f.Add(`permit (principal, action, resource);`)
	f.Add(`@id("x") @scopes("a") forbid (principal in Warder::Group::"g", action in [Warder::Action::"call"], resource) when { context has arguments && context.arguments has a && context.arguments.a.b == [1] } unless { true };`)
	f.Add(`permit (principal, action, resource) when { if context has arguments then context.arguments has x else decimal("1.0").lessThan(decimal("2.0")) };`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Load(access.Config{Inline: text})
		if err != nil {
			return
		}
		r := call(alice(), filesServer(), readTool(), `{"a":{"b":[1]},"x":1.5}`)
		if _, err := e.Authorize(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Explain(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzArguments checks that any JSON object is judged without panic.
func FuzzArguments(f *testing.F) {
	e, err := Load(access.Config{Inline: `permit (principal, action == Warder::Action::"tools/call", resource)
when { context has arguments && context.arguments has a && context.arguments.a < 3 && context.arguments has b && context.arguments.b like "x*" }
unless { context has arguments && context.arguments has c && context.arguments.c.lessThan(decimal("1.5")) };`})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{`{}`, `{"a":1,"b":"xy","c":1}`, `{"a":1e5}`, `{"a":[{}],"b":null}`, `{"c":0.123456}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arguments string) {
		m, err := wire.Decode([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":`+arguments+`}}`), wire.Limits{})
		if err != nil {
			return
		}
		r := call(alice(), filesServer(), readTool(), "")
		r.Context.Arguments = wire.At(m, m.Params.Get("arguments"))
		if _, err := e.Authorize(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	})
}
