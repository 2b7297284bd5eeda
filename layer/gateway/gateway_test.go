package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/wire"
)

var errKilled = errors.New("dependency killed")

// fakes are the services that the layer asks.
type fakes struct {
	mu          sync.Mutex
	now         time.Time
	annotations map[string][]warder.Header // by server/tool
	owners      map[string]string          // session → principal key
	refreshed   []string
	refreshErr  error
}

func newFakes() *fakes {
	return &fakes{now: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC), annotations: map[string][]warder.Header{}, owners: map[string]string{}}
}

func (f *fakes) Annotations(server, tool string) []warder.Header {
	return f.annotations[server+"/"+tool]
}

func (f *fakes) SessionOwner(session string) (string, bool) {
	key, ok := f.owners[session]
	return key, ok
}

func (f *fakes) Refresh(_ context.Context, server, kind string) error {
	f.refreshed = append(f.refreshed, server+"/"+kind)
	return f.refreshErr
}

func (f *fakes) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakes) wait(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fakes) deps(tb testing.TB) Deps {
	tb.Helper()
	box, err := seal.New(seal.NewKey())
	if err != nil {
		tb.Fatal(err)
	}
	return Deps{Annotations: f, Sessions: f, Refresher: f, State: box, Now: f.Now}
}

// layer builds every control with the configuration.
func (f *fakes) layer(tb testing.TB, cfg Config) *controls {
	tb.Helper()
	c, err := build(cfg, f.deps(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func alice() *warder.Principal {
	return &warder.Principal{Issuer: "https://idp.example.com", Subject: "alice", Client: "desktop", Transport: "bearer"}
}

func mallory() *warder.Principal {
	return &warder.Principal{Issuer: "https://idp.example.com", Subject: "mallory", Client: "desktop", Transport: "bearer"}
}

func message(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatalf("decode %s: %v", raw, err)
	}
	return m
}

// modernMeta is the smallest _meta of a stateless request.
const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// exchange returns one over HTTP in a revision, with the headers that belong to the message.
func exchange(tb testing.TB, rev warder.Revision, raw string) *warder.Exchange {
	tb.Helper()
	m := message(tb, raw)
	h := http.Header{}
	if rev.Modern() {
		h[keyVersion] = []string{string(rev)}
		h[wire.HeaderMethod] = []string{m.Method}
		switch m.Method {
		case wire.MethodToolsCall, wire.MethodPromptsGet, wire.MethodResourcesRead, wire.MethodTasksGet, wire.MethodTasksUpdate, wire.MethodTasksCancel:
			h[wire.HeaderName] = []string{m.Target}
		}
	}
	return &warder.Exchange{
		Door: warder.DoorHTTP, Revision: rev, Endpoint: "files", Server: &warder.Server{Name: "files"},
		Conn:    warder.Conn{Peer: netip.MustParseAddrPort("192.0.2.7:4000"), Header: h},
		Inbound: m, Request: m, Principal: alice(),
	}
}

// call returns a stateless tools/call with these arguments.
func call2026(tb testing.TB, arguments string) *warder.Exchange {
	tb.Helper()
	return exchange(tb, warder.Revision20260728,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":`+arguments+`,`+modernMeta+`}}`)
}

// answer gives the exchange a response to judge.
func answer(tb testing.TB, x *warder.Exchange, raw string) *warder.Exchange {
	tb.Helper()
	x.Response = message(tb, raw)
	return x
}

// result gives the exchange a result to judge.
func result(tb testing.TB, x *warder.Exchange, result string) *warder.Exchange {
	tb.Helper()
	return answer(tb, x, `{"jsonrpc":"2.0","id":1,"result":`+result+`}`)
}

// verdict runs one control; no reason means that it passes.
func verdict(tb testing.TB, c warder.Interceptor, x *warder.Exchange, code warder.Code, reason warder.Reason) warder.Decision {
	tb.Helper()
	d, err := c.Intercept(tb.Context(), x)
	if err != nil {
		tb.Fatalf("%s: %v", c.Control(), err)
	}
	if reason == "" {
		if d.Verdict != warder.Pass {
			tb.Fatalf("%s: got %s %s %s (%s), want pass", c.Control(), d.Verdict, d.Code, d.Reason, d.Detail)
		}
		return d
	}
	if d.Verdict != warder.Deny || d.Code != code || d.Reason != reason {
		tb.Fatalf("%s: got %s %s %s (%s), want deny %s %s", c.Control(), d.Verdict, d.Code, d.Reason, d.Detail, code, reason)
	}
	return d
}

func pass(tb testing.TB, c warder.Interceptor, x *warder.Exchange) warder.Decision {
	tb.Helper()
	return verdict(tb, c, x, "", "")
}

// fails proves that a control that cannot decide returns an error, which the runner denies.
func fails(t *testing.T, c warder.Interceptor, x *warder.Exchange) {
	t.Helper()
	if d, err := c.Intercept(t.Context(), x); err == nil {
		t.Fatalf("%s: decided %s %s without what it needs", c.Control(), d.Verdict, d.Reason)
	}
}

func TestLayer(t *testing.T) {
	t.Parallel()
	l, err := New(Default(), newFakes().deps(t))
	if err != nil {
		t.Fatal(err)
	}
	ids := func(list []warder.Interceptor) (out []warder.ControlID) {
		for _, c := range list {
			if c.Control() != "GW-01" { // built elsewhere
				out = append(out, c.Control())
			}
		}
		return out
	}
	got := map[string][]warder.ControlID{"connect": ids(l.Connect), "request": ids(l.Request), "response": ids(l.Response)}
	want := map[string][]warder.ControlID{
		"connect":  {"GW-03", "GW-04", "PRT-11"},
		"request":  {"GW-03", "PRT-02", "PRT-06", "GW-04", "PRT-11", "PRT-04", "PRT-09", "PRT-05", "PRT-10"},
		"response": {"PRT-11", "PRT-09", "PRT-08", "PRT-05", "PRT-06", "PRT-10", "GW-04"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("controls (-want +got):\n%s", diff)
	}
	if _, err := New(Default(), Deps{}); err == nil {
		t.Error("New without dependencies passed")
	}
	for name, spoil := range map[string]func(*Config){
		"rate":      func(c *Config) { c.Rates.Peer.PerSecond = -1 },
		"burst":     func(c *Config) { c.Rates.Tool.Burst = -1 },
		"keys":      func(c *Config) { c.Rates.MaxKeys = -5 },
		"loops":     func(c *Config) { c.Loops.Repeats = -1 },
		"window":    func(c *Config) { c.Loops.Window = time.Millisecond },
		"depth":     func(c *Config) { c.Loops.Depth = 999 },
		"state":     func(c *Config) { c.State.Keep = 48 * time.Hour },
		"tasks":     func(c *Config) { c.Tasks.Max = 1 },
		"extension": func(c *Config) { c.Extensions = []string{"*"} },
		"streams":   func(c *Config) { c.Changes.Streams = -1 },
		"sampling":  func(c *Config) { c.Deprecated.Budget.MaxTokens = -1 },
	} {
		cfg := Default()
		spoil(&cfg)
		if _, err := New(cfg, newFakes().deps(t)); err == nil {
			t.Errorf("New with a bad %s passed", name)
		}
	}
	if _, err := New(Config{}, newFakes().deps(t)); err != nil {
		t.Errorf("New with the zero configuration: %v", err)
	}
}

// The zero configuration is the strictest: nothing may be asked of users.
func TestZeroConfigIsStrict(t *testing.T) {
	t.Parallel()
	f := (Config{}).features()
	if diff := cmp.Diff(features{}, f, cmp.AllowUnexported(features{})); diff != "" {
		t.Errorf("features of the zero configuration (-want +got):\n%s", diff)
	}
}

// A whole ordinary call, through every control in order.
func BenchmarkRequestPass(b *testing.B) {
	l, err := New(fast(), newFakes().deps(b))
	if err != nil {
		b.Fatal(err)
	}
	x := call2026(b, `{"query":"x","limit":10}`)
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range l.Request {
			if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(c.Control(), d, err)
			}
		}
	}
}

// Each control of the request phase on its own.
func BenchmarkRequestByControl(b *testing.B) {
	f := newFakes()
	f.annotations["files/search"] = []warder.Header{{Name: "Region", Pointer: []string{"region"}, Type: "string"}}
	l, err := New(fast(), f.deps(b))
	if err != nil {
		b.Fatal(err)
	}
	x := call2026(b, `{"query":"x","limit":10,"region":"eu"}`)
	x.Conn.Header["Mcp-Param-Region"] = []string{"eu"}
	for _, k := range []string{"Accept", "Content-Type", "Content-Length", "User-Agent", "Authorization", "Accept-Encoding", "Traceparent"} {
		x.Conn.Header[k] = []string{"value"}
	}
	for _, c := range l.Request {
		b.Run(string(c.Control()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
					b.Fatal(d, err)
				}
			}
		})
	}
}

// Every control of the response phase on a small result.
func BenchmarkResponsePass(b *testing.B) {
	l, err := New(fast(), newFakes().deps(b))
	if err != nil {
		b.Fatal(err)
	}
	x := result(b, call2026(b, `{}`), `{"resultType":"complete","content":[{"type":"text","text":"hello"}]}`)
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range l.Response {
			if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(c.Control(), d, err)
			}
		}
	}
}

// fast is a configuration whose limits no benchmark reaches.
func fast() Config {
	cfg := Default()
	r := Rate{1e8, 1e9}
	cfg.Rates = Rates{Peer: r, Principal: r, Client: r, Agent: r, Tenant: r, Server: r, Tool: r}
	cfg.Loops.Repeats, cfg.Loops.Changing = 1<<40, 1<<40
	return cfg
}

// The pass path of the request phase does not allocate.
func TestRequestPassAllocates(t *testing.T) {
	l, err := New(fast(), newFakes().deps(t))
	if err != nil {
		t.Fatal(err)
	}
	x := call2026(t, `{"query":"x"}`)
	for _, c := range l.Request {
		if c.Control() == "GW-01" {
			continue
		}
		if n := testing.AllocsPerRun(200, func() { _, _ = c.Intercept(t.Context(), x) }); n > 0 {
			t.Errorf("%s allocates %v times on the way through", c.Control(), n)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
