package wardertest

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A server is the MCP server of a case: real HTTP, both eras on one path, what it says is the case's.
type server struct {
	c     *testCase
	count atomic.Int64
	asked atomic.Int64 // questions put to clients of sessions, for their ids

	mu      sync.Mutex
	list    string                   // the tools it offers now, a JSON array
	seen    strings.Builder          // messages and headers that reached it since forget
	runs    int                      // begun so far
	streams map[*stream]bool         // streams for messages outside calls
	waiting map[string]chan struct{} // questions of sessions by id, closed by their answer
	broken  bool                     // every list fails
	silent  chan struct{}            // closed when the test ends: streams end
}

const echoTool = `{"name":"echo","description":"Returns its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"},"n":{"type":"integer"}},"required":["text"],"additionalProperties":false}}`

func newServer(c *testCase) *server {
	s := &server{
		c: c, list: c.sections["tools"], streams: make(map[*stream]bool),
		waiting: make(map[string]chan struct{}), silent: make(chan struct{}),
	}
	if s.list == "" {
		s.list = "[" + echoTool + "]"
	}
	return s
}

// definitions yields what can be approved, by kind.
func (s *server) definitions() iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		var tools []json.RawMessage
		_ = json.Unmarshal([]byte(s.list), &tools) // some cases send something that is no list of tools
		for _, raw := range tools {
			if !yield("tool", raw) {
				return
			}
		}
		var prompts struct{ Prompts []json.RawMessage }
		_ = json.Unmarshal([]byte(s.c.sections["result prompts/list"]), &prompts) // none by default
		for _, raw := range prompts.Prompts {
			if !yield("prompt", raw) {
				return
			}
		}
	}
}

// calls counts the forwarded messages other than opening and lists.
func (s *server) calls() int64 { return s.count.Load() }

// forget begins a new run.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Reset()
	s.runs++
}

// saw is everything that reached the server in this run.
func (s *server) saw() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

// change replaces the definitions; an empty list is the one of the case.
func (s *server) change(list string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

// fail makes every list fail from now on.
func (s *server) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
}

func (s *server) note(r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.Header.Write(&s.seen) // never fails
	s.seen.Write(body)
	s.seen.WriteByte('\n')
}

// A call is what a server reads of a message.
type call struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Version   string                     `json:"protocolVersion"`
		Meta      map[string]json.RawMessage `json:"_meta"`
		Responses json.RawMessage            `json:"inputResponses"`
	} `json:"params"`
}

func (c *call) modern() bool {
	_, modern := c.Params.Meta["io.modelcontextprotocol/protocolVersion"]
	return modern
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.stream(w, r, nil)
		return
	case http.MethodPost:
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var m call
	if err := json.Unmarshal(body, &m); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.note(r, body)
	switch {
	case m.Method == "":
		s.answered(string(m.ID))
		w.WriteHeader(http.StatusAccepted)
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
	case m.Method == "subscriptions/listen":
		s.stream(w, r, m.ID)
	default:
		if m.Method == "initialize" {
			w.Header().Set("Mcp-Session-Id", fmt.Sprintf("case-%d", s.count.Load()))
		}
		s.reply(w, r, &m)
	}
}

// lists reports whether a method reads definitions.
func lists(method string) bool {
	switch method {
	case "tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return true
	default:
		return false
	}
}

// reply writes the answer as the case wants it.
func (s *server) reply(w http.ResponseWriter, r *http.Request, m *call) {
	id := string(m.ID)
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, s.result(m))
	own := s.c.sections["answer"]
	switch {
	case m.Method == "initialize", m.Method == "server/discover":
	case lists(m.Method):
		s.mu.Lock()
		broken := s.broken
		s.mu.Unlock()
		if broken {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if own != "" && strings.Contains(s.c.sections["request"], m.Method) {
			answer = strings.ReplaceAll(own, "{{id}}", id)
		}
	default:
		s.count.Add(1)
		if own != "" {
			answer = strings.ReplaceAll(own, "{{id}}", id)
		}
		if s.c.sections["question"] != "" && s.question(w, r, m, answer) {
			return
		}
		if before := s.c.sections["before"]; before != "" {
			events(w)
			for line := range strings.Lines(before) {
				event(w, strings.ReplaceAll(strings.TrimSpace(line), "{{id}}", id))
			}
			event(w, answer)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer) // the gateway may be gone
}

// result is what the server answers by default.
func (s *server) result(m *call) string {
	extra := map[string]json.RawMessage{}
	if m.modern() {
		extra = map[string]json.RawMessage{"resultType": []byte(`"complete"`), "ttlMs": []byte("0"), "cacheScope": []byte(`"private"`)}
	}
	if own := s.c.sections["result "+m.Method]; own != "" {
		return merged(own, extra)
	}
	switch m.Method {
	case "initialize":
		return s.hello(fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{},"prompts":{},"resources":{},"logging":{},"completions":{}},"serverInfo":{"name":"case","version":"1"}}`, m.Params.Version))
	case "server/discover":
		return merged(s.hello(`{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"prompts":{},"resources":{},"completions":{}}}`), extra)
	case "tools/list":
		s.mu.Lock()
		defer s.mu.Unlock()
		return merged(`{"tools":`+s.list+`}`, extra)
	case "prompts/list":
		return merged(`{"prompts":[]}`, extra)
	case "resources/list":
		return merged(`{"resources":[]}`, extra)
	case "resources/templates/list":
		return merged(`{"resourceTemplates":[]}`, extra)
	}
	result := s.c.sections["result"]
	if result == "" {
		result = `{"content":[{"type":"text","text":"hi"}]}`
	}
	if m.modern() && m.Method == "tools/call" {
		return merged(result, map[string]json.RawMessage{"resultType": extra["resultType"]})
	}
	return result
}

// hello puts the members of the hello section into what the server says of itself.
func (s *server) hello(result string) string {
	var own map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.c.sections["hello"]), &own); err != nil {
		return result
	}
	var all map[string]json.RawMessage
	_ = json.Unmarshal([]byte(result), &all) // written above
	maps.Copy(all, own)
	out, _ := json.Marshal(all) // raw values always marshal
	return string(out)
}

// merged adds members that an object lacks at its end. The rest of the text stays as it is, since
// cases send objects that no encoder writes.
func merged(object string, members map[string]json.RawMessage) string {
	object = strings.TrimSpace(object)
	body, ok := strings.CutSuffix(object, "}")
	if !ok {
		return object
	}
	for _, k := range []string{"resultType", "ttlMs", "cacheScope"} {
		v, ok := members[k]
		if !ok || strings.Contains(object, `"`+k+`"`) {
			continue
		}
		if strings.TrimSpace(body) != "{" {
			body += ","
		}
		body += fmt.Sprintf("%q:%s", k, v)
	}
	return body + "}"
}
