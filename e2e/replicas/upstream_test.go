package replicas

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// An upstream is a real MCP server that notes what it got.
type upstream struct {
	URL string

	mu      sync.Mutex
	calls   map[string]int           // finished calls of "write" and "danger" by their argument
	started map[string]chan struct{} // closed when the call with this argument runs
	raw     []byte                   // every request as it came, if keep
	keep    bool
}

// arguments are those of every tool.
type arguments struct {
	ID    string `json:"id"`
	Sleep int    `json:"sleep"` // milliseconds
}

const toolSchema = `{"type":"object","properties":{"id":{"type":"string","maxLength":200},"sleep":{"type":"integer","minimum":0,"maximum":10000}}}`

// newUpstream starts a server, one of sessions (2025-11-25) or a stateless one (2026-07-28).
func newUpstream(t *testing.T, stateless bool) *upstream {
	t.Helper()
	u := &upstream{calls: map[string]int{}, started: map[string]chan struct{}{}}
	s := mcp.NewServer(&mcp.Implementation{Name: "upstream", Version: "1"}, nil)
	for name, run := range map[string]func(context.Context, *mcp.CallToolRequest, arguments) error{
		"echo": u.count, "write": u.count, "danger": u.count, "gated": u.count, "silent": u.silent, "chat": u.chat, "danger_chat": u.chat,
	} {
		s.AddTool(&mcp.Tool{Name: name, Description: "does " + name, InputSchema: json.RawMessage(toolSchema)},
			func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				var a arguments
				if err := json.Unmarshal(req.Params.Arguments, &a); err != nil {
					return nil, err
				}
				u.begun(a.ID)
				if err := run(ctx, req, a); err != nil {
					return nil, err
				}
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "fine " + a.ID}}}, nil
			})
	}
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: true})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.note(r)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	u.URL = srv.URL
	return u
}

func (u *upstream) note(r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.keep {
		return
	}
	b, err := httputil.DumpRequest(r, true)
	if err != nil {
		b = []byte("unreadable: " + err.Error())
	}
	u.raw = append(u.raw, b...)
}

// seen is every request that came, as it came.
func (u *upstream) seen() []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]byte(nil), u.raw...)
}

func (u *upstream) begun(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.started[id]; c != nil {
		close(c)
		delete(u.started, id)
	}
}

// runs returns a channel that is closed when the call with this argument runs.
func (u *upstream) runs(id string) <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := make(chan struct{})
	u.started[id] = c
	return c
}

// count counts a call.
func (u *upstream) count(_ context.Context, _ *mcp.CallToolRequest, a arguments) error {
	u.mu.Lock()
	u.calls[a.ID]++
	u.mu.Unlock()
	time.Sleep(time.Duration(a.Sleep) * time.Millisecond)
	return nil
}

// counted is how often calls with this argument reached the server.
func (u *upstream) counted(id string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[id]
}

// silent says nothing until it is cancelled.
func (u *upstream) silent(ctx context.Context, _ *mcp.CallToolRequest, _ arguments) error {
	<-ctx.Done()
	return ctx.Err()
}

// chat says something every 5 ms until it is cancelled.
func (u *upstream) chat(ctx context.Context, req *mcp.CallToolRequest, _ arguments) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 1.0; ; n++ {
		if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: n}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
