package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// admit stands for the identity layer: it names the caller after the Authorization header.
type admit struct{}

func (admit) Control() warder.ControlID { return "IAM-05" }

func (admit) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	who := "local"
	if x.Conn.Header != nil {
		who = x.Conn.Header.Get("Authorization")
	}
	x.Principal = &warder.Principal{Issuer: "test", Subject: who}
	return warder.Continue(), nil
}

// newGate builds a gate whose only control admits everybody, with further layers behind it.
func newGate(t *testing.T, servers map[string]upstream.Config, layers ...warder.Layer) *Gate {
	t.Helper()
	var ends []*Endpoint
	group := &Endpoint{Name: "all", Group: true}
	for name, cfg := range servers {
		up, err := upstream.New(name, cfg, upstream.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = up.Close(context.WithoutCancel(t.Context())) })
		b := &Backend{Server: &warder.Server{Name: name}, Up: up}
		ends = append(ends, &Endpoint{Name: name, Backends: []*Backend{b}})
		group.Backends = append(group.Backends, b)
	}
	chain := NewChain(append([]warder.Layer{{Name: "identity", Connect: []warder.Interceptor{admit{}}}}, layers...), nil, nil)
	cfg := Config{MinRevision: "2024-11-05", Review: 100 * time.Millisecond}
	floor, err := wire.NewFloor(wire.RevisionConfig{Floor: cfg.MinRevision}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := New(cfg, floor, chain, append(ends, group), NewSessions(cfg.Sessions, time.Now), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := g.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return g
}

type echoIn struct {
	Text string `json:"text"`
}

// sdkServer is a real server on the official SDK with an echo tool, one that asks the client, and one
// that reports progress.
func sdkServer(t *testing.T, stateless bool) string {
	t.Helper()
	srv := mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "1"}, &mcp.ServerOptions{Instructions: "be kind"})
	mcp.AddTool(srv, &mcp.Tool{Name: "echo", Description: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in echoIn) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	mcp.AddTool(srv, &mcp.Tool{Name: "ask", Description: "asks"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		r, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "name?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}}}})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hello " + r.Content["name"].(string)}}}, nil, nil
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, &mcp.StreamableHTTPOptions{Stateless: stateless})
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	return ts.URL
}

// sdkHandler serves any server of the official SDK with sessions.
func sdkHandler(t *testing.T, srv *mcp.Server) string {
	t.Helper()
	ts := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, nil))
	t.Cleanup(ts.Close)
	return ts.URL
}

// connectSDK connects the official client to an endpoint of the gate.
func connectSDK(t *testing.T, url string) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "sdk-client", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
	})
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func callText(t *testing.T, s *mcp.ClientSession, tool string, args map[string]any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("call %s: %v", tool, err)
	}
	if len(r.Content) != 1 {
		t.Fatalf("call %s: %d blocks", tool, len(r.Content))
	}
	return r.Content[0].(*mcp.TextContent).Text
}

func TestGateBetweenRealPeers(t *testing.T) {
	t.Parallel()
	g := newGate(t, map[string]upstream.Config{
		"legacy": {URL: sdkServer(t, false), Era: upstream.EraLegacy},
		"modern": {URL: sdkServer(t, true)},
	})
	door := httptest.NewServer(g.HTTP())
	t.Cleanup(door.Close)
	for _, endpoint := range []string{"legacy", "modern"} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			s := connectSDK(t, door.URL+"/mcp/"+endpoint)
			t.Logf("client speaks %s", s.InitializeResult().ProtocolVersion)
			tools, err := s.ListTools(t.Context(), nil)
			if err != nil || len(tools.Tools) != 2 {
				t.Fatalf("tools %v, error %v", tools, err)
			}
			if got := callText(t, s, "echo", map[string]any{"text": "hi"}); got != "hi" {
				t.Errorf("echo returned %q", got)
			}
			if endpoint == "legacy" {
				if got := callText(t, s, "ask", nil); got != "hello Ada" {
					t.Errorf("ask returned %q", got)
				}
			}
		})
	}
	t.Run("group", func(t *testing.T) {
		t.Parallel()
		s := connectSDK(t, door.URL+"/mcp/all")
		tools, err := s.ListTools(t.Context(), nil)
		if err != nil || len(tools.Tools) != 4 {
			t.Fatalf("tools %v, error %v", tools, err)
		}
		for _, tool := range tools.Tools {
			if strings.HasSuffix(tool.Name, "__echo") {
				if got := callText(t, s, tool.Name, map[string]any{"text": "hi"}); got != "hi" {
					t.Errorf("%s returned %q", tool.Name, got)
				}
			}
		}
	})
}
