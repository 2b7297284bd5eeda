package warder_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// dialers are the only files that may open connections without package safedial, and why.
func dialers() map[string]string {
	return map[string]string{
		"internal/safedial/client.go":   "it is the guard",
		"internal/safedial/safedial.go": "it is the guard",
		"admin/client.go":               "the CLI's way to the local socket or the configured admin address; nobody else names it",
		"admin/serve.go":                "finds out whether somebody listens on our own socket",
		"cli/up_demo.go":                "the quick start's client of its own gateway",
		"store/redis.go":                "its library takes a net.Dialer; the address is the operator's database",
		"proxy/upstream/http.go":        "its transport dials through a safedial.Dialer",
	}
}

// forbidden are the ways of the standard library to open a connection or to send a request.
func forbidden() map[string]string {
	return map[string]string{
		"http.Client": "", "http.Transport": "", "http.DefaultClient": "", "http.DefaultTransport": "", "http.Get": "", "http.Post": "",
		"http.Head": "", "http.PostForm": "", "net.Dialer": "", "net.Dial": "", "net.DialTimeout": "", "net.DialTCP": "", "net.DialUDP": "",
		"net.DialIP": "", "net.DialUnix": "", "tls.Dial": "", "tls.DialWithDialer": "", "tls.Dialer": "", "smtp.Dial": "", "rpc.Dial": "",
	}
}

// TestEveryFetchIsGuarded proves that no code of Warder opens connections past control AUT-08: clients,
// transports and dialers are made in the files above and handed in everywhere else.
func TestEveryFetchIsGuarded(t *testing.T) {
	t.Parallel()
	allowed, seen := dialers(), map[string]bool{}
	for _, p := range packages(t) {
		from, _ := folder(p.ImportPath)
		switch unit, _, _ := strings.Cut(from, "/"); {
		case unit == "e2e", unit == "bench", unit == "docs", unit == "sample",
			within(from, "internal/tools"), within(from, "internal/wardertest"), within(from, "internal/servicetest"), within(from, "internal/oauth/oauthtest"):
			continue // tests, measurements, generators, and servers that are not linked into the gateway
		}
		for _, name := range p.GoFiles {
			path := filepath.ToSlash(filepath.Join(from, name))
			for _, use := range connects(t, filepath.Join(p.Dir, name)) {
				seen[path] = true
				if _, ok := allowed[path]; !ok {
					t.Errorf("%s: use an http.Client or a Dialer of internal/safedial, handed in by app", use)
				}
			}
		}
	}
	if !seen["internal/safedial/client.go"] {
		t.Error("the guard itself was not found: the search is broken")
	}
}

// connects lists where a file makes something that connects. A mere mention of *http.Client as a type is
// fine: somebody else made it.
func connects(t *testing.T, name string) []string {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	types := map[ast.Node]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StarExpr:
			types[n.X] = true
		case *ast.TypeAssertExpr:
			types[n.Type] = true
		}
		return true
	})
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || types[n] {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		if _, bad := forbidden()[pkg.Name+"."+sel.Sel.Name]; bad {
			out = append(out, set.Position(n.Pos()).String()+": "+pkg.Name+"."+sel.Sel.Name)
		}
		return true
	})
	return out
}
