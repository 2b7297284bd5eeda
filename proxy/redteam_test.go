package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// An attacked is a gate whose controls the test chooses, with raw servers behind it.
type attacked struct {
	*Gate
	url string
}

// attack builds a gate over raw servers, in the order of names. The group "all" holds them all.
func attack(t *testing.T, cfg Config, control warder.Interceptor, names []string, servers map[string]http.HandlerFunc) *attacked {
	t.Helper()
	group := &Endpoint{Name: "all", Group: true}
	ends := []*Endpoint{group}
	for _, name := range names {
		ts := httptest.NewServer(servers[name])
		t.Cleanup(ts.Close)
		up, err := upstream.New(name, upstream.Config{URL: ts.URL}, upstream.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = up.Close(context.WithoutCancel(t.Context())) })
		b := &Backend{Server: &warder.Server{Name: name}, Up: up}
		ends = append(ends, &Endpoint{Name: name, Backends: []*Backend{b}})
		group.Backends = append(group.Backends, b)
	}
	layers := []warder.Layer{{Name: "identity", Connect: []warder.Interceptor{admit{}}}}
	if control != nil {
		layers = append(layers, warder.Layer{Name: "access", Request: []warder.Interceptor{control}})
	}
	cfg.MinRevision = "2024-11-05"
	floor, err := wire.NewFloor(wire.RevisionConfig{Floor: cfg.MinRevision}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := New(cfg, floor, NewChain(layers, nil, nil), ends, NewSessions(cfg.Sessions, time.Now), slog.New(slog.DiscardHandler))
	door := httptest.NewServer(g.HTTP())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := g.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		door.CloseClientConnections()
		door.Close()
	})
	return &attacked{g, door.URL}
}

// control is a control of one function.
type control func(x *warder.Exchange) warder.Decision

func (control) Control() warder.ControlID { return "CVM-01" }

func (c control) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	return c(x), nil
}

// stateless is a raw server of 2026-07-28 that answers as told, and notes what it was asked.
type stateless struct {
	answer func(method string, m *warder.Message, w http.ResponseWriter) (result string)

	mu   sync.Mutex
	seen []string
	head []http.Header
}

func (s *stateless) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, err := wire.Decode(body, wire.Limits{})
	if err != nil || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.seen, s.head = append(s.seen, m.Method), append(s.head, r.Header)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch m.Method {
	case wire.MethodDiscover:
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{"subscribe":true},"logging":{}},"ttlMs":0,"cacheScope":"private"}}`, m.IDBytes())
		return
	case wire.MethodListen:
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s},\"notifications\":{}}}\n\n", m.IDBytes())
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	result := `{"resultType":"complete","content":[]}`
	if s.answer != nil {
		result = s.answer(m.Method, m, w)
	}
	if result != "" {
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.IDBytes(), result)
	}
}

func (s *stateless) asked(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.seen {
		if m == method {
			n++
		}
	}
	return n
}

// do sends one HTTP request to the gate as somebody.
func (a *attacked) do(t *testing.T, method, path, who string, head map[string]string, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", who)
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for k, v := range head {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// open opens a session of 2025-06-18 and returns its id.
func (a *attacked) open(t *testing.T, endpoint, who string) string {
	t.Helper()
	resp := a.do(t, http.MethodPost, "/mcp/"+endpoint, who, nil,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"elicitation":{}},"clientInfo":{"name":"c","version":"1"}}}`)
	body := text(t, resp)
	id := resp.Header.Get("Mcp-Session-Id")
	if id == "" {
		t.Fatalf("no session: %d %s", resp.StatusCode, body)
	}
	return id
}

// modern is a stateless request.
func modern(id, method, params string) string {
	if params != "" {
		params = "," + params
	}
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}` + params + `}}`
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 5 s: %s", what)
}

// A client that subscribes to many long URIs of a stateless server makes the listen request of its
// session larger than a message may be. That must not end the process.
func TestAttackSubscriptionsBeyondAMessage(t *testing.T) {
	t.Parallel()
	s := &stateless{}
	a := attack(t, Config{MessageBytes: 64 << 10, KeepAlive: time.Second}, nil, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	id := a.open(t, "s", "ada")
	head := map[string]string{"Mcp-Session-Id": id}
	stream := a.do(t, http.MethodGet, "/mcp/s", "ada", head, "")
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("stream: %d", stream.StatusCode)
	}
	eventually(t, "the stream reaches the server", func() bool { return s.asked(wire.MethodListen) > 0 })
	refused := 0
	for i := range 40 {
		uri := fmt.Sprintf("file:///%d%s", i, strings.Repeat("x", 8<<10))
		body := text(t, a.do(t, http.MethodPost, "/mcp/s", "ada", head,
			fmt.Sprintf(`{"jsonrpc":"2.0","id":"s%d","method":"resources/subscribe","params":{"uri":%q}}`, i, uri)))
		if strings.Contains(body, "too_many_subscriptions") {
			refused++
		}
	}
	if refused == 0 {
		t.Error("every subscription was taken")
	}
	if got := text(t, a.do(t, http.MethodPost, "/mcp/s", "ada", head, `{"jsonrpc":"2.0","id":"p","method":"ping"}`)); !strings.Contains(got, `"result"`) {
		t.Errorf("ping afterwards: %s", got)
	}
}
