package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// owners stands for PRT-06: a session is for the caller who opened it.
type owners struct{ sessions *Sessions }

func (owners) Control() warder.ControlID { return "PRT-06" }

func (o owners) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if owner, ok := o.sessions.Owner(x.Session); x.Session != "" && (!ok || owner != x.Principal.Key()) {
		return warder.Refuse(warder.CodeNoSession, "session_of_another", "not the owner"), nil
	}
	return warder.Continue(), nil
}

// ended keeps how every exchange ended.
type ended struct {
	mu  sync.Mutex
	all []warder.Exchange
}

func (e *ended) Record(_ context.Context, x *warder.Exchange) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := *x
	kept.Trail = append([]warder.Step(nil), x.Trail...)
	e.all = append(e.all, kept)
	return nil
}

func (e *ended) count(match func(*warder.Exchange) bool) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.all {
		if match(&e.all[i]) {
			n++
		}
	}
	return n
}

// A rig is a gate in front of scripted servers, with the controls that own sessions.
type rig struct {
	t        *testing.T
	g        *Gate
	url      string
	sessions *Sessions
	ended    *ended
	clock    *atomic.Int64 // added to the time, in nanoseconds
}

// newRig builds a gate over servers in the order of names; the group "all" holds them.
func newRig(t *testing.T, cfg Config, names []string, servers map[string]http.Handler, more ...warder.Interceptor) *rig {
	t.Helper()
	r := &rig{t: t, ended: &ended{}, clock: &atomic.Int64{}}
	group := &Endpoint{Name: "all", Group: true}
	ends := []*Endpoint{group}
	for _, name := range names {
		ts := httptest.NewServer(servers[name])
		t.Cleanup(func() { ts.CloseClientConnections(); ts.Close() })
		up, err := upstream.New(name, upstream.Config{URL: ts.URL}, upstream.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = up.Close(context.WithoutCancel(t.Context())) })
		b := &Backend{Server: &warder.Server{Name: name}, Up: up}
		ends = append(ends, &Endpoint{Name: name, Backends: []*Backend{b}})
		group.Backends = append(group.Backends, b)
	}
	cfg.MinRevision = "2024-11-05"
	floor, err := wire.NewFloor(wire.RevisionConfig{Floor: cfg.MinRevision}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.sessions = NewSessions(cfg.Sessions, func() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) })
	layers := []warder.Layer{
		{Name: "identity", Connect: []warder.Interceptor{admit{}}, Complete: []warder.Recorder{r.ended}},
		{Name: "gateway", Request: append([]warder.Interceptor{owners{r.sessions}}, more...)},
	}
	r.g = New(cfg, floor, NewChain(layers, nil, nil), ends, r.sessions, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle("/mcp/{endpoint}", r.g.HTTP())
	mux.Handle("/mcp/{endpoint}/", r.g.LegacySSE())
	door := httptest.NewServer(mux)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		door.CloseClientConnections()
		if err := r.g.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		door.Close()
	})
	r.url = door.URL
	return r
}

// do sends one HTTP request as somebody; head holds pairs of header names and values.
func (r *rig) do(ctx context.Context, method, path, who, body string, head ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", who)
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// ask posts a message and returns status and body.
func (r *rig) ask(path, who, body string, head ...string) (int, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	resp := r.do(ctx, http.MethodPost, path, who, body, head...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// session opens a session and returns its id.
func (r *rig) session(path, who string, rev warder.Revision) string {
	r.t.Helper()
	resp := r.do(r.t.Context(), http.MethodPost, path, who, opening(rev))
	b, _ := io.ReadAll(resp.Body) // for the message only
	id := resp.Header.Get("Mcp-Session-Id")
	if id == "" {
		r.t.Fatalf("no session: %d %s", resp.StatusCode, b)
	}
	return id
}

func opening(rev warder.Revision) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"open","method":"initialize","params":{"protocolVersion":%q,"capabilities":{"elicitation":{}},"clientInfo":{"name":"c","version":"1"}}}`, rev)
}

func callOf(id int, tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{}}}`, id, tool)
}

// now is a stateless request.
func now(id int, method, members string) string {
	if members != "" {
		members = "," + members
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}%s}}`, id, method, members)
}

// soon waits until ok.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 5 s: %s", what)
}

// events reads an SSE stream into a channel of events; it closes when the stream ends.
func events(resp *http.Response) <-chan wire.Event {
	out := make(chan wire.Event, 256)
	go func() {
		defer close(out)
		r := wire.NewEventReader(bufio.NewReader(resp.Body), 1<<20)
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			e.Data = append([]byte(nil), e.Data...)
			out <- e
		}
	}()
	return out
}

// next waits for the next event with data.
func next(t *testing.T, in <-chan wire.Event) wire.Event {
	t.Helper()
	limit := time.After(5 * time.Second)
	for {
		select {
		case e, ok := <-in:
			if !ok {
				t.Fatal("the stream ended")
			}
			if len(e.Data) > 0 {
				return e
			}
		case <-limit:
			t.Fatal("no event within 5 s")
		}
	}
}

// A talker is a server with sessions. Tools: "echo" answers; "ask" asks the user first; "slow" reports
// progress and answers when released; anything else hangs until it is cancelled.
type talker struct {
	tools   []string
	uris    []string
	release chan struct{}

	cancelled atomic.Int64
	called    atomic.Int64
	mu        sync.Mutex
	answers   map[string]chan json.RawMessage
	streams   map[chan string]bool
	asked     int
	methods   []string
}

func newTalker(tools ...string) *talker {
	return &talker{tools: tools, release: make(chan struct{}), answers: make(map[string]chan json.RawMessage), streams: make(map[chan string]bool)}
}

// tell sends a message on every GET stream and returns how many there were.
func (s *talker) tell(raw string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.streams {
		c <- raw
	}
	return len(s.streams)
}

func (s *talker) got(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.methods {
		if m == method {
			n++
		}
	}
	return n
}

func (s *talker) listen(w http.ResponseWriter, r *http.Request) {
	c := make(chan string, 64)
	s.mu.Lock()
	s.streams[c] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, c)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	for {
		_ = http.NewResponseController(w).Flush() // the gate may be gone
		select {
		case raw := <-c:
			_, _ = fmt.Fprintf(w, "data: %s\n\n", raw)
		case <-r.Context().Done():
			return
		}
	}
}

func (s *talker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		s.listen(w, r)
		return
	}
	var m struct {
		ID     json.RawMessage
		Method string
		Result json.RawMessage
		Params struct {
			Version string `json:"protocolVersion"`
			Name    string
			Meta    map[string]json.RawMessage `json:"_meta"`
		}
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &m) // the gate sends valid messages
	s.mu.Lock()
	s.methods = append(s.methods, m.Method)
	waiting := s.answers[string(m.ID)]
	s.mu.Unlock()
	switch {
	case m.Method == "" && waiting != nil:
		waiting <- m.Result
		w.WriteHeader(http.StatusAccepted)
		return
	case m.ID == nil:
		if m.Method == wire.NotifyCancelled {
			s.cancelled.Add(1)
		}
		w.WriteHeader(http.StatusAccepted)
		return
	case m.Params.Meta[wire.MetaVersion] != nil:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32600,"message":"session"}}`, m.ID)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch m.Method {
	case wire.MethodInitialize:
		w.Header().Set("Mcp-Session-Id", fmt.Sprint(time.Now().UnixNano()))
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"serverInfo":{"name":"s","version":"1"}}}`, m.ID, m.Params.Version)
	case wire.MethodToolsList:
		list := make([]string, len(s.tools))
		for i, name := range s.tools {
			list[i] = fmt.Sprintf(`{"name":%q,"inputSchema":{"type":"object"}}`, name)
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s]}}`, m.ID, strings.Join(list, ","))
	case wire.MethodResourcesList:
		list := make([]string, len(s.uris))
		for i, uri := range s.uris {
			list[i] = fmt.Sprintf(`{"uri":%q,"name":"r"}`, uri)
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resources":[%s]}}`, m.ID, strings.Join(list, ","))
	case wire.MethodToolsCall:
		s.called.Add(1)
		s.call(w, r, string(m.ID), m.Params.Name, m.Params.Meta["progressToken"])
	default:
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
	}
}

func (s *talker) call(w http.ResponseWriter, r *http.Request, id, name string, token json.RawMessage) {
	done := func(format, text string) {
		_, _ = fmt.Fprintf(w, format, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%q}]}}`, id, text))
	}
	event := func(raw string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "data: %s\n\n", raw)
		_ = http.NewResponseController(w).Flush() // the gate may be gone
	}
	switch name {
	case "echo":
		done("%s", "echo")
	case "ask":
		c := make(chan json.RawMessage, 1)
		s.mu.Lock()
		s.asked++
		key := fmt.Sprintf(`"q%d"`, s.asked)
		s.answers[key] = c
		s.mu.Unlock()
		event(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"elicitation/create","params":{"message":"m","requestedSchema":{"type":"object","properties":{}}}}`, key))
		select {
		case got := <-c:
			done("data: %s\n\n", "told "+string(got))
		case <-r.Context().Done():
		}
	case "slow":
		if token == nil {
			token = json.RawMessage(`"none"`)
		}
		event(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, token))
		select {
		case <-s.release:
			done("data: %s\n\n", "slow")
		case <-r.Context().Done():
		}
	default:
		<-r.Context().Done()
		s.cancelled.Add(1)
	}
}
