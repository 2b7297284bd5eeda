package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func codes() []warder.Code {
	return []warder.Code{
		warder.CodeUnauthenticated, warder.CodeInsufficientScope, warder.CodeDenied, warder.CodeForbiddenOrigin, warder.CodeHeld,
		warder.CodeMalformed, warder.CodeInvalidRequest, warder.CodeHeaderMismatch, warder.CodeUnsupported, warder.CodeMissingCapability,
		warder.CodeUnknownMethod, warder.CodeMissingMeta, warder.CodeInvalidParams, warder.CodeNotFound, warder.CodeNoSession,
		warder.CodeMethodNotAllowed, warder.CodeNotAcceptable, warder.CodeMediaType, warder.CodeRateLimited, warder.CodeTooLarge,
		warder.CodeQuarantined, warder.CodeUpstreamFailed, warder.CodeTimeout, warder.CodeUnavailable, warder.CodeInternal,
	}
}

// TestRender renders every code for every revision and method: the status and number of its face, a
// tool result where the model can act on the reason, and never a word that is for operators.
func TestRender(t *testing.T) {
	t.Parallel()
	const secret = "10.0.0.7:5432 password" // stands for what causes say
	n := 0
	for _, rev := range warder.Revisions() {
		for _, method := range []string{wire.MethodToolsCall, wire.MethodToolsList, wire.MethodResourcesRead} {
			for _, code := range codes() {
				for _, control := range []warder.ControlID{"", "CVM-01", "INV-01"} {
					for _, answered := range []bool{false, true} {
						n++
						x := &warder.Exchange{ID: "x1", Revision: rev, Session: map[bool]string{true: "", false: "s"}[rev.Modern()]}
						x.Inbound = mustDecode(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":"\"}","method":%q,"params":{}}`, method))
						x.Request = x.Inbound
						if answered {
							x.Response = mustDecode(t, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
						}
						e := &warder.Error{Code: code, Reason: "some_reason", Control: control, Err: errors.New(secret)}
						checkRendered(t, x, e, method, secret)
					}
				}
			}
		}
	}
	t.Logf("%d combinations", n)
}

func mustDecode(t *testing.T, raw string) *warder.Message {
	t.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func checkRendered(t *testing.T, x *warder.Exchange, e *warder.Error, method, secret string) {
	t.Helper()
	status, raw := render(x, e)
	where := fmt.Sprintf("%s %s %s by %q, answered %v: %d %s", x.Revision, method, e.Code, e.Control, x.Response != nil, status, raw)
	var m struct {
		ID     string
		Result struct {
			IsError bool
			Content []struct{ Text string }
			Type    string `json:"resultType"`
		}
		Error *struct {
			Code    int
			Message string
			Data    struct{ Code, Reason, Control, Exchange string }
		}
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if strings.Contains(string(raw), "10.0.0.7") || strings.Contains(string(raw), secret) {
		t.Errorf("the cause leaks: %s", where)
	}
	if m.ID != `"}` {
		t.Errorf("id %q: %s", m.ID, where)
	}
	byResult := method == wire.MethodToolsCall && (e.Code == warder.CodeQuarantined || e.Code == warder.CodeHeld ||
		e.Code == warder.CodeInvalidParams && e.Control == "INV-01" && x.Revision >= warder.Revision20251125 ||
		e.Code != warder.CodeInvalidParams && x.Response != nil && e.Control != "")
	if byResult != m.Result.IsError || byResult == (m.Error != nil) {
		t.Errorf("tool result %v, want %v: %s", m.Result.IsError, byResult, where)
		return
	}
	if byResult {
		if status != http.StatusOK || !strings.Contains(m.Result.Content[0].Text, "some_reason") || (m.Result.Type == "complete") != x.Revision.Modern() {
			t.Error(where)
		}
		return
	}
	face := e.Code.Face()
	want := face.RPC
	if e.Code == warder.CodeNotFound && method == wire.MethodResourcesRead && !x.Revision.Modern() {
		want = warder.RPCResourceNotFound
	}
	if m.Error.Code != want || m.Error.Message != face.Message || m.Error.Data.Exchange != "x1" || m.Error.Data.Reason != "some_reason" {
		t.Error(where)
	}
	if status != face.Status && (status != http.StatusOK || x.Revision.Modern()) {
		t.Errorf("status, want %d: %s", face.Status, where)
	}
}
