package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	mcpgo "github.com/mark3labs/mcp-go/mcp"
	mcpgoserver "github.com/mark3labs/mcp-go/server"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/tlsconf"
	"github.com/warder-mcp/warder/wire"
)

// TestTLS proves who is believed, over HTTP/2 as well.
func TestTLS(t *testing.T) {
	leakCheck(t)
	var proto string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		raw, _ := io.ReadAll(r.Body)
		if m, err := wire.Decode(raw, wire.Limits{}); err == nil {
			asJSON(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.IDBytes(), discoverAnswer)
		}
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(srv.Certificate().RawSubjectPublicKeyInfo)
	pin := base64.StdEncoding.EncodeToString(sum[:])
	other := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, tc := range []struct {
		name string
		tls  tlsconf.Client
		text string
	}{
		{"unknown authority", tlsconf.Client{}, "unknown authority"},
		{"authority", tlsconf.Client{CAFile: ca}, ""},
		{"authority and pins", tlsconf.Client{CAFile: ca, Pins: []string{other, pin}}, ""},
		{"wrong pin", tlsconf.Client{CAFile: ca, Pins: []string{other}}, "no pinned key"},
		{"pin without authority", tlsconf.Client{Pins: []string{pin}}, "unknown authority"},
		{"wrong name", tlsconf.Client{CAFile: ca, ServerName: "other.test"}, "other.test"},
	} {
		s := newServer(t, Config{URL: srv.URL, Era: EraModern, TLS: tc.tls})
		_, err := s.Probe(t.Context())
		switch {
		case tc.text == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.text)
		}
	}
	if proto != "HTTP/2.0" {
		t.Errorf("spoke %s", proto)
	}
	if _, err := New("x", Config{URL: srv.URL, TLS: tlsconf.Client{CAFile: "/nonexistent"}}, Options{}); err == nil {
		t.Error("a missing file of authorities was accepted")
	}
}

// TestMCPGo holds the other Go SDK against both eras at one URL.
func TestMCPGo(t *testing.T) {
	leakCheck(t)
	m := mcpgoserver.NewMCPServer("mcp-go", "1", mcpgoserver.WithToolCapabilities(false))
	m.AddTool(mcpgo.NewTool("echo", mcpgo.WithString("text")), func(_ context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		return mcpgo.NewToolResultText(r.GetString("text", "")), nil
	})
	s := newServer(t, Config{URL: listen(t, mcpgoserver.NewStreamableHTTPServer(m))})
	for _, rev := range []warder.Revision{warder.Revision20260728, warder.Revision20251125, warder.Revision20250326} {
		for _, key := range []Key{{Owner: "o"}, {Session: string(rev)}} {
			l := link(t, s, key, rev)
			if l.Modern() != rev.Modern() {
				t.Errorf("client %s: modern %v", rev, l.Modern())
			}
			got, err := collect(t.Context(), l, callTool(t, l.Modern(), `"a"`, "echo", "hello"))
			if err != nil || len(got) != 1 {
				t.Fatalf("client %s: %q, %v", rev, got, err)
			}
			contains(t, got[0], `"id":"a"`, `"text":"hello"`)
		}
	}
}

// TestSessionMemory measures what an idle session costs.
func TestSessionMemory(t *testing.T) {
	const sessions = 2000
	h := &sessionServer{call: answerJSON}
	s, _ := legacyLink(t, h, Key{Session: "first"}, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < sessions; i += 4 {
				if _, err := s.Link(t.Context(), Key{Session: fmt.Sprint(i)}, Init{Revision: warder.Revision20250618}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	h.mu.Lock()
	h.log = nil
	h.mu.Unlock()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / sessions
	t.Logf("%d bytes for each idle session", each)
	if each > 4096 {
		t.Errorf("an idle session costs %d bytes, want at most 4096", each)
	}
	if extra := runtime.NumGoroutine() - goroutines; extra > 50 {
		t.Errorf("%d goroutines more", extra)
	}
}
