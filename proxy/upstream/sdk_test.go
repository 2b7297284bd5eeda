package upstream

import (
	"net/http"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
)

// TestServers holds every kind of real server against every kind of client.
func TestServers(t *testing.T) {
	sse := func(t *testing.T) Config {
		t.Helper()
		server := sdkServer()
		return Config{SSE: listen(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))}
	}
	for _, tc := range []struct {
		name   string
		config func(t *testing.T) Config
		modern map[bool]bool // era of the link by era of the client
	}{
		{"sdk stateless sse", func(t *testing.T) Config {
			t.Helper()
			return Config{URL: sdkHTTP(t, &mcp.StreamableHTTPOptions{Stateless: true})}
		}, map[bool]bool{true: true, false: false}},
		{"sdk stateless json", func(t *testing.T) Config {
			t.Helper()
			return Config{URL: sdkHTTP(t, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})}
		}, map[bool]bool{true: true, false: false}},
		{"sdk stateful sse", func(t *testing.T) Config {
			t.Helper()
			return Config{URL: sdkHTTP(t, nil)}
		}, map[bool]bool{true: false, false: false}},
		{"sdk stateful json", func(t *testing.T) Config {
			t.Helper()
			return Config{URL: sdkHTTP(t, &mcp.StreamableHTTPOptions{JSONResponse: true})}
		}, map[bool]bool{true: false, false: false}},
		{"sdk dual", func(t *testing.T) Config {
			t.Helper()
			return Config{
				URL:       sdkHTTP(t, &mcp.StreamableHTTPOptions{Stateless: true}),
				LegacyURL: sdkHTTP(t, nil),
			}
		}, map[bool]bool{true: true, false: false}},
		{"sdk http+sse", sse, map[bool]bool{true: false, false: false}},
		{"sdk http+sse at url", func(t *testing.T) Config {
			t.Helper()
			return Config{URL: sse(t).SSE}
		}, map[bool]bool{true: false, false: false}},
		{"sdk child", func(*testing.T) Config { return childConfig("sdk") }, map[bool]bool{true: true, false: false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leakCheck(t)
			s := newServer(t, tc.config(t))
			for _, key := range []Key{{Owner: "a"}, {Owner: "a", Session: "s1"}} {
				for _, rev := range []warder.Revision{warder.Revision20251125, warder.Revision20260728} {
					l := link(t, s, key, rev)
					if got, want := l.Modern(), tc.modern[rev.Modern()]; got != want {
						t.Fatalf("client %s: modern %v, want %v", rev, got, want)
					}
					if l.Hello().Instructions != "use echo" {
						t.Errorf("instructions %q", l.Hello().Instructions)
					}
					got, err := collect(t.Context(), l, callTool(t, l.Modern(), `"id-1"`, "echo", "hello"))
					if err != nil || len(got) != 1 {
						t.Fatalf("client %s: messages %q, error %v", rev, got, err)
					}
					contains(t, got[0], `"id":"id-1"`, `"text":"hello"`)
					got, err = collect(t.Context(), l, callTool(t, l.Modern(), `7`, "progress", "done"))
					if err != nil {
						t.Fatalf("client %s: %v", rev, err)
					}
					contains(t, last(got), `"id":7`, `"text":"done"`)
					if len(got) == 4 {
						contains(t, got[0], `"progressToken":"tok"`)
					} else if tc.name != "sdk stateful json" && tc.name != "sdk stateless json" {
						t.Errorf("progress: got %q, want 4 messages", got)
					}
				}
			}
			if st := s.Stats(); st.Failures != 0 || len(st.Findings) > 0 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}
