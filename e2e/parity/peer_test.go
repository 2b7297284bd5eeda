package parity

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// A peer is an MCP server of one era that notes every message it gets. What it sends is told by the
// arguments of its tool "emit".
type peer struct {
	modern bool
	note   func(raw []byte)

	mu        sync.Mutex
	asked     int
	pending   map[string]chan string // questions to the client, by id
	listeners map[int]listener
	last      int
}

// A listener is a stream outside calls; mark is set on the modern ones.
type listener struct {
	emit func([]byte)
	mark string // subscription id
	whom string // the conversation it belongs to; empty: anybody's
}

func newPeer(modern bool, note func([]byte)) *peer {
	return &peer{modern: modern, note: note, pending: make(map[string]chan string), listeners: make(map[int]listener)}
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Params struct {
		Version   string          `json:"protocolVersion"`
		Name      string          `json:"name"`
		Responses json.RawMessage `json:"inputResponses"`
		Arguments struct {
			What string `json:"what"`
		} `json:"arguments"`
		Meta struct {
			Version  string          `json:"io.modelcontextprotocol/protocolVersion"`
			Progress json.RawMessage `json:"progressToken"`
			Parent   string          `json:"traceparent"`
		} `json:"_meta"`
	} `json:"params"`
}

func parse(raw []byte) message {
	var m message
	_ = json.Unmarshal(raw, &m) // the gateway sends valid messages; anything else has no method and no id
	return m
}

// handle takes one message; emit sends one back. It returns when the message is done with.
func (p *peer) handle(ctx context.Context, whom string, raw []byte, emit func([]byte)) {
	p.note(raw)
	m := parse(raw)
	if parent := m.Params.Meta.Parent; p.modern && len(parent) > 19 {
		whom = parent[3:19] // the run
	}
	switch {
	case m.Method == "":
		p.answered(m)
	case m.ID == nil:
	case (m.Params.Meta.Version != "") != p.modern:
		emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"other era"}}`, m.ID))
	case m.Method == "tools/call":
		p.call(ctx, whom, m, emit)
	case m.Method == "subscriptions/listen":
		p.listen(ctx, whom, m, emit)
	default:
		emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, p.result(m)))
	}
}

func (p *peer) answered(m message) {
	p.mu.Lock()
	c := p.pending[string(m.ID)]
	delete(p.pending, string(m.ID))
	p.mu.Unlock()
	if c != nil {
		c <- map[bool]string{true: "result", false: "error"}[m.Result != nil]
	}
}

// add registers a stream outside calls.
func (p *peer) add(l listener) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	n := p.last
	p.listeners[n] = l
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.listeners, n)
	}
}

func (p *peer) listen(ctx context.Context, whom string, m message, emit func([]byte)) {
	emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}}`, m.ID))
	defer p.add(listener{emit, string(m.ID), whom})()
	<-ctx.Done()
}

// announce sends a notification on every stream outside calls of one conversation and says how many there were.
func (p *peer) announce(whom, what string) int {
	p.mu.Lock()
	all := make([]listener, 0, len(p.listeners))
	for _, l := range p.listeners {
		if l.whom == whom || l.whom == "" {
			all = append(all, l)
		}
	}
	p.mu.Unlock()
	for _, l := range all {
		params := map[string]any{}
		_ = json.Unmarshal([]byte(bodyOf(what)), &params) // written in this package
		if l.mark != "" {
			params["_meta"] = map[string]any{"io.modelcontextprotocol/subscriptionId": json.RawMessage(l.mark)}
		}
		text, err := json.Marshal(params)
		if err != nil {
			continue
		}
		l.emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q,"params":%s}`, what, text))
	}
	return len(all)
}

// call answers the tools: "emit" sends the message it is told to and then its result, "hang" waits for
// its cancellation, "announce" sends on the streams outside calls.
func (p *peer) call(ctx context.Context, whom string, m message, emit func([]byte)) {
	what, text := m.Params.Arguments.What, "done"
	switch {
	case m.Params.Name == "hang":
		<-ctx.Done()
		return
	case m.Params.Name == "announce":
		text = fmt.Sprintf("streams=%d", p.announce(whom, what))
	case !isRequest(what):
		params := bodyOf(what)
		if what == "notifications/progress" && m.Params.Meta.Progress != nil {
			params = fmt.Sprintf(`{"progressToken":%s,"progress":1}`, m.Params.Meta.Progress)
		}
		emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q,"params":%s}`, what, params))
	case p.modern && m.Params.Responses == nil:
		emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required","inputRequests":{"k":{"method":%q,"params":%s}},"requestState":"s"}}`, m.ID, what, bodyOf(what)))
		return
	case p.modern:
		text = "result"
	default:
		text = p.ask(ctx, what, emit)
	}
	extra := ""
	if p.modern {
		extra = `,"resultType":"complete"`
	}
	emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%q}]%s}}`, m.ID, text, extra))
}

// ask sends a question and says how it was answered.
func (p *peer) ask(ctx context.Context, what string, emit func([]byte)) string {
	c := make(chan string, 1)
	p.mu.Lock()
	p.asked++
	id := fmt.Sprintf(`"ask-%d"`, p.asked)
	p.pending[id] = c
	p.mu.Unlock()
	emit(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, id, what, bodyOf(what)))
	select {
	case how := <-c:
		return how
	case <-time.After(patience):
		return "nothing"
	case <-ctx.Done():
		return "gone"
	}
}

// patience is how long a peer waits for an answer that the gateway does not owe it.
const patience = 300 * time.Millisecond

// result is the answer to everything but calls.
func (p *peer) result(m message) string {
	extra := ""
	if p.modern {
		extra = `,"resultType":"complete","ttlMs":0,"cacheScope":"private"`
	}
	switch m.Method {
	case "initialize":
		return fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":"peer","version":"1"}}`, m.Params.Version, capabilities)
	case "server/discover":
		return `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"completions":{},"logging":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}` + extra + `}`
	case "tools/list":
		return `{"tools":[` + strings.Join(toolList(), ",") + `]` + extra + `}`
	case "prompts/list":
		return `{"prompts":[` + promptDefinition + `]` + extra + `}`
	case "resources/list":
		return `{"resources":[{"uri":"file:///r","name":"r"}]` + extra + `}`
	case "resources/templates/list":
		return `{"resourceTemplates":[]` + extra + `}`
	case "resources/read":
		return `{"contents":[{"uri":"file:///r","text":"t"}]` + extra + `}`
	case "prompts/get":
		return `{"messages":[{"role":"user","content":{"type":"text","text":"t"}}]` + strings.Replace(extra, `,"ttlMs":0,"cacheScope":"private"`, "", 1) + `}`
	case "completion/complete":
		return `{"completion":{"values":["v"]}` + strings.Replace(extra, `,"ttlMs":0,"cacheScope":"private"`, "", 1) + `}`
	case "tasks/list":
		return `{"tasks":[]}`
	default:
		return `{}`
	}
}

const (
	capabilities     = `{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"logging":{},"completions":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}`
	promptDefinition = `{"name":"p","description":"A prompt."}`
)

func toolList() []string {
	var out []string
	for _, name := range []string{"announce", "emit", "hang"} {
		out = append(out, fmt.Sprintf(`{"name":%q,"description":"Tool %s.","inputSchema":{"type":"object","properties":{"what":{"type":"string"},"n":{"type":"string"}},"additionalProperties":false}}`, name, name))
	}
	return out
}

// http serves the peer over Streamable HTTP.
func (p *peer) http(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
	case http.MethodGet:
		if p.modern {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		out := &streamed{w: w}
		out.start()
		defer out.end()
		defer p.add(listener{out.emit, "", r.Header.Get("Mcp-Session-Id")})()
		<-r.Context().Done()
		return
	default:
		w.WriteHeader(http.StatusOK)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m := parse(raw)
	if m.Method == "initialize" && !p.modern {
		w.Header().Set("Mcp-Session-Id", fmt.Sprintf("s-%d", time.Now().UnixNano()))
	}
	if m.Method == "" || m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
	}
	out := &streamed{w: w}
	defer out.end()
	p.handle(r.Context(), r.Header.Get("Mcp-Session-Id"), raw, out.emit)
}

// streamed answers with one JSON message, or with events as soon as something precedes the answer.
type streamed struct {
	w      http.ResponseWriter
	mu     sync.Mutex
	events bool
	over   bool
}

// end stops writing before the handler returns.
func (s *streamed) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

func (s *streamed) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open()
}

func (s *streamed) open() {
	if !s.events {
		s.events = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(s.w).Flush() // the gateway may be gone
	}
}

func (s *streamed) emit(raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if !s.events && parse(raw).Method == "" {
		s.w.Header().Set("Content-Type", "application/json")
		_, _ = s.w.Write(raw) // the gateway may be gone
		return
	}
	s.open()
	_, _ = fmt.Fprintf(s.w, "data: %s\n\n", raw)
	_ = http.NewResponseController(s.w).Flush() // the gateway may be gone
}

// An sseHost serves one peer over HTTP+SSE of 2024-11-05: one stream for each client.
type sseHost struct {
	p *peer

	mu      sync.Mutex
	streams map[string]*sseStream
}

type sseStream struct {
	out  *streamed
	ctx  context.Context
	work sync.WaitGroup
}

func (h *sseHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		id := fmt.Sprint(time.Now().UnixNano())
		s := &sseStream{out: &streamed{w: w}, ctx: r.Context()}
		h.mu.Lock()
		h.streams[id] = s
		h.mu.Unlock()
		s.out.start()
		s.out.mu.Lock()
		_, _ = fmt.Fprintf(w, "event: endpoint\ndata: %s?id=%s\n\n", r.URL.Path, id)
		_ = http.NewResponseController(w).Flush() // the gateway may be gone
		s.out.mu.Unlock()
		defer h.p.add(listener{s.out.emit, "", id})()
		<-r.Context().Done()
		s.work.Wait()
		s.out.end()
		return
	}
	raw, err := io.ReadAll(r.Body)
	h.mu.Lock()
	s := h.streams[r.URL.Query().Get("id")]
	h.mu.Unlock()
	if err != nil || s == nil || s.ctx.Err() != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	s.work.Go(func() { h.p.handle(s.ctx, r.URL.Query().Get("id"), raw, s.out.emit) })
}

// childEnv makes the test binary a server on stdin and stdout: the era; childLog is where it notes
// what it got.
const (
	childEnv = "WARDER_PARITY_CHILD"
	childLog = "WARDER_PARITY_LOG"
)

// runChild serves one peer over stdin and stdout.
func runChild(era, log string) error {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var mu sync.Mutex
	emit := func(raw []byte) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = os.Stdout.Write(append(slices.Clip(raw), '\n')) // the gateway may be gone
	}
	p := newPeer(era == "modern", func(raw []byte) {
		_, _ = f.Write(append(slices.Clip(raw), '\n')) // a note that is missing fails the test
	})
	if era != "modern" {
		defer p.add(listener{emit, "", ""})()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	calls := make(map[string]context.CancelFunc)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	var work sync.WaitGroup
	for in.Scan() {
		raw := append([]byte(nil), in.Bytes()...)
		m := parse(raw)
		if m.Method == "notifications/cancelled" {
			var c struct {
				Params struct {
					RequestID json.RawMessage `json:"requestId"`
				} `json:"params"`
			}
			_ = json.Unmarshal(raw, &c) // parsed once already
			if stop := calls[string(c.Params.RequestID)]; stop != nil {
				stop()
			}
		}
		one, stop := context.WithCancel(ctx)
		calls[string(m.ID)] = stop
		work.Go(func() { p.handle(one, "", raw, emit) })
	}
	cancel()
	work.Wait()
	return in.Err()
}
