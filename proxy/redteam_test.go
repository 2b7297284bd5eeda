package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
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

// open opens a session of 2025-06-18 for ada and returns its id.
func (a *attacked) open(t *testing.T, endpoint string) string {
	t.Helper()
	resp := a.do(t, http.MethodPost, "/mcp/"+endpoint, "ada", nil,
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
	id := a.open(t, "s")
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

// One caller's hanging calls must leave room for everybody else.
func TestAttackCallerTakesEveryPlace(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := &stateless{answer: func(_ string, m *warder.Message, _ http.ResponseWriter) string {
		if m.Target == "hang" {
			<-release
		}
		return `{"resultType":"complete","content":[]}`
	}}
	a := attack(t, Config{Concurrent: 4 * seatShare}, nil, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	head := map[string]string{"Mcp-Protocol-Version": "2026-07-28"}
	var work sync.WaitGroup
	defer work.Wait()
	defer close(release)
	for i := range 4 {
		work.Go(func() {
			a.do(t, http.MethodPost, "/mcp/s", "mallory", head, modern(fmt.Sprint(i), "tools/call", `"name":"hang","arguments":{}`))
		})
	}
	eventually(t, "four calls hang", func() bool { return s.asked(wire.MethodToolsCall) == 4 })
	resp := a.do(t, http.MethodPost, "/mcp/s", "mallory", head, modern("9", "tools/call", `"name":"fast","arguments":{}`))
	if body := text(t, resp); resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(body, "too_many_exchanges_of_caller") {
		t.Errorf("fifth call of mallory: %d %s", resp.StatusCode, body)
	}
	resp = a.do(t, http.MethodPost, "/mcp/s", "ada", head, modern("1", "tools/call", `"name":"fast","arguments":{}`))
	if body := text(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"result"`) {
		t.Errorf("call of ada: %d %s", resp.StatusCode, body)
	}
}

// unsteady is an observer that panics over one control decision of a call.
type unsteady struct{}

func (unsteady) Started(*warder.Exchange) {}

func (unsteady) Decided(x *warder.Exchange, phase warder.Phase, _ *warder.Decision, _ time.Duration) {
	if phase == warder.PhaseRequest && x.Target() == "boom" {
		panic("unsteady")
	}
}

// A panic outside controls, in a goroutine of a pipe or of a group's part, costs one exchange.
func TestAttackPanicEndsOneExchange(t *testing.T) {
	t.Parallel()
	s := &stateless{}
	allow := control(func(*warder.Exchange) warder.Decision { return warder.Continue() })
	a := attack(t, Config{}, allow, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	a.chain.observer = unsteady{}
	in, out := io.Pipe()
	lines, answers := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- a.Stdio(t.Context(), "s", in, answers) }()
	read := wire.NewLineReader(lines, 1<<20)
	for _, c := range []struct{ target, want string }{{"boom", `"internal"`}, {"fine", `"result"`}} {
		_, _ = io.WriteString(out, modern("1", "tools/call", `"name":"`+c.target+`","arguments":{}`)+"\n")
		line, err := read.Next()
		if err != nil || !strings.Contains(string(line), c.want) {
			t.Errorf("%s: %s %v", c.target, line, err)
		}
	}
	_ = out.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := a.Running(); n != 0 {
		t.Errorf("%d exchanges still run", n)
	}
}

// A client that does not read its answer must not hold the exchange for ever.
func TestAttackClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 3<<20)
	s := &stateless{answer: func(string, *warder.Message, http.ResponseWriter) string {
		return `{"resultType":"complete","content":[{"type":"text","text":"` + large + `"}]}`
	}}
	a := attack(t, Config{WriteTimeout: 300 * time.Millisecond}, nil, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	door := httptest.NewUnstartedServer(a.HTTP())
	door.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && state == http.StateNew {
			_ = tcp.SetWriteBuffer(4096)
		}
	}
	door.Start()
	t.Cleanup(door.Close)
	c, err := net.Dial("tcp", door.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	body := modern("1", "tools/call", `"name":"x","arguments":{}`)
	_, _ = fmt.Fprintf(c, "POST /mcp/s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nMcp-Protocol-Version: 2026-07-28\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	eventually(t, "the server is asked", func() bool { return s.asked(wire.MethodToolsCall) == 1 })
	eventually(t, "the exchange ends", func() bool { return a.Running() == 0 })
}

// All streams of all sessions together keep a bounded number of bytes for clients that come back.
func TestAttackReplayMemory(t *testing.T) {
	t.Parallel()
	st := NewSessions(SessionConfig{}, time.Now)
	s, failure := st.open("mallory", "s")
	if failure != nil {
		t.Fatal(failure)
	}
	r := s.stream(false)
	for range 5 {
		r.add(make([]byte, maxReplayBytes/2), -1)
	}
	if got := st.held.Load(); got <= 0 || got > maxReplayBytes {
		t.Errorf("one stream holds %d bytes, want at most %d", got, maxReplayBytes)
	}
	elsewhere := maxReplayTotal - st.held.Load()
	st.held.Add(elsewhere)
	if raw := r.add([]byte("one more"), -1); !strings.Contains(string(raw), "one more") {
		t.Errorf("the event itself is lost: %q", raw)
	}
	if got := st.held.Load(); got != elsewhere {
		t.Errorf("beyond the bound %d bytes are held, want %d", got, elsewhere)
	}
	r.add([]byte("later"), -1)
	r.end()
	r.drop()
	if got := st.held.Load(); got != 0 && got != elsewhere {
		t.Errorf("after the stream %d bytes are held, want %d", got, elsewhere)
	}
}

// Headers that no control has compared with the message do not reach a server that may act on them.
func TestAttackMirroredHeadersOfOldClients(t *testing.T) {
	t.Parallel()
	s := &stateless{}
	a := attack(t, Config{}, nil, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	id := a.open(t, "s")
	text(t, a.do(t, http.MethodPost, "/mcp/s", "ada", map[string]string{"Mcp-Session-Id": id, "Mcp-Param-Region": "forged", "Cookie": "a=b"},
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x","arguments":{"region":"eu"}}}`))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range s.head {
		for _, name := range []string{"Mcp-Param-Region", "Cookie", "Authorization", "Mcp-Session-Id"} {
			if got := h.Get(name); got != "" {
				t.Errorf("%s reached the server with %s: %q", s.seen[i], name, got)
			}
		}
	}
}

// Knowing the id of a session gives no power over it: the stream of its owner goes on, and its ids and
// questions are untouched.
func TestAttackStreamOfAnother(t *testing.T) {
	t.Parallel()
	s := &stateless{}
	var sessions *Sessions
	own := control(func(x *warder.Exchange) warder.Decision {
		if owner, ok := sessions.Owner(x.Session); x.Session != "" && (!ok || owner != x.Principal.Key()) {
			return warder.Refuse(warder.CodeNoSession, "session_of_another", "")
		}
		return warder.Continue()
	})
	a := attack(t, Config{KeepAlive: 20 * time.Millisecond}, own, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	sessions = a.sessions
	head := map[string]string{"Mcp-Session-Id": a.open(t, "s")}
	stream := a.do(t, http.MethodGet, "/mcp/s", "ada", head, "")
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("stream of ada: %d", stream.StatusCode)
	}
	for range 3 {
		if resp := a.do(t, http.MethodGet, "/mcp/s", "mallory", head, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("stream of mallory: %d", resp.StatusCode)
		}
		if resp := a.do(t, http.MethodDelete, "/mcp/s", "mallory", head, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("delete of mallory: %d", resp.StatusCode)
		}
	}
	buf := make([]byte, 4096)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		if _, err := stream.Body.Read(buf); err != nil {
			t.Fatalf("the stream of ada ended: %v", err)
		}
	}
}

// A server that never ends its list costs its own entries, not the memory of the gateway.
func TestAttackEndlessList(t *testing.T) {
	t.Parallel()
	page := 0
	endless := &stateless{}
	endless.answer = func(string, *warder.Message, http.ResponseWriter) string {
		page++
		return fmt.Sprintf(`{"resultType":"complete","ttlMs":0,"cacheScope":"private","nextCursor":"%d","tools":[{"name":"t%d","description":%q,"inputSchema":{}}]}`,
			page, page, strings.Repeat("x", 40<<10))
	}
	honest := &stateless{answer: func(string, *warder.Message, http.ResponseWriter) string {
		return `{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"good","inputSchema":{}}]}`
	}}
	a := attack(t, Config{MessageBytes: 64 << 10, ResponseBytes: 256 << 10}, nil, []string{"endless", "honest"},
		map[string]http.HandlerFunc{"endless": endless.serve, "honest": honest.serve})
	body := text(t, a.do(t, http.MethodPost, "/mcp/all", "ada", map[string]string{"Mcp-Protocol-Version": "2026-07-28"}, modern("1", "tools/list", "")))
	if !strings.Contains(body, "honest__good") {
		t.Errorf("the list is %.300s", body)
	}
	if n := endless.asked(wire.MethodToolsList); n > 3 {
		t.Errorf("%d pages were read", n)
	}
	f := a.begin(warder.DoorHTTP, "endless", warder.Conn{})
	f.x.Principal, f.x.Revision = &warder.Principal{Subject: "ada"}, warder.Revision20260728
	f.x.Request = &warder.Message{}
	if _, err := a.List(t.Context(), f.x, wire.MethodToolsList); err == nil {
		t.Error("an endless list was taken")
	}
	if n := endless.asked(wire.MethodToolsList); n > 12 {
		t.Errorf("%d pages were read", n)
	}
	f.finish(t.Context(), nil)
}

// A suspended call goes on at the server that it was judged for, and for nobody else.
func TestAttackSuspendedCallElsewhere(t *testing.T) {
	t.Parallel()
	l := newLot(time.Minute)
	c := &parkedCall{id: "x", owner: "ada", server: "a", cancel: func(error) {}}
	if !l.put(c) {
		t.Fatal("not parked")
	}
	if l.take("x", "ada", "b") != nil || l.take("x", "mallory", "a") != nil {
		t.Error("taken at another server or by another caller")
	}
	if l.take("x", "ada", "a") != c {
		t.Error("not there for its owner")
	}
}

// Questions of calls that ended do not use up the room for those of later ones.
func TestAttackQuestionsOfEndedCalls(t *testing.T) {
	t.Parallel()
	s := &stateless{answer: func(string, *warder.Message, http.ResponseWriter) string {
		return `{"resultType":"input_required","inputRequests":{"q":{"method":"elicitation/create","params":{"message":"?","requestedSchema":{"type":"object","properties":{}}}}}}`
	}}
	a := attack(t, Config{CallTimeout: 20 * time.Millisecond}, nil, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	id := a.open(t, "s")
	for i := range maxQuestions + 2 {
		body := text(t, a.do(t, http.MethodPost, "/mcp/s", "ada", map[string]string{"Mcp-Session-Id": id},
			fmt.Sprintf(`{"jsonrpc":"2.0","id":"c%d","method":"tools/call","params":{"name":"x","arguments":{}}}`, i)))
		if !strings.Contains(body, "elicitation/create") {
			t.Fatalf("call %d: %s", i, body)
		}
	}
}

// A stateless message cannot touch what a session is, whatever its method says.
func TestAttackStatelessInitialize(t *testing.T) {
	t.Parallel()
	s := &stateless{}
	a := attack(t, Config{}, control(func(x *warder.Exchange) warder.Decision {
		if x.Revision.Modern() && x.Request.Method == wire.MethodInitialize {
			return warder.Refuse(warder.CodeUnknownMethod, "unknown_method", "")
		}
		return warder.Continue()
	}), []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	in, out := io.Pipe()
	lines, answers := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- a.Stdio(t.Context(), "all", in, answers) }()
	read := wire.NewLineReader(lines, 1<<20)
	for _, c := range []struct{ send, want string }{
		{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`, `"protocolVersion":"2025-06-18"`},
		{modern("2", "initialize", `"protocolVersion":"2025-06-18","capabilities":{"sampling":{}},"clientInfo":{"name":"c","version":"1"}`), `"error"`},
		{`{"jsonrpc":"2.0","id":3,"method":"ping"}`, `"result":{}`},
	} {
		_, _ = io.WriteString(out, c.send+"\n")
		line, err := read.Next()
		if err != nil || !strings.Contains(string(line), c.want) {
			t.Errorf("%s: %s %v", c.send, line, err)
		}
	}
	_ = out.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// An exception ends on its day, not at the next reload.
func TestAttackExceptionThatOutlivesItsEnd(t *testing.T) {
	t.Parallel()
	deny := control(func(*warder.Exchange) warder.Decision { return warder.Refuse(warder.CodeDenied, "no", "") })
	layers := []warder.Layer{{Name: "access", Request: []warder.Interceptor{deny}}}
	for _, mode := range []Mode{Monitor, Off} {
		for _, tc := range []struct {
			name    string
			until   time.Time
			enforce bool
		}{
			{"over", time.Now().Add(-time.Second), true},
			{"running", time.Now().Add(time.Hour), false},
			{"without end", time.Time{}, false},
		} {
			c := NewChain(layers, map[warder.ControlID]Mode{"CVM-01": mode}, nil).Until(map[warder.ControlID]time.Time{"CVM-01": tc.until})
			x := &warder.Exchange{Request: &warder.Message{}}
			if err := c.Request(t.Context(), x); (err != nil) != tc.enforce {
				t.Errorf("%s, %s: error %v", mode, tc.name, err)
			}
			if got := len(c.Controls(warder.PhaseRequest)); got != 1 && (mode != Off || tc.enforce) {
				t.Errorf("%s, %s: %d controls run", mode, tc.name, got)
			}
		}
	}
}

// Messages that arrive beside each other on HTTP+SSE open its session once, and see it open or not.
func TestAttackRaceToInitialize(t *testing.T) {
	t.Parallel()
	s := &stateless{}
	a := attack(t, Config{}, nil, []string{"s"}, map[string]http.HandlerFunc{"s": s.serve})
	door := httptest.NewServer(a.LegacySSE())
	t.Cleanup(door.Close)
	b := &attacked{a.Gate, door.URL}
	t.Cleanup(door.CloseClientConnections)
	for range 10 {
		stream := b.do(t, http.MethodGet, "/mcp/s/sse", "ada", nil, "")
		lines := wire.NewEventReader(stream.Body, 1<<20)
		first, err := lines.Next()
		if err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		for i := range 4 {
			work.Go(func() {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"i%d","method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"c%d","version":"1"}}}`, i, i)
				if i%2 == 1 {
					body = fmt.Sprintf(`{"jsonrpc":"2.0","id":"p%d","method":"ping"}`, i)
				}
				b.do(t, http.MethodPost, string(first.Data), "ada", nil, body)
			})
		}
		work.Wait()
		opened := 0
		for range 4 {
			e, err := lines.Next()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(e.Data), `"protocolVersion"`) {
				opened++
			}
		}
		if opened != 1 {
			t.Errorf("the session was opened %d times", opened)
		}
		_ = stream.Body.Close()
	}
}

// A server that answers a group's list with a question does not hold up the others' lists.
func TestAttackQuestionInsteadOfAList(t *testing.T) {
	t.Parallel()
	asking := &stateless{answer: func(string, *warder.Message, http.ResponseWriter) string {
		return `{"resultType":"input_required","inputRequests":{"q":{"method":"elicitation/create","params":{"message":"?","requestedSchema":{"type":"object","properties":{}}}}}}`
	}}
	honest := &stateless{answer: func(string, *warder.Message, http.ResponseWriter) string {
		return `{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"good","inputSchema":{}}]}`
	}}
	a := attack(t, Config{CallTimeout: 20 * time.Second}, nil, []string{"asking", "honest"},
		map[string]http.HandlerFunc{"asking": asking.serve, "honest": honest.serve})
	head := map[string]string{"Mcp-Session-Id": a.open(t, "all")}
	start := time.Now()
	body := text(t, a.do(t, http.MethodPost, "/mcp/all", "ada", head, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`))
	if took := time.Since(start); took > 10*time.Second || !strings.Contains(body, "honest__good") {
		t.Errorf("after %s: %s", took, body)
	}
}
