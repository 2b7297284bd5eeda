package app_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/registry"
)

// tickingServer answers calls with a stream of progress that ends only with its client.
func tickingServer(t *testing.T) (address string, ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, id, _ := strings.Cut(string(body), `"id":`)
		id, _, _ = strings.Cut(id, ",")
		var result string
		switch text := string(body); {
		case strings.Contains(text, `"server/discover"`):
			result = `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete","ttlMs":0,"cacheScope":"private"}`
		case strings.Contains(text, `"tools/list"`):
			result = `{"tools":[` + benchTool + `],"resultType":"complete","ttlMs":0,"cacheScope":"private"}`
		default:
			defer close(ended)
			_, token, _ := strings.Cut(text, `"progressToken":`)
			token = token[:strings.IndexAny(token, ",}")]
			w.Header().Set("Content-Type", "text/event-stream")
			for n := 1; ; n++ {
				if _, err := fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":%s,\"progress\":%d}}\n\n", token, n); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result)
	}))
	t.Cleanup(s.Close)
	return s.URL, ended
}

// TestLostPostureEndsAnOpenStream opens a stream that policy allows on compliant devices, and reports that the
// device is not compliant any more: the stream ends within the interval of review, at the client and at the
// server. Control CVM-04.
func TestLostPostureEndsAnOpenStream(t *testing.T) {
	t.Parallel()
	const review = 300 * time.Millisecond
	address, ended := tickingServer(t)
	gate := httptest.NewUnstartedServer(nil)
	base := "http://" + gate.Listener.Addr().String()
	cfg, err := config.Parse("w.yaml", fmt.Appendf(nil, `version: 1
data: %s
identity: {base_url: %q}
issuer: {url: "%s/issuer"}
limits: {review: %v}
access: {inline: 'permit(principal, action == Warder::Action::"tools/call", resource) when { context.posture == "compliant" };'}
servers: [{name: echo, url: %q}]
`, filepath.Join(t.TempDir(), "data"), base, base, review, address))
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Open(t.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	gate.Config.Handler = a
	gate.Start()
	t.Cleanup(gate.Close)
	approveTool(t, a)
	audience := base + "/mcp/echo"
	token, err := a.Mint(t.Context(), issuer.Claims{Subject: "ana", Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	report := func(compliant bool) {
		p := broker.Posture{Subject: base + "/issuer|ana", Compliant: compliant, At: time.Now(), Source: "https://devices.example"}
		if err := a.Broker().Posture.Report(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	report(true)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, audience, strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x"},"_meta":{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = benchHeader("Bearer " + token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	seen := 0
	for seen < 30 && lines.Scan() { // longer than the interval of review: a compliant device is let be
		if strings.Contains(lines.Text(), "notifications/progress") {
			seen++
		}
	}
	if seen < 30 {
		t.Fatalf("status %d, %d messages, then %q", answer.StatusCode, seen, lines.Text())
	}
	lost := time.Now()
	report(false)
	last := ""
	for lines.Scan() {
		if lines.Text() != "" {
			last = lines.Text()
		}
	}
	took := time.Since(lost)
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the server was not told")
	}
	if most := review + 2*time.Second; took > most {
		t.Errorf("the stream ended after %v, want at most %v", took, most)
	}
	if !strings.Contains(last, "refused this call") || !strings.Contains(last, "CVM-04") {
		t.Errorf("the last line is %q", last)
	}
	t.Logf("the stream ended %v after the report, review every %v", took, review)
}

func approveTool(t *testing.T, a *app.App) {
	t.Helper()
	tool, err := a.Registry().Resolve("echo", "tool", []byte(benchTool))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Registry().Pin(t.Context(), []*warder.Tool{tool}); err != nil {
		t.Fatal(err)
	}
	if err := a.Registry().Approve(t.Context(), registry.Request{Key: registry.KeyOf(tool), Who: "test", Effect: warder.EffectRead}); err != nil {
		t.Fatal(err)
	}
}
