package upstream

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/tlsconf"
	"github.com/warder-mcp/warder/wire"
)

const legacyInit = `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}`

// TestEraDetection holds the ways in which servers refuse an era against what is made of them.
func TestEraDetection(t *testing.T) {
	t.Parallel()
	reply := func(w http.ResponseWriter, status int, format string, args ...any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, format, args...)
	}
	for _, tc := range []struct {
		name     string
		discover func(w http.ResponseWriter, id string)
		initial  func(w http.ResponseWriter, id string)
		modern   map[bool]bool // era of the link by era of the client; nil: no link
		reason   warder.Reason
	}{
		{
			"modern only", func(w http.ResponseWriter, id string) {
				reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":`+discoverAnswer+`}`, id)
			},
			func(w http.ResponseWriter, id string) {
				reply(w, 404, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`, id)
			},
			map[bool]bool{true: true, false: true},
			"",
		},
		{
			"both", func(w http.ResponseWriter, id string) {
				reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":`+discoverAnswer+`}`, id)
			},
			func(w http.ResponseWriter, id string) { reply(w, 200, legacyInit, id) },
			map[bool]bool{true: true, false: false},
			"",
		},
		{"legacy: 200 and method not found", func(w http.ResponseWriter, id string) {
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`, id)
		}, nil, map[bool]bool{true: false, false: false}, ""},
		{"legacy: not initialized", func(w http.ResponseWriter, _ string) {
			reply(w, 400, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Server not initialized"},"id":null}`)
		}, nil, map[bool]bool{true: false, false: false}, ""},
		{"legacy: unsupported version", func(w http.ResponseWriter, id string) {
			reply(w, 400, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no","data":{"supported":["2025-11-25"]}}}`, id)
		}, nil, map[bool]bool{true: false, false: false}, ""},
		{"legacy: announces old revisions", func(w http.ResponseWriter, id string) {
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2025-11-25"],"capabilities":{}}}`, id)
		}, nil, map[bool]bool{true: false, false: false}, ""},
		{"legacy: plain text", func(w http.ResponseWriter, _ string) { http.Error(w, "what?", http.StatusBadRequest) }, nil, map[bool]bool{true: false, false: false}, ""},
		{"legacy: empty 404", func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusNotFound) }, nil, map[bool]bool{true: false, false: false}, ""},
		{"legacy: 500", func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusInternalServerError) }, nil, map[bool]bool{true: false, false: false}, ""},
		{"legacy: nonsense", func(w http.ResponseWriter, _ string) { reply(w, 200, `{"a":1`) }, nil, map[bool]bool{true: false, false: false}, ""},
		{"neither", func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusNotFound) }, func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusNotFound) }, nil, ReasonNotMCP},
		{"unknown revision", func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusNotFound) }, func(w http.ResponseWriter, id string) {
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2030-01-01","capabilities":{}}}`, id)
		}, nil, ReasonNotMCP},
		{"down", func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusServiceUnavailable) }, func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusServiceUnavailable) }, nil, ReasonStatus},
		{"unauthorized", func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusUnauthorized) }, func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusUnauthorized) }, nil, ReasonUnauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.initial == nil {
				tc.initial = func(w http.ResponseWriter, id string) { reply(w, 200, legacyInit, id) }
			}
			url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost {
					w.WriteHeader(http.StatusMethodNotAllowed)
					return
				}
				raw, _ := io.ReadAll(r.Body)
				m, err := wire.Decode(raw, wire.Limits{})
				if err != nil {
					t.Errorf("server got %s: %v", raw, err)
					return
				}
				switch m.Method {
				case wire.MethodDiscover:
					tc.discover(w, string(m.IDBytes()))
				case wire.MethodInitialize:
					tc.initial(w, string(m.IDBytes()))
				default:
					w.WriteHeader(http.StatusAccepted)
				}
			}))
			for _, first := range []bool{true, false} {
				s := newServer(t, Config{URL: url})
				for _, modern := range []bool{first, !first, first} {
					rev := warder.Revision20251125
					if modern {
						rev = warder.Revision20260728
					}
					l, err := s.Link(t.Context(), Key{}, Init{Revision: rev})
					if reasonOf(err) != tc.reason {
						t.Fatalf("client %s: %v, want %q", rev, err, tc.reason)
					}
					if err == nil && l.Modern() != tc.modern[modern] {
						t.Errorf("client %s: modern %v, want %v", rev, l.Modern(), tc.modern[modern])
					}
				}
			}
		})
	}
}

// TestProbeOnce proves that many callers at once cost one question, and that the answer is kept
// until the server fails.
func TestProbeOnce(t *testing.T) {
	leakCheck(t)
	var asked atomic.Int32
	var down atomic.Bool
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		asked.Add(1)
		time.Sleep(20 * time.Millisecond)
		raw, _ := io.ReadAll(r.Body)
		m, err := wire.Decode(raw, wire.Limits{})
		if err != nil {
			t.Error(err)
			return
		}
		asJSON(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.IDBytes(), discoverAnswer)
	}))
	s := newServer(t, Config{URL: url, Era: EraModern})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if h, err := s.Probe(t.Context()); err != nil || h.Revision != warder.Revision20260728 {
				t.Errorf("hello %v, %v", h.Revision, err)
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	l := link(t, s, Key{}, warder.Revision20260728)
	down.Store(true)
	if _, err := collect(t.Context(), l, callTool(t, true, "1", "x", "")); reasonOf(err) != ReasonStatus {
		t.Errorf("call: %v", err)
	}
	down.Store(false)
	if _, err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times after a failure, want 2", n)
	}
}

// TestProbeFailureIsShared proves that callers who waited for a failing probe do not repeat it one
// by one.
func TestProbeFailureIsShared(t *testing.T) {
	leakCheck(t)
	var asked atomic.Int32
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		time.Sleep(50 * time.Millisecond)
		w.WriteHeader(http.StatusNotFound)
	}))
	s := newServer(t, Config{URL: url, Era: EraModern})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.Probe(t.Context()); reasonOf(err) != ReasonNotMCP {
				t.Errorf("probe: %v", err)
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n > 3 {
		t.Errorf("asked %d times", n)
	}
}

// TestBreaker follows the breaker of a server through its states.
func TestBreaker(t *testing.T) {
	leakCheck(t)
	var down atomic.Bool
	var asked atomic.Int32
	url := modernServer(t, func(w http.ResponseWriter, id string) {
		asked.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		asJSON(w, okResult, id)
	})
	var mu sync.Mutex
	now := time.Unix(1000, 0)
	var events []string
	s, err := New("test", Config{URL: url, Era: EraModern, Breaker: BreakerConfig{Failures: 3, Open: time.Minute}}, Options{
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		OnLifecycle: func(event string, _ ...slog.Attr) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, event)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	l := link(t, s, Key{}, warder.Revision20260728)
	call := func(want warder.Reason, wantAsked int32) {
		t.Helper()
		_, err := collect(t.Context(), l, callTool(t, true, "1", "x", ""))
		if reasonOf(err) != want || asked.Load() != wantAsked {
			t.Errorf("error %v after %d requests, want %q after %d", err, asked.Load(), want, wantAsked)
		}
	}
	call("", 1)
	down.Store(true)
	call(ReasonStatus, 2)
	call(ReasonStatus, 3)
	call(ReasonStatus, 4) // opens
	call(ReasonOpen, 4)
	if st := s.Stats().Breaker; st != "open" {
		t.Errorf("state %s", st)
	}
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	if st := s.Stats().Breaker; st != "half_open" {
		t.Errorf("state %s", st)
	}
	call(ReasonStatus, 5) // the trial fails
	call(ReasonOpen, 5)
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	down.Store(false)
	call("", 6) // the trial succeeds
	call("", 7)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"era_found", "breaker_opened", "breaker_closed"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestBreakerTrial proves that only one call tries a broken server, and that a trial which never
// reports back does not block for ever.
func TestBreakerTrial(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := &breaker{limit: 1, open: time.Minute, now: func() time.Time { return now }}
	b.failure()
	now = now.Add(time.Minute)
	if !b.allow() || b.allow() {
		t.Error("want one trial")
	}
	now = now.Add(time.Minute)
	if !b.allow() {
		t.Error("a lost trial blocks for ever")
	}
}

// TestSlowToolKeepsTheServer proves that calls which time out do not open the breaker.
func TestSlowToolKeepsTheServer(t *testing.T) {
	leakCheck(t)
	url := modernServer(t, func(http.ResponseWriter, string) { time.Sleep(100 * time.Millisecond) })
	s := newServer(t, Config{URL: url, Era: EraModern, Timeout: 10 * time.Millisecond, ProbeTimeout: time.Second, Breaker: BreakerConfig{Failures: 2}})
	s.learn(func(e *eras) { e.modern = yes })
	for range 5 {
		if _, err := collect(t.Context(), link(t, s, Key{}, warder.Revision20260728), callTool(t, true, "1", "x", "")); reasonOf(err) != ReasonTimeout {
			t.Errorf("call: %v", err)
		}
	}
	if st := s.Stats().Breaker; st != "closed" {
		t.Errorf("state %s", st)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := Backoff{Min: 100 * time.Millisecond, Max: 3 * time.Second}
	for n, ms := range map[int]int{1: 100, 2: 200, 3: 400, 5: 1600, 6: 3000, 100: 3000} {
		step := time.Duration(ms) * time.Millisecond
		seen := map[time.Duration]bool{}
		for range 50 {
			d := b.delay(n)
			if d < step/2 || d > step {
				t.Errorf("death %d: %s, want %s to %s", n, d, step/2, step)
			}
			seen[d] = true
		}
		if len(seen) < 2 {
			t.Errorf("death %d: no jitter", n)
		}
	}
}

// TestSweep proves that pooled sessions nobody uses are closed, and dedicated and listening ones
// not.
func TestSweep(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{call: answerJSON}
	s, pooled := legacyLink(t, h, Key{Owner: "o"}, func(c *Config) { c.IdleTimeout = 100 * time.Millisecond })
	own := link(t, s, Key{Owner: "o", Session: "s"}, warder.Revision20250618)
	listening := link(t, s, Key{Owner: "p"}, warder.Revision20250618)
	defer listening.Subscribe(func(*warder.Message) {})()
	select {
	case <-pooled.Done():
	case <-time.After(2 * time.Second):
		t.Fatal("the idle session is still open")
	}
	h.waitFor("DELETE s1")
	time.Sleep(200 * time.Millisecond)
	if !alive(own) || !alive(listening) {
		t.Errorf("own alive %v, listening alive %v", alive(own), alive(listening))
	}
}

// TestMaxLinks proves the bound on sessions.
func TestMaxLinks(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{call: answerJSON}
	s, _ := legacyLink(t, h, Key{Session: "0"}, func(c *Config) { c.MaxLinks = 2 })
	for i, want := range []warder.Reason{"", "", ReasonBusy} {
		_, err := s.Link(t.Context(), Key{Session: fmt.Sprint(i)}, Init{Revision: warder.Revision20250618})
		if reasonOf(err) != want {
			t.Errorf("session %d: %v, want %q", i, err, want)
		}
	}
	s.CloseSession(Key{Session: "0"})
	link(t, s, Key{Session: "2"}, warder.Revision20250618)
}

// TestForeignEndpoint proves that an HTTP+SSE server cannot direct messages elsewhere.
func TestForeignEndpoint(t *testing.T) {
	leakCheck(t)
	for _, endpoint := range []string{"http://evil.example/post", "//evil.example/post", "https://127.0.0.1/post", "http://u:p@HOST/post", "ftp:x"} {
		var posted atomic.Int32
		url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				posted.Add(1)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "event: endpoint\ndata: %s\n\n", strings.Replace(endpoint, "HOST", r.Host, 1))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}))
		s := newServer(t, Config{SSE: url})
		if _, err := s.Link(t.Context(), Key{}, Init{Revision: warder.Revision20241105}); reasonOf(err) != ReasonNotMCP {
			t.Errorf("%s: %v, want %s", endpoint, err, ReasonNotMCP)
		}
		if posted.Load() != 0 {
			t.Errorf("%s: something was posted", endpoint)
		}
	}
}

// TestPrivateAddress proves that a configured name which leads inside is refused unless allowed.
func TestPrivateAddress(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		url   string
		allow bool
		ok    bool // configuration
	}{
		{"http://127.0.0.1:1/", false, true},
		{"http://localhost:1/", false, true},
		{"http://[::1]:1/", false, true},
		{"http://10.0.0.1/", false, false},
		{"http://10.0.0.1/", true, true},
		{"https://10.0.0.1/", false, true},
		{"http://example.com/", false, false},
		{"https://user:pass@example.com/", false, false},
		{"https://example.com/#x", false, false},
		{"ftp://example.com/", true, false},
		{"https:///x", true, false},
		{"://", true, false},
	} {
		s, err := New("x", Config{URL: tc.url, AllowPrivate: tc.allow}, Options{})
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v, want ok %v", tc.url, err, tc.ok)
		}
		if err == nil && tc.url == "https://10.0.0.1/" {
			_, err := s.Link(t.Context(), Key{}, Init{})
			if reasonOf(err) != ReasonUnreachable || !strings.Contains(err.Error(), "private") {
				t.Errorf("%s: %v", tc.url, err)
			}
		}
	}
}

// TestValidate holds configurations against the number of complaints.
func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "exactly one"},
		{Config{URL: "https://a", SSE: "https://b"}, "exactly one"},
		{Config{URL: "https://a", Era: "new"}, "era"},
		{Config{URL: "https://a", LegacyURL: "https://b", Era: EraModern}, "legacy_url"},
		{Config{SSE: "https://b", Era: EraModern}, "sse_url"},
		{Config{Run: &Run{}}, "command is empty"},
		{Config{Run: &Run{Command: []string{"a"}, Instances: "many"}}, "instances"},
		{Config{Run: &Run{Command: []string{"a"}, Env: map[string]string{"A=B": ""}}}, "env"},
		{Config{URL: "https://a", Headers: map[string]secret.Ref{"mcp-session-id": {Env: "X"}}}, "headers"},
		{Config{URL: "https://a", Headers: map[string]secret.Ref{"X Y": {Env: "X"}}}, "headers"},
		{Config{URL: "https://a", Headers: map[string]secret.Ref{"X": {}}}, "exactly one of file"},
		{Config{URL: "https://a", TLS: tlsconf.Client{Pins: []string{"abc"}}}, "pin"},
	} {
		if err := tc.cfg.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.cfg, err, tc.want)
		}
	}
}

// TestRefusalExpires proves that an era which was refused is asked for again after a while.
func TestRefusalExpires(t *testing.T) {
	leakCheck(t)
	var asked atomic.Int32
	h := &sessionServer{t: t, call: answerJSON}
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Method") == wire.MethodDiscover {
			asked.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	var mu sync.Mutex
	now := time.Unix(1000, 0)
	s, err := New("test", Config{URL: url}, Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	for i, want := range []int32{1, 1, 2, 2} {
		if i == 2 {
			mu.Lock()
			now = now.Add(2 * refusalTime)
			mu.Unlock()
		}
		if l := link(t, s, Key{}, warder.Revision20260728); l.Modern() || asked.Load() != want {
			t.Errorf("link %d: modern %v, asked %d times, want %d", i, l.Modern(), asked.Load(), want)
		}
	}
}

// TestOneEraSharesChildren proves that clients of both eras use one child of a server that speaks
// one, and that capabilities tell children apart only where they are declared once.
func TestOneEraSharesChildren(t *testing.T) {
	leakCheck(t)
	for kind, want := range map[string]int64{"honest": 2, "echo": 2} {
		s := newServer(t, childConfig(kind))
		for range 3 {
			for _, rev := range []warder.Revision{warder.Revision20260728, warder.Revision20251125} {
				link(t, s, Key{Owner: "o"}, rev)
				if kind == "echo" && rev.Modern() {
					link(t, s, Key{Owner: "o", Capabilities: [32]byte{1}}, rev)
				}
			}
		}
		if got := s.Stats().Starts; got > want {
			t.Errorf("%s: %d children, want at most %d", kind, got, want)
		}
	}
}
