package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// An origin is an MCP server behind the gateway, which counts what it did and keeps what it was shown.
type origin struct {
	name string
	url  string

	mu    sync.Mutex
	did   map[string]int // tool and argument to how often
	shown []string       // every Authorization and DPoP header it ever saw
}

type (
	lookArgs struct {
		Topic string `json:"topic"`
	}
	sendArgs struct {
		To     string `json:"to"`
		Amount int    `json:"amount"`
	}
	purgeArgs struct {
		Name string `json:"name"`
	}
)

// newOrigin starts a server with the tools look (reads), send (writes) and purge (destroys).
func newOrigin(t *testing.T, name string) *origin {
	t.Helper()
	o := &origin{name: name, did: map[string]int{}}
	s := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "look", Description: "Looks something up.", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}},
		func(_ context.Context, _ *mcp.CallToolRequest, in lookArgs) (*mcp.CallToolResult, any, error) {
			return o.done("look", in.Topic), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "send", Description: "Sends money.", Annotations: &mcp.ToolAnnotations{DestructiveHint: new(false)}},
		func(_ context.Context, _ *mcp.CallToolRequest, in sendArgs) (*mcp.CallToolResult, any, error) {
			return o.done("send", fmt.Sprintf("%s %d", in.To, in.Amount)), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "purge", Description: "Destroys something for good.", Annotations: &mcp.ToolAnnotations{DestructiveHint: new(true)}},
		func(_ context.Context, _ *mcp.CallToolRequest, in purgeArgs) (*mcp.CallToolResult, any, error) {
			return o.done("purge", in.Name), nil, nil
		})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.shown = append(append(o.shown, r.Header.Values("Authorization")...), r.Header.Values("DPoP")...)
		o.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		ts.CloseClientConnections()
		ts.Close()
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.shown) > 0 {
			t.Errorf("%s was shown %d credentials of callers", name, len(o.shown))
		}
	})
	o.url = ts.URL
	return o
}

func (o *origin) done(tool, what string) *mcp.CallToolResult {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.did[tool+" "+what]++
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: o.name + ": " + tool + " " + what}}}
}

// times is how often the server did something.
func (o *origin) times(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.did[what]
}
