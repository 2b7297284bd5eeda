package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
)

const settings = `version: 1
data: %DATA%
listen: [{address: "127.0.0.1:0"}]
limits: {call_timeout: 20s, drain_timeout: 2s}
identity: {base_url: "https://gate.test"}
issuer: {url: "http://127.0.0.1/issuer"}
gateway:
  loops: {repeats: 1000000, changing: 1000000}
  rates:
    peer: {per_second: 1e6, burst: 1000000}
    principal: {per_second: 1e6, burst: 1000000}
    client: {per_second: 1e6, burst: 1000000}
    tenant: {per_second: 1e6, burst: 1000000}
    server: {per_second: 1e6, burst: 1000000}
    tool: {per_second: 1e6, burst: 1000000}
tools: {trust: first_use}
access:
  inline: |
    @id("all") permit(principal, action, resource);
record: {checkpoint: 200ms, segment: 1MiB}
servers:
  - {name: modern, url: "%URL%/modern", era: modern, timeout: 1s, max_response: 1MiB, breaker: {failures: 1000000}}
  - {name: legacy, url: "%URL%/legacy", era: legacy, timeout: 1s, max_response: 1MiB, breaker: {failures: 1000000}}
`

// A victim is an MCP server that misbehaves in the way its tools are named.
type victim struct {
	*httptest.Server
	tools   []string
	mu      sync.Mutex
	seen    []string // trace ids of calls
	running atomic.Int64
}

func newVictim(t *testing.T, tools ...string) *victim {
	t.Helper()
	v := &victim{tools: tools}
	v.Server = httptest.NewServer(v)
	t.Cleanup(func() { v.CloseClientConnections(); v.Close() })
	return v
}

func (v *victim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	modern := r.URL.Path == "/modern"
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			Version string `json:"protocolVersion"`
			Name    string
			Meta    struct{ Traceparent string } `json:"_meta"`
		}
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &m) // the gateway sends valid messages
	if m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	extra := ""
	if modern {
		extra = `,"resultType":"complete","ttlMs":0,"cacheScope":"private"`
	}
	w.Header().Set("Content-Type", "application/json")
	answer := func(result string) {
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{%s%s}}`, m.ID, result, extra) // the gateway may be gone
	}
	switch m.Method {
	case "initialize":
		w.Header().Set("Mcp-Session-Id", fmt.Sprint(time.Now().UnixNano()))
		answer(fmt.Sprintf(`"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"v","version":"1"}`, m.Params.Version))
	case "server/discover":
		answer(`"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}`)
	case "tools/list":
		list := make([]string, len(v.tools))
		for i, name := range v.tools {
			list[i] = fmt.Sprintf(`{"name":%q,"description":"d","inputSchema":{"type":"object","properties":{"n":{"type":"integer"}}}}`, name)
			if name == "bad" {
				list[i] = `{"name":"bad","description":"d","inputSchema":{"type":"object","$ref":"http://127.0.0.1/x"}}`
			}
		}
		answer(`"tools":[` + strings.Join(list, ",") + `]`)
	case "tools/call":
		v.mu.Lock()
		v.seen = append(v.seen, m.Params.Meta.Traceparent)
		v.mu.Unlock()
		extra = strings.Replace(extra, `,"ttlMs":0,"cacheScope":"private"`, "", 1)
		v.running.Add(1)
		defer v.running.Add(-1)
		v.call(w, r, m.Params.Name, string(m.ID), fmt.Sprintf(`{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"fine"}]%s}}`, extra))
	default:
		answer("")
	}
}

// call misbehaves. good is a good answer without its id.
func (v *victim) call(w http.ResponseWriter, r *http.Request, tool, id, good string) {
	send := func(raw string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "data: %s\n\n", raw)
		_ = http.NewResponseController(w).Flush() // the gateway may be gone
	}
	const note = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	right := strings.Replace(good, "ID", id, 1)
	switch tool {
	case "dies":
		send(note)
		panic(http.ErrAbortHandler)
	case "cut":
		w.Header().Set("Content-Length", "10000")
		_, _ = io.WriteString(w, right[:len(right)/2])
		panic(http.ErrAbortHandler)
	case "hangs":
		<-r.Context().Done()
	case "stalls":
		send(note)
		<-r.Context().Done()
	case "floods":
		for r.Context().Err() == nil {
			send(note)
		}
	case "huge":
		_, _ = io.WriteString(w, strings.Replace(right, "fine", strings.Repeat("x", 8<<20), 1))
	case "twice":
		send(right)
		send(strings.Replace(right, "fine", "second", 1))
	case "another":
		_, _ = io.WriteString(w, strings.Replace(good, "ID", `"of-another"`, 1))
	case "garbage":
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+id+`,"result":{"content":[],"content":[]}}`)
	case "html":
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>secret at 10.1.2.3</html>")
	case "status":
		w.WriteHeader(http.StatusInternalServerError)
	default:
		_, _ = io.WriteString(w, right)
	}
}

// A gateway is a Warder somewhere: a token and an address.
type gateway struct {
	t     *testing.T
	url   string
	dir   string
	token map[string]string
}

func (g *gateway) mint() {
	g.t.Helper()
	cfg := config.Default()
	cfg.Data, cfg.Issuer.URL = g.dir, "http://127.0.0.1/issuer"
	var err error
	g.token = make(map[string]string)
	for _, name := range []string{"modern", "legacy"} {
		if g.token[name], err = app.MintToken(g.t.Context(), cfg, issuer.Claims{Subject: "ada", Audience: "https://gate.test/mcp/" + name}); err != nil {
			g.t.Fatal(err)
		}
	}
}

const stateless = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`

// post sends one message; session is empty for stateless ones.
func (g *gateway) post(ctx context.Context, server, session, method, name, body string) (status int, text, opened string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/mcp/"+server, strings.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	h := req.Header
	h.Set("Authorization", "Bearer "+g.token[server])
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	switch {
	case session != "":
		h.Set("Mcp-Session-Id", session)
		h.Set("Mcp-Protocol-Version", "2025-11-25")
	case method != "initialize":
		h.Set("Mcp-Protocol-Version", "2026-07-28")
		h.Set("Mcp-Method", method)
		if name != "" {
			h.Set("Mcp-Name", name)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header.Get("Mcp-Session-Id"), err
}

// open opens a session.
func (g *gateway) open(server string) string {
	g.t.Helper()
	_, text, id, err := g.post(g.t.Context(), server, "", "initialize", "", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
	if err != nil || id == "" {
		g.t.Fatalf("open: %v %s", err, text)
	}
	return id
}

// call calls a tool, in a session or without.
func (g *gateway) call(ctx context.Context, server, session, tool, trace string) (int, string, error) {
	meta := `"traceparent":"00-` + trace + `-00f067aa0ba902b7-01","progressToken":1`
	if session == "" {
		meta += "," + stateless
	}
	status, text, _, err := g.post(ctx, server, session, "tools/call", tool, fmt.Sprintf(`{"jsonrpc":"2.0","id":"%s","method":"tools/call","params":{"_meta":{%s},"name":%q,"arguments":{}}}`, trace, meta, tool))
	return status, text, err
}

var traces atomic.Int64

func newTrace() string { return fmt.Sprintf("%032x", traces.Add(1)) }

// binary builds the program once.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "warder")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/warder-mcp/warder/cmd/warder").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// configFile writes the configuration and returns its path.
func configFile(t *testing.T, dir, url string) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(dir), "warder.yaml")
	text := strings.NewReplacer("%DATA%", dir, "%URL%", url).Replace(settings)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve starts a process and waits for its address. command goes in front of the program's own.
func serve(t *testing.T, dir, cfg string, command ...string) (*exec.Cmd, *gateway) {
	t.Helper()
	command = append(command, "serve", "--config", cfg, "--log-level", "error")
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	found := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, after, ok := strings.Cut(lines.Text(), "http://127.0.0.1:"); ok {
				port, _, _ := strings.Cut(after, "/")
				select {
				case found <- "http://127.0.0.1:" + strings.TrimRight(strings.Fields(port)[0], ".,"):
				default:
				}
			} else if os.Getenv("WARDER_FAULTS_DEBUG") != "" {
				fmt.Fprintln(os.Stderr, lines.Text())
			}
		}
		close(found)
	}()
	select {
	case url, ok := <-found:
		if !ok {
			t.Fatal("the gateway ended before it said its address")
		}
		g := &gateway{t: t, url: url, dir: dir}
		g.mint()
		return cmd, g
	case <-time.After(20 * time.Second):
		t.Fatal("no address within 20 s")
		return nil, nil
	}
}

// descriptors counts the open files of this process, -1 where the system does not tell.
func descriptors() int {
	list, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return -1
	}
	return len(list)
}

// settled waits until this process has no more goroutines and descriptors than before, give or take.
func settled(t *testing.T, goroutines, files int) {
	t.Helper()
	var g, f int
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		http.DefaultClient.CloseIdleConnections()
		if g, f = runtime.NumGoroutine(), descriptors(); g <= goroutines+8 && f <= files+8 {
			return
		}
	}
	buf := make([]byte, 1<<20)
	t.Errorf("goroutines %d → %d, descriptors %d → %d\n%s", goroutines, g, files, f, buf[:runtime.Stack(buf, true)])
}

// end closes a session.
func (g *gateway) end(server, session string) {
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodDelete, g.url+"/mcp/"+server, http.NoBody)
	if err != nil {
		g.t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+g.token[server])
	req.Header.Set("Mcp-Session-Id", session)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Error(err)
		return
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		g.t.Errorf("end of a session: %s", resp.Status)
	}
}
