package kit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Gateway is "warder serve" as a process of its own.
type Gateway struct {
	Base   string // http://127.0.0.1:PORT
	Dir    string // configuration, data and log
	bin    string
	config string
	proc   *Process
}

// A Setup is the configuration of a Gateway, as far as tests differ.
type Setup struct {
	Dir     string // existing empty folder
	Servers string // YAML of the list below "servers:", and what may follow it
	Trust   string // approved or first_use
	Gateway string // further YAML below "gateway:", indented by two
	Log     string // level; default warn
	Issuer  string // further YAML of the issuer section, after a comma, such as ", login: {local: {enabled: true}}"
}

// configuration permits everybody everything that was approved, so that what is refused is refused by
// the protocol; rates and loops are those of a test that calls as fast as it can.
const configuration = `version: 1
data: %[1]q
listen: [{address: %[2]q}]
identity: {base_url: "http://%[2]s"}
issuer: {url: "http://%[2]s/issuer"%[6]s}
tools: {trust: %[3]s}
access:
  inline: |
    permit (principal, action, resource);
limits: {min_revision: "2024-11-05"}
gateway:
  rates:
    peer: {per_second: 100000, burst: 100000}
    principal: {per_second: 100000, burst: 100000}
    client: {per_second: 100000, burst: 100000}
    server: {per_second: 100000, burst: 100000}
    tool: {per_second: 100000, burst: 100000}
  loops: {repeats: 100000, changing: 100000}
%[4]s
servers:
%[5]s
`

// Open starts a gateway and waits until it answers.
func Open(ctx context.Context, bin string, s Setup) (*Gateway, error) {
	address, err := Address()
	if err != nil {
		return nil, err
	}
	if s.Trust == "" {
		s.Trust = "approved"
	}
	if s.Log == "" {
		s.Log = "warn"
	}
	g := &Gateway{Base: "http://" + address, Dir: s.Dir, bin: bin, config: filepath.Join(s.Dir, "warder.yaml")}
	text := fmt.Sprintf(configuration, filepath.Join(s.Dir, "data"), address, s.Trust, s.Gateway, strings.TrimRight(s.Servers, "\n"), s.Issuer)
	if err := g.start(ctx, address, text, s.Log); err != nil {
		return nil, err
	}
	return g, nil
}

// OpenFile starts a gateway on a whole configuration, which names its listener and its folder itself, and
// waits until address answers. Base is its public address, env is added to its environment.
func OpenFile(ctx context.Context, bin, dir, base, address, text string, env ...string) (*Gateway, error) {
	g := &Gateway{Base: base, Dir: dir, bin: bin, config: filepath.Join(dir, "warder.yaml")}
	if err := g.start(ctx, address, text, "warn", env...); err != nil {
		return nil, err
	}
	return g, nil
}

// start writes the configuration and starts the process.
func (g *Gateway) start(ctx context.Context, address, text, level string, env ...string) error {
	err := os.WriteFile(g.config, []byte(text), 0o600)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	g.proc, err = Start(ctx, Spec{
		Args: []string{g.bin, "serve", "--config", g.config, "--log-level", level}, Env: env,
		Log: filepath.Join(g.Dir, "warder.log"), Listen: address,
	})
	return err
}

// URL is the endpoint of a server or group.
func (g *Gateway) URL(name string) string { return g.Base + "/mcp/" + name }

// Run runs a command of Warder on the gateway's configuration and returns what it prints.
func (g *Gateway) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, g.bin, append(args, "--config", g.config)...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("warder %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// Token mints a token for a server or group with the command a user has for it.
func (g *Gateway) Token(ctx context.Context, name string) (string, error) {
	out, err := g.Run(ctx, "token", name, "--subject", "ana", "--groups", "people", "--ttl", "1h")
	return strings.TrimSpace(string(out)), err
}

// Pid is the process id of the gateway.
func (g *Gateway) Pid() int { return g.proc.Pid() }

// Log is the end of what the gateway wrote.
func (g *Gateway) Log() string { return g.proc.Output() }

// Close ends the gateway and waits for it.
func (g *Gateway) Close() error {
	if g == nil {
		return nil
	}
	select {
	case <-g.proc.Done():
		return errors.Join(fmt.Errorf("the gateway ended before its time: %s", g.Log()), g.proc.Stop())
	default:
		return g.proc.Stop()
	}
}
