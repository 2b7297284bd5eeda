package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// TestMain turns the test binary into one of the child servers when it is asked to.
func TestMain(m *testing.M) {
	if kind := os.Getenv("UPSTREAM_TEST_CHILD"); kind != "" {
		os.Exit(runChild(kind))
	}
	os.Exit(m.Run())
}

type echoArgs struct {
	Text string `json:"text"`
}

// sdkServer builds a go-sdk server with tools for each way of answering.
func sdkServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "1"}, &mcp.ServerOptions{Instructions: "use echo"})
	text := func(s string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a echoArgs) (*mcp.CallToolResult, any, error) {
		return text(a.Text), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "progress"}, func(ctx context.Context, r *mcp.CallToolRequest, a echoArgs) (*mcp.CallToolResult, any, error) {
		for i := range 3 {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: r.Params.GetProgressToken(), Progress: float64(i),
			})
		}
		return text(a.Text), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ echoArgs) (*mcp.CallToolResult, any, error) {
		res, err := r.Session.CreateMessage(ctx, &mcp.CreateMessageParams{
			MaxTokens: 5, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "q"}}},
		})
		if err != nil {
			return nil, nil, err
		}
		return text("model said " + res.Content.(*mcp.TextContent).Text), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "hang"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ echoArgs) (*mcp.CallToolResult, any, error) {
		<-ctx.Done()
		return nil, nil, ctx.Err()
	})
	return s
}

func sdkHTTP(t *testing.T, opt *mcp.StreamableHTTPOptions) string {
	t.Helper()
	server := sdkServer()
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, opt)
	return listen(t, h)
}

func listen(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL + "/mcp"
}

func newServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New("test", cfg, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func message(t *testing.T, raw string) *warder.Message {
	t.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		t.Fatalf("decode %s: %v", raw, err)
	}
	return m
}

const modernMetaJSON = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`

// callTool builds a tools/call of an era.
func callTool(t *testing.T, modern bool, id, tool, text string) *warder.Message {
	t.Helper()
	meta := `"progressToken":"tok"`
	if modern {
		meta += "," + modernMetaJSON
	}
	return message(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":{"text":%q},"_meta":{%s}}}`, id, tool, text, meta))
}

// collect runs a call and returns its messages as text.
func collect(ctx context.Context, l Link, req *warder.Message) ([]string, error) {
	var out []string
	for m, err := range l.Call(ctx, req, nil) {
		if err != nil {
			return out, err
		}
		out = append(out, string(m.Raw))
	}
	return out, nil
}

func link(t *testing.T, s *Server, key Key, rev warder.Revision) Link {
	t.Helper()
	l, err := s.Link(t.Context(), key, Init{Revision: rev})
	if err != nil {
		t.Fatalf("link: %v", err)
	}
	return l
}

// settled waits until no more goroutines and descriptors run than before.
func leakCheck(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	t.Cleanup(func() {
		var g, f int
		for range 100 {
			g, f = runtime.NumGoroutine(), descriptors(t)
			if g <= goroutines && f <= files {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("goroutines %d → %d, descriptors %d → %d\n%s", goroutines, g, files, f, buf[:runtime.Stack(buf, true)])
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

func last(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

func contains(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("got %s, want it to contain %s", got, w)
		}
	}
}
