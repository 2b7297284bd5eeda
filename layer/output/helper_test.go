package output

import (
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func decode(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatalf("decode %s: %v", raw, err)
	}
	return m
}

// answered is an exchange of the newest revision in which a server answered.
func answered(tb testing.TB, request, response string) *warder.Exchange {
	tb.Helper()
	return &warder.Exchange{
		Revision:  warder.Revision20260728,
		Server:    &warder.Server{Name: "notes"},
		Principal: &warder.Principal{Issuer: "local", Subject: "alice"},
		Request:   decode(tb, request),
		Response:  decode(tb, response),
	}
}

func judge(tb testing.TB, c warder.Interceptor, x *warder.Exchange) warder.Decision {
	tb.Helper()
	d, err := c.Intercept(tb.Context(), x)
	if err != nil {
		tb.Fatalf("%s: %v", c.Control(), err)
	}
	return d
}

func mustRefuse(tb testing.TB, d warder.Decision, code warder.Code, reason warder.Reason) {
	tb.Helper()
	if d.Verdict != warder.Deny || d.Code != code || d.Reason != reason {
		tb.Errorf("got %s %s %s, want deny %s %s", d.Verdict, d.Code, d.Reason, code, reason)
	}
}

func mustPass(tb testing.TB, d warder.Decision) {
	tb.Helper()
	if d.Verdict != warder.Pass {
		tb.Errorf("got %s %s (%s), want pass", d.Verdict, d.Reason, d.Detail)
	}
}

const callEcho = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`
