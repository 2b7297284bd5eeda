package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A demo is the client of the quick start: it speaks 2026-07-28 over HTTP and knows how to misbehave.
type demo struct {
	base  string // public address of the gateway
	token func(endpoint string) (string, error)
}

// An outcome is how one call ended, as the table shows it.
type outcome struct {
	What    string `json:"what"`
	Outcome string `json:"outcome"` // allowed or refused
	Control string `json:"control,omitempty"`
	Code    string `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Says    string `json:"says,omitempty"` // what the client was told
}

// A request is one message with what the client claims about it.
type request struct {
	endpoint string
	token    string // empty: none
	method   string
	tool     string
	args     string // JSON object
	header   string // tool name in the header, when it differs
}

// A reply is the part of an answer that the demo looks at.
type reply struct {
	Result struct {
		IsError bool `json:"isError"`
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	} `json:"result"`
	Error *struct {
		Message string `json:"message"`
		Data    struct {
			Code    string `json:"code"`
			Reason  string `json:"reason"`
			Control string `json:"control"`
		} `json:"data"`
	} `json:"error"`
}

// send sends one request and reads the last message of the answer.
func (d *demo) send(ctx context.Context, r request) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+"/mcp/"+r.endpoint, bytes.NewReader(r.body()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set(wire.HeaderVersion, string(warder.Revision20260728))
	req.Header.Set(wire.HeaderMethod, r.method)
	if name := r.header + r.tool; name != "" {
		if r.header != "" {
			name = r.header
		}
		req.Header.Set(wire.HeaderName, name)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := new(http.Client).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	const most = 8 << 20
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		if raw, err = lastEvent(raw); err != nil {
			return nil, err
		}
	}
	var out reply
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("HTTP %s: %w", resp.Status, err)
	}
	return &out, nil
}

func (r request) body() []byte {
	params := map[string]any{"_meta": map[string]any{
		wire.MetaVersion: warder.Revision20260728, wire.MetaCapabilities: map[string]any{},
		wire.MetaClientInfo: map[string]string{"name": "warder-up", "version": "1"},
	}}
	if r.tool != "" {
		params["name"], params["arguments"] = r.tool, json.RawMessage(r.args)
	}
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": r.method, "params": params})
	if err != nil {
		panic(err) // the arguments are constants of this file
	}
	return b
}

// lastEvent is the data of the last event of a stream.
func lastEvent(raw []byte) ([]byte, error) {
	events := wire.NewEventReader(bytes.NewReader(raw), int64(len(raw)))
	var last []byte
	for {
		e, err := events.Next()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read stream: %w", err)
		}
		if len(e.Data) > 0 {
			last = bytes.Clone(e.Data)
		}
	}
}

// list asks for the tools of an endpoint.
func (d *demo) list(ctx context.Context, endpoint string) (int, error) {
	token, err := d.token(endpoint)
	if err != nil {
		return 0, err
	}
	r, err := d.send(ctx, request{endpoint: endpoint, token: token, method: wire.MethodToolsList})
	if err != nil {
		return 0, err
	}
	if r.Error != nil {
		return 0, fmt.Errorf("%s (%s %s)", oneLine(r.Error.Message), r.Error.Data.Control, r.Error.Data.Reason)
	}
	return len(r.Result.Tools), nil
}

// play makes the calls of the table.
func (d *demo) play(ctx context.Context) ([]outcome, error) {
	tokens := map[string]string{}
	for _, name := range []string{"notes", "weather", "trickster"} {
		var err error
		if tokens[name], err = d.token(name); err != nil {
			return nil, err
		}
	}
	call := func(server, tool, args string) request {
		return request{endpoint: server, token: tokens[server], method: wire.MethodToolsCall, tool: tool, args: args}
	}
	steps := []struct {
		what string
		request
		times int
	}{
		{"list the tools of notes", request{endpoint: "notes", token: tokens["notes"], method: wire.MethodToolsList}, 1},
		{"notes: add a note", call("notes", "add_note", `{"title":"first","text":"written through Warder"}`), 1},
		{"weather: forecast for Bergen", call("weather", "forecast", `{"city":"Bergen","days":3}`), 1},
		{"the same without a token", request{endpoint: "weather", method: wire.MethodToolsCall, tool: "forecast", args: `{"city":"Bergen"}`}, 1},
		{"the same with the token for notes", request{endpoint: "weather", token: tokens["notes"], method: wire.MethodToolsCall, tool: "forecast", args: `{"city":"Bergen"}`}, 1},
		{"header says list_notes, body says add_note", request{
			endpoint: "notes", token: tokens["notes"], method: wire.MethodToolsCall, tool: "add_note",
			args: `{"title":"x","text":"y"}`, header: "list_notes",
		}, 1},
		{"notes: an argument nobody declared", call("notes", "read_note", `{"title":"first","exfiltrate":"everything"}`), 1},
		{"notes: delete a note (policy forbids)", call("notes", "delete_note", `{"title":"first"}`), 1},
		{"trickster: tool with a poisoned description", call("trickster", "add", `{"a":1,"b":2}`), 1},
		{"trickster: convert, three times", call("trickster", "convert", `{"km":10}`), 3},
		{"list the tools of trickster again", request{endpoint: "trickster", token: tokens["trickster"], method: wire.MethodToolsList}, 1},
		{"trickster: convert, whose definition changed", call("trickster", "convert", `{"km":10}`), 1},
		{"trickster: answer of 10 MB", call("trickster", "flood", `{}`), 1},
		{"trickster: answer with two meanings", call("trickster", "garble", `{}`), 1},
		{"trickster: error with a stack trace", call("trickster", "crash", `{}`), 1},
		{"trickster: result with injected instructions", call("trickster", "page", `{}`), 1},
	}
	var rows []outcome
	for _, s := range steps {
		var last *reply
		for range s.times {
			var err error
			if last, err = d.send(ctx, s.request); err != nil {
				return nil, fmt.Errorf("%s: %w", s.what, err)
			}
		}
		rows = append(rows, last.outcome(s.what))
	}
	return rows, nil
}

// refusedBy is how the text of a refused tool call begins and ends.
const refusedBy = "Warder refused this call: "

func (r *reply) outcome(what string) outcome {
	o := outcome{What: what, Outcome: "allowed"}
	if r.Error != nil {
		o.Outcome, o.Says = "refused", r.Error.Message
		o.Control, o.Code, o.Reason = r.Error.Data.Control, r.Error.Data.Code, r.Error.Data.Reason
		return o
	}
	if n := len(r.Result.Tools); n > 0 {
		o.Says = counted(n, "tool")
	}
	if len(r.Result.Content) > 0 {
		o.Says = r.Result.Content[0].Text
	}
	if text, ok := strings.CutPrefix(o.Says, refusedBy); ok && r.Result.IsError {
		o.Outcome = "refused"
		o.Says = text
		// "… (CONTROL, code/reason, exchange ID)"
		if i := strings.LastIndex(text, " ("); i >= 0 {
			o.Says = text[:i]
			parts := strings.Split(strings.TrimSuffix(text[i+2:], ")"), ", ")
			if len(parts) == 3 {
				o.Control = parts[0]
				o.Code, o.Reason, _ = strings.Cut(parts[1], "/")
			}
		}
	}
	return o
}
