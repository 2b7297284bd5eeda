package warder_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryPackageHasOneComment proves that a stranger finds one introduction per package, and that it
// begins the way Go's tools expect.
func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range packages(t) {
		from, _ := folder(p.ImportPath)
		var with []string
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc == nil || strings.HasPrefix(file.Doc.Text(), "Code generated") {
				continue
			}
			with = append(with, name)
			want := []string{"Package " + p.Name + " "}
			if p.Name == "main" {
				base := filepath.Base(p.Dir)
				want = []string{"Command " + base + " ", strings.ToUpper(base[:1]) + base[1:] + " "}
			}
			if !slices.ContainsFunc(want, func(w string) bool { return strings.HasPrefix(file.Doc.Text(), w) }) {
				t.Errorf("%s/%s: the package comment begins %.40q, want %q", from, name, file.Doc.Text(), want)
			}
		}
		if len(p.GoFiles) > 0 && len(with) != 1 {
			t.Errorf("package %s has %d package comments %v, want one", from, len(with), with)
		}
	}
}
