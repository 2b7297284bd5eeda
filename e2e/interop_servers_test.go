package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/warder-mcp/warder/e2e/kit"
)

// A target is a server that other people wrote, with one call that shows it works.
type target struct {
	name    string
	yaml    string   // how Warder reaches it
	command []string // nil unless it speaks over stdio
	tool    string
	args    string
	want    string      // text of the result
	turn    *sync.Mutex // one client at a time; nil if several may call at once
	missing string      // why it cannot run here; empty if it can
}

// command makes the YAML of a child process.
func command(shared bool, env string, argv ...string) string {
	raw, err := json.Marshal(argv)
	if err != nil {
		panic(err) // strings are always marshalled
	}
	instances := "principal"
	if shared {
		instances = "shared"
	}
	return fmt.Sprintf("run: {command: %s, instances: %s, env: {%s}}", raw, instances, env)
}

// targets starts what has to run before Warder and returns every server of the matrix.
func targets(t *testing.T) []target {
	t.Helper()
	node, dir := nodeBin(t), t.TempDir()
	write(t, filepath.Join(dir, "hello.txt"), "hello from the disk")
	repo := filepath.Join(dir, "repo")
	git(t, dir, "init", "-q", "-b", "trunk", repo)
	everything := script(t, "mcp-server-everything")
	httpAddr, sseAddr := freeAddress(t), freeAddress(t)
	start(t, kit.Spec{Args: []string{node, everything, "streamableHttp"}, Env: []string{"PORT=" + port(httpAddr)}, Listen: httpAddr})
	start(t, kit.Spec{Args: []string{node, everything, "sse"}, Env: []string{"PORT=" + port(sseAddr)}, Listen: sseAddr})
	const echo, echoed = `{"message":"hi there"}`, "Echo: hi there"
	filesystem := []string{node, script(t, "mcp-server-filesystem"), dir}
	stdio := []string{node, everything}
	list := []target{
		{name: "filesystem", yaml: command(false, "", filesystem...), command: filesystem, tool: "read_text_file", args: fmt.Sprintf(`{"path":%q}`, filepath.Join(dir, "hello.txt")), want: "hello from the disk"},
		{name: "everything", yaml: command(false, "", stdio...), command: stdio, tool: "echo", args: echo, want: echoed},
		{name: "everything-http", yaml: fmt.Sprintf("url: %q", "http://"+httpAddr+"/mcp"), tool: "echo", args: echo, want: echoed},
		{name: "everything-sse", yaml: fmt.Sprintf("sse_url: %q", "http://"+sseAddr+"/sse"), tool: "echo", args: echo, want: echoed},
		{name: "memory", yaml: command(true, fmt.Sprintf("MEMORY_FILE_PATH: %q", filepath.Join(dir, "memory.json")), node, script(t, "mcp-server-memory")), tool: "read_graph", args: `{}`, want: "entities"},
		{name: "sequential-thinking", yaml: command(true, "", node, script(t, "mcp-server-sequential-thinking")), tool: "sequentialthinking", args: `{"thought":"so","nextThoughtNeeded":false,"thoughtNumber":1,"totalThoughts":1}`, want: "thoughtHistoryLength"},
		{name: "dbhub", yaml: command(true, "", node, script(t, "dbhub"), "--demo"), tool: "execute_sql", args: `{"sql":"SELECT 6*7 AS answer"}`, want: "42"},
		{name: "sqlite", yaml: command(true, "", node, script(t, "mcp-sqlite-server"), filepath.Join(dir, "x.db")), tool: "query", args: `{"sql":"SELECT 6*7 AS answer"}`, want: "42"},
		{name: "git", yaml: command(true, "", node, script(t, "git-mcp-server")), tool: "git_status", args: fmt.Sprintf(`{"path":%q}`, repo), want: "trunk"},
		postgres(t, node), playwright(t, node, dir),
	}
	return list
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func port(address string) string {
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		panic(err) // an address of a listener
	}
	return p
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := kit.Output(t.Context(), kit.Spec{Args: append([]string{"git"}, args...), Dir: dir}); err != nil {
		t.Fatal(err)
	}
}

// postgres starts Debian's database for the server that reads it.
func postgres(t *testing.T, node string) target {
	t.Helper()
	out := target{name: "postgres", tool: "query", args: `{"sql":"SELECT 6*7 AS answer"}`, want: "42"}
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	account, lookup := user.Lookup("postgres")
	switch {
	case err != nil || len(bins) == 0:
		out.missing = "Debian's postgresql is not installed"
		return out
	case os.Getuid() != 0 || lookup != nil:
		out.missing = "only root can run the database as the user postgres"
		return out
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(os.TempDir(), "warder-postgres-"+rand.Text()) // the test's own folder is closed to other users
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, int(uid), int(uid)); err != nil {
		t.Fatal(err)
	}
	data, address := filepath.Join(dir, "data"), freeAddress(t)
	initdb, err := kit.Start(t.Context(), kit.Spec{Args: []string{bins[0], "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"}, Dir: dir, User: uint32(uid)})
	if err == nil {
		err = initdb.Err()
	}
	if err != nil {
		t.Fatalf("initdb: %v\n%s", err, initdb.Output())
	}
	start(t, kit.Spec{
		Args: []string{filepath.Join(filepath.Dir(bins[0]), "postgres"), "-D", data, "-k", dir, "-h", "127.0.0.1", "-p", port(address), "-F"},
		Dir:  dir, User: uint32(uid), Listen: address,
	})
	out.yaml = command(true, "", node, script(t, "mcp-server-postgres"), "postgresql://postgres@"+address+"/postgres")
	return out
}

// playwright drives Debian's browser to a page of ours.
func playwright(t *testing.T, node, dir string) target {
	t.Helper()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<title>Behind the gate</title><h1>Hello</h1>")
	}))
	t.Cleanup(page.Close)
	out := target{name: "playwright", turn: &sync.Mutex{}, tool: "browser_navigate", args: fmt.Sprintf(`{"url":%q}`, page.URL), want: "Behind the gate"}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		out.missing = "Debian's chromium is not installed"
		return out
	}
	out.yaml = command(true, fmt.Sprintf("HOME: %q", dir), node, script(t, "playwright-mcp"), "--headless", "--no-sandbox", "--isolated", "--output-dir", dir, "--executable-path", chromium)
	return out
}
