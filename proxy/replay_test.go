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

// TestReplayAfterLoss loses the connection of a call and fetches its answer with Last-Event-ID, beside
// an open stream outside calls.
func TestReplayAfterLoss(t *testing.T) {
	t.Parallel()
	for _, rev := range []warder.Revision{warder.Revision20250618, warder.Revision20251125} {
		t.Run(string(rev), func(t *testing.T) {
			t.Parallel()
			s := newTalker("slow")
			r := newRig(t, Config{}, []string{"s"}, one(s))
			id := r.session("/mcp/s", "ada", rev)
			listening := r.do(t.Context(), http.MethodGet, "/mcp/s", "ada", "", "Mcp-Session-Id", id)
			if listening.StatusCode != http.StatusOK {
				t.Fatalf("GET: %d", listening.StatusCode)
			}
			ctx, lose := context.WithCancel(t.Context())
			e := next(t, events(r.do(ctx, http.MethodPost, "/mcp/s", "ada", callOf(1, "slow"), "Mcp-Session-Id", id)))
			if !e.HasID {
				t.Fatal("the event has no id to return with")
			}
			lose()
			time.Sleep(20 * time.Millisecond)
			close(s.release)
			back := r.do(t.Context(), http.MethodGet, "/mcp/s", "ada", "", "Mcp-Session-Id", id, "Last-Event-ID", e.ID)
			if back.StatusCode != http.StatusOK {
				t.Fatalf("return: %d", back.StatusCode)
			}
			in := events(back)
			if got := string(next(t, in).Data); !strings.Contains(got, `"id":1`) || !strings.Contains(got, "slow") {
				t.Errorf("resumed with %s", got)
			}
			if e, open := <-in; open {
				t.Errorf("after the answer came %s", e.Data)
			}
			if s.called.Load() != 1 || s.cancelled.Load() != 0 {
				t.Errorf("%d calls, %d cancelled", s.called.Load(), s.cancelled.Load())
			}
		})
	}
}

// TestReplayGoesOn loses the stream outside calls: what was missed comes first, then what is new.
func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	s := newTalker("echo")
	r := newRig(t, Config{}, []string{"s"}, one(s))
	id := r.session("/mcp/s", "ada", warder.Revision20251125)
	const note = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"n":"N"}}}`
	ctx, lose := context.WithCancel(t.Context())
	in := events(r.do(ctx, http.MethodGet, "/mcp/s", "ada", "", "Mcp-Session-Id", id))
	// hear lets the server speak until the client hears it: a stream that is just being opened or closed
	// may lose a notification.
	hear := func(n string) (heard wire.Event) {
		soon(t, n+" arrives", func() bool {
			s.tell(strings.Replace(note, "N", n, 1))
			select {
			case heard = <-in:
				return strings.Contains(string(heard.Data), n)
			case <-time.After(100 * time.Millisecond):
				return false
			}
		})
		return heard
	}
	e := hear("first")
	hear("second")
	lose()
	in = events(r.do(t.Context(), http.MethodGet, "/mcp/s", "ada", "", "Mcp-Session-Id", id, "Last-Event-ID", e.ID))
	for got := ""; !strings.Contains(got, "second"); {
		if got = string(next(t, in).Data); strings.Contains(got, "third") {
			t.Fatal("what is new came before what was missed")
		}
	}
	hear("third")
}

// A client that is back before the loss of its stream has shown takes the stream over.
func TestStreamIsSuperseded(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, []string{"s"}, one(newTalker("echo")))
	id := r.session("/mcp/s", "ada", warder.Revision20250618)
	old := events(r.do(t.Context(), http.MethodGet, "/mcp/s", "ada", "", "Mcp-Session-Id", id))
	if status := r.do(t.Context(), http.MethodGet, "/mcp/s", "ada", "", "Mcp-Session-Id", id).StatusCode; status != http.StatusOK {
		t.Errorf("second GET: %d", status)
	}
	select {
	case _, open := <-old:
		if open {
			t.Error("the old stream brought something")
		}
	case <-time.After(5 * time.Second):
		t.Error("the old stream is still open")
	}
}

func TestReplayBounds(t *testing.T) {
	t.Parallel()
	r := newReplayStream("1", false)
	for range 40 {
		r.add([]byte(strings.Repeat("x", 100_000)), -1)
	}
	if r.size > maxReplayBytes+100_100 || r.first == 1 || len(r.events) == 0 {
		t.Errorf("%d bytes in %d events from %d", r.size, len(r.events), r.first)
	}
	r.end()
	n := 0
	if err := r.after(t.Context(), 0, func([]byte) error { n++; return nil }); err != nil || n != len(r.events) {
		t.Errorf("replayed %d of %d: %v", n, len(r.events), err)
	}
	s := &session{}
	var all []*replayStream
	for range maxReplayStreams {
		all = append(all, s.stream(false))
	}
	if s.stream(false) != nil {
		t.Error("one running stream too many is kept")
	}
	all[3].end()
	all[2].end()
	if s.stream(false) == nil || s.streams[all[2].id] != nil || s.streams[all[3].id] == nil {
		t.Error("the oldest ended stream did not make room")
	}
	for _, bad := range []string{"", "-", "1", "1-", "1-x", "1--1", "zz-1"} {
		if _, _, ok := s.resume(bad); ok {
			t.Errorf("resumed %q", bad)
		}
	}
}
