package parity

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
)

// TestMain lets the test binary be the server that the gateway starts as a child.
func TestMain(m *testing.M) {
	if era := os.Getenv(childEnv); era != "" {
		if err := runChild(era, os.Getenv(childLog)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// kinds are the upstreams. "connect" is another endpoint of a Warder, as "warder connect" has it.
func kinds() []string {
	return []string{"http-modern", "http-legacy", "child-modern", "child-legacy", "sse", "connect"}
}

const settings = `version: 1
data: %DATA%
limits: {min_revision: "2024-11-05", drain_timeout: 5s}
identity: {base_url: "https://gate.test"}
issuer: {url: "http://127.0.0.1/issuer"}
gateway:
  deprecated: {roots: true, sampling: true, logging: true, http_sse: true, sampling_budget: {per_minute: 1000000, concurrent: 1000, per_call: 1000}}
  elicitation: {form: true, url: true}
  extensions: ["io.modelcontextprotocol/tasks"]
  changes: {rate: {per_second: 1e6, burst: 1000000}, streams: 1000}
  loops: {repeats: 100000, changing: 100000}
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
record: {checkpoint: 100ms}
servers:
`

// A world is one running gateway with servers of every kind behind it.
type world struct {
	app *app.App
	url string
	dir string
	cfg *config.Config

	alone sync.Mutex // held by a run that shares its server with others

	mu  sync.Mutex
	got [][]byte // every message that a server in this process got
}

func (w *world) note(raw []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, raw)
}

func (w *world) notes() string { return filepath.Join(w.dir, "child.log") }

// newWorld builds the gateway with one server of each kind, and one group of that server and another.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dir: dir}
	var live atomic.Pointer[app.App]
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { live.Load().ServeHTTP(rw, r) }))
	t.Cleanup(front.Close)
	w.url = front.URL
	serve := func(h http.Handler) string {
		ts := httptest.NewServer(h)
		t.Cleanup(func() {
			ts.CloseClientConnections()
			ts.Close()
		})
		return ts.URL
	}
	modern := serve(http.HandlerFunc(newPeer(true, w.note).http))
	legacy := serve(http.HandlerFunc(newPeer(false, w.note).http))
	sse := serve(&sseHost{p: newPeer(false, w.note), streams: make(map[string]*sseStream)})
	child := func(era string) string {
		return fmt.Sprintf(`{command: [%q], env: {%s: %s, %s: %q}, max_children: 1000}`, os.Args[0], childEnv, era, childLog, w.notes())
	}
	text := strings.ReplaceAll(settings, "%DATA%", filepath.Join(dir, "data"))
	text += fmt.Sprintf("  - {name: http-modern, url: %q, era: modern}\n", modern)
	text += fmt.Sprintf("  - {name: http-legacy, url: %q, era: legacy}\n", legacy)
	text += fmt.Sprintf("  - {name: child-modern, era: modern, run: %s}\n", child("modern"))
	text += fmt.Sprintf("  - {name: child-legacy, era: legacy, run: %s}\n", child("legacy"))
	text += fmt.Sprintf("  - {name: sse, sse_url: %q}\n", sse+"/")
	text += fmt.Sprintf("  - {name: connect, url: %q, headers: {Authorization: {env: WARDER_PARITY_TOKEN}}}\n", w.url+"/mcp/inner")
	text += fmt.Sprintf("  - {name: inner, url: %q, era: modern}\n", modern)
	text += fmt.Sprintf("  - {name: other, url: %q, era: modern}\ngroups:\n", modern)
	for _, k := range kinds() {
		text += fmt.Sprintf("  - {name: group-%s, servers: [%s, other]}\n", k, k)
	}
	cfg, err := config.Parse("parity.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	w.cfg = cfg
	t.Setenv("WARDER_PARITY_TOKEN", "Bearer "+w.token(t, "connect", "inner"))
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("WARDER_PARITY_DEBUG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if w.app, err = app.Open(t.Context(), cfg, app.Options{Log: log, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	live.Store(w.app)
	return w
}

func (w *world) token(t *testing.T, subject, endpoint string) string {
	t.Helper()
	token, err := app.MintToken(t.Context(), w.cfg, issuer.Claims{Subject: subject, Audience: "https://gate.test/mcp/" + endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// close ends the gateway, after which the audit trail is complete.
func (w *world) close(t *testing.T) {
	t.Helper()
	if err := w.app.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("close: %v", err)
	}
}
