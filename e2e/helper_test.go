package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/warder-mcp/warder/e2e/kit"
)

// buildWarder builds the program once for all tests.
var buildWarder = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(kit.Root(), ".cache", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "warder-e2e")
	_, err := kit.Output(context.Background(), kit.Spec{
		Args: []string{"go", "build", "-o", path, "./cmd/warder"}, Dir: kit.Root(), Env: []string{"CGO_ENABLED=0"},
	})
	return path, err
})

func warderBin(t *testing.T) string {
	t.Helper()
	bin, err := buildWarder()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// nodeBin is Node from the fixtures; without them the test is left out, and says so.
func nodeBin(t *testing.T) string {
	t.Helper()
	node, err := kit.Node()
	if err != nil {
		t.Skip("NOT EXERCISED: ", err)
	}
	return node
}

func script(t *testing.T, name string) string {
	t.Helper()
	path, err := kit.Script(name)
	if err != nil {
		t.Skip("NOT EXERCISED: ", err)
	}
	return path
}

// open starts a gateway that ends with the test.
func open(t *testing.T, s kit.Setup) *kit.Gateway {
	t.Helper()
	s.Dir = t.TempDir()
	g, err := kit.Open(context.Background(), warderBin(t), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", g.Log())
		}
	})
	return g
}

// start starts a program that ends with the test.
func start(t *testing.T, s kit.Spec) {
	t.Helper()
	p, err := kit.Start(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := kit.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func token(t *testing.T, g *kit.Gateway, name string) string {
	t.Helper()
	tok, err := g.Token(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var errNoTools = errors.New("no tools listed")

func shorten(err error) string {
	text := fmt.Sprint(err)
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}
