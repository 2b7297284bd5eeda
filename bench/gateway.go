package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
)

// A gateway is one Warder process in front of one echo server.
type gateway struct {
	*process
	listen, admin string
	token         string
}

// A setup is what the gateways of a run differ in.
type setup struct {
	policies int
	effect   string       // of the echo tool, as approved
	identity *jose.Signer // of a foreign issuer whose tokens are bound to keys; nil: Warder's own tokens
}

func (g *gateway) target(name string) target {
	return target{name: name, addr: g.listen, path: "/mcp/echo", token: g.token, pid: g.cmd.Process.Pid, memory: "http://" + g.admin + "/metrics"}
}

// freeAddress finds a port that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// gateway configures, starts and approves: every control of the path enforces, only the rates are
// raised above what the load sends.
func (b *benchmark) gateway(name, url string, s setup) (*gateway, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir := b.path(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "warder.yaml")
	if err := os.WriteFile(file, []byte(configuration(dir, listen, admin, url, s)), 0o600); err != nil {
		return nil, err
	}
	if s.identity != nil {
		if err := prepareIdentity(dir, s.identity); err != nil {
			return nil, err
		}
	}
	started := time.Now()
	p, err := start(false, b.warder, "serve", "-c", file, "--log-level", "warn")
	if err != nil {
		return nil, err
	}
	b.processes = append(b.processes, p)
	if _, err := waitFor("http://"+admin+"/readyz", 20*time.Second); err != nil {
		return nil, err
	}
	if name == "small" {
		b.startup = time.Since(started)
	}
	g := &gateway{process: p, listen: listen, admin: admin}
	if g.token, err = b.output("token", "echo", "-c", file, "--subject", "bench", "--groups", "eng", "--ttl", "1h"); err != nil {
		return nil, err
	}
	if err := list(g); err != nil { // lets the gateway see the definitions
		return nil, err
	}
	time.Sleep(time.Second) // what was seen is in the database within a poll
	if _, err := b.output("tools", "approve", "echo", "--all", "--effect", s.effect, "-c", file, "--note", "bench"); err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // the decision reaches every process within its poll
	return g, nil
}

// output runs the warder command to its end.
func (b *benchmark) output(args ...string) (string, error) {
	cmd := exec.Command(b.warder, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("warder %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// configuration writes the gateway's file.
func configuration(dir, listen, admin, url string, s setup) string {
	var policies strings.Builder
	for i := range s.policies - 1 {
		fmt.Fprintf(&policies, "    @id(\"p%d\") permit(principal in Warder::Group::\"team%d\", action == Warder::Action::\"tools/call\", resource == Warder::Tool::\"echo/tool%d\") when { context has arguments && context.arguments has a && context.arguments.a == \"x\" };\n", i, i%50, i)
	}
	policies.WriteString("    @id(\"eng\") permit(principal in Warder::Group::\"eng\", action, resource);\n")
	issuers, grants := "", ""
	if s.identity != nil {
		issuers = fmt.Sprintf(`, issuers: [{url: "%s", group_prefix: "idp:", jwks: {file: "%s"}, claims: {groups: groups}}]`, identityIssuer, filepath.Join(dir, "idp.json"))
		grants = "  grants: {require: [read]}\n"
		policies.WriteString("    @id(\"crowd\") permit(principal in Warder::Group::\"idp:eng\", action, resource);\n")
	}
	rate := "{per_second: 1000000, burst: 1000000}"
	return fmt.Sprintf(`version: 1
data: %s
listen: [{address: "%s"}]
identity: {base_url: "http://%s"%[9]s}
issuer: {url: "http://%[4]s/issuer"}
gateway:
  rates: {peer: %[5]s, principal: %[5]s, client: %[5]s, server: %[5]s, tool: %[5]s}
access:
%[10]s  inline: |
%[6]sservers: [{name: echo, url: "%[7]s"}]
limits: {sessions: {per_principal: 20000}}
output: {volume: {limit: 100GiB, alert: 100GiB}}
admin: {address: "%[8]s"}
`, filepath.Join(dir, "data"), listen, listen, listen, rate, policies.String(), url, admin, issuers, grants)
}

// list reads the tools once, as the client will.
func list(g *gateway) error {
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	req, err := http.NewRequest(http.MethodPost, "http://"+g.listen+"/mcp/echo", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Authorization": {"Bearer " + g.token},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/list"},
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("tools/list: status %d", resp.StatusCode)
	}
	return nil
}

// sessions opens legacy sessions, leaves them idle, and reads the memory.
func (b *benchmark) sessions(g *gateway) error {
	b.idleSessions = int(10_000 * min(b.scale, 1))
	const openers = 16
	errs := make(chan error, openers)
	var work sync.WaitGroup
	for range openers {
		work.Go(func() {
			for range b.idleSessions / openers {
				if err := open(g); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	time.Sleep(3 * time.Second) // lets the collector run as it would between calls
	var err error
	b.sessionsMB, err = residentMB(g.cmd.Process.Pid)
	return err
}

// open initializes one session and confirms it.
func open(g *gateway) error {
	session := ""
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
	} {
		req, err := http.NewRequest(http.MethodPost, "http://"+g.listen+"/mcp/echo", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header = http.Header{
			"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Authorization": {"Bearer " + g.token},
		}
		if session != "" {
			req.Header.Set("Mcp-Session-Id", session)
			req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close() // the header is all that is needed
		if resp.StatusCode >= http.StatusBadRequest {
			return fmt.Errorf("open session: status %d", resp.StatusCode)
		}
		session = resp.Header.Get("Mcp-Session-Id")
	}
	return nil
}
