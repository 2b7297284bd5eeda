package output

import (
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func decode(t testing.TB, raw string) *warder.Message {
	t.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		t.Fatalf("decode %s: %v", raw, err)
	}
	return m
}

// answered is an exchange of the newest revision in which a server answered.
func answered(t testing.TB, request, response string) *warder.Exchange {
	t.Helper()
	return &warder.Exchange{
		Revision:  warder.Revision20260728,
		Server:    &warder.Server{Name: "notes"},
		Principal: &warder.Principal{Issuer: "local", Subject: "alice"},
		Request:   decode(t, request),
		Response:  decode(t, response),
	}
}

func judge(t testing.TB, c warder.Interceptor, x *warder.Exchange) warder.Decision {
	t.Helper()
	d, err := c.Intercept(t.Context(), x)
	if err != nil {
		t.Fatalf("%s: %v", c.Control(), err)
	}
	return d
}

func mustRefuse(t testing.TB, d warder.Decision, code warder.Code, reason warder.Reason) {
	t.Helper()
	if d.Verdict != warder.Deny || d.Code != code || d.Reason != reason {
		t.Errorf("got %s %s %s, want deny %s %s", d.Verdict, d.Code, d.Reason, code, reason)
	}
}

func mustPass(t testing.TB, d warder.Decision) {
	t.Helper()
	if d.Verdict != warder.Pass {
		t.Errorf("got %s %s (%s), want pass", d.Verdict, d.Reason, d.Detail)
	}
}

const callEcho = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`
