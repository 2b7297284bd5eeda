package warder_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/warder-mcp/warder"

// edges says what a folder of the module may import from the module besides itself and what is below
// it. The first rule whose folder fits counts. "" is the root package, "*" everything.
var edges = []struct {
	folder  string
	imports []string
	why     string
}{
	{"internal/tools", []string{"*"}, "generators and test tools; not linked"},
	{"internal/wardertest", []string{"*"}, "test harness; not linked"},
	{"internal/servicetest", []string{}, "starts services for tests; not linked"},
	{"internal", []string{"", "wire", "internal"}, "engines"},
	{"wire", []string{"", "internal"}, "the codec"},
	{"inspect", []string{"", "wire", "internal"}, "detectors know no position"},
	{"catalog", []string{"", "internal"}, "data"},
	{"sample", []string{"", "wire", "internal"}, "sample servers know nothing of the gateway"},
	{"registry", []string{"", "wire", "internal", "catalog"}, "state"},
	{"store", []string{"", "wire", "internal", "registry"}, "implements the interfaces of its users"},
	{"issuer", []string{"", "wire", "internal", "catalog"}, "our own authorization server; state only through its own small interfaces"},
	{"broker", []string{"", "wire", "internal"}, "state"},
	{"revocation", []string{"", "wire", "internal"}, "state"},
	{"layer", []string{"", "wire", "internal", "inspect", "catalog"}, "a layer knows no other layer and no mover; state only through its own small interfaces"},
	{"proxy", []string{"", "wire", "internal"}, "movers know no concrete layer"},
	{"admin", []string{"", "wire", "internal", "registry"}, "mover"},
	{"config", []string{"", "wire", "internal", "catalog", "layer", "proxy", "registry", "store", "admin", "issuer", "revocation"}, "assembles the Config types"},
	{"app", []string{"", "wire", "internal", "inspect", "catalog", "sample", "registry", "store", "broker", "revocation", "issuer", "layer", "proxy", "admin", "config"}, "the only package that imports everything"},
	{"cli", []string{"", "wire", "internal", "catalog", "sample", "registry", "store", "layer", "proxy", "admin", "config", "app", "issuer", "revocation", "broker"}, "edge"},
	{"cmd", []string{"cli"}, "five lines"},
	{"docs", []string{"*"}, "generators of the reference"},
	{"e2e", []string{"*"}, "tests"},
	{"bench", []string{"*"}, "measurements"},
	{"", []string{}, "the words of the domain: standard library only"},
}

// homes says in which one folder a third-party library may be imported outside tests. A library in no
// row may be imported nowhere.
var homes = []struct {
	library string
	folders []string
}{
	{"github.com/go-json-experiment/json", []string{"wire"}},
	{"github.com/cedar-policy/cedar-go", []string{"layer/access/cedar"}},
	{"github.com/go-jose/go-jose/v4", []string{"internal/jose"}},
	{"github.com/spiffe/go-spiffe/v2", []string{"internal/spiffe"}},
	{"modernc.org/sqlite", []string{"store"}},
	{"github.com/coreos/go-oidc/v3", []string{"issuer/login"}},
	{"golang.org/x/oauth2", []string{"issuer/login"}},
	{"github.com/go-webauthn", []string{"internal/passkey"}},
	{"github.com/jackc/pgx/v5", []string{"store", "internal/servicetest"}},
	{"github.com/redis/rueidis", []string{"store", "internal/servicetest"}},
	{"github.com/santhosh-tekuri/jsonschema/v6", []string{"internal/schema"}},
	{"github.com/transparency-dev", []string{"layer/record/tlog"}},
	{"k8s.io/klog/v2", []string{"layer/record/tlog"}}, // Tessera logs through it; silenced there
	{"go.opentelemetry.io", []string{"internal/telemetry"}},
	{"github.com/prometheus/client_golang", []string{"internal/telemetry"}},
	{"filippo.io/age", []string{"internal/secret"}},
	{"github.com/fsnotify/fsnotify", []string{"config"}},
	{"go.yaml.in/yaml/v4", []string{"internal/strictyaml"}},
	{"github.com/spf13/cobra", []string{"cli", "internal/tools/docgen"}},
	{"github.com/spf13/pflag", []string{"cli", "internal/tools/docgen"}},
	{"charm.land", []string{"cli"}},
	{"github.com/charmbracelet", []string{"cli"}},
	{"github.com/muesli", []string{"cli"}},
	{"github.com/invopop/jsonschema", []string{"internal/tools/configschema"}},
	{"github.com/modelcontextprotocol/go-sdk", []string{"internal/wardertest", "e2e", "bench"}},
	{"github.com/mark3labs/mcp-go", []string{"internal/wardertest", "e2e", "bench"}},
	{"golang.org/x/sys", []string{"*"}}, // the standard library's next shelf: anywhere
	{"golang.org/x/sync", []string{"*"}},
	{"golang.org/x/text", []string{"*"}},
	{"golang.org/x/time", []string{"*"}},
	{"golang.org/x/net", []string{"*"}},
	{"golang.org/x/mod", []string{"*"}},
	{"golang.org/x/tools/txtar", []string{"internal/wardertest"}},
	{"github.com/google/go-cmp", []string{"internal/state/statetest"}},
	{"pgregory.net/rapid", []string{"internal/state/statetest"}},
}

// A goPackage is what "go list -json" says of a package.
type goPackage struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	Imports    []string
	Standard   bool
}

// packages lists every package of the module.
func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Name,GoFiles,Imports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

// folder is the place of a package within the module; false if it is of another module.
func folder(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func within(path, folder string) bool {
	return path == folder || folder != "" && strings.HasPrefix(path, folder+"/")
}

// TestImportsFollowThePath proves the dependency rule of the design.
func TestImportsFollowThePath(t *testing.T) {
	for _, p := range packages(t) {
		from, _ := folder(p.ImportPath)
		rule := slices.IndexFunc(edges, func(e struct {
			folder  string
			imports []string
			why     string
		},
		) bool {
			return within(from, e.folder) || e.folder == "" && from == ""
		})
		if rule < 0 {
			t.Errorf("%s: no rule in edges says what it may import", from)
			continue
		}
		for _, path := range p.Imports {
			to, ours := folder(path)
			if !ours {
				continue
			}
			if !allowed(from, to, edges[rule].imports) {
				t.Errorf("%s imports %s: %s", cmp.Or(from, "the root package"), cmp.Or(to, "the root package"), edges[rule].why)
			}
		}
	}
}

// allowed reports whether the package from may import to. Packages share a folder with what is below
// them; in layer and inspect, siblings do not know each other.
func allowed(from, to string, imports []string) bool {
	for _, name := range imports {
		if name == "*" || name == "" && to == "" || name != "" && within(to, name) {
			return true
		}
	}
	unit := strings.SplitN(from, "/", 3)
	switch unit[0] {
	case "layer", "inspect":
		return len(unit) > 1 && within(to, unit[0]+"/"+unit[1])
	default:
		return from != "" && within(to, unit[0])
	}
}

// TestEachLibraryHasOneHome proves that a third-party library is imported in one place, so that
// replacing it is a change of one folder.
func TestEachLibraryHasOneHome(t *testing.T) {
	used := map[string]bool{}
	for _, p := range packages(t) {
		from, _ := folder(p.ImportPath)
		for _, path := range p.Imports {
			if _, ours := folder(path); ours || !strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				continue
			}
			found := false
			for _, h := range homes {
				if within(path, h.library) {
					found = true
					used[h.library] = true
					if !slices.ContainsFunc(h.folders, func(f string) bool { return f == "*" || within(from, f) }) {
						t.Errorf("%s imports %s, whose home is %s", from, path, strings.Join(h.folders, ", "))
					}
				}
			}
			if !found {
				t.Errorf("%s imports %s, which has no home: add it to homes and say in the commit what it saves, who keeps it, what it pulls in and how we leave it", from, path)
			}
		}
	}
	for _, h := range homes {
		if !used[h.library] {
			t.Logf("%s is imported by tests only, or not at all", h.library)
		}
	}
}

// TestTheMapStaysReadable measures the import graph: the longest chain and the average number of
// imports from the module.
func TestTheMapStaysReadable(t *testing.T) {
	graph := map[string][]string{}
	edgesCount, counted := 0, 0
	for _, p := range packages(t) {
		from, _ := folder(p.ImportPath)
		if within(from, "internal/tools") || within(from, "internal/wardertest") || within(from, "docs") || within(from, "e2e") || within(from, "bench") {
			continue
		}
		graph[from] = nil
		for _, path := range p.Imports {
			if to, ours := folder(path); ours {
				graph[from] = append(graph[from], to)
			}
		}
		if from != "app" && from != "config" && from != "cli" { // those whose task is to import
			edgesCount += len(graph[from])
			counted++
		}
	}
	const longest, average = 9, 4.0
	var chain func(string) []string
	chain = func(from string) []string {
		var best []string
		for _, to := range graph[from] {
			if c := chain(to); len(c) > len(best) {
				best = c
			}
		}
		return append([]string{cmp.Or(from, "warder")}, best...)
	}
	var deepest []string
	for _, from := range slices.Sorted(maps.Keys(graph)) {
		if c := chain(from); len(c) > len(deepest) {
			deepest = c
		}
	}
	mean := float64(edgesCount) / float64(max(counted, 1))
	t.Logf("longest chain %d: %s; average imports %.1f", len(deepest), strings.Join(deepest, " → "), mean)
	if len(deepest) > longest {
		t.Errorf("the longest chain of imports has %d packages, at most %d: %s", len(deepest), longest, strings.Join(deepest, " → "))
	}
	if mean > average {
		t.Errorf("a package imports %.1f others of the module on average, at most %.0f", mean, average)
	}
}
