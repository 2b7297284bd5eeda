package identity

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
	"github.com/warder-mcp/warder/internal/servicetest"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

// buildWarder builds the program once for all tests.
var buildWarder = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(kit.Root(), ".cache", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "warder-identity")
	_, err := kit.Output(context.Background(), kit.Spec{
		Args: []string{"go", "build", "-o", path, "./cmd/warder"}, Dir: kit.Root(), Env: []string{"CGO_ENABLED=0"},
	})
	return path, err
})

// bounded is a context that ends with the test, or after two minutes.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// needFixture leaves a test out whose fixtures are not installed, and says so.
func needFixture(t *testing.T, what string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("NOT EXERCISED: %s: %v; make fixtures", what, err)
		}
	}
}

func needNode(t *testing.T) string {
	t.Helper()
	node, err := kit.Node()
	if err != nil {
		t.Skip("NOT EXERCISED: ", err, "; make fixtures")
	}
	return node
}

// A site is the address of a gateway that is not open yet: providers must know it first.
type site struct {
	base    string // http://HOST:PORT
	address string // 127.0.0.1:PORT
}

// newSite picks an address with the host name, localhost or 127.0.0.1.
func newSite(t *testing.T, host string) site {
	t.Helper()
	address, err := kit.Address()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(address, ":")
	return site{base: "http://" + host + ":" + port, address: address}
}

// issuer is the identifier of the gateway's own authorization server.
func (s site) issuer() string { return s.base + "/oauth" }

// mcp is the endpoint, and canonical URI, of a server.
func (s site) mcp(name string) string { return s.base + "/mcp/" + name }

// A setup is what differs between the gateways of the tests: sections of YAML, not indented.
type setup struct {
	identity string
	issuer   string
	access   string
	policies string // Cedar; empty: whoever is in "people" may do everything
	rest     string // further sections
	servers  map[string]*origin
	env      []string
	foreign  bool // without an authorization server of its own
}

const everybody = `@id("people") permit (principal in Warder::Group::"people", action, resource);`

// patient lets tests try what is refused, from one address and as fast as they can.
const patient = `gateway:
  loops: {failures: 10000, repeats: 10000, changing: 10000}
  rates:
    principal: {per_second: 10000, burst: 10000}
    client: {per_second: 10000, burst: 10000}
    server: {per_second: 10000, burst: 10000}
    tool: {per_second: 10000, burst: 10000}
`

// A gate is a running gateway.
type gate struct {
	site
	*kit.Gateway
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(by + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// open starts a gateway that ends with the test.
func (s site) open(t *testing.T, set setup) *gate {
	t.Helper()
	bin, err := buildWarder()
	if err != nil {
		t.Fatal(err)
	}
	if set.policies == "" {
		set.policies = everybody
	}
	dir := t.TempDir()
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ndata: %q\nlisten: [{address: %q}]\n", filepath.Join(dir, "data"), s.address)
	fmt.Fprintf(&b, "identity:\n  base_url: %q\n%s", s.base, indent(set.identity, "  "))
	if !set.foreign {
		fmt.Fprintf(&b, "issuer:\n  url: %q\n  limits: {register: 600, per_address: 6000}\n%s", s.issuer(), indent(set.issuer, "  "))
	}
	b.WriteString(patient)
	fmt.Fprintf(&b, "tools: {trust: first_use}\naccess:\n  grants: {require: []}\n%s", indent(set.access, "  "))
	fmt.Fprintf(&b, "  inline: |\n%s%s", indent(set.policies, "    "), set.rest)
	b.WriteString("\nservers:\n")
	for name, o := range set.servers {
		fmt.Fprintf(&b, "  - {name: %s, url: %q}\n", name, o.url)
	}
	g, err := kit.OpenFile(context.WithoutCancel(t.Context()), bin, dir, s.base, s.address, b.String(), set.env...)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", g.Log())
		}
	})
	return &gate{site: s, Gateway: g}
}

// stop ends a provider with the test, and shows what it wrote when the test failed.
func stop(t *testing.T, p *kit.Provider) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of the provider:\n%s", p.Output())
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
}
