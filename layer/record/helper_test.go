package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/wal"
	"github.com/warder-mcp/warder/wire"
)

func testConfig() Config {
	c := Default()
	c.Delay, c.Checkpoint = 20*time.Millisecond, 100*time.Millisecond
	return c
}

func openLog(tb testing.TB, dir string, cfg Config) *Log {
	tb.Helper()
	l, err := OpenLog(tb.Context(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeLog(tb, l) })
	return l
}

func closeLog(tb testing.TB, l *Log) {
	tb.Helper()
	if err := l.Close(context.WithoutCancel(tb.Context())); err != nil && !errors.Is(err, wal.ErrClosed) {
		tb.Errorf("close: %v", err)
	}
}

func decode(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatalf("decode %s: %v", raw, err)
	}
	return m
}

// call is an exchange about tools/call with everything set that a finished exchange has.
func call(tb testing.TB, effect warder.Effect, arguments string) *warder.Exchange {
	tb.Helper()
	now := time.Now()
	m := decode(tb, fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"send_mail","arguments":%s}}`, arguments))
	return &warder.Exchange{
		ID: warder.NewID(now), Received: now.Add(-3 * time.Millisecond), Door: warder.DoorHTTP,
		Revision: warder.Revision20251125, Endpoint: "office",
		Conn: warder.Conn{
			Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Method: http.MethodPost, Path: "/mcp/office",
			Header: http.Header{"Authorization": {"Bearer header-credential-0815"}},
		},
		Trace:     warder.Trace{TraceID: [16]byte{0xaa, 1}, SpanID: [8]byte{3}},
		Server:    &warder.Server{Name: "office"},
		Inbound:   m,
		Request:   m,
		Principal: &warder.Principal{Issuer: "https://idp.example.com", Subject: "alice", Client: "ide", TokenID: "jti-1"},
		Tool:      &warder.Tool{Kind: "tool", Server: "office", Name: "send_mail", Digest: warder.Digest{0xd1}, Effect: effect},
		Policies:  []string{"office.permit"}, Forwarded: true, Outcome: warder.OutcomeAllowed, Messages: 1,
		BytesIn: int64(len(m.Raw)), BytesOut: 55, Finished: now,
		Trail: []warder.Step{
			{Control: "NET-05", Phase: warder.PhaseConnect, Verdict: warder.Pass, Took: 310},
			{Control: "IAM-05", Phase: warder.PhaseConnect, Verdict: warder.Pass, Took: 1210},
			{Control: "CVM-01", Phase: warder.PhaseRequest, Verdict: warder.Pass, Took: 9000},
		},
	}
}

// refused makes x an exchange that a control ended.
func refused(x *warder.Exchange, d warder.Decision) *warder.Exchange {
	x.Outcome, x.Forwarded = warder.OutcomeRefused, false
	x.Decisions = append(x.Decisions, d)
	x.Trail = append(x.Trail, warder.Step{Control: d.Control, Phase: warder.PhaseRequest, Verdict: d.Verdict, Took: 5})
	x.Failure = &warder.Error{Code: d.Code, Reason: d.Reason, Control: d.Control}
	if d.Detail != "" {
		x.Failure.Err = errors.New(d.Detail)
	}
	return x
}

func events(tb testing.TB, dir string, f Filter) []warder.Event {
	tb.Helper()
	r, err := Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var out []warder.Event
	for e, err := range r.Events(f) {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func waitFor(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within 10 s", what)
		}
	}
}

func walOf(dir string) string { return filepath.Join(dir, walDir) }
