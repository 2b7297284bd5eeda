package proxy

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// doorkeeper holds the first call of a tool until somebody has opened the link.
type doorkeeper struct {
	url    string
	opened atomic.Bool
	saw    atomic.Pointer[warder.Message]
}

func (*doorkeeper) Control() warder.ControlID { return "HIL-01" }

func (d *doorkeeper) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Method() != wire.MethodToolsCall {
		return warder.Continue(), nil
	}
	d.saw.Store(x.Request)
	if d.opened.Load() {
		return warder.Continue(), nil
	}
	return warder.Decision{
		Verdict: warder.Hold, Reason: "approval_pending",
		Ask: &warder.Ask{Hold: "hold-1", URL: d.url, Message: "Ada must approve echo."},
	}, nil
}

// TestHold drives real clients of both eras, with and without URL-mode elicitation, against a held call.
func TestHold(t *testing.T) {
	t.Parallel()
	d := &doorkeeper{url: "https://gate.example/approve/hold-1"}
	g := newGate(t, map[string]upstream.Config{"a": {URL: sdkServer(t, true)}}, warder.Layer{Name: "access", Request: []warder.Interceptor{d}})
	ts := httptest.NewServer(g.HTTP())
	t.Cleanup(ts.Close)
	client := func(links bool) (*mcp.ClientSession, *atomic.Int32) {
		asked := &atomic.Int32{}
		opt := &mcp.ClientOptions{}
		if links {
			opt.Capabilities = &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}}
			opt.ElicitationHandler = func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				asked.Add(1)
				if r.Params.URL != d.url || r.Params.Message != "Ada must approve echo." {
					t.Errorf("asked to open %q: %q", r.Params.URL, r.Params.Message)
				}
				d.opened.Store(true)
				return &mcp.ElicitResult{Action: "accept"}, nil
			}
		}
		c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, opt)
		s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: ts.URL + "/mcp/a"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s, asked
	}
	plain, _ := client(false)
	r, err := plain.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if text := r.Content[0].(*mcp.TextContent).Text; !r.IsError || !strings.Contains(text, d.url) || !strings.Contains(text, "send the same call again") {
		t.Errorf("held call without links: %q", text)
	}
	linked, asked := client(true)
	if got := callText(t, linked, "echo", map[string]any{"text": "y"}); got != "y" || asked.Load() != 1 {
		t.Errorf("held call with links: %q after %d questions", got, asked.Load())
	}
	if m := d.saw.Load(); m.Params.Get("inputResponses").Present() {
		t.Errorf("the answer to the hold reached a control: %s", m.Raw)
	}
}

// TestRenderHold checks the forms that no client above speaks.
func TestRenderHold(t *testing.T) {
	t.Parallel()
	e := &warder.Error{Code: warder.CodeHeld, Reason: "approval_pending", Control: "HIL-01", Ask: &warder.Ask{Hold: "h", URL: "https://g/approve/h"}}
	links := []byte(`{"elicitation":{"url":{}}}`)
	tests := []struct {
		name     string
		revision warder.Revision
		caps     []byte
		body     string
		want     string // in the rendered message
	}{
		{"link of 2025-11-25", warder.Revision20251125, links, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `"code":-32042`},
		{"form only", warder.Revision20251125, []byte(`{"elicitation":{"form":{}}}`), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`, `"isError":true`},
		{"2025-06-18 knows no links", warder.Revision20250618, links, `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"t"}}`, `"url":"https://g/approve/h"`},
		{"stateless list", warder.Revision20260728, links, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `"code":-31202`},
		{"stateless call", warder.Revision20260728, links, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`, `"inputRequests":{"io.warder.hold":`},
		{"asked already", warder.Revision20260728, links, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","inputResponses":{"io.warder.hold":{"action":"decline"}}}}`, `"isError":true`},
		{"goes on with state", warder.Revision20260728, links, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","requestState":"s"}}`, `"isError":true`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := mustDecode(t, tt.body)
			x := &warder.Exchange{ID: "x", Revision: tt.revision, Inbound: m, Request: m, Client: warder.ClientInfo{Capabilities: tt.caps}}
			if _, raw := render(x, e); !strings.Contains(string(raw), tt.want) {
				t.Errorf("rendered %s, want %s in it", raw, tt.want)
			}
		})
	}
}

// TestUnheld checks that exactly the answer to Warder's own question is taken out.
func TestUnheld(t *testing.T) {
	t.Parallel()
	g := &Gate{}
	for in, want := range map[string]string{
		`{"name":"t"}`: `{"name":"t"}`,
		`{"name":"t","inputResponses":{"q1":{"action":"accept"}}}`:                              `{"name":"t","inputResponses":{"q1":{"action":"accept"}}}`,
		`{"name":"t","inputResponses":{"io.warder.hold":{"action":"accept"}}}`:                  `{"name":"t"}`,
		`{"inputResponses":{"io.warder.hold":{"a":1},"q":{"b":2}},"name":"t"}`:                  `{"inputResponses":{"q":{"b":2}},"name":"t"}`,
		`{"inputResponses":{"p":{},"io\u002ewarder.hold":{"a":1},"q":{"b":2}},"name":"t"}`:      `{"inputResponses":{"p":{},"q":{"b":2}},"name":"t"}`,
		`{"inputResponses":[{"io.warder.hold":{"action":"accept"}}],"name":"t","arguments":{}}`: `{"inputResponses":[{"io.warder.hold":{"action":"accept"}}],"name":"t","arguments":{}}`,
	} {
		m, err := g.unheld(mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+in+`}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.At(m.ParamsSpan)); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

// watcher passes until told that something was revoked.
type watcher struct {
	revoked atomic.Bool
	looked  atomic.Int32
}

func (*watcher) Control() warder.ControlID { return "JIT-04" }

func (w *watcher) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil || x.Request == nil {
		return warder.Refuse(warder.CodeInternal, "not_forwarded", ""), nil
	}
	w.looked.Add(1)
	if w.revoked.Load() {
		return warder.Refuse(warder.CodeDenied, "principal_revoked", ""), nil
	}
	return warder.Continue(), nil
}

// TestReview checks that a silent call and a silent stream end soon after a revocation, and that calls
// that last are looked at again at every interval.
func TestReview(t *testing.T) {
	t.Parallel()
	srv := mcp.NewServer(&mcp.Implementation{Name: "slow", Version: "1"}, nil)
	begun, gone := make(chan struct{}, 8), make(chan struct{}, 8)
	mcp.AddTool(srv, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		begun <- struct{}{}
		<-ctx.Done()
		gone <- struct{}{}
		return nil, nil, ctx.Err()
	})
	up := sdkHandler(t, srv)
	w := &watcher{}
	rec := &lastExchange{seen: make(chan *warder.Exchange, 64)}
	g := newGate(t, map[string]upstream.Config{"a": {URL: up}}, warder.Layer{
		Name: "access", Review: []warder.Interceptor{w}, Complete: []warder.Recorder{rec},
	})
	signal := make(chan struct{})
	never := make(chan struct{})
	g.ReviewOn(func() <-chan struct{} {
		select {
		case <-signal:
			return never
		default:
			return signal
		}
	})
	ts := httptest.NewServer(g.HTTP())
	t.Cleanup(ts.Close)
	s := connectSDK(t, ts.URL+"/mcp/a")
	failed := make(chan error, 1)
	go func() {
		_, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "wait", Arguments: map[string]any{}})
		failed <- err
	}()
	await(t, begun, "the call to begin")
	deadline := time.Now().Add(5 * time.Second)
	for w.looked.Load() < 3 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if w.looked.Load() < 3 {
		t.Fatal("a call that lasts was not looked at again")
	}
	w.revoked.Store(true)
	cut := time.Now()
	close(signal)
	select {
	case err := <-failed:
		if err == nil {
			t.Error("the call of a revoked caller ended well")
		}
		if took := time.Since(cut); took > 2*time.Second {
			t.Errorf("it took %v to end the call", took)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the call of a revoked caller goes on")
	}
	await(t, gone, "the server to be told")
	for x := range rec.seen {
		if x.Method() != wire.MethodToolsCall {
			continue
		}
		if x.Failure == nil || x.Failure.Control != "JIT-04" || len(x.Decisions) == 0 || x.Decisions[len(x.Decisions)-1].Reason != "principal_revoked" {
			t.Errorf("recorded failure %v, decisions %v", x.Failure, x.Decisions)
		}
		return
	}
}

// TestReviewWhileJudged checks that what is revoked while a call is judged, after the control that asks for
// it has run, does not reach the server.
func TestReviewWhileJudged(t *testing.T) {
	t.Parallel()
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	var ran atomic.Int64
	mcp.AddTool(srv, &mcp.Tool{Name: "act"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		ran.Add(1)
		return &mcp.CallToolResult{}, nil, nil
	})
	w := &watcher{}
	signal, never := make(chan struct{}), make(chan struct{})
	var g *Gate
	var seen []string
	slow := &fake{id: "HIL-01", seen: &seen, do: func(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
		if x.Method() == wire.MethodToolsCall {
			w.revoked.Store(true)
			close(signal)
			for g.signals.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		return warder.Continue(), nil
	}}
	rec := &lastExchange{seen: make(chan *warder.Exchange, 64)}
	g = newGate(t, map[string]upstream.Config{"a": {URL: sdkHandler(t, srv)}}, warder.Layer{
		Name: "access", Request: []warder.Interceptor{slow}, Review: []warder.Interceptor{w}, Complete: []warder.Recorder{rec},
	})
	g.ReviewOn(func() <-chan struct{} {
		select {
		case <-signal:
			return never
		default:
			return signal
		}
	})
	ts := httptest.NewServer(g.HTTP())
	t.Cleanup(ts.Close)
	s := connectSDK(t, ts.URL+"/mcp/a")
	if r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "act", Arguments: map[string]any{}}); err == nil && !r.IsError {
		t.Error("the call of a revoked caller ended well")
	}
	if ran.Load() != 0 {
		t.Error("the call reached the server")
	}
	for x := range rec.seen {
		if x.Method() != wire.MethodToolsCall {
			continue
		}
		if x.Failure == nil || x.Failure.Control != "JIT-04" || x.Failure.Reason != "principal_revoked" {
			t.Errorf("recorded failure %v", x.Failure)
		}
		return
	}
}

type lastExchange struct{ seen chan *warder.Exchange }

func (l *lastExchange) Record(_ context.Context, x *warder.Exchange) error {
	c := *x
	l.seen <- &c
	return nil
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}
