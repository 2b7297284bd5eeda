package wardertest

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A server is the MCP server of a case: real HTTP, both eras on one path, what it says is the case's.
type server struct {
	c     *testCase
	tools []json.RawMessage
	count atomic.Int64

	mu   sync.Mutex
	seen []string // forwarded messages other than opening and lists
}

const echoTool = `{"name":"echo","description":"Returns its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"},"n":{"type":"integer"}},"required":["text"],"additionalProperties":false}}`

func newServer(c *testCase) *server {
	s := &server{c: c}
	list := c.sections["tools"]
	if list == "" {
		list = "[" + echoTool + "]"
	}
	if err := json.Unmarshal([]byte(list), &s.tools); err != nil {
		s.tools = nil // the case sends something that is no list of tools
	}
	return s
}

// definitions yields the tools by server name.
func (s *server) definitions() iter.Seq2[string, []json.RawMessage] {
	return func(yield func(string, []json.RawMessage) bool) { yield("s", s.tools) }
}

// calls counts the forwarded messages other than opening and lists.
func (s *server) calls() int64 { return s.count.Load() }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Version string                     `json:"protocolVersion"`
			Meta    map[string]json.RawMessage `json:"_meta"`
		} `json:"params"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if m.Method == "initialize" {
		w.Header().Set("Mcp-Session-Id", fmt.Sprintf("case-%d", s.count.Load()))
	}
	_, modern := m.Params.Meta["io.modelcontextprotocol/protocolVersion"]
	s.reply(w, m.ID, m.Method, m.Params.Version, modern)
}

// reply writes the answer as the case wants it.
func (s *server) reply(w http.ResponseWriter, id json.RawMessage, method, version string, modern bool) {
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, s.result(method, version, modern))
	switch method {
	case "initialize", "server/discover":
	case "tools/list", "prompts/list", "resources/list", "resources/templates/list":
		if own := s.c.sections["answer"]; own != "" && strings.Contains(s.c.sections["request"], method) {
			answer = strings.ReplaceAll(own, "{{id}}", string(id))
		}
	default:
		s.count.Add(1)
		if own := s.c.sections["answer"]; own != "" {
			answer = strings.ReplaceAll(own, "{{id}}", string(id))
		}
		if before := s.c.sections["before"]; before != "" {
			w.Header().Set("Content-Type", "text/event-stream")
			for line := range strings.Lines(before) {
				_, _ = fmt.Fprintf(w, "data: %s\n\n", strings.ReplaceAll(strings.TrimSpace(line), "{{id}}", string(id))) // the gateway may be gone
			}
			_, _ = fmt.Fprintf(w, "data: %s\n\n", answer) // the gateway may be gone
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer) // the gateway may be gone
}

// result is what the server answers by default.
func (s *server) result(method, version string, modern bool) string {
	extra := ""
	if modern {
		extra = `,"resultType":"complete","ttlMs":0,"cacheScope":"private"`
	}
	switch method {
	case "initialize":
		return fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{},"prompts":{},"resources":{},"logging":{},"completions":{}},"serverInfo":{"name":"case","version":"1"}}`, version)
	case "server/discover":
		return `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"prompts":{},"resources":{},"completions":{}}` + extra + `}`
	case "tools/list":
		if own := s.c.sections["tools"]; own != "" {
			return `{"tools":` + own + extra + `}`
		}
		return `{"tools":[` + echoTool + `]` + extra + `}`
	case "prompts/list":
		return `{"prompts":[]` + extra + `}`
	case "resources/list":
		return `{"resources":[]` + extra + `}`
	case "resources/templates/list":
		return `{"resourceTemplates":[]` + extra + `}`
	}
	result := s.c.sections["result"]
	if result == "" {
		result = `{"content":[{"type":"text","text":"hi"}]}`
	}
	if modern && method == "tools/call" && !strings.Contains(result, `"resultType"`) {
		return strings.TrimSuffix(strings.TrimSpace(result), "}") + `,"resultType":"complete"}`
	}
	return result
}
