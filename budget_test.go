package warder_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Budgets of the source: what is longer has more than one subject.
const (
	mostFileLines     = 600
	mostFunctionLines = 80 // outside tests
)

// unfinished finds words that promise a later change; a change that is needed is an issue.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|HA` + `CK)\b|(?i)not (yet )?imple` + `mented`)

// TestSourceStaysWithinItsBudgets proves that files and functions can be read at one sitting, that
// nothing is left unfinished, that no linter is told to look away, and that a test which is left out
// says what would run it.
func TestSourceStaysWithinItsBudgets(t *testing.T) {
	files := 0
	walkSource(t, func(path string, text []byte) {
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if n := set.File(file.FileStart).LineCount(); n > mostFileLines && !ast.IsGenerated(file) {
			t.Errorf("%s has %d lines, at most %d", path, n, mostFileLines)
		}
		for _, g := range file.Comments {
			for _, c := range g.List {
				if word := unfinished.FindString(c.Text); word != "" {
					t.Errorf("%s: a comment says %q", set.Position(c.Pos()), word)
				}
				if strings.HasPrefix(c.Text, "//no"+"lint") {
					t.Errorf("%s: a linter is told to look away", set.Position(c.Pos()))
				}
			}
		}
		if strings.HasSuffix(path, "_test.go") {
			skipsSayWhy(t, set, file)
			return
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > mostFunctionLines {
					t.Errorf("%s: %s has %d lines, at most %d", set.Position(f.Pos()), f.Name.Name, n, mostFunctionLines)
				}
			}
		}
	})
	if files < 100 {
		t.Errorf("read %d files: the walk does not reach the source", files)
	}
}

// walkSource visits every Go file of the module.
func walkSource(t *testing.T, visit func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != "." && (name[0] == '.' || name == "testdata" || name == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			visit(path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// skipsSayWhy reports tests that leave themselves out without the words by which that is found in the
// output of a run: "NOT EXERCISED: what; what would run it". A fuzz target returns from an input that
// it does not want.
func skipsSayWhy(t *testing.T, set *token.FileSet, file *ast.File) {
	t.Helper()
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch method.Sel.Name {
		case "SkipNow", "Skip", "Skipf":
			if !notExercised(call) {
				t.Errorf("%s: a test is left out, want the words \"NOT EXERCISED: what; what would run it\"", set.Position(call.Pos()))
			}
		}
		return true
	})
}

// notExercised reports whether the first argument of a call is a text that begins with these words.
func notExercised(call *ast.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	text := call.Args[0]
	for {
		sum, ok := text.(*ast.BinaryExpr)
		if !ok {
			break
		}
		text = sum.X
	}
	literal, ok := text.(*ast.BasicLit)
	return ok && strings.HasPrefix(literal.Value, `"NOT EXERCISED: `)
}
