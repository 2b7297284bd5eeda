package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A sessionServer is a hand-written server of the legacy era.
type sessionServer struct {
	t    *testing.T
	call func(s *sessionServer, w http.ResponseWriter, r *http.Request, m *warder.Message)
	get  func(s *sessionServer, w http.ResponseWriter, r *http.Request)

	mu       sync.Mutex
	log      []string // what came, in order
	sessions int
	lost     bool // sessions are unknown
}

func (s *sessionServer) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *sessionServer) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.log...)
}

// waitFor waits for a line of the log.
func (s *sessionServer) waitFor(line string) {
	s.t.Helper()
	for range 200 {
		if slices.Contains(s.seen(), line) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Errorf("never saw %q in %q", line, s.seen())
}

// ServeHTTP implements http.Handler.
func (s *sessionServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("Mcp-Session-Id")
	s.mu.Lock()
	lost := s.lost
	s.mu.Unlock()
	if id != "" && lost {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	switch r.Method {
	case http.MethodDelete:
		s.note("DELETE %s", id)
		return
	case http.MethodGet:
		s.note("GET %s last=%s", id, r.Header.Get("Last-Event-Id"))
		if s.get == nil {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		s.get(s, w, r)
		return
	}
	raw, _ := io.ReadAll(r.Body)
	m, err := wire.Decode(raw, wire.Limits{})
	if err != nil {
		s.t.Errorf("server got %s: %v", raw, err)
		return
	}
	s.post(w, r, m, id)
}

func (s *sessionServer) post(w http.ResponseWriter, r *http.Request, m *warder.Message, id string) {
	switch {
	case m.Method == wire.MethodDiscover:
		w.WriteHeader(http.StatusBadRequest)
	case m.Method == wire.MethodInitialize:
		s.mu.Lock()
		s.sessions++
		w.Header().Set("Mcp-Session-Id", fmt.Sprintf("s%d", s.sessions))
		s.mu.Unlock()
		asJSON(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}`, m.IDBytes())
	case m.Kind == warder.KindRequest:
		s.note("%s %s %s", m.Method, id, r.Header.Get("Mcp-Protocol-Version"))
		s.call(s, w, r, m)
	default:
		s.note("%s%s %s", m.Method, m.At(m.ResultSpan), id)
		w.WriteHeader(http.StatusAccepted)
	}
}

func legacyLink(t *testing.T, h *sessionServer, key Key, change func(*Config)) (*Server, Link) {
	t.Helper()
	h.t = t
	cfg := Config{URL: listen(t, h), Era: EraLegacy}
	if change != nil {
		change(&cfg)
	}
	s := newServer(t, cfg)
	return s, link(t, s, key, warder.Revision20250618)
}

func answerJSON(_ *sessionServer, w http.ResponseWriter, _ *http.Request, m *warder.Message) {
	asJSON(w, okResult, m.IDBytes())
}

// TestSession follows a session from initialize to DELETE.
func TestSession(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{call: answerJSON}
	s, l := legacyLink(t, h, Key{Session: "c1"}, nil)
	if got, err := collect(t.Context(), l, callTool(t, false, `"a"`, "x", "")); err != nil || len(got) != 1 {
		t.Fatalf("got %q, %v", got, err)
	}
	if again := link(t, s, Key{Session: "c1"}, warder.Revision20250618); again != l {
		t.Error("the same key got another link")
	}
	other := link(t, s, Key{Session: "c2"}, warder.Revision20250618)
	if _, err := collect(t.Context(), other, callTool(t, false, `"a"`, "x", "")); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().Links; n != 2 {
		t.Errorf("%d links, want 2", n)
	}
	s.CloseSession(Key{Session: "c1"})
	h.waitFor("DELETE s1")
	if _, err := collect(t.Context(), l, callTool(t, false, `"a"`, "x", "")); reasonOf(err) != ReasonShutdown {
		t.Errorf("call on a closed session: %v", err)
	}
	want := []string{
		"notifications/initialized s1", "tools/call s1 2025-06-18",
		"notifications/initialized s2", "tools/call s2 2025-06-18", "DELETE s1",
	}
	if diff := cmp.Diff(want, h.seen()); diff != "" {
		t.Errorf("server saw (-want +got):\n%s", diff)
	}
}

// TestSessionLost proves that a 404 ends the link and the next Link opens a new session.
func TestSessionLost(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{call: answerJSON}
	s, l := legacyLink(t, h, Key{Owner: "o"}, nil)
	h.mu.Lock()
	h.lost = true
	h.mu.Unlock()
	_, err := collect(t.Context(), l, callTool(t, false, `1`, "x", ""))
	if reasonOf(err) != ReasonSessionLost {
		t.Fatalf("error %v, want %s", err, ReasonSessionLost)
	}
	select {
	case <-l.Done():
	default:
		t.Fatal("the link is still open")
	}
	h.mu.Lock()
	h.lost = false
	h.mu.Unlock()
	l = link(t, s, Key{Owner: "o"}, warder.Revision20250618)
	if _, err := collect(t.Context(), l, callTool(t, false, `1`, "x", "")); err != nil {
		t.Fatal(err)
	}
	h.waitFor("tools/call s2 2025-06-18")
}

// TestLegacyCancel proves that a legacy server is told of a cancelled call under the id it knows.
func TestLegacyCancel(t *testing.T) {
	leakCheck(t)
	for _, tc := range []struct {
		key  Key
		same bool
	}{{Key{Session: "c"}, true}, {Key{Owner: "o"}, false}} {
		var id string
		cancelled := make(chan string, 1)
		ctx, cancel := context.WithCancel(t.Context())
		h := &sessionServer{call: func(_ *sessionServer, _ http.ResponseWriter, r *http.Request, m *warder.Message) {
			id = string(m.IDBytes())
			cancel()
			<-r.Context().Done()
		}}
		h.t = t
		url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			if m, err := wire.Decode(raw, wire.Limits{}); err == nil && m.Method == wire.NotifyCancelled {
				cancelled <- string(m.At(m.Params.Get("requestId")))
				w.WriteHeader(http.StatusAccepted)
				return
			}
			r.Body = io.NopCloser(strings.NewReader(string(raw)))
			h.ServeHTTP(w, r)
		}))
		s := newServer(t, Config{URL: url, Era: EraLegacy})
		_, err := collect(ctx, link(t, s, tc.key, warder.Revision20250618), callTool(t, false, `"mine"`, "x", ""))
		if err == nil {
			t.Fatal("no error")
		}
		select {
		case got := <-cancelled:
			if got != id || (got == `"mine"`) != tc.same {
				t.Errorf("cancelled %s, the call was %s", got, id)
			}
		case <-time.After(2 * time.Second):
			t.Error("the server was not told")
		}
	}
}

// TestResume proves that a stream which the server ends early is asked for its rest.
func TestResume(t *testing.T) {
	leakCheck(t)
	var answer string
	h := &sessionServer{
		call: func(_ *sessionServer, w http.ResponseWriter, _ *http.Request, m *warder.Message) {
			answer = fmt.Sprintf(okResult, m.IDBytes())
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "id: e1\nretry: 10\ndata:\n\n")
			fmt.Fprint(w, "id: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n")
		},
		get: func(_ *sessionServer, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			switch r.Header.Get("Last-Event-Id") {
			case "e2":
				fmt.Fprint(w, "id: e3\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n")
			case "e3":
				fmt.Fprintf(w, "id: e4\ndata: %s\n\n", answer)
			}
		},
	}
	_, l := legacyLink(t, h, Key{Owner: "o"}, nil)
	got, err := collect(t.Context(), l, callTool(t, false, `"mine"`, "x", ""))
	if err != nil || len(got) != 3 {
		t.Fatalf("got %q, %v", got, err)
	}
	contains(t, got[2], `"id":"mine"`)
	want := []string{"notifications/initialized s1", "tools/call s1 2025-06-18", "GET s1 last=e2", "GET s1 last=e3"}
	if diff := cmp.Diff(want, h.seen()); diff != "" {
		t.Errorf("server saw (-want +got):\n%s", diff)
	}
}

// TestResumeGivesUp proves that a server which ends every stream without an event does not keep the
// call alive for ever.
func TestResumeGivesUp(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{
		call: func(_ *sessionServer, w http.ResponseWriter, _ *http.Request, _ *warder.Message) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "id: e1\nretry: 1\ndata:\n\n")
		},
		get: func(_ *sessionServer, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
		},
	}
	_, l := legacyLink(t, h, Key{Owner: "o"}, nil)
	if _, err := collect(t.Context(), l, callTool(t, false, `1`, "x", "")); reasonOf(err) != ReasonClosed {
		t.Errorf("error %v, want %s", err, ReasonClosed)
	}
}

// TestGetStream follows the stream of what belongs to no call: it opens with the first sink, goes on
// after a break, carries questions, and closes with the last sink.
func TestGetStream(t *testing.T) {
	leakCheck(t)
	closed := make(chan struct{})
	h := &sessionServer{call: answerJSON, get: func(_ *sessionServer, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Header.Get("Last-Event-Id") == "" {
			fmt.Fprint(w, "id: g1\nretry: 10\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
			return
		}
		fmt.Fprint(w, "id: g2\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"q1\",\"method\":\"roots/list\"}\n\n")
		fmt.Fprint(w, "id: g3\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"p1\",\"method\":\"ping\"}\n\n")
		fmt.Fprint(w, "id: g4\ndata: {\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(closed)
	}}
	s, l := legacyLink(t, h, Key{Owner: "o"}, nil)
	got := make(chan *warder.Message, 8)
	cancel := l.Subscribe(func(m *warder.Message) { got <- m })
	if m := <-got; m.Method != wire.NotifyToolsChanged {
		t.Errorf("got %s", m.Raw)
	}
	q := <-got
	if q.Method != wire.MethodRootsList || string(q.IDBytes()) == `"q1"` {
		t.Errorf("got %s, want roots/list with an id of our own", q.Raw)
	}
	answer := message(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"roots":[]}}`, q.IDBytes()))
	if err := l.Send(t.Context(), answer); err != nil {
		t.Fatal(err)
	}
	if err := l.Send(t.Context(), answer); reasonOf(err) != ReasonQuestion {
		t.Errorf("a second answer: %v, want %s", err, ReasonQuestion)
	}
	h.waitFor(`{"roots":[]} s1`)
	h.waitFor(`{} s1`) // the pong
	for range 100 {
		if s.Stats().Findings[findUnknownID] == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.Stats().Findings[findUnknownID]; n != 1 {
		t.Errorf("%d answers on the wrong stream counted, want 1", n)
	}
	cancel()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
		t.Error("the stream is still open")
	}
}

// TestGetStreamRefused proves that a server without the stream is asked once.
func TestGetStreamRefused(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{call: answerJSON}
	_, l := legacyLink(t, h, Key{Owner: "o"}, nil)
	defer l.Subscribe(func(*warder.Message) {})()
	h.waitFor("GET s1 last=")
	time.Sleep(50 * time.Millisecond)
	if n := len(h.seen()); n != 2 {
		t.Errorf("server saw %q", h.seen())
	}
}

// TestQuestion takes a sampling request of a real server through every transport and back.
func TestQuestion(t *testing.T) {
	capabilities := []byte(`{"sampling":{}}`)
	for name, config := range map[string]func(t *testing.T) Config{
		"http": func(t *testing.T) Config { t.Helper(); return Config{URL: sdkHTTP(t, nil)} },
		"sse": func(t *testing.T) Config {
			t.Helper()
			server := sdkServer()
			return Config{SSE: listen(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))}
		},
		"child": func(*testing.T) Config { return childConfig("sdk") },
	} {
		t.Run(name, func(t *testing.T) {
			leakCheck(t)
			s := newServer(t, config(t))
			for _, key := range []Key{{Owner: "o"}, {Owner: "o", Session: "s"}} {
				l, err := s.Link(t.Context(), key, Init{Revision: warder.Revision20251125, Capabilities: capabilities})
				if err != nil {
					t.Fatal(err)
				}
				var got []*warder.Message
				for m, err := range l.Call(t.Context(), callTool(t, false, `1`, "ask", ""), nil) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, m)
					if m.Kind != warder.KindRequest {
						continue
					}
					if m.Method != wire.MethodSampling {
						t.Fatalf("question %s", m.Raw)
					}
					answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"role":"assistant","model":"m","content":{"type":"text","text":"forty-two"}}}`, m.IDBytes())
					if err := l.Send(t.Context(), message(t, answer)); err != nil {
						t.Fatal(err)
					}
				}
				if len(got) != 2 {
					t.Fatalf("got %d messages", len(got))
				}
				contains(t, string(got[1].Raw), "model said forty-two", `"id":1`)
			}
		})
	}
}

// TestQuestionStopsTheClock proves that a client may think longer than the server may be silent.
func TestQuestionStopsTheClock(t *testing.T) {
	leakCheck(t)
	for name, cfg := range map[string]Config{"http": {URL: sdkHTTP(t, nil)}, "child": childConfig("sdk")} {
		t.Run(name, func(t *testing.T) {
			cfg.Timeout = 150 * time.Millisecond
			s := newServer(t, cfg)
			l, err := s.Link(t.Context(), Key{Owner: "o"}, Init{Revision: warder.Revision20251125, Capabilities: []byte(`{"sampling":{}}`)})
			if err != nil {
				t.Fatal(err)
			}
			for m, err := range l.Call(t.Context(), callTool(t, false, `1`, "ask", ""), nil) {
				if err != nil {
					t.Fatal(err)
				}
				if m.Kind == warder.KindRequest {
					answer := message(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"role":"assistant","model":"m","content":{"type":"text","text":"x"}}}`, m.IDBytes()))
					time.AfterFunc(400*time.Millisecond, func() {
						if err := l.Send(context.Background(), answer); err != nil {
							t.Error(err)
						}
					})
				}
			}
			if _, err := collect(t.Context(), l, callTool(t, false, `1`, "hang", "")); reasonOf(err) != ReasonTimeout {
				t.Errorf("without a question: %v, want %s", err, ReasonTimeout)
			}
		})
	}
}

// TestQuestionUntaken proves that a question without a taker is refused.
func TestQuestionUntaken(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{call: answerJSON}
	s, l := legacyLink(t, h, Key{Owner: "o"}, nil)
	hl := l.(*httpLink)
	hl.wait = 20 * time.Millisecond
	replies := make(chan string, 1)
	hl.reply = func(raw []byte) { replies <- string(raw) }
	hl.receive(message(t, `{"jsonrpc":"2.0","id":"q","method":"roots/list"}`))
	contains(t, <-replies, `"id":"q"`, `-32601`)
	if s.Stats().Findings[findUntaken] != 1 {
		t.Errorf("findings %v", s.Stats().Findings)
	}
	// With two sinks nobody can tell whose question it is.
	a, b := 0, 0
	defer l.Subscribe(func(*warder.Message) { a++ })()
	defer l.Subscribe(func(*warder.Message) { b++ })()
	hl.receive(message(t, `{"jsonrpc":"2.0","id":"q2","method":"roots/list"}`))
	contains(t, <-replies, `"id":"q2"`, `-32601`)
	if a+b != 0 {
		t.Errorf("a question went to %d and %d sinks", a, b)
	}
}
