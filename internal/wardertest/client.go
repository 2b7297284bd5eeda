package wardertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// An answer is what the client saw at the end.
type answer struct {
	status int
	text   string // bodies and events, joined
}

func (a answer) refused() bool {
	return strings.Contains(a.text, `"error":{`) || strings.Contains(a.text, "Warder refused this call")
}

// refusedBy reports whether the answer names the control and the reason.
func (a answer) refusedBy(control, reason string) bool {
	byError := strings.Contains(a.text, `"control":"`+control+`"`) && (reason == "" || strings.Contains(a.text, `"reason":"`+reason+`"`))
	byResult := strings.Contains(a.text, "("+control+", ") && (reason == "" || strings.Contains(a.text, "/"+reason+","))
	return byError || byResult
}

// message completes the case's message for a revision.
func (c *testCase) message(rev warder.Revision, id int) ([]byte, error) {
	if raw := c.sections["raw"]; raw != "" {
		return []byte(strings.ReplaceAll(raw, "{{meta}}", c.meta(rev))), nil
	}
	spec := c.sections["request"]
	if spec == "" {
		spec = `{"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`
	}
	var m struct {
		Method string                     `json:"method"`
		Params map[string]json.RawMessage `json:"params"`
		Notify bool                       `json:"notification"`
	}
	if err := json.Unmarshal([]byte(spec), &m); err != nil {
		return nil, fmt.Errorf("request section: %w", err)
	}
	if m.Params == nil {
		m.Params = map[string]json.RawMessage{}
	}
	if rev.Modern() {
		meta := map[string]json.RawMessage{}
		if own := m.Params["_meta"]; own != nil {
			if err := json.Unmarshal(own, &meta); err != nil {
				return nil, fmt.Errorf("request section: %w", err)
			}
		}
		var ours map[string]json.RawMessage
		if err := json.Unmarshal([]byte("{"+c.meta(rev)+"}"), &ours); err != nil {
			return nil, fmt.Errorf("capabilities: %w", err)
		}
		for k, v := range ours {
			if _, set := meta[k]; !set {
				meta[k] = v
			}
		}
		m.Params["_meta"], _ = json.Marshal(meta) // maps of raw values always marshal
	}
	params, err := json.Marshal(m.Params)
	if err != nil {
		return nil, err
	}
	if m.Notify {
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q,"params":%s}`, m.Method, params), nil
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, m.Method, params), nil
}

// meta is what a stateless request says of its client.
func (c *testCase) meta(rev warder.Revision) string {
	return fmt.Sprintf(`"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientInfo":{"name":"case","version":"1"},"io.modelcontextprotocol/clientCapabilities":%s`, rev, c.key("capabilities", "{}"))
}

func (c *testCase) initialize(rev warder.Revision) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":%q,"capabilities":%s,"clientInfo":{"name":"case","version":"1"}}}`, rev, c.key("capabilities", "{}"))
}

// http sends the message through Streamable HTTP.
func (r *runner) http(rev warder.Revision) (answer, error) {
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	if token := r.token(fmt.Sprintf("ada-%s", rev)); token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if !rev.Modern() && r.c.sections["token"] != "none" {
		got, session, err := r.post(h, r.c.initialize(rev))
		if err != nil || session == "" {
			return got, err // refused at the opening already
		}
		h.Set("Mcp-Session-Id", session)
		h.Set("Mcp-Protocol-Version", string(rev))
		if _, _, err := r.post(h, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)); err != nil {
			return answer{}, err
		}
	}
	if r.c.key("list_first", "") == "yes" {
		list := &testCase{keys: r.c.keys, sections: map[string]string{"request": `{"method":"tools/list"}`}}
		if err := r.repeatHTTP(list, h.Clone(), rev, 1, &answer{}, false); err != nil {
			return answer{}, err
		}
	}
	var got answer
	err := r.repeatHTTP(r.c, h, rev, r.c.number("repeat", 1), &got, true)
	return got, err
}

func (r *runner) repeatHTTP(c *testCase, h http.Header, rev warder.Revision, times int, got *answer, own bool) error {
	for i := range times {
		body, err := c.message(rev, 100+i)
		if err != nil {
			return err
		}
		mirror(h, body, rev)
		if own {
			r.ownHeaders(h)
		}
		if *got, _, err = r.post(h, body); err != nil {
			return err
		}
	}
	return nil
}

// mirror sets the routing headers of 2026-07-28.
func mirror(h http.Header, body []byte, rev warder.Revision) {
	if !rev.Modern() {
		return
	}
	var m struct {
		Method string
		Params struct{ Name, URI, TaskID string }
	}
	_ = json.Unmarshal(body, &m) // malformed bodies have no headers to mirror
	h.Set("Mcp-Protocol-Version", string(rev))
	h.Set("Mcp-Method", m.Method)
	h.Del("Mcp-Name")
	for _, name := range []string{m.Params.Name, m.Params.URI, m.Params.TaskID} {
		if name != "" && (m.Method == "tools/call" || m.Method == "prompts/get" || m.Method == "resources/read" || strings.HasPrefix(m.Method, "tasks/")) {
			h.Set("Mcp-Name", name)
		}
	}
}

// ownHeaders applies the headers section.
func (r *runner) ownHeaders(h http.Header) {
	for line := range strings.Lines(r.c.sections["headers"]) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		if value = strings.TrimSpace(value); value == "" {
			h.Del(key)
		} else {
			h.Add(key, value)
			if http.CanonicalHeaderKey(key) != "Mcp-Method" {
				h[http.CanonicalHeaderKey(key)] = []string{value}
			}
		}
	}
}

// post sends one body and reads the whole answer.
func (r *runner) post(h http.Header, body []byte) (got answer, session string, err error) {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+"/mcp/s", bytes.NewReader(body))
	if err != nil {
		return got, "", err
	}
	req.Header = h.Clone()
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return got, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(text)}, resp.Header.Get("Mcp-Session-Id"), err
}

// stdio sends the message through a pipe.
func (r *runner) stdio(rev warder.Revision) (answer, error) {
	toGate, in := io.Pipe()
	out, fromGate := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- r.app.Stdio(r.t.Context(), "s", toGate, fromGate)
		_ = fromGate.Close() // ends the reader below
	}()
	defer func() {
		_ = in.Close() // ends the door
		go func() { _, _ = io.Copy(io.Discard, out) }()
		<-done
	}()
	lines := make(chan string, 256)
	go func() {
		s := bufio.NewScanner(out)
		s.Buffer(nil, 64<<20)
		for s.Scan() {
			lines <- s.Text()
		}
		close(lines)
	}()
	say := func(raw []byte, id string) (answer, error) { return converse(in, lines, raw, id) }
	if !rev.Modern() {
		got, err := say(r.c.initialize(rev), `"init"`)
		if err != nil || strings.Contains(got.text, `"error":{`) {
			return got, err
		}
		if _, err := say([]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), ""); err != nil {
			return got, err
		}
	}
	if r.c.key("list_first", "") == "yes" {
		list := &testCase{keys: r.c.keys, sections: map[string]string{"request": `{"method":"tools/list"}`}}
		body, err := list.message(rev, 99)
		if err != nil {
			return answer{}, err
		}
		if _, err := say(body, "99"); err != nil {
			return answer{}, err
		}
	}
	var got answer
	for i := range r.c.number("repeat", 1) {
		body, err := r.c.message(rev, 100+i)
		if err != nil {
			return got, err
		}
		id := fmt.Sprint(100 + i)
		if r.c.sections["raw"] != "" {
			id = "*"
		}
		if got, err = say(bytes.ReplaceAll(body, []byte("\n"), nil), id); err != nil {
			return got, err
		}
	}
	return got, nil
}

// converse writes a line and collects what comes until the answer with this id, or any answer for "*".
func converse(in io.Writer, lines <-chan string, raw []byte, id string) (answer, error) {
	if _, err := in.Write(append(raw, '\n')); err != nil {
		return answer{}, err
	}
	if id == "" {
		return answer{}, nil
	}
	var text strings.Builder
	limit := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return answer{}, errors.New("the gateway closed the pipe")
			}
			text.WriteString(line + "\n")
			isAnswer := !strings.Contains(line, `"method":`) && (strings.Contains(line, `"result":`) || strings.Contains(line, `"error":`))
			if isAnswer && (id == "*" || strings.Contains(line, `"id":`+id)) {
				return answer{text: text.String()}, nil
			}
		case <-limit:
			return answer{}, fmt.Errorf("no answer to %.200s within 20 s", raw)
		}
	}
}
