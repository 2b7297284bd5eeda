package upstream

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// askingServer asks on the GET stream while a call waits, as SDKs do unless told otherwise.
func askingServer(calls int) *sessionServer {
	ask := make(chan struct{}, calls)
	var arrived atomic.Int64
	return &sessionServer{
		call: func(s *sessionServer, w http.ResponseWriter, r *http.Request, m *warder.Message) {
			if arrived.Add(1) == int64(calls) {
				ask <- struct{}{}
			}
			for !slices.Contains(s.seen(), `{"action":"accept"} s1`) {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
			asJSON(w, okResult, m.IDBytes())
		},
		get: func(_ *sessionServer, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-ask:
			case <-r.Context().Done():
				return
			}
			fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"q1\",\"method\":\"elicitation/create\",\"params\":{}}\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}
}

// hearingLink is the session that stateless clients with a user behind them share.
func hearingLink(t *testing.T, h *sessionServer) (*Server, *httpLink) {
	t.Helper()
	h.t = t
	s := newServer(t, Config{URL: listen(t, h), Era: EraLegacy})
	l, err := s.Link(t.Context(), Key{Owner: "o", Capabilities: [32]byte{1}},
		Init{Revision: warder.Revision20260728, Capabilities: []byte(`{"elicitation":{}}`)})
	if err != nil {
		t.Fatal(err)
	}
	return s, l.(*httpLink)
}

// TestHearing takes a question from the GET stream to the only call in flight and its answer back.
func TestHearing(t *testing.T) {
	leakCheck(t)
	h := askingServer(1)
	_, l := hearingLink(t, h)
	var got []string
	for m, err := range l.Call(t.Context(), callTool(t, true, "7", "x", ""), nil) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Method)
		if m.Method != wire.MethodElicit {
			continue
		}
		answer := message(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept"}}`, m.IDBytes()))
		if err := l.Send(t.Context(), answer); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{wire.MethodElicit, ""}; !slices.Equal(got, want) {
		t.Errorf("the call yielded %q, want %q", got, want)
	}
	if l.inUse() {
		t.Error("the GET stream alone keeps the link in use for ever")
	}
}

// TestHearingTwoCalls proves that a question is not handed to one of two calls by chance.
func TestHearingTwoCalls(t *testing.T) {
	leakCheck(t)
	h := askingServer(2)
	s, l := hearingLink(t, h)
	l.wait = 20 * time.Millisecond
	done := make(chan int, 2)
	for range 2 {
		go func() {
			asked := 0
			for m, err := range l.Call(t.Context(), callTool(t, true, "7", "x", ""), nil) {
				if err == nil && m.Method == wire.MethodElicit {
					asked++
				}
				if asked > 0 {
					break
				}
			}
			done <- asked
		}()
	}
	for range 200 {
		if s.Stats().Findings[findUntaken] == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.Stats().Findings[findUntaken]; n != 1 {
		t.Errorf("%d questions refused because nobody could take them, want 1", n)
	}
	h.note(`{"action":"accept"} s1`) // lets the calls end
	for range 2 {
		if n := <-done; n != 0 {
			t.Errorf("a call was asked %d questions", n)
		}
	}
}

// TestHearingBrokenOff proves that a consumer who leaves at a question ends the call.
func TestHearingBrokenOff(t *testing.T) {
	leakCheck(t)
	_, l := hearingLink(t, askingServer(1))
	for m, err := range l.Call(t.Context(), callTool(t, true, "7", "x", ""), nil) {
		if err != nil || m.Method != wire.MethodElicit {
			t.Fatalf("got %v, %v", m, err)
		}
		break
	}
	if n := l.inflight.Load(); n != 0 {
		t.Errorf("%d calls in flight", n)
	}
}

// TestNoHearing proves that clients that cannot be asked cost no GET stream.
func TestNoHearing(t *testing.T) {
	leakCheck(t)
	h := &sessionServer{t: t, call: answerJSON}
	s := newServer(t, Config{URL: listen(t, h), Era: EraLegacy})
	l, err := s.Link(t.Context(), Key{Owner: "o"}, Init{Revision: warder.Revision20260728, Capabilities: []byte(`{"extensions":{}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(t.Context(), l, callTool(t, true, "7", "x", "")); err != nil {
		t.Fatal(err)
	}
	for _, line := range h.seen() {
		if line == "GET s1 last=" {
			t.Error("a GET stream was opened")
		}
	}
}

// TestRefusedYetSupported proves that a server that refuses our revision and lists it is asked again,
// once, in the same era (2026-07-28, UnsupportedProtocolVersionError).
func TestRefusedYetSupported(t *testing.T) {
	for _, test := range []struct {
		name      string
		refusals  int64
		supported string
		modern    bool
		asked     int64
	}{
		{"once", 1, "2026-07-28", true, 2},
		{"always", 9, "2026-07-28", false, 2},
		{"older only", 9, "2025-11-25", false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			leakCheck(t)
			var asked, opened atomic.Int64
			url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				m, err := wire.Decode(raw, wire.Limits{})
				switch {
				case err != nil || m.Method != wire.MethodDiscover:
					opened.Add(1)
					w.WriteHeader(http.StatusForbidden)
				case asked.Add(1) <= test.refusals:
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no","data":{"supported":[%q],"requested":"x"}}}`, m.IDBytes(), test.supported)
				default:
					asJSON(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"serverInfo":{"name":"x","version":"1"},"ttlMs":0,"cacheScope":"private"}}`, m.IDBytes())
				}
			}))
			s := newServer(t, Config{URL: url})
			_, err := s.Probe(t.Context())
			if (err == nil) != test.modern {
				t.Errorf("probe: %v", err)
			}
			if n := asked.Load(); n != test.asked {
				t.Errorf("asked %d times, want %d", n, test.asked)
			}
			if test.modern && opened.Load() > 0 {
				t.Error("the era that was not refused was asked for")
			}
		})
	}
}
