package wire

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func TestPRT01(t *testing.T) {
	t.Parallel()
	clock := func() time.Time { return time.Date(2027, 7, 28, 0, 0, 0, 0, time.UTC) }
	build := func(t *testing.T, cfg RevisionConfig) *Floor {
		t.Helper()
		f, err := NewFloor(cfg, clock)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	exchange := func(rev warder.Revision, from warder.Direction, raw string) *warder.Exchange {
		return &warder.Exchange{Revision: rev, From: from, Request: mustDecode(t, raw)}
	}
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for _, c := range []struct {
		name   string
		cfg    RevisionConfig
		x      *warder.Exchange
		reason warder.Reason // empty: pass
	}{
		{"pass at the default floor", RevisionConfig{}, exchange("2025-06-18", warder.FromClient, list), ""},
		{"pass newest", RevisionConfig{}, exchange("2026-07-28", warder.FromClient, list), ""},
		{"pass below the default floor when configured", RevisionConfig{Floor: "2024-11-05"}, exchange("2024-11-05", warder.FromClient, list), ""},
		{"pass answer of a stateful client", RevisionConfig{}, exchange("2025-11-25", warder.FromClient, `{"jsonrpc":"2.0","id":1,"result":{}}`), ""},
		{"pass question of a stateful server", RevisionConfig{}, exchange("2025-11-25", warder.FromServer, `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`), ""},
		{"near_miss sunset of another revision", RevisionConfig{Sunset: map[warder.Revision]string{"2025-06-18": "2027-07-28"}}, exchange("2025-11-25", warder.FromClient, list), ""},
		{"near_miss day before the sunset", RevisionConfig{Sunset: map[warder.Revision]string{"2025-06-18": "2027-07-29"}}, exchange("2025-06-18", warder.FromClient, list), ""},
		{"near_miss ping in a stateful revision", RevisionConfig{}, exchange("2025-11-25", warder.FromClient, `{"jsonrpc":"2.0","id":1,"method":"ping"}`), ""},
		{"deny below the default floor", RevisionConfig{}, exchange("2025-03-26", warder.FromClient, list), ReasonBelowFloor},
		{"deny below a raised floor", RevisionConfig{Floor: "2025-11-25"}, exchange("2025-06-18", warder.FromClient, list), ReasonBelowFloor},
		{"deny on the day of the sunset", RevisionConfig{Sunset: map[warder.Revision]string{"2025-06-18": "2027-07-28"}}, exchange("2025-06-18", warder.FromClient, list), ReasonBelowFloor},
		{"deny older than a sunset revision", RevisionConfig{Sunset: map[warder.Revision]string{"2025-11-25": "2027-01-01"}}, exchange("2025-06-18", warder.FromClient, list), ReasonBelowFloor},
		{"deny unknown revision", RevisionConfig{}, exchange("2099-01-01", warder.FromClient, list), ReasonUnknownRevision},
		{"deny empty revision", RevisionConfig{}, exchange("", warder.FromClient, list), ReasonUnknownRevision},
		{"deny everything past every sunset", RevisionConfig{Floor: "2026-07-28", Sunset: map[warder.Revision]string{"2026-07-28": "2027-01-01"}}, exchange("2026-07-28", warder.FromClient, list), ReasonBelowFloor},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := build(t, c.cfg).Intercept(t.Context(), c.x)
			if err != nil {
				t.Fatal(err)
			}
			if want := c.reason == ""; d.Reason != c.reason || (d.Verdict == warder.Pass) != want {
				t.Errorf("got %v (%s), want reason %q", d.Verdict, d.Reason, c.reason)
			}
		})
	}
	t.Run("dependency_killed without a message", func(t *testing.T) {
		t.Parallel()
		d, err := build(t, RevisionConfig{}).Intercept(t.Context(), &warder.Exchange{Revision: "2025-11-25"})
		if err == nil || d.Verdict == warder.Pass {
			t.Errorf("got %v, %v; want an error and no pass", d.Verdict, err)
		}
	})
}

func TestNewFloorRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]RevisionConfig{
		"unknown floor":           {Floor: "2025-01-01"},
		"sunset of unknown":       {Sunset: map[warder.Revision]string{"2020-01-01": "2027-01-01"}},
		"sunset that is no day":   {Sunset: map[warder.Revision]string{"2025-06-18": "next year"}},
		"sunset day out of range": {Sunset: map[warder.Revision]string{"2025-06-18": "2027-02-30"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := NewFloor(cfg, nil); err == nil {
				t.Error("got no error")
			}
		})
	}
}

func TestNegotiate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		offered, floor warder.Revision
		want           warder.Revision
		reason         warder.Reason
	}{
		{"offered is spoken", "2025-06-18", "", "2025-06-18", ""},
		{"newest stateful", "2025-11-25", "", "2025-11-25", ""},
		{"stateless is not initialized", "2026-07-28", "", "2025-11-25", ""},
		{"unknown gets the newest stateful", "2025-07-01", "", "2025-11-25", ""},
		{"old with a low floor", "2024-11-05", "2024-11-05", "2024-11-05", ""},
		{"old below the default floor", "2025-03-26", "", "", ReasonBelowFloor},
		{"below a raised floor", "2025-06-18", "2025-11-25", "", ReasonBelowFloor},
		{"stateless floor", "2025-11-25", "2026-07-28", "", ReasonBelowFloor},
		{"unknown with a stateless floor", "x", "2026-07-28", "", ReasonBelowFloor},
		{"unknown floor", "2025-11-25", "2025-11-26", "", ReasonUnknownRevision},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Negotiate(c.offered, c.floor)
			if got != c.want || reasonOf(err) != c.reason {
				t.Errorf("Negotiate = %q, %v; want %q, %q", got, err, c.want, c.reason)
			}
		})
	}
}

func TestUnsupportedData(t *testing.T) {
	t.Parallel()
	err := Admit("2024-11-05", "2025-11-25")
	var refusal *warder.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v", err)
	}
	want := `{"supported":["2025-11-25","2026-07-28"],"requested":"2024-11-05"}`
	if diff := cmp.Diff(want, string(refusal.Data)); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
}
