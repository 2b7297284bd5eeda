package app_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/registry"
	"github.com/warder-mcp/warder/store"
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
	a := benchGateway(b, size, b.TempDir(), "", `inline: 'permit(principal in Warder::Group::"eng", action, resource);'`)
	token, err := a.Mint(b.Context(), issuer.Claims{Subject: "bench", Audience: benchURL, Groups: []string{"eng"}})
	if err != nil {
		b.Fatal(err)
	}
	header := benchHeader("Bearer " + token)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		oneCall(b, a, header, n, size)
	}
}

// BenchmarkBound is the call of one of 10,000 callers, each with a token that is bound to a key, with 1,000
// policies and 1,000 grants. It holds one signature check.
func BenchmarkBound(b *testing.B) {
	const callers, policies, grants = 10_000, 1000, 1000
	dir := b.TempDir()
	signer, err := jose.NewSigner()
	if err != nil {
		b.Fatal(err)
	}
	keys, err := signer.KeySet()
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(dir, "idp.json")
	if err := os.WriteFile(file, keys, 0o600); err != nil {
		b.Fatal(err)
	}
	prover, err := jose.NewProver(nil)
	if err != nil {
		b.Fatal(err)
	}
	giveGrants(b, dir, grants)
	var text strings.Builder
	text.WriteString(`grants: {require: [read]}, inline: '`)
	for i := range policies - 1 {
		fmt.Fprintf(&text, `@id("p%d") permit(principal in Warder::Group::"team%d", action == Warder::Action::"tools/call", resource == Warder::Tool::"echo/tool%d") when { context has arguments && context.arguments has a && context.arguments.a == "x" }; `, i, i%50, i)
	}
	text.WriteString(`permit(principal in Warder::Group::"idp:eng", action, resource);'`)
	a := benchGateway(b, 260, dir, fmt.Sprintf(`, issuers: [{url: "https://idp.example", group_prefix: "idp:", jwks: {file: %q}, claims: {groups: groups}}]`, file), text.String())
	headers := make([]http.Header, callers)
	tokens := make([]string, callers)
	now := time.Now()
	for i := range headers {
		tokens[i], err = signer.Sign("at+jwt", map[string]any{
			"iss": "https://idp.example", "sub": fmt.Sprintf("caller-%d", i), "aud": benchURL, "client_id": "bench",
			"iat": now.Unix(), "exp": now.Add(55 * time.Minute).Unix(), "jti": rand.Text(),
			"groups": []string{"eng"}, "cnf": map[string]string{"jkt": prover.Thumbprint()},
		})
		if err != nil {
			b.Fatal(err)
		}
		headers[i] = benchHeader("DPoP " + tokens[i])
	}
	prove := func(i int) {
		proof, err := prover.Proof(http.MethodPost, benchURL, tokens[i], "")
		if err != nil {
			b.Fatal(err)
		}
		headers[i]["Dpop"] = []string{proof}
	}
	for i := range headers { // every token has been seen once
		prove(i)
		oneCall(b, a, headers[i], i, 260)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%callers == 0 {
			b.StopTimer()
			for i := range headers {
				prove(i)
			}
			b.StartTimer()
		}
		oneCall(b, a, headers[n%callers], n, 260)
	}
}

// giveGrants gives some callers a grant each for another tool, and all of them one for the tool, before the
// gateway opens.
func giveGrants(b *testing.B, dir string, n int) {
	b.Helper()
	db, err := store.Open(b.Context(), filepath.Join(dir, "warder.db"))
	if err != nil {
		b.Fatal(err)
	}
	box, err := seal.New(seal.NewKey())
	if err != nil {
		b.Fatal(err)
	}
	br, err := broker.New(b.Context(), broker.Config{}, broker.Deps{
		State: db.State(), Box: box, Record: func(context.Context, warder.Event) error { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		request := broker.GrantRequest{
			Principal: fmt.Sprintf("https://idp.example|caller-%d", i), Server: "echo", Tools: []string{fmt.Sprintf("tool%d", i)},
			TTL: time.Hour, Reason: "bench", By: broker.Person{Issuer: "bench", Subject: "caller"},
		}
		if i == 0 {
			request.Principal, request.Tools = "group:idp:eng", []string{"echo"}
		}
		rec, err := br.Grants.Request(b.Context(), request)
		if err == nil {
			_, err = br.Grants.Approve(b.Context(), rec.ID, broker.Person{Issuer: "bench", Subject: "operator", Operator: true}, "bench")
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := br.Close(); err != nil {
		b.Fatal(err)
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}

const benchURL = "http://127.0.0.1:1/mcp/echo"

func benchHeader(authorization string) http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Authorization": {authorization},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"},
	}
}

// oneCall calls the tool once and looks at its answer.
func oneCall(b *testing.B, a *app.App, header http.Header, n, size int) {
	b.Helper()
	ctx := context.WithValue(b.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"%d%s"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, n, strings.Repeat("x", size))
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, benchURL, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:9"
	r.Header = header
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "xxx") {
		b.Fatalf("status %d: %s", w.Code, w.Body)
	}
}

// benchGateway opens a gateway in front of a server with one tool that returns size bytes.
func benchGateway(b *testing.B, size int, dir, identity, access string) *app.App {
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
	rate := "{per_second: 10000000, burst: 10000000}"
	cfg, err := config.Parse("bench.yaml", fmt.Appendf(nil, `version: 1
data: %s
identity: {base_url: "http://127.0.0.1:1"%[4]s}
issuer: {url: "http://127.0.0.1:1/issuer"}
gateway: {rates: {peer: %[2]s, principal: %[2]s, client: %[2]s, server: %[2]s, tool: %[2]s}}
access: {%[5]s}
output: {volume: {limit: 1000GiB, alert: 1000GiB}}
servers: [{name: echo, url: %[3]q}]
`, dir, rate, echo.URL, identity, access))
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
	return a
}
