package attacks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/revocation"
)

// settings are the configuration of a world; %NAME% are filled in.
const settings = `version: 1
data: %DATA%
identity:
  base_url: "%BASE%"
%IDENTITY%
issuer:
  url: "%BASE%/issuer"
%ISSUER%
gateway:
  loops: {repeats: 1000000, changing: 1000000}
  elicitation: {form: true, url: true}
  rates:
    peer: {per_second: 1e6, burst: 1000000}
    principal: {per_second: 1e6, burst: 1000000}
    client: {per_second: 1e6, burst: 1000000}
    tenant: {per_second: 1e6, burst: 1000000}
    server: {per_second: 1e6, burst: 1000000}
    tool: {per_second: 1e6, burst: 1000000}
tools: {trust: first_use}
record: {checkpoint: 100ms}
%MORE%
servers:
  - {name: a, url: "%UP%/a"%SERVER%}
  - {name: b, url: "%UP%/b"}
`

// everything is the policy of worlds that are not about policy.
const everything = `access:
  inline: |
    @id("all") permit(principal, action, resource);
`

// A setup is what a world has beside the common configuration. Identity and Issuer are lines of those
// sections, More are whole sections, Server is what server a has besides.
type setup struct {
	Identity, Issuer, More, Server string
	Files                          map[string][]byte // %FILE:name% in the above is where they are

	// Secure serves the gateway over TLS.
	Secure bool
}

// A world is one gateway before two servers that are made with the SDK.
type world struct {
	t     *testing.T
	tally *tally
	app   *app.App
	base  string // public address of the gateway
	admin string // address of the admin API
	dir   string
	http  *http.Client
	peers atomic.Int64 // address that requests come from

	as    atomic.Pointer[string] // authorization server that server a names; nil: none
	calls atomic.Int64           // that reached a server
	mu    sync.Mutex
	heads []http.Header // that reached a server
}

// newWorld builds a gateway.
func newWorld(t *testing.T, tally *tally, s setup) *world {
	t.Helper()
	w := &world{t: t, tally: tally, dir: filepath.Join(t.TempDir(), "data")}
	up := httptest.NewServer(w.servers())
	t.Cleanup(func() { up.CloseClientConnections(); up.Close() })
	front := httptest.NewUnstartedServer(w.from(func() http.Handler { return w.app }))
	back := httptest.NewUnstartedServer(w.from(func() http.Handler { return w.app.Admin() }))
	w.base, w.admin = "http://"+front.Listener.Addr().String(), "http://"+back.Listener.Addr().String()
	fill := []string{"%IDENTITY%", s.Identity, "%ISSUER%", s.Issuer, "%MORE%", s.More, "%SERVER%", s.Server}
	places := []string{"%DATA%", w.dir, "%BASE%", w.base, "%ADMIN%", w.admin, "%UP%", up.URL}
	files := t.TempDir()
	for name, body := range s.Files {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		places = append(places, "%FILE:"+name+"%", path)
	}
	text := strings.NewReplacer(places...).Replace(strings.NewReplacer(fill...).Replace(settings))
	cfg, err := config.Parse("attacks.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if w.app, err = app.Open(t.Context(), cfg, app.Options{Log: logger(), Version: "test"}); err != nil {
		t.Fatal(err)
	}
	front.Start()
	back.Start()
	w.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 20 * time.Second}
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		back.Close()
		if err := w.app.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// from makes requests come from an address of the attack's own: refused credentials slow down whoever shows
// them (GW-04), and this attack must not be stopped for the last one.
func (w *world) from(h func() http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n := w.peers.Load()
		r.RemoteAddr = fmt.Sprintf("127.%d.%d.1:4000", 1+n/250, 1+n%250)
		h().ServeHTTP(rw, r)
	})
}

func logger() *slog.Logger {
	if os.Getenv("WARDER_ATTACKS_DEBUG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// servers are the two MCP servers, counting what comes.
func (w *world) servers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/oauth-protected-resource/a", func(rw http.ResponseWriter, r *http.Request) {
		as := w.as.Load()
		if as == nil {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"resource":"http://%s/a","authorization_servers":[%q]}`, r.Host, *as)
	})
	for _, name := range []string{"a", "b"} {
		s := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, nil)
		type in struct {
			Text string `json:"text,omitempty"`
			To   string `json:"to,omitempty"`
		}
		for _, tool := range []string{"echo", "other", "pay"} {
			mcp.AddTool(s, &mcp.Tool{Name: tool, Description: tool}, func(_ context.Context, _ *mcp.CallToolRequest, in in) (*mcp.CallToolResult, any, error) {
				w.calls.Add(1)
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done " + in.Text}}}, nil, nil
			})
		}
		h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true})
		mux.HandleFunc("/"+name, func(rw http.ResponseWriter, r *http.Request) {
			w.mu.Lock()
			w.heads = append(w.heads, r.Header.Clone())
			w.mu.Unlock()
			h.ServeHTTP(rw, r)
		})
	}
	return mux
}

// resource is the address of a server, which tokens for it name.
func (w *world) resource(server string) string { return w.base + "/mcp/" + server }

// mint returns a token of the gateway's own authorization server; empty fields are those of ada at server a.
func (w *world) mint(c issuer.Claims) string {
	w.t.Helper()
	if c.Subject == "" {
		c.Subject = "ada"
	}
	if c.Audience == "" {
		c.Audience = w.resource("a")
	}
	token, err := w.app.Mint(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// A call is one tools/call as a client sends it. The zero value of a field is what an honest client has.
type call struct {
	server, tool, text, to string
	token                  string
	scheme                 string // of the Authorization header; default Bearer
	path                   string // after /mcp/; default the server
	query                  string
	host                   string
	method                 string
	header                 http.Header // set in addition
	body                   string      // instead of the call
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
}

const stateless = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{},"url":{}}}`

// or returns the text, or what stands for none.
func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

// send sends a call.
func (w *world) send(c call) answer {
	w.t.Helper()
	tool := or(c.tool, "echo")
	args, err := json.Marshal(map[string]string{"text": or(c.text, "hi"), "to": c.to})
	if err != nil {
		w.t.Fatal(err)
	}
	body := or(c.body, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{%s},"name":%q,"arguments":%s}}`, stateless, tool, args))
	address := w.base + "/mcp/" + or(c.path, or(c.server, "a"))
	if c.query != "" {
		address += "?" + c.query
	}
	req := w.request(or(c.method, http.MethodPost), address, body)
	h := req.Header
	if c.token != "" {
		h.Set("Authorization", or(c.scheme, "Bearer")+" "+c.token)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	h.Set("Mcp-Protocol-Version", "2026-07-28")
	h.Set("Mcp-Method", "tools/call")
	h.Set("Mcp-Name", tool)
	maps.Copy(h, c.header)
	if c.host != "" {
		req.Host = c.host
	}
	return w.do(req)
}

func (w *world) request(method, address, body string) *http.Request {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	return req
}

func (w *world) do(req *http.Request) answer {
	w.t.Helper()
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// passed reports whether a call was answered by the server.
func (a answer) passed() bool { return a.status == http.StatusOK && strings.Contains(a.text, "done ") }

// String shows an answer in failures.
func (a answer) String() string {
	text := a.text
	if _, body, ok := strings.Cut(text, "</style>"); ok {
		text = body
	}
	return fmt.Sprintf("%d %.600s (location %q, challenge %q)", a.status, text, a.header.Get("Location"), a.header.Get("Www-Authenticate"))
}

// refusals are the refusals in the trail since the world began.
func (w *world) refusals() []warder.Event {
	w.t.Helper()
	r, err := record.Open(filepath.Join(w.dir, "audit"))
	if err != nil {
		w.t.Fatal(err)
	}
	var out []warder.Event
	for e, err := range r.Events(record.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Reason != "" && e.Outcome != warder.OutcomeAllowed {
			out = append(out, e)
		}
	}
	return out
}

// A step is where an attack must fail: the control, if it is one, and the stable reason.
type step struct {
	control warder.ControlID
	reason  warder.Reason
}

func (s step) String() string { return strings.TrimSpace(string(s.control) + " " + string(s.reason)) }

func claimsOf(subject string) issuer.Claims { return issuer.Claims{Subject: subject} }

// revoke takes a right away.
func (w *world) revoke(kind, value string) {
	w.t.Helper()
	e := revocation.Entry{Kind: revocation.Kind(kind), Value: value, At: time.Now(), Reason: "attack", By: "test"}
	if err := w.app.Revoked().Revoke(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
}
