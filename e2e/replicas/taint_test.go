package replicas

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/issuer"
)

// ordinary is the user the gateways run as: that of the database server, whose socket it may use.
func ordinary(t *testing.T) uint32 {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Skipf("NOT EXERCISED: gateways of an ordinary user: %v; run make fixtures", err)
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(id)
}

// needles are secrets by what they are.
type needles map[string][]byte

// token adds a token and its parts.
func (n needles) token(what, token string) {
	n[what] = []byte(token)
	if parts := strings.Split(token, "."); len(parts) == 3 {
		n[what+", payload"], n[what+", signature"] = []byte(parts[1]), []byte(parts[2])
		if raw, err := base64.RawURLEncoding.DecodeString(parts[2]); err == nil {
			n[what+", signature bytes"] = raw
		}
	}
}

// in lists the secrets that are in the bytes.
func (n needles) in(b []byte) []string {
	var found []string
	for what, secret := range n {
		if bytes.Contains(b, secret) {
			found = append(found, what)
		}
	}
	slices.Sort(found)
	return found
}

// clean fails the test for each secret that is in the bytes.
func (n needles) clean(t *testing.T, where string, b []byte) {
	t.Helper()
	if len(b) == 0 {
		t.Errorf("%s is empty: nothing was looked at", where)
	}
	if found := n.in(b); len(found) > 0 {
		t.Errorf("%s holds: %s", where, strings.Join(found, "; "))
	}
}

// TestTaint sends credentials of every kind through gateways and looks for their bytes in all that the
// gateways say and keep. Control AUT-04.
func TestTaint(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("NOT EXERCISED: gateways of another user, whose files and memory are looked at; run as root")
	}
	for name, s := range map[string]setup{"one gateway over SQLite": {lone: true}, "two gateways over PostgreSQL and Redis": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newTaint(t, s).run()
		})
	}
}

// A taint is a fleet through which secrets went.
type taint struct {
	*fleet
	secrets needles
	shown   needles // what servers are shown, and nobody else
	errors  []byte  // bodies of refusals
	traces  lockedBytes
}

// lockedBytes are what somebody collects.
type lockedBytes struct {
	mu sync.Mutex
	b  []byte
}

func (l *lockedBytes) add(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, b...)
}

func (l *lockedBytes) all() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.b)
}

const (
	upstreamSecret = "upstream-secret-4f1c9be2a7"
	clientSecret   = "client-secret-9ab27c5510-long-enough-for-the-server"
)

func newTaint(t *testing.T, s setup) *taint {
	t.Helper()
	tt := &taint{secrets: needles{}, shown: needles{"secret of the server": []byte(upstreamSecret)}}
	tt.secrets["client secret"] = []byte(clientSecret)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // what came counts
		tt.traces.add(b)
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(collector.Close)
	s.user, s.log = ordinary(t), "debug"
	dir := t.TempDir()
	for name, text := range map[string]string{"upstream": upstreamSecret, "client": clientSecret} {
		path := filepath.Join(dir, name)
		if err := errorsOf(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, int(s.user), int(s.user))); err != nil {
			t.Fatal(err)
		}
	}
	secured := newUpstream(t, true)
	s.issuer = fmt.Sprintf(`, login: {local: {enabled: true}}, legacy_secrets: true, clients: [
  {id: app, name: App, native: true, redirect_uris: [%q]},
  {id: svc, name: Svc, grants: [client_credentials], secret: {file: %q}, introspect: true}]`, callback, dir+"/client")
	s.servers = fmt.Sprintf("  - {name: secured, url: %q, era: modern, timeout: 10s, credentials: {secret: {prefix: \"Bearer \", value: {file: %q}}}}\n", secured.URL, dir+"/upstream")
	s.extra = fmt.Sprintf("record: {otlp: {endpoint: %q}, trace: {sample_ratio: 1}}", collector.URL)
	tt.fleet = newFleet(t, s)
	for _, u := range []*upstream{tt.modern, tt.legacy, secured} {
		u.mu.Lock()
		u.keep = true
		u.mu.Unlock()
	}
	t.Cleanup(func() { tt.servers(secured) })
	return tt
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (tt *taint) run() {
	t := tt.t
	tt.traffic()
	tt.login()
	last := tt.gates[len(tt.gates)-1]
	tt.secrets.clean(t, "error bodies", tt.errors)
	tt.shown.clean(t, "error bodies", tt.errors)
	for i, g := range tt.gates {
		where := fmt.Sprintf("gateway %d: ", i)
		tt.both(where+"metrics", tt.metrics(g))
		log, err := os.ReadFile(g.logFile)
		if err != nil {
			t.Fatal(err)
		}
		tt.both(where+"log at debug", log)
		tt.both(where+"data folder, store and audit trail", files(t, g.data))
	}
	until(t, "traces arrive", 15*time.Second, func() bool { return len(tt.traces.all()) > 0 })
	tt.both("traces", tt.traces.all())
	if !tt.setup.lone {
		tt.both("dump of PostgreSQL", output(t, "pg_dump", "-d", tt.dsn))
		host, port, err := net.SplitHostPort(tt.redisAt)
		if err != nil {
			t.Fatal(err)
		}
		rdb := filepath.Join(t.TempDir(), "dump.rdb")
		output(t, "redis-cli", "-h", host, "-p", port, "--rdb", rdb)
		b, err := os.ReadFile(rdb)
		if err != nil {
			t.Fatal(err)
		}
		tt.both("dump of Redis", b)
	}
	tt.memory(last)
}

// both looks for every secret.
func (tt *taint) both(where string, b []byte) {
	tt.t.Helper()
	tt.secrets.clean(tt.t, where, b)
	tt.shown.clean(tt.t, where, b)
}

// servers looks at what servers were sent, at the end of the test.
func (tt *taint) servers(secured *upstream) {
	tt.secrets.clean(tt.t, "what the modern server was sent", tt.modern.seen())
	tt.secrets.clean(tt.t, "what the legacy server was sent", tt.legacy.seen())
	tt.secrets.clean(tt.t, "what the server with a secret was sent", secured.seen())
	tt.shown.clean(tt.t, "what the other server was sent", tt.modern.seen())
	if !bytes.Contains(secured.seen(), []byte(upstreamSecret)) {
		tt.t.Error("the server was not shown its secret: the test would find nothing")
	}
}

// traffic makes calls that pass and calls that fail with credentials of callers.
func (tt *taint) traffic() {
	t, f := tt.t, tt.fleet
	bearer := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "ana"}))
	tt.secrets.token("bearer token", bearer.token)
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	prover, err := jose.OpenProver(root, "key.pem", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	tt.privateKey(root)
	bound := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "ben", Binding: prover.Thumbprint()}))
	bound.prover = prover
	tt.secrets.token("bound token", bound.token)
	secured := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "cleo", Audience: f.resource("secured")}))
	tt.secrets.token("token for the server with a secret", secured.token)
	for _, g := range f.gates {
		for _, c := range []*client{bearer, bound} {
			for range 5 {
				if got := c.at(g).call("modern", "write", "taint"); !got.good() {
					t.Fatalf("%v", got)
				}
			}
		}
		if got := secured.at(g).call("secured", "write", "taint"); !got.good() {
			t.Fatalf("%v", got)
		}
		legacy := f.client(g, f.mint(issuer.Claims{Subject: "dan", Audience: f.resource("legacy")}))
		tt.secrets.token("token of a session", legacy.token)
		legacy.open("legacy")
		legacy.call("legacy", "echo", "taint")
		tt.refusals(g, bearer, bound)
	}
}

// privateKey adds the key with which a client proves that a token is its own.
func (tt *taint) privateKey(root *os.Root) {
	t := tt.t
	text, err := root.ReadFile("key.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("key of type %T", key)
	}
	d, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	tt.secrets["key of the client"] = d
}

// refusals shows credentials where they are not good.
func (tt *taint) refusals(g *gate, bearer, bound *client) {
	for i, c := range []*client{bearer, bound} {
		broken := c.at(g)
		for _, token := range []string{c.token[:len(c.token)-2], c.token + "A", "." + c.token, c.token + " " + c.token} {
			broken.token = token
			tt.refused(broken.call("modern", "echo", "x"))
		}
		tt.refused(c.at(g).call("legacy", "echo", "x")) // another audience
		tt.refused(c.at(g).call("modern", "danger", "x"))
		plain := c.at(g)
		plain.prover = nil
		if i == 1 {
			tt.refused(plain.call("modern", "echo", "x"))
		}
		req := plain.request(tt.t.Context(), "modern", "tools/call", "echo", `"name":"echo","arguments":{"id":{"Authorization":`+fmt.Sprintf("%q", "x")+`}}`)
		req.Header.Add("Authorization", "Bearer "+c.token) // twice
		resp, err := plain.http.Do(req)
		if err != nil {
			tt.t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // read to its end
		tt.refused(answer{resp.StatusCode, resp.Header, string(b), err})
	}
}

func (tt *taint) refused(a answer) {
	tt.t.Helper()
	if a.err != nil || a.good() {
		tt.t.Errorf("it was not refused: %v", a)
	}
	tt.errors = append(tt.errors, a.body...)
	for name, values := range a.header {
		tt.errors = append(tt.errors, name+": "+strings.Join(values, ", ")+"\n"...)
	}
}

// login has a person log in, and clients get, use and lose tokens.
func (tt *taint) login() {
	t, f := tt.t, tt.fleet
	a, b := f.gates[0], f.gates[len(f.gates)-1]
	p := f.login(a, "eva")
	u, err := url.Parse(p.link)
	if err != nil {
		t.Fatal(err)
	}
	tt.secrets["one-time link"] = []byte(filepath.Base(u.Path))
	p.at(b)
	code := p.code(f.resource("modern"))
	tt.secrets["code"] = []byte(code)
	for _, c := range p.browser.Jar.Cookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(f.name, "http://"), Path: "/issuer/"}) {
		if len(c.Value) >= 16 {
			tt.secrets["cookie "+c.Name] = []byte(c.Value)
		}
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"app"}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	prover, err := jose.NewProver(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	first := f.ask(a, "token", form, prover)
	if first.Access == "" || first.Refresh == "" {
		t.Fatalf("no tokens: %+v", first)
	}
	tt.secrets.token("access token of a person", first.Access)
	tt.secrets["refresh token"] = []byte(first.Refresh)
	c := f.client(b, first.Access)
	c.prover = prover
	if got := c.call("modern", "echo", "person"); !got.good() {
		t.Errorf("the token of a person: %v", got)
	}
	second := f.ask(b, "token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.Refresh}, "client_id": {"app"}}, prover)
	if second.Refresh == "" {
		t.Fatalf("no refresh: %+v", second)
	}
	tt.secrets.token("refreshed token", second.Access)
	tt.secrets["next refresh token"] = []byte(second.Refresh)
	f.ask(b, "token", form, prover) // the code again
	tt.secrets["code verifier"] = []byte(verifier)
	svc := url.Values{"grant_type": {"client_credentials"}, "client_id": {"svc"}, "client_secret": {clientSecret}, "resource": {f.resource("modern")}}
	third := f.ask(a, "token", svc, nil)
	if third.Access == "" {
		t.Fatalf("no token for the service: %+v", third)
	}
	tt.secrets.token("token of a service", third.Access)
	f.ask(b, "introspect", url.Values{"token": {first.Access}, "client_id": {"svc"}, "client_secret": {clientSecret}}, nil)
	f.ask(b, "token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"svc"}, "client_secret": {clientSecret + "x"}}, nil)
	_ = f.gates[0].do(admin.Ask{Operation: "sessions.list"}, nil) // looked at for what it may leave behind
}

// metrics are those of a gateway.
func (tt *taint) metrics(g *gate) []byte {
	t := tt.t
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.ops+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files reads every file below a folder.
func files(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// output is what a program prints.
func output(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("NOT EXERCISED: what the services keep: %v; run make fixtures", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return out
}

// memory looks who can read the memory of a gateway, and says what root finds there.
func (tt *taint) memory(g *gate) {
	t := tt.t
	pid := g.proc.Pid()
	other := exec.CommandContext(t.Context(), "sleep", "60")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.setup.user, Gid: tt.setup.user}}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill() // it may have ended
		_ = other.Wait()         // killed
	}()
	time.Sleep(100 * time.Millisecond) // until it is the program
	if err := readable(t.Context(), other.Process.Pid, tt.setup.user); err != nil {
		t.Errorf("an ordinary process of the user: %v, want it readable: the test would find nothing", err)
	}
	if err := readable(t.Context(), pid, tt.setup.user); err == nil {
		t.Error("a process of the gateway's user can read its memory")
	}
	before := report(tt.secrets, memoryOf(t, pid))
	tt.leave()
	for range 600 { // the collector of garbage runs some times
		tt.metrics(g)
	}
	time.Sleep(3 * time.Second)
	t.Logf("what root finds in the memory of the gateway right after the calls: %s\nwhen the clients have left, 600 other requests later: %s", before, report(tt.secrets, memoryOf(t, pid)))
	if bytes.Contains(memoryOf(t, pid), tt.secrets["key of the client"]) {
		t.Error("the memory of the gateway holds the key of a client")
	}
}

func report(n needles, memory []byte) string {
	var lines []string
	for what, secret := range n {
		if c := bytes.Count(memory, secret); c > 0 {
			lines = append(lines, fmt.Sprintf("%d x %s", c, what))
		}
	}
	slices.Sort(lines)
	if lines == nil {
		return "nothing"
	}
	return strings.Join(lines, ", ")
}

// readable asks as the ordinary user for the memory of a process.
func readable(ctx context.Context, pid int, uid uint32) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("exec 3</proc/%d/mem && cat /proc/%d/environ >/dev/null", pid, pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// memoryOf is what root reads of the memory of a process: every map that can be written.
func memoryOf(t *testing.T, pid int) []byte {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var all []byte
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") || to-from > 1<<30 {
			continue
		}
		part := make([]byte, to-from)
		n, _ := mem.ReadAt(part, from) // parts of a map may not be there
		all = append(all, part[:n]...)
	}
	if len(all) < 1<<20 {
		t.Errorf("%d bytes of memory read: nothing was looked at", len(all))
	}
	return all
}

// TestNoCore ends a gateway as a fault would, where cores may be written: none is.
func TestNoCore(t *testing.T) {
	t.Parallel()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.HasPrefix(string(pattern), "|") || strings.HasPrefix(string(pattern), "/") {
		t.Skipf("NOT EXERCISED: a core dump; have core_pattern name a file in the working directory, it is %q %v", pattern, err)
	}
	bin, err := buildWarder()
	if err != nil {
		t.Fatal(err)
	}
	if cores := aborted(t, "sh", "-c", "kill -ABRT $$"); len(cores) == 0 {
		t.Skip("NOT EXERCISED: a core dump; this system writes none of any process")
	}
	f := newFleet(t, setup{lone: true})
	f.gates[0].dead[f.gates[0].proc] = true
	_ = f.gates[0].proc.Stop() // always nil
	if cores := aborted(t, bin, "serve", "--config", f.gates[0].config); len(cores) != 0 {
		t.Errorf("a gateway that aborted left %v", cores)
	}
}

// aborted runs a program that ends by SIGABRT, where cores may be written, and lists those it left.
func aborted(t *testing.T, args ...string) []string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `ulimit -c unlimited; exec "$@"`, "sh"}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOTRACEBACK=crash")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if args[0] != "sh" {
		time.Sleep(3 * time.Second)
		if err := cmd.Process.Signal(syscall.SIGABRT); err != nil {
			t.Error(err)
		}
	}
	_ = cmd.Wait() // aborted
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGABRT {
		t.Errorf("%s ended with %v, want SIGABRT", args[0], cmd.ProcessState)
	}
	cores, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil {
		t.Fatal(err)
	}
	return cores
}
