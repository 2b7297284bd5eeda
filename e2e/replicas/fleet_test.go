package replicas

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/e2e/kit"
	"github.com/warder-mcp/warder/internal/servicetest"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/layer/record"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

// settings are the configuration of every gateway; what a test adds comes before the servers.
const settings = `version: 1
data: %[1]q
listen: [{address: %[2]q}]
admin: {address: %[3]q}
limits: {drain_timeout: 2s}
identity: {base_url: %[4]q%[5]s}
issuer: {url: "%[4]s/issuer"%[6]s}
state: {%[7]s}
tools: {trust: approved}
access:
  freshness: {revocation: 2s, stale_read: 1m}
  grants: {self: true}
  approval: {tools: ["*/gated"], wait: 5s, rate: {pending: 500, per_hour: 5000, queue: 500}}
  inline: |
    permit (principal, action, resource);
gateway:
  changes: {rate: {per_second: 1e6, burst: 1000000}, streams: 1000}
  loops: {repeats: 1000000, changing: 1000000}
  rates:
    peer: {per_second: 1e6, burst: 1000000}
    principal: {per_second: 1e6, burst: 1000000}
    client: {per_second: 1e6, burst: 1000000}
    tenant: {per_second: 1e6, burst: 1000000}
    server: {per_second: 1e6, burst: 1000000}
    tool: {per_second: 1e6, burst: 1000000}
%[8]s
servers:
%[9]s
`

// A setup is what tests change about a fleet.
type setup struct {
	identity string // further members of the identity section, after a comma
	issuer   string // further members of the issuer section, after a comma
	extra    string // further sections
	servers  string // further servers
	log      string // level; default warn
	lone     bool   // one gateway over SQLite
	noRedis  bool
	durable  bool   // PostgreSQL is a server of its own that may be killed
	user     uint32 // user the gateways run as; 0: ours
}

// A fleet is gateways behind one name, with what they share.
type fleet struct {
	t        *testing.T
	setup    setup
	name     string // public address: each client reaches the gateway of its choice under it
	dir      string
	dsn      string
	postgres *servicetest.Server // if durable
	redis    *servicetest.Server
	redisAt  string
	state    string
	modern   *upstream
	legacy   *upstream
	gates    []*gate

	mu     sync.Mutex
	opened []*http.Transport // of clients
}

// A gate is one gateway of a fleet, "warder serve" as a process.
type gate struct {
	f       *fleet
	data    string
	config  string
	logFile string
	address string
	ops     string // address of health and metrics
	proc    *kit.Process
	dead    map[*kit.Process]bool // those that the test ended
}

// buildWarder builds the program once for all tests.
var buildWarder = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(kit.Root(), ".cache", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "warder-replicas")
	_, err := kit.Output(context.Background(), kit.Spec{
		Args: []string{"go", "build", "-o", path, "./cmd/warder"}, Dir: kit.Root(), Env: []string{"CGO_ENABLED=0"},
	})
	return path, err
})

// newFleet starts two gateways, or one alone, with approved tools behind them.
func newFleet(t *testing.T, s setup) *fleet {
	t.Helper()
	address, err := kit.Address()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, setup: s, name: "http://" + address, dir: t.TempDir(), modern: newUpstream(t, true), legacy: newUpstream(t, false)}
	if s.user != 0 {
		if err := os.Chmod(filepath.Dir(f.dir), 0o711); err != nil { // the gateways pass through
			t.Fatal(err)
		}
		f.give(f.dir)
	}
	f.share()
	count := 2
	if s.lone {
		count = 1
	}
	for i := range count {
		f.gates = append(f.gates, f.prepare(i))
		f.gates[i].start()
	}
	f.approve()
	return f
}

// share starts what the gateways share.
func (f *fleet) share() {
	t := f.t
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	f.file("state.key", base64.StdEncoding.EncodeToString(key))
	f.state = fmt.Sprintf("key: {file: %q}", f.dir+"/state.key")
	if f.setup.lone {
		return
	}
	if f.setup.durable {
		f.dsn, f.postgres = servicetest.PostgresServer(t)
	} else {
		f.dsn = servicetest.Postgres(t)
	}
	f.file("postgres.dsn", f.dsn)
	f.state += fmt.Sprintf(", postgres: {dsn: {file: %q}}", f.dir+"/postgres.dsn")
	if !f.setup.noRedis {
		f.redisAt, f.redis = servicetest.RedisServer(t)
		f.state += fmt.Sprintf(", redis: {address: %q}", f.redisAt)
	}
}

func (f *fleet) file(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.give(path)
}

// give makes the file or folder one of the user the gateways run as.
func (f *fleet) give(path string) {
	f.t.Helper()
	if f.setup.user == 0 {
		return
	}
	if err := os.Chown(path, int(f.setup.user), int(f.setup.user)); err != nil {
		f.t.Fatal(err)
	}
}

// prepare writes the configuration of a gateway.
func (f *fleet) prepare(i int) *gate {
	t := f.t
	t.Helper()
	address, err1 := kit.Address()
	ops, err2 := kit.Address()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	g := &gate{f: f, dead: map[*kit.Process]bool{}, data: filepath.Join(f.dir, fmt.Sprintf("data-%d", i)), address: address, ops: ops}
	if err := os.Mkdir(g.data, 0o700); err != nil {
		t.Fatal(err)
	}
	f.give(g.data)
	name := fmt.Sprintf("warder-%d.yaml", i)
	g.config, g.logFile = filepath.Join(f.dir, name), filepath.Join(f.dir, fmt.Sprintf("log-%d", i))
	servers := fmt.Sprintf("  - {name: modern, url: %q, era: modern, timeout: 10s}\n  - {name: legacy, url: %q, era: legacy, timeout: 10s}\n", f.modern.URL, f.legacy.URL)
	f.file(name, fmt.Sprintf(settings, g.data, address, ops, f.name, f.setup.identity, f.setup.issuer, f.state, f.setup.extra, servers+f.setup.servers))
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(g.logFile) // there may be none
			t.Logf("log of gateway %d:\n%s", i, text[max(0, len(text)-8000):])
		}
	})
	return g
}

// start starts the gateway, also again after it was killed.
func (g *gate) start() {
	t := g.f.t
	t.Helper()
	bin, err := buildWarder()
	if err != nil {
		t.Fatal(err)
	}
	if bin, err = g.f.program(bin); err != nil {
		t.Fatal(err)
	}
	level := g.f.setup.log
	if level == "" {
		level = "warn"
	}
	g.proc, err = kit.Start(context.Background(), kit.Spec{
		Args: []string{bin, "serve", "--config", g.config, "--log-level", level}, Log: g.logFile, Listen: g.address, User: g.f.setup.user, Dir: g.data,
	})
	if err != nil {
		t.Fatal(err)
	}
	proc := g.proc
	t.Cleanup(func() {
		select {
		case <-proc.Done():
			if !g.dead[proc] {
				t.Errorf("a gateway ended before its time: %v", proc.Err())
			}
		default:
		}
		_ = proc.Stop() // always nil
	})
}

// program is the program where the user of the gateways can reach it.
func (f *fleet) program(bin string) (string, error) {
	if f.setup.user == 0 {
		return bin, nil
	}
	path := filepath.Join(f.dir, "warder")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, b, 0o755)
}

// do asks a gateway as the operator at its socket.
func (g *gate) do(ask admin.Ask, out any) error {
	ctx, cancel := context.WithTimeout(g.f.t.Context(), 20*time.Second)
	defer cancel()
	c, err := admin.Dial(ctx, g.data)
	if err != nil {
		return err
	}
	return c.Do(ctx, ask, out)
}

// operate asks a gateway and must succeed.
func operate[T any](g *gate, operation string, path map[string]string, body any) T {
	g.f.t.Helper()
	var out T
	if err := g.do(admin.Ask{Operation: operation, Path: path, Body: body}, &out); err != nil {
		g.f.t.Fatalf("%s: %v", operation, err)
	}
	return out
}

// effects are what the tools may change, as an operator judges them.
func effects() map[string]string {
	return map[string]string{
		"echo": "read", "silent": "read", "chat": "read", "gated": "write", "write": "write", "danger": "destructive", "danger_chat": "destructive",
	}
}

// approve approves every tool of every server at the first gateway, and waits until all gateways know.
func (f *fleet) approve() {
	t := f.t
	t.Helper()
	names := []string{"modern", "legacy"}
	for line := range strings.SplitSeq(f.setup.servers, "\n") {
		if _, after, ok := strings.Cut(line, "{name: "); ok {
			name, _, _ := strings.Cut(after, ",")
			names = append(names, name)
		}
	}
	var work sync.WaitGroup
	defer work.Wait()
	for _, server := range names {
		c := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "setup", Audience: f.resource(server)}))
		if a := c.list(server); a.err != nil || a.status != http.StatusOK {
			t.Fatalf("list tools of %s: %v", server, a)
		}
		var page admin.Page[admin.Definition]
		if err := f.gates[0].do(admin.Ask{Operation: "tools.list", Query: map[string][]string{"server": {server}}}, &page); err != nil {
			t.Fatal(err)
		}
		work.Go(func() { f.approveAll(c, server, page.Items) })
	}
}

// approveAll approves the tools of one server; decisions that come together are signed together.
func (f *fleet) approveAll(c *client, server string, list []admin.Definition) {
	t := f.t
	var work sync.WaitGroup
	for i := range list {
		d := &list[i]
		if d.Kind != "tool" {
			continue
		}
		work.Go(func() {
			decision := admin.DefinitionDecision{Server: d.Server, Kind: d.Kind, Name: d.Name, Digest: d.Digest, Effect: effects()[d.Name]}
			if err := f.gates[0].do(admin.Ask{Operation: "tools.approve", Body: decision}, nil); err != nil {
				t.Errorf("approve %s: %v", d.Name, err)
			}
		})
	}
	work.Wait()
	for _, g := range f.gates {
		c := f.client(g, c.token)
		known := false
		for end := time.Now().Add(10 * time.Second); !known && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			known = c.call(server, "echo", "approved").good()
		}
		if !known {
			t.Errorf("a gateway does not know the tools of %s", server)
		}
	}
}

// resource is the audience of tokens for a server.
func (f *fleet) resource(server string) string { return f.name + "/mcp/" + server }

// mint signs a token of the gateways' own authorization server.
func (f *fleet) mint(c issuer.Claims) string {
	f.t.Helper()
	cfg, err := config.Load(f.gates[0].config)
	if err != nil {
		f.t.Fatal(err)
	}
	if c.Audience == "" {
		c.Audience = f.resource("modern")
	}
	token, err := app.MintToken(f.t.Context(), cfg, c)
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

// events reads the trail of a gateway.
func (g *gate) events(filter record.Filter) []warder.Event {
	t := g.f.t
	t.Helper()
	r, err := record.Open(filepath.Join(g.data, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	var list []warder.Event
	for e, err := range r.Events(filter) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// until waits for something to become true.
func until(t *testing.T, what string, most time.Duration, is func() bool) {
	t.Helper()
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}

// transport reaches one gateway under the public name.
func (g *gate) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", g.address)
		},
		MaxIdleConnsPerHost: 32,
	}
}
