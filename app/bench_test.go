package app_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/registry"
)

const benchTool = `{"name":"echo","description":"Returns its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}}`

// BenchmarkCall is one tools/call through every control, in process: the cost of the path with its
// upstream connection, without the socket of the client.
func BenchmarkCall(b *testing.B) {
	b.Run("0.6KB", func(b *testing.B) { benchmarkCall(b, 260) })
	b.Run("10KB", func(b *testing.B) { benchmarkCall(b, 9_700) })
}

func benchmarkCall(b *testing.B, size int) {
	b.Helper()
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["Content-Type"] = []string{"application/json"}
		result := `{"content":[{"type":"text","text":"` + strings.Repeat("x", size) + `"}],"resultType":"complete"}`
		switch {
		case strings.Contains(string(body), `"server/discover"`):
			result = `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete","ttlMs":0,"cacheScope":"private"}`
		case strings.Contains(string(body), `"tools/list"`):
			result = `{"tools":[` + benchTool + `],"resultType":"complete","ttlMs":0,"cacheScope":"private"}`
		}
		_, id, _ := strings.Cut(string(body), `"id":`)
		id, _, _ = strings.Cut(id, ",")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result)
	}))
	b.Cleanup(echo.Close)
	dir := b.TempDir()
	rate := "{per_second: 10000000, burst: 10000000}"
	cfg, err := config.Parse("bench.yaml", fmt.Appendf(nil, `version: 1
data: %s
identity: {base_url: "http://127.0.0.1:1"}
issuer: {url: "http://127.0.0.1:1/issuer"}
gateway: {rates: {peer: %[2]s, principal: %[2]s, client: %[2]s, server: %[2]s, tool: %[2]s}}
access: {inline: 'permit(principal in Warder::Group::"eng", action, resource);'}
output: {volume: {limit: 1000GiB, alert: 1000GiB}}
servers: [{name: echo, url: %q}]
`, dir, rate, echo.URL))
	if err != nil {
		b.Fatal(err)
	}
	a, err := app.Open(b.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = a.Close(b.Context()) })
	tool, err := a.Registry().Resolve("echo", "tool", []byte(benchTool))
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Registry().Pin(b.Context(), []*warder.Tool{tool}); err != nil {
		b.Fatal(err)
	}
	if err := a.Registry().Approve(b.Context(), registry.Request{Key: registry.KeyOf(tool), Who: "bench", Effect: warder.EffectRead}); err != nil {
		b.Fatal(err)
	}
	token, err := a.Mint(b.Context(), issuer.Claims{Subject: "bench", Audience: "http://127.0.0.1:1/mcp/echo", Groups: []string{"eng"}})
	if err != nil {
		b.Fatal(err)
	}
	header := http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Authorization": {"Bearer " + token},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"},
	}
	text := strings.Repeat("x", size)
	ctx := context.WithValue(b.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"%d%s"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, n, text)
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:1/mcp/echo", strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:9"
		r.Header = header
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "xxx") {
			b.Fatalf("status %d: %s", w.Code, w.Body)
		}
	}
}
