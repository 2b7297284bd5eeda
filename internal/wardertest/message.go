package wardertest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/warder-mcp/warder"
)

const defaultRequest = `{"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`

// message completes a message for a revision. Id is empty for a notification.
func (c *testCase) message(spec string, rev warder.Revision, n int) (raw []byte, id string, err error) {
	var m struct {
		Method string                     `json:"method"`
		Params map[string]json.RawMessage `json:"params"`
		Notify bool                       `json:"notification"`
	}
	if err := json.Unmarshal([]byte(spec), &m); err != nil {
		return nil, "", fmt.Errorf("message %.100s: %w", spec, err)
	}
	if m.Params == nil {
		m.Params = map[string]json.RawMessage{}
	}
	if rev.Modern() {
		if err := c.describe(m.Params, rev); err != nil {
			return nil, "", err
		}
	}
	params, err := json.Marshal(m.Params)
	if err != nil {
		return nil, "", err
	}
	if m.Notify {
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q,"params":%s}`, m.Method, params), "", nil
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, n, m.Method, params), fmt.Sprint(n), nil
}

// describe adds the _meta members of a stateless request, except those the case has set.
func (c *testCase) describe(params map[string]json.RawMessage, rev warder.Revision) error {
	meta := map[string]json.RawMessage{}
	if own := params["_meta"]; own != nil {
		if err := json.Unmarshal(own, &meta); err != nil {
			return fmt.Errorf("_meta: %w", err)
		}
	}
	var ours map[string]json.RawMessage
	if err := json.Unmarshal([]byte("{"+c.meta(rev)+"}"), &ours); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for k, v := range ours {
		if _, set := meta[k]; !set {
			meta[k] = v
		}
	}
	params["_meta"], _ = json.Marshal(meta) // maps of raw values always marshal
	return nil
}

// meta is what a stateless request says of its client.
func (c *testCase) meta(rev warder.Revision) string {
	return fmt.Sprintf(`"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientInfo":%s,"io.modelcontextprotocol/clientCapabilities":%s`, rev, c.clientInfo(), c.key("capabilities", "{}"))
}

func (c *testCase) clientInfo() string {
	return fmt.Sprintf(`{"name":%q,"version":"1"}`, c.key("client", "case"))
}

func (c *testCase) initialize(rev warder.Revision) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":%q,"capabilities":%s,"clientInfo":%s}}`, rev, c.key("capabilities", "{}"), c.clientInfo())
}

// reply is the client's result for a question of the server: that of the case, or the least one.
func (c *testCase) reply(method string) string {
	if own := c.sections["reply "+method]; own != "" {
		return own
	}
	switch method {
	case "sampling/createMessage":
		return `{"role":"assistant","content":{"type":"text","text":"sampled"},"model":"m"}`
	case "roots/list":
		return `{"roots":[]}`
	case "elicitation/create":
		return `{"action":"decline"}`
	default:
		return `{}`
	}
}

// answerTo returns the client's answer to a question in a message; nil if it is none.
func (c *testCase) answerTo(raw []byte) []byte {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	if err := json.Unmarshal(raw, &m); err != nil || m.Method == "" || m.ID == nil || c.key("answers", "yes") == "no" {
		return nil
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, c.reply(m.Method))
}

// unfinished reads an input_required result: its state, and the client's answers to its questions.
func (c *testCase) unfinished(text string) (state, responses string, ok bool) {
	for line := range strings.Lines(text) {
		var m struct {
			Result struct {
				Type  string `json:"resultType"`
				State string `json:"requestState"`
				Asked map[string]struct {
					Method string `json:"method"`
				} `json:"inputRequests"`
			} `json:"result"`
		}
		if json.Unmarshal([]byte(line), &m) != nil || m.Result.Type != "input_required" {
			continue
		}
		answers := map[string]json.RawMessage{}
		for key, q := range m.Result.Asked {
			answers[key] = json.RawMessage(c.reply(q.Method))
		}
		raw, err := json.Marshal(answers)
		return m.Result.State, string(raw), err == nil
	}
	return "", "", false
}
