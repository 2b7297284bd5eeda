package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder/e2e/kit"
)

// A visit is one client at one server.
type visit struct {
	target
	url, token string
	bin, node  string
	dir        string // for what the client writes
}

// A guest is a client that other people wrote, or a command of Warder's between one and a server. It
// returns the text of the result, after it has seen the tool in the list.
type guest struct {
	name  string
	visit func(context.Context, visit) (string, error)
	stdio bool // only for servers that speak over stdio
}

func guests() []guest {
	return []guest{
		{name: "go-sdk", visit: goSDK},
		{name: "ts-v1", visit: nodeClient("client-v1.mjs")},
		{name: "ts-v2-legacy", visit: nodeClient("client-v2.mjs", "legacy")},
		{name: "ts-v2-auto", visit: nodeClient("client-v2.mjs", "auto")},
		{name: "inspector-legacy", visit: inspector("legacy")},
		{name: "inspector-auto", visit: inspector("auto")},
		{name: "inspector-modern", visit: inspector("modern")},
		{name: "mcp-remote", visit: mcpRemote},
		{name: "warder-connect", visit: connect},
		{name: "warder-wrap", visit: wrap, stdio: true},
	}
}

// TestInterop proves that servers and clients of other people work through Warder, every client with
// every server, and prints the matrix.
func TestInterop(t *testing.T) {
	list := targets(t)
	var yaml strings.Builder
	for _, s := range list {
		if s.missing == "" {
			fmt.Fprintf(&yaml, "  - {name: %s, %s}\n", s.name, s.yaml)
		}
	}
	g := open(t, kit.Setup{Servers: yaml.String(), Trust: "approved"})
	approveAll(t, g, list)
	cells := visitAll(t, g, list)
	printMatrix(t, list, cells)
}

// approveAll lets Warder see what each server offers, proves that none of it is usable unseen, and
// approves it with the command that people use.
func approveAll(t *testing.T, g *kit.Gateway, list []target) {
	t.Helper()
	var work sync.WaitGroup
	slots := make(chan struct{}, 2)
	for _, s := range list {
		if s.missing != "" {
			continue
		}
		tok := token(t, g, s.name)
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			v := visit{target: s, url: g.URL(s.name), token: tok}
			if _, err := goSDK(t.Context(), v); !errors.Is(err, errNoTools) {
				t.Errorf("%s before approval: %v, want %v", s.name, err, errNoTools)
			}
			if err := approve(t.Context(), g, s.name); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		})
	}
	work.Wait()
}

// approve approves what a server offers once it is in the registry, which is told of new definitions
// about once a second: of what a server says of itself perhaps a second before its tools.
func approve(ctx context.Context, g *kit.Gateway, server string) error {
	for start := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		_, err := g.Run(ctx, "tools", "approve", server, "--all", "--effect", "write", "--note", "e2e")
		if err != nil && !strings.Contains(err.Error(), "nothing in quarantine") || time.Since(start) > 20*time.Second {
			return err
		}
		list, err := g.Run(ctx, "tools", "list", "--server", server, "--state", "approved", "-o", "json")
		if err != nil || bytes.Contains(list, []byte(`"kind": "tool"`)) {
			return err
		}
	}
}

// visitAll runs every pair, three at a time.
func visitAll(t *testing.T, g *kit.Gateway, list []target) map[string]string {
	t.Helper()
	node := nodeBin(t)
	all, stop := context.WithTimeout(t.Context(), 5*time.Minute) // so that what was started is also ended
	defer stop()
	cells, mu := make(map[string]string), sync.Mutex{}
	var work sync.WaitGroup
	slots := make(chan struct{}, 3)
	for _, s := range list {
		if s.missing != "" {
			continue
		}
		tok := token(t, g, s.name)
		for _, c := range guests() {
			if c.stdio && s.command == nil {
				continue
			}
			v := visit{target: s, url: g.URL(s.name), token: tok, bin: warderBin(t), node: node, dir: t.TempDir()}
			work.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				if s.turn != nil {
					s.turn.Lock()
					defer s.turn.Unlock()
				}
				ctx, cancel := context.WithTimeout(all, time.Minute)
				defer cancel()
				text, err := c.visit(ctx, v)
				if err == nil && !strings.Contains(text, s.want) {
					err = fmt.Errorf("the result has no %q: %.200s", s.want, text)
				}
				mark := "✓"
				if err != nil {
					mark = "✗ " + shorten(err)
				}
				mu.Lock()
				cells[c.name+" "+s.name] = mark
				mu.Unlock()
			})
		}
	}
	work.Wait()
	return cells
}

// printMatrix prints every pair and fails for those that do not work.
func printMatrix(t *testing.T, list []target, cells map[string]string) {
	t.Helper()
	var b, why strings.Builder
	fmt.Fprintf(&b, "%-20s", "server \\ client")
	for _, c := range guests() {
		fmt.Fprintf(&b, " %16s", c.name)
	}
	good, bad, left := 0, 0, 0
	for _, s := range list {
		fmt.Fprintf(&b, "\n%-20s", s.name)
		for _, c := range guests() {
			mark := cells[c.name+" "+s.name]
			switch {
			case strings.HasPrefix(mark, "✗"):
				bad++
				fmt.Fprintf(&why, "%s with %s: %s\n", c.name, s.name, mark)
				mark = "✗"
			case mark == "":
				left++
				mark = "-"
			default:
				good++
			}
			fmt.Fprintf(&b, " %16s", mark)
		}
		if s.missing != "" {
			fmt.Fprintf(&b, "  NOT EXERCISED: %s", s.missing)
		}
	}
	t.Logf("interop: %d pairs work, %d do not, %d do not apply\n%s", good, bad, left, b.String())
	if bad > 0 {
		t.Errorf("pairs that do not work:\n%s", why.String())
	}
}

// bearer adds the token to requests of the go-sdk client.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func goSDK(ctx context.Context, v visit) (string, error) {
	return session(ctx, v, &mcp.StreamableClientTransport{Endpoint: v.url, HTTPClient: &http.Client{Transport: bearer(v.token)}, MaxRetries: -1})
}

// session lists and calls with the go-sdk client over any transport.
func session(ctx context.Context, v visit, t mcp.Transport) (_ string, err error) {
	c, err := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, nil).Connect(ctx, t, nil)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = c.Close() }() // the result is in
	found := false
	for tool, err := range c.Tools(ctx, nil) {
		if err != nil {
			return "", fmt.Errorf("list: %w", err)
		}
		found = found || tool.Name == v.tool
	}
	if !found {
		return "", errNoTools
	}
	res, err := c.CallTool(ctx, &mcp.CallToolParams{Name: v.tool, Arguments: json.RawMessage(v.args)})
	if err != nil {
		return "", fmt.Errorf("call: %w", err)
	}
	raw, err := json.Marshal(res)
	if res.IsError {
		err = fmt.Errorf("the tool failed: %s", raw)
	}
	return string(raw), err
}

// nodeClient runs one of the drivers of the TypeScript SDKs.
func nodeClient(file string, more ...string) func(context.Context, visit) (string, error) {
	return func(ctx context.Context, v visit) (string, error) {
		out, err := kit.Output(ctx, kit.Spec{
			Args: append([]string{v.node, filepath.Join(kit.Root(), "e2e", "npm", file), v.url, v.tool, v.args}, more...),
			Env:  []string{"WARDER_TOKEN=" + v.token},
		})
		if err != nil {
			return "", err
		}
		var got struct {
			Tools  []string
			Result struct{ IsError bool }
		}
		if err := json.Unmarshal(out, &got); err != nil {
			return "", fmt.Errorf("%s: %w", out, err)
		}
		if !strings.Contains(strings.Join(got.Tools, " "), v.tool) {
			return "", errNoTools
		}
		return string(out), nil
	}
}

// inspector runs the command line of the official inspector.
func inspector(era string) func(context.Context, visit) (string, error) {
	return func(ctx context.Context, v visit) (string, error) {
		path, err := kit.Script("mcp-inspector")
		if err != nil {
			return "", err
		}
		run := func(args ...string) (string, error) {
			all := append([]string{v.node, path, "--cli", "--format", "json", "-q", "--protocol-era", era, "--transport", "http", "--server-url", v.url, "--header", "Authorization: Bearer " + v.token}, args...)
			out, err := kit.Output(ctx, kit.Spec{Args: all, Env: []string{"MCP_CATALOG_PATH=" + filepath.Join(v.dir, "catalog.json"), "HOME=" + v.dir}})
			return string(out), err
		}
		out, err := run("--method", "tools/list")
		if err != nil {
			return "", fmt.Errorf("list: %w", err)
		}
		if !strings.Contains(out, v.tool) {
			return "", errNoTools
		}
		return run("--method", "tools/call", "--tool-name", v.tool, "--tool-args-json", v.args)
	}
}

// child is a transport to a program that speaks over stdio.
func child(ctx context.Context, env []string, argv ...string) mcp.Transport {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = nil
	return &mcp.CommandTransport{Command: cmd}
}

// mcpRemote is the bridge from npm that clients without HTTP use.
func mcpRemote(ctx context.Context, v visit) (string, error) {
	path, err := kit.Script("mcp-remote")
	if err != nil {
		return "", err
	}
	return session(ctx, v, child(ctx, []string{"MCP_REMOTE_CONFIG_DIR=" + v.dir, "HOME=" + v.dir, "AUTH=Bearer " + v.token},
		v.node, path, v.url, "--allow-http", "--header", "Authorization:${AUTH}"))
}

// connect is Warder's own bridge.
func connect(ctx context.Context, v visit) (string, error) {
	return session(ctx, v, child(ctx, []string{"WARDER_TOKEN=" + v.token}, v.bin, "connect", v.url, "--data", filepath.Join(v.dir, "connect")))
}

// wrap is Warder before the server's own command, without a gateway.
func wrap(ctx context.Context, v visit) (string, error) {
	args := append([]string{v.bin, "wrap", "--trust", "first_use", "--data", filepath.Join(v.dir, "wrap"), "--"}, v.command...)
	return session(ctx, v, child(ctx, nil, args...))
}
