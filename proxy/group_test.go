package proxy

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// refuser refuses some methods on some server.
type refuser struct{ server, method string }

func (refuser) Control() warder.ControlID { return "CVM-01" }

func (c refuser) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Server != nil && (c.server == "" || x.Server.Name == c.server) && x.Request.Method == c.method {
		return warder.Refuse(warder.CodeDenied, "no_permit", "test"), nil
	}
	return warder.Continue(), nil
}

func TestGroupPrefixAndRouting(t *testing.T) {
	t.Parallel()
	a, b := newTalker("echo"), newTalker("echo", "extra")
	a.uris, b.uris = []string{"x://a", "x://both"}, []string{"x://b", "x://both"}
	r := newRig(t, Config{}, []string{"a", "b"}, map[string]http.Handler{"a": a, "b": b})
	_, list := r.ask("/mcp/all", "ada", now(1, "tools/list", ""))
	for _, name := range []string{`"a__echo"`, `"b__echo"`, `"b__extra"`} {
		if !strings.Contains(list, name) {
			t.Errorf("list lacks %s: %s", name, list)
		}
	}
	for _, tc := range []struct{ target, want string }{
		{"b__extra", "?"}, {"a__echo", `"text":"echo"`}, {"echo", `"reason":"not_found"`}, {"c__echo", `"reason":"not_found"`}, {"__echo", `"reason":"not_found"`},
	} {
		if tc.want == "?" {
			continue
		}
		_, got := r.ask("/mcp/all", "ada", now(2, "tools/call", `"name":"`+tc.target+`","arguments":{}`))
		if !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s, want %s", tc.target, got, tc.want)
		}
	}
	for _, tc := range []struct {
		uri  string
		to   *talker
		want bool
	}{{"x://b", b, true}, {"x://both", a, true}, {"x://none", a, false}} {
		before := tc.to.got(wire.MethodResourcesRead)
		_, got := r.ask("/mcp/all", "ada", now(3, "resources/read", `"uri":"`+tc.uri+`"`))
		if tc.want != (tc.to.got(wire.MethodResourcesRead) == before+1) || tc.want == strings.Contains(got, `"reason":"not_found"`) {
			t.Errorf("%s: %s", tc.uri, got)
		}
	}
}

func TestGroupRoutesByWhatTheClientMayList(t *testing.T) {
	t.Parallel()
	a := newTalker()
	a.uris = []string{"x://a"}
	r := newRig(t, Config{}, []string{"a"}, map[string]http.Handler{"a": a}, refuser{method: wire.MethodResourcesList}, refuser{method: wire.MethodResourceTemplates})
	if _, got := r.ask("/mcp/all", "ada", now(1, "resources/read", `"uri":"x://a"`)); !strings.Contains(got, `"reason":"not_found"`) {
		t.Errorf("read of what may not be listed: %s", got)
	}
	if n := a.got(wire.MethodResourcesList) + a.got(wire.MethodResourcesRead); n != 0 {
		t.Errorf("the server got %d requests that no control had passed", n)
	}
}

func TestGroupWithOneServerDown(t *testing.T) {
	t.Parallel()
	down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	r := newRig(t, Config{}, []string{"down", "up"}, map[string]http.Handler{"down": down, "up": newTalker("echo")})
	id := r.session("/mcp/all", "ada", warder.Revision20250618)
	_, list := r.ask("/mcp/all", "ada", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Mcp-Session-Id", id)
	if !strings.Contains(list, "up__echo") {
		t.Errorf("list %s", list)
	}
	if _, got := r.ask("/mcp/all", "ada", callOf(2, "up__echo"), "Mcp-Session-Id", id); !strings.Contains(got, `"text":"echo"`) {
		t.Errorf("call %s", got)
	}
	if _, got := r.ask("/mcp/all", "ada", callOf(3, "down__echo"), "Mcp-Session-Id", id); !strings.Contains(got, "upstream_failed") && !strings.Contains(got, "unavailable") {
		t.Errorf("call of the server that is down: %s", got)
	}
}

// A listen stream of a group that no server's policy allows is refused, not left hanging.
func TestGroupListenRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, []string{"a", "b"}, map[string]http.Handler{"a": newTalker(), "b": newTalker()}, refuser{method: wire.MethodListen})
	start := time.Now()
	status, got := r.ask("/mcp/all", "ada", now(1, "subscriptions/listen", `"notifications":{"toolsListChanged":true}`))
	if status != http.StatusForbidden || !strings.Contains(got, "no_permit") || strings.Contains(got, "acknowledged") {
		t.Errorf("%d %s", status, got)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("refused after %s", took)
	}
}

func TestGroupListenOfSome(t *testing.T) {
	t.Parallel()
	a := newTalker()
	r := newRig(t, Config{}, []string{"a", "b"}, map[string]http.Handler{"a": a, "b": newTalker()}, refuser{server: "b", method: wire.MethodListen})
	in := events(r.do(t.Context(), http.MethodPost, "/mcp/all", "ada", now(1, "subscriptions/listen", `"notifications":{"toolsListChanged":true}`)))
	if got := string(next(t, in).Data); !strings.Contains(got, "acknowledged") {
		t.Fatalf("first %s", got)
	}
	soon(t, "the server has a stream", func() bool {
		return a.tell(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`) > 0
	})
	if got := string(next(t, in).Data); !strings.Contains(got, "tools/list_changed") || !strings.Contains(got, "subscriptionId") {
		t.Errorf("then %s", got)
	}
}

// A batch of 2025-03-26 that begins with a notification, and one that begins with a refusal.
func TestBatchOverHTTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, []string{"s"}, one(newTalker("echo")), refuser{method: wire.MethodPromptsList})
	id := r.session("/mcp/s", "ada", warder.Revision20250326)
	const note = `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`
	status, got := r.ask("/mcp/s", "ada", "["+note+","+callOf(1, "echo")+","+callOf(2, "echo")+"]", "Mcp-Session-Id", id)
	if status != http.StatusOK || strings.Count(got, `"text":"echo"`) != 2 {
		t.Errorf("%d %s", status, got)
	}
	status, got = r.ask("/mcp/s", "ada", `[{"jsonrpc":"2.0","id":8,"method":"prompts/list"},`+callOf(9, "echo")+"]", "Mcp-Session-Id", id)
	if status != http.StatusOK || !strings.Contains(got, "no_permit") || !strings.Contains(got, `"text":"echo"`) {
		t.Errorf("%d %s", status, got)
	}
	if status, got = r.ask("/mcp/s", "ada", "["+note+"]", "Mcp-Session-Id", id); status != http.StatusAccepted || got != "" {
		t.Errorf("%d %s", status, got)
	}
	for _, bad := range []string{"[]", "[" + strings.Repeat(note+",", maxBatch) + note + "]"} {
		if _, got := r.ask("/mcp/s", "ada", bad, "Mcp-Session-Id", id); !strings.Contains(got, `"error"`) {
			t.Errorf("%.40s: %s", bad, got)
		}
	}
}
