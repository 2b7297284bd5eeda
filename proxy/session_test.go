package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

func one(s http.Handler) map[string]http.Handler { return map[string]http.Handler{"s": s} }

func TestSessionLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{Sessions: SessionConfig{Max: 3, PerPrincipal: 2}}, []string{"s"}, one(newTalker("echo")))
	first := r.session("/mcp/s", "ada", warder.Revision20250618)
	r.session("/mcp/s", "ada", warder.Revision20250618)
	status, body := r.ask("/mcp/s", "ada", opening(warder.Revision20250618))
	if status != http.StatusTooManyRequests || !strings.Contains(body, "too_many_sessions") {
		t.Errorf("third session of one caller: %d %s", status, body)
	}
	r.session("/mcp/s", "bob", warder.Revision20250618)
	if status, body := r.ask("/mcp/s", "eve", opening(warder.Revision20250618)); status != http.StatusTooManyRequests {
		t.Errorf("fourth session of all: %d %s", status, body)
	}
	resp := r.do(t.Context(), http.MethodDelete, "/mcp/s", "ada", "", "Mcp-Session-Id", first)
	if resp.StatusCode != http.StatusNoContent || r.sessions.Len() != 2 {
		t.Errorf("delete: %d, %d sessions left", resp.StatusCode, r.sessions.Len())
	}
	r.session("/mcp/s", "eve", warder.Revision20250618)
	if status, _ := r.ask("/mcp/s", "ada", callOf(1, "echo"), "Mcp-Session-Id", first); status != http.StatusNotFound {
		t.Errorf("call in a deleted session: %d", status)
	}
}

func TestSessionIsForItsOwner(t *testing.T) {
	t.Parallel()
	s := newTalker("echo", "ask")
	r := newRig(t, Config{}, []string{"s", "other"}, map[string]http.Handler{"s": s, "other": newTalker("echo")})
	id := r.session("/mcp/s", "ada", warder.Revision20250618)
	for name, status := range map[string]int{
		"call":   first(r.ask("/mcp/s", "bob", callOf(1, "echo"), "Mcp-Session-Id", id)),
		"delete": r.do(t.Context(), http.MethodDelete, "/mcp/s", "bob", "", "Mcp-Session-Id", id).StatusCode,
		"stream": r.do(t.Context(), http.MethodGet, "/mcp/s", "bob", "", "Mcp-Session-Id", id).StatusCode,
		"resume": r.do(t.Context(), http.MethodGet, "/mcp/s", "bob", "", "Mcp-Session-Id", id, "Last-Event-ID", "1-1").StatusCode,
		"other":  first(r.ask("/mcp/other", "ada", callOf(1, "echo"), "Mcp-Session-Id", id)),
	} {
		if status != http.StatusNotFound {
			t.Errorf("%s with the session of another: %d, want 404", name, status)
		}
	}
	if s.called.Load() != 0 {
		t.Error("a call in the session of another reached the server")
	}
	// A question of the owner's call survives an answer by somebody else.
	resp := r.do(t.Context(), http.MethodPost, "/mcp/s", "ada", callOf(2, "ask"), "Mcp-Session-Id", id)
	in := events(resp)
	if got := string(next(t, in).Data); !strings.Contains(got, `"id":"warder-1"`) {
		t.Fatalf("question %s", got)
	}
	answer := `{"jsonrpc":"2.0","id":"warder-1","result":{"action":"decline"}}`
	if status, body := r.ask("/mcp/s", "bob", answer, "Mcp-Session-Id", id); status != http.StatusNotFound {
		t.Errorf("answer by another: %d %s", status, body)
	}
	if status, body := r.ask("/mcp/s", "ada", answer, "Mcp-Session-Id", id); status != http.StatusAccepted {
		t.Errorf("answer by the owner: %d %s", status, body)
	}
	if got := string(next(t, in).Data); !strings.Contains(got, "told {") {
		t.Errorf("call ended with %s", got)
	}
	if status, _ := r.ask("/mcp/s", "ada", answer, "Mcp-Session-Id", id); status != http.StatusOK && status != http.StatusBadRequest {
		t.Errorf("second answer: %d", status)
	}
}

func first(status int, _ string) int { return status }

func TestSessionSweep(t *testing.T) {
	t.Parallel()
	s := newTalker("slow", "echo")
	r := newRig(t, Config{Sessions: SessionConfig{Idle: 8 * time.Second}}, []string{"s"}, one(s))
	r.session("/mcp/s", "ada", warder.Revision20250618)
	busy := r.session("/mcp/s", "bob", warder.Revision20250618)
	resp := r.do(t.Context(), http.MethodPost, "/mcp/s", "bob", callOf(1, "slow"), "Mcp-Session-Id", busy)
	in := events(resp)
	next(t, in)
	r.clock.Store(int64(time.Minute))
	soon(t, "the idle session ends and the busy one stays", func() bool { return r.sessions.Len() == 1 })
	time.Sleep(1100 * time.Millisecond) // another round of the sweep
	if r.sessions.Len() != 1 {
		t.Error("a session with a running call was swept")
	}
	close(s.release)
	if got := string(next(t, in).Data); !strings.Contains(got, "slow") {
		t.Errorf("the call of the busy session ended with %s", got)
	}
}

func TestSessionWithdrawnQuestion(t *testing.T) {
	t.Parallel()
	s := &session{}
	var link, other any = new(int), new(int)
	for _, l := range []any{link, other} {
		if !s.ask(func([]byte) question { return question{link: l, serverID: []byte("7")} }) {
			t.Fatal("question not taken")
		}
	}
	if got := string(s.withdraw(other, []byte("7"))); got != `"warder-2"` {
		t.Errorf("withdrew %s, want the question of that link", got)
	}
	if s.withdraw(other, []byte("7")) != nil || s.withdraw(link, []byte("8")) != nil {
		t.Error("withdrew what was not asked")
	}
	if _, ok := s.question([]byte(`"warder-1"`)); !ok {
		t.Error("the other question is gone")
	}
}
