package proxy

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
)

// TestSSEDoor opens, calls, and leaves: nothing stays behind.
func TestSSEDoor(t *testing.T) {
	t.Parallel()
	s := newTalker("echo", "hang")
	r := newRig(t, Config{}, []string{"s"}, one(s))
	ctx, leave := context.WithCancel(t.Context())
	in := events(r.do(ctx, http.MethodGet, "/mcp/s/sse", "ada", ""))
	where := next(t, in)
	if where.Name != "endpoint" || !strings.HasPrefix(string(where.Data), "/mcp/s/messages?session=") {
		t.Fatalf("first event %s %s", where.Name, where.Data)
	}
	path := string(where.Data)
	for _, raw := range []string{opening(warder.Revision20241105), `{"jsonrpc":"2.0","method":"notifications/initialized"}`, callOf(1, "echo")} {
		if status, body := r.ask(path, "ada", raw); status != http.StatusAccepted || body != "" {
			t.Errorf("%s: %d %s", raw, status, body)
		}
	}
	for _, want := range []string{`"id":"open"`, `"text":"echo"`} {
		if got := string(next(t, in).Data); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if status, _ := r.ask(path, "bob", callOf(2, "echo")); status != http.StatusNotFound {
		t.Errorf("post by another caller: %d", status)
	}
	if status, _ := r.ask("/mcp/s/messages?session=none", "ada", callOf(2, "echo")); status != http.StatusNotFound {
		t.Errorf("post without a stream: %d", status)
	}
	if status, body := r.ask(path, "ada", callOf(3, "hang")); status != http.StatusAccepted {
		t.Errorf("call: %d %s", status, body)
	}
	soon(t, "the call reaches the server", func() bool { return s.called.Load() == 2 })
	leave()
	soon(t, "session, call and stream end with the client", func() bool {
		return r.sessions.Len() == 0 && r.g.Running() == 0 && s.cancelled.Load() > 0
	})
	if status, _ := r.ask(path, "ada", callOf(4, "echo")); status != http.StatusNotFound {
		t.Errorf("post after the end: %d", status)
	}
}
