package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// suspended asks a tool that asks the user, statelessly, and returns the state of the suspended call.
func suspended(r *rig, who string, id int) string {
	r.t.Helper()
	_, body := r.ask("/mcp/s", who, now(id, "tools/call", `"name":"ask","arguments":{}`))
	if i := strings.IndexByte(body, '{'); i > 0 {
		body = body[i:] // an event
	}
	var m struct {
		Result struct {
			Type  string `json:"resultType"`
			State string `json:"requestState"`
		}
	}
	if err := json.NewDecoder(strings.NewReader(body)).Decode(&m); err != nil || m.Result.Type != "input_required" {
		r.t.Fatalf("%v: %s", err, body)
	}
	return m.Result.State
}

func resumed(r *rig, who string, id int, state string) string {
	r.t.Helper()
	_, body := r.ask("/mcp/s", who, now(id, "tools/call", fmt.Sprintf(`"name":"ask","arguments":{},"requestState":%q,"inputResponses":{"q1":{"action":"decline"}}`, state)))
	return body
}

func TestParkedCall(t *testing.T) {
	t.Parallel()
	s := newTalker("ask")
	r := newRig(t, Config{}, []string{"s"}, one(s))
	state := suspended(r, "ada", 1)
	if got := resumed(r, "bob", 2, state); !strings.Contains(got, "state_expired") {
		t.Errorf("resumed by another: %s", got)
	}
	if got := resumed(r, "ada", 3, state); !strings.Contains(got, `told {\"action\":\"decline\"}`) || !strings.Contains(got, `"id":3`) {
		t.Errorf("resumed by its owner: %s", got)
	}
	if got := resumed(r, "ada", 4, state); !strings.Contains(got, "state_expired") {
		t.Errorf("resumed twice: %s", got)
	}
	if got := resumed(r, "ada", 5, "other"); !strings.Contains(got, "unknown_state") {
		t.Errorf("state of nobody: %s", got)
	}
	if s.called.Load() != 1 {
		t.Errorf("%d calls at the server, want 1", s.called.Load())
	}
}

func TestParkedCallEnds(t *testing.T) {
	t.Parallel()
	s := newTalker("ask")
	r := newRig(t, Config{AnswerTimeout: 50 * time.Millisecond}, []string{"s"}, one(s))
	state := suspended(r, "ada", 1)
	soon(t, "the server is told that nobody answers", func() bool { return s.cancelled.Load() == 1 })
	if got := resumed(r, "ada", 2, state); !strings.Contains(got, "state_expired") {
		t.Error(got)
	}
}

func TestParkedCallsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, []string{"s"}, one(newTalker("ask")))
	for i := range maxParked {
		suspended(r, "ada", i+1)
	}
	if status, got := r.ask("/mcp/s", "ada", now(99, "tools/call", `"name":"ask","arguments":{}`)); !strings.Contains(got, "too_many_suspended_calls") {
		t.Errorf("%d %s", status, got)
	}
	suspended(r, "bob", 1)
}

// A client that leaves takes its stateless call with it; a session's call goes on.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	s := newTalker("hang", "slow")
	r := newRig(t, Config{}, []string{"s"}, one(s))
	c := &http.Client{Timeout: 200 * time.Millisecond}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/mcp/s", strings.NewReader(now(1, "tools/call", `"name":"hang","arguments":{}`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if resp, err := c.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Fatal("the call was answered")
	}
	soon(t, "the server is told", func() bool { return s.cancelled.Load() > 0 })
	soon(t, "the exchange is recorded", func() bool {
		return r.ended.count(func(x *warder.Exchange) bool { return x.Outcome == warder.OutcomeCanceled }) == 1 && r.g.Running() == 0
	})
}
