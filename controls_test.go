package warder_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/warder-mcp/warder/catalog"
)

// headings are those every page of a control has, in this order.
var headings = []string{"What it stops", "How it works", "Configure", "See it work", "Limits", "Standards"}

// TestEveryControlHasItsPlace proves that the id is the place: every implemented run-time control is
// one file of the stated package, with its test beside it and its page.
func TestEveryControlHasItsPlace(t *testing.T) {
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, k := range c.Controls {
		known[string(k.ID)] = true
		if !k.Implemented() || !k.Runtime() {
			continue
		}
		t.Run(string(k.ID), func(t *testing.T) {
			word := strings.ToLower(strings.ReplaceAll(string(k.ID), "-", ""))
			code, tests := filesOf(t, k.Package, word)
			if len(code) != 1 {
				t.Errorf("code: %v, want exactly one file %s/%s_SLUG.go", code, k.Package, word)
			}
			for _, name := range code {
				declares(t, name, string(k.ID))
				if system(name) {
					t.Errorf("%s ends in the name of a system: the compiler would leave it out elsewhere", name)
				}
			}
			cases(t, tests, "Test"+strings.ReplaceAll(string(k.ID), "-", ""))
			played(t, filepath.Join(k.Package, "testdata", word), string(k.ID))
			page(t, string(k.ID), k.Title)
		})
	}
	pages, err := filepath.Glob("docs/controls/*-*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range pages {
		if id := strings.TrimSuffix(filepath.Base(name), ".md"); !known[id] {
			t.Errorf("%s is the page of no control", name)
		}
	}
}

func filesOf(t *testing.T, dir, word string) (code, tests []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, word+"_*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if strings.HasSuffix(name, "_test.go") {
			tests = append(tests, name)
		} else {
			code = append(code, name)
		}
	}
	return code, tests
}

// declares reports when no method Control of the file returns the id, or one returns another.
func declares(t *testing.T, name, id string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "Control" || f.Recv == nil || f.Body == nil {
			continue
		}
		found++
		for _, statement := range f.Body.List {
			if r, ok := statement.(*ast.ReturnStmt); !ok || len(r.Results) != 1 || textOf(t, name, r.Results[0]) != id {
				t.Errorf("%s: a method Control does not simply return %q", name, id)
			}
		}
	}
	if found == 0 {
		t.Errorf("%s: no method Control returns %q", name, id)
	}
}

// textOf returns the text of a string literal, or of a constant of the package.
func textOf(t *testing.T, name string, e ast.Expr) string {
	t.Helper()
	switch e := e.(type) {
	case *ast.BasicLit:
		return strings.Trim(e.Value, `"`)
	case *ast.Ident:
		all, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		constant := regexp.MustCompile(`(?m)^(?:const)?\s*` + e.Name + `\s[^"\n]*=\s*"([^"]*)"`)
		for _, other := range all {
			data, err := os.ReadFile(other)
			if err != nil {
				t.Fatal(err)
			}
			if m := constant.FindSubmatch(data); m != nil {
				return string(m[1])
			}
		}
	}
	return ""
}

// cases reports when the test of a control lacks one of the kinds of cases.
func cases(t *testing.T, files []string, test string) {
	t.Helper()
	body := ""
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		body += string(data)
	}
	if !regexp.MustCompile(`(?m)^func ` + test + `\(t \*testing\.T\)`).MatchString(body) {
		t.Errorf("no %s in the test file beside the code %v", test, files)
	}
	for _, kind := range []string{"pass", "near_miss", "deny", "dependency_killed"} {
		if !regexp.MustCompile("[\"`]" + kind + `[\s/_:"` + "`" + `]`).MatchString(body) {
			t.Errorf("%s has no case whose name begins with %q", test, kind)
		}
	}
}

// unplayed are the controls whose cases are tests of their own, and why.
func unplayed() map[string]string {
	return map[string]string{
		"LOG-01": "it writes; layer/record reads what it wrote, after crashes too",
		"LOG-04": "only a trail that cannot be written refuses: TestDependencyKilled of layer/record",
		"TAB-03": "it judges configurations, not messages: TestTAB03 of config",
		"IAM-07": "it acts on the keys of the authorization server: TestIAM07 of issuer",
		"AUT-02": "it judges clients of the authorization server, no messages: TestAUT02 of issuer",
		"AUT-03": "it judges authorization servers that Warder is a client of: TestAUT03 of internal/oauth",
		"AUT-05": "it judges requests for authorization, no messages: TestAUT05 of issuer/login",
		"AUT-07": "it judges grants at the token endpoint, no messages: TestAUT07 of issuer",
		"AUT-08": "it judges connections that Warder opens: TestAUT08 of internal/safedial",
		"AUT-10": "it judges links on their way to a browser: TestAUT10 of internal/oauth",
		"PUB-08": "it judges what operators ask of the admin API: TestPUB08 of admin",
		"SGN-02": "it writes receipts: TestSGN02 of layer/record reads and changes them",
	}
}

// played reports when the folder of cases that run through the whole gateway lacks one of the kinds, or
// when no deny case is held to fail without the control.
func played(t *testing.T, dir, id string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	if why, ok := unplayed()[id]; ok {
		if len(files) > 0 {
			t.Errorf("%s has cases, though it is said to need none: %s", dir, why)
		}
		return
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(dir)), "cases_test.go")); err != nil {
		t.Errorf("nothing runs the cases in %s: %v", dir, err)
	}
	found, mutated := map[string]int{}, 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(data), "\n-- ")
		kind := regexp.MustCompile(`(?m)^kind: (\w+)$`).FindStringSubmatch(head)
		if kind == nil || !strings.HasPrefix(filepath.Base(name), kind[1]+"_") {
			t.Errorf("%s: the name does not begin with the kind of the case", name)
			continue
		}
		found[kind[1]]++
		if kind[1] == "deny" && !regexp.MustCompile(`(?m)^mutation: none$`).MatchString(head) {
			mutated++
		}
	}
	for _, kind := range []string{"pass", "near_miss", "deny"} {
		if found[kind] == 0 {
			t.Errorf("%s has no case of kind %s", dir, kind)
		}
	}
	if mutated == 0 && !slices.Contains(fixed(), id) {
		t.Errorf("%s: no deny case is run again without the control", dir)
	}
}

// fixed are the controls that no configuration switches off: they are no steps of the chain.
func fixed() []string { return []string{"NET-04", "PRT-01"} }

func page(t *testing.T, id, title string) {
	t.Helper()
	name := filepath.Join("docs", "controls", id+".md")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Errorf("the page is missing: %v", err)
		return
	}
	text := string(data)
	if !strings.HasPrefix(text, "# "+id) {
		t.Errorf("%s begins %.40q, want \"# %s %s\"", name, text, id, title)
	}
	at := 0
	for _, h := range headings {
		i := strings.Index(text[at:], "\n## "+h+"\n")
		if i < 0 {
			t.Errorf("%s has no heading \"## %s\" in its place", name, h)
			continue
		}
		at += i + 1
	}
	const most = 60
	if n := strings.Count(text, "\n"); n > most {
		t.Errorf("%s has %d lines, at most %d", name, n, most)
	}
}

// system reports whether a file name ends in a word that the go command reads as a build constraint.
func system(name string) bool {
	word := strings.TrimSuffix(name[strings.LastIndexByte(name, '_')+1:], ".go")
	switch word {
	case "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "android", "ios", "js", "plan9", "solaris", "aix", "wasip1", "unix",
		"amd64", "arm64", "arm", "386", "wasm", "riscv64", "s390x", "ppc64", "ppc64le", "mips", "mips64", "loong64":
		return true
	default:
		return false
	}
}
