package app

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
)

// legacyServer is a server with sessions whose one tool tells that it was called.
func legacyServer(t *testing.T) string {
	t.Helper()
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text := string(body)
		_, rest, _ := strings.Cut(text, `"id":`)
		id, _, _ := strings.Cut(rest, ",")
		result := `{}`
		switch {
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		case !strings.Contains(text, `"id":`):
			w.WriteHeader(http.StatusAccepted)
			return
		case strings.Contains(text, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", fmt.Sprint(time.Now().UnixNano()))
			result = `{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`
		case strings.Contains(text, `"tools/list"`):
			result = `{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}`
		case strings.Contains(text, `"tools/call"`):
			result = `{"content":[{"type":"text","text":"called"}]}`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, strings.TrimSuffix(strings.TrimSpace(id), "}"), result)
	}))
	t.Cleanup(ts.Close)
	return ts.URL
}

// TestReloadKeepsSessions reloads under an open session: it goes on, a changed policy acts at once, and a
// configuration that is wrong changes nothing.
func TestReloadKeepsSessions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	parse := func(policy, more string) *config.Config {
		t.Helper()
		cfg, err := config.Parse("w.yaml", []byte(fmt.Sprintf(`version: 1
data: %s
identity: {base_url: "https://gate.test"}
issuer: {url: "http://127.0.0.1/issuer"}
limits: {drain_timeout: 1s}
tools: {trust: first_use}
access: {inline: '%s'}
servers: [{name: s, era: legacy, url: %q}]
%s`, dir, policy, legacyServer(t), more)))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	const all = `@id("all") permit(principal, action, resource);`
	a, err := Open(t.Context(), parse(all, ""), Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	door := httptest.NewServer(a)
	defer door.Close()
	token, err := a.Mint(t.Context(), issuer.Claims{Subject: "ada", Audience: "https://gate.test/mcp/s"})
	if err != nil {
		t.Fatal(err)
	}
	session := ""
	post := func(body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door.URL+"/mcp/s", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		if session != "" {
			req.Header.Set("Mcp-Session-Id", session)
			req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body) // an answer that is cut fails below
		if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
			session = id
		}
		return string(b)
	}
	const call = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t","arguments":{}}}`
	post(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
	if got := post(call); !strings.Contains(got, "called") {
		t.Fatalf("before: %s", got)
	}
	if err := a.Reload(t.Context(), parse(all, "")); err != nil {
		t.Fatal(err)
	}
	if got := post(call); !strings.Contains(got, "called") {
		t.Errorf("after a reload: %s", got)
	}
	if err := a.Reload(t.Context(), parse(`permit(principal`, "")); err == nil {
		t.Error("a policy that cannot be read was put in force")
	}
	if got := post(call); !strings.Contains(got, "called") {
		t.Errorf("after a reload that failed: %s", got)
	}
	if err := a.Reload(t.Context(), parse(`permit(principal, action, resource) when { false };`, "")); err != nil {
		t.Fatal(err)
	}
	if got := post(call); strings.Contains(got, "called") || !strings.Contains(got, `"error"`) {
		t.Errorf("under the new policy: %s", got)
	}
	if a.services.sessions.Len() != 1 {
		t.Errorf("%d sessions, want 1", a.services.sessions.Len())
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := a.Reload(t.Context(), parse(all, "")); got == nil {
		t.Error("reloaded after close")
	}
}
