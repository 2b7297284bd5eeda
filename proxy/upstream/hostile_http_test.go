package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

const discoverAnswer = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`

// modernServer answers server/discover well and leaves everything else to h.
func modernServer(t *testing.T, h func(w http.ResponseWriter, id string)) string {
	t.Helper()
	return listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		m, err := wire.Decode(raw, wire.Limits{})
		if err != nil {
			t.Errorf("server got %s: %v", raw, err)
			return
		}
		if m.Method == wire.MethodDiscover {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.IDBytes(), discoverAnswer)
			return
		}
		h(w, string(m.IDBytes()))
	}))
}

func asJSON(w http.ResponseWriter, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, format, args...)
}

// asEvents sends each text as one event and flushes.
func asEvents(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		fmt.Fprintf(w, "data: %s\n\n", e)
		w.(http.Flusher).Flush()
	}
}

func reasonOf(err error) warder.Reason {
	if e, ok := errors.AsType[*warder.Error](err); ok {
		return e.Reason
	}
	if err != nil {
		return warder.Reason("other: " + err.Error())
	}
	return ""
}

const okResult = `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[]}}`

func cutOff(w http.ResponseWriter, text string) {
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = buf.WriteString(text)
	_ = buf.Flush()
	_ = c.Close()
}

// TestHostileHTTP holds every way of answering badly against its reason.
func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		handle   func(w http.ResponseWriter, id string)
		reason   warder.Reason
		findings map[string]int64
		messages int
	}{
		{name: "ok", handle: func(w http.ResponseWriter, id string) { asJSON(w, okResult, id) }, messages: 1},
		{
			name: "wrong id", handle: func(w http.ResponseWriter, _ string) { asJSON(w, okResult, `"other"`) },
			reason: ReasonWrongID, findings: map[string]int64{findUnknownID: 1},
		},
		{name: "duplicate key", handle: func(w http.ResponseWriter, id string) {
			asJSON(w, `{"jsonrpc":"2.0","id":%s,"result":{"a":1,"a":2}}`, id)
		}, reason: ReasonMalformed},
		{name: "two values", handle: func(w http.ResponseWriter, id string) { asJSON(w, okResult+okResult, id, id) }, reason: ReasonMalformed},
		{name: "announces too much", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Length", "100000")
			asJSON(w, "%s", strings.Repeat(" ", 100000))
		}, reason: ReasonTooLarge},
		{name: "sends too much in chunks", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", "application/json")
			w.(http.Flusher).Flush()
			for range 100 {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1000)); err != nil {
					return
				}
			}
		}, reason: ReasonTooLarge},
		{name: "event too large", handle: func(w http.ResponseWriter, _ string) { asEvents(w, strings.Repeat("x", 70000)) }, reason: ReasonTooLarge},
		{name: "floods", handle: func(w http.ResponseWriter, _ string) {
			for range 1000 {
				asEvents(w, `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"`+strings.Repeat("x", 1000)+`"}}`)
			}
		}, reason: ReasonTooLarge, messages: -1},
		{name: "closes before the header", handle: func(w http.ResponseWriter, _ string) { cutOff(w, "") }, reason: ReasonClosed},
		{name: "closes in the header", handle: func(w http.ResponseWriter, _ string) { cutOff(w, "HTTP/1.1 200 OK\r\nContent-") }, reason: ReasonClosed},
		{name: "closes in the body", handle: func(w http.ResponseWriter, _ string) {
			cutOff(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\"")
		}, reason: ReasonClosed},
		{name: "closes in a chunk", handle: func(w http.ResponseWriter, id string) {
			cutOff(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+fmt.Sprintf("%x\r\n"+okResult, 100, id))
		}, reason: ReasonClosed},
		{name: "closes between chunks", handle: func(w http.ResponseWriter, id string) {
			body := fmt.Sprintf(okResult, id)
			cutOff(w, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(body), body))
		}, reason: ReasonClosed},
		{name: "stream ends without answer", handle: func(w http.ResponseWriter, _ string) {
			asEvents(w, `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
		}, reason: ReasonClosed, messages: 1},
		{name: "stream dies in an event", handle: func(w http.ResponseWriter, id string) {
			cutOff(w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: "+fmt.Sprintf(okResult, id))
		}, reason: ReasonClosed},
		{name: "hangs before the header", handle: func(http.ResponseWriter, string) { time.Sleep(400 * time.Millisecond) }, reason: ReasonTimeout},
		{name: "hangs in the body", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"jsonrpc"`)
			w.(http.Flusher).Flush()
			time.Sleep(400 * time.Millisecond)
		}, reason: ReasonTimeout},
		{name: "trickles comments", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", "text/event-stream")
			for range 40 {
				_, _ = io.WriteString(w, ": alive\n\n")
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}, reason: ReasonTimeout},
		{name: "trickles progress beyond the hard maximum", handle: func(w http.ResponseWriter, _ string) {
			for range 60 {
				asEvents(w, `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
				time.Sleep(20 * time.Millisecond)
			}
		}, reason: ReasonTimeout, messages: -1},
		{name: "accepts only", handle: func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusAccepted) }, reason: ReasonNoAnswer},
		{name: "a notification as body", handle: func(w http.ResponseWriter, _ string) {
			asJSON(w, `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
		}, reason: ReasonNoAnswer, messages: 1},
		{name: "redirects", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Location", "http://169.254.169.254/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, reason: ReasonRedirect},
		{name: "compresses", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Encoding", "gzip")
			asJSON(w, "\x1f\x8b")
		}, reason: ReasonEncoding},
		{name: "html", handle: func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, "<html>") }, reason: ReasonMediaType},
		{name: "500", handle: func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusInternalServerError) }, reason: ReasonStatus},
		{name: "401", handle: func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusUnauthorized) }, reason: ReasonUnauthorized},
		{name: "429", handle: func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusTooManyRequests) }, reason: ReasonLimited},
		{name: "400 with an answer", handle: func(w http.ResponseWriter, id string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no"}}`, id)
		}, messages: 1},
		{name: "404 with an error without id", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"jsonrpc":"2.0","error":{"code":-32601,"message":"no"}}`)
		}, messages: 1},
		{name: "400 with another's answer", handle: func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":"other","error":{"code":-32601,"message":"no"}}`)
		}, reason: ReasonStatus},
		{name: "header flood", handle: func(w http.ResponseWriter, id string) {
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
			asJSON(w, okResult, id)
		}, reason: ReasonClosed},
		{name: "another's answer on the stream", handle: func(w http.ResponseWriter, id string) {
			asEvents(w, fmt.Sprintf(okResult, `"other"`), fmt.Sprintf(okResult, id))
		}, findings: map[string]int64{findUnknownID: 1}, messages: 1},
		{name: "answers twice", handle: func(w http.ResponseWriter, id string) {
			asEvents(w, fmt.Sprintf(okResult, id), fmt.Sprintf(okResult, id))
		}, findings: map[string]int64{findAfterAnswer: 1}, messages: 1},
		{name: "asks in the stateless era", handle: func(w http.ResponseWriter, id string) {
			asEvents(w, `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`, fmt.Sprintf(okResult, id))
		}, findings: map[string]int64{findForbidden: 1}, messages: 1},
		{name: "progress of another call", handle: func(w http.ResponseWriter, id string) {
			asEvents(w, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":1}}`, fmt.Sprintf(okResult, id))
		}, findings: map[string]int64{findToken: 1}, messages: 1},
		{name: "stays open behind the answer", handle: func(w http.ResponseWriter, id string) {
			asEvents(w, fmt.Sprintf(okResult, id))
			time.Sleep(400 * time.Millisecond)
		}, messages: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, Config{
				URL: modernServer(t, tc.handle), Era: EraModern,
				Timeout: 150 * time.Millisecond, MaxCall: 500 * time.Millisecond, MaxMessage: 64 << 10, MaxResponse: 128 << 10,
			})
			l := link(t, s, Key{}, warder.Revision20260728)
			got, err := collect(t.Context(), l, callTool(t, true, `"me"`, "x", ""))
			if reasonOf(err) != tc.reason {
				t.Errorf("error %v, want reason %q", err, tc.reason)
			}
			if tc.messages >= 0 && len(got) != tc.messages {
				t.Errorf("got %d messages %.300q, want %d", len(got), got, tc.messages)
			}
			if tc.reason == "" {
				contains(t, last(got), `"id":"me"`)
			}
			var findings map[string]int64
			for range 50 { // what comes behind the answer is read in the background
				if findings = s.Stats().Findings; cmp.Equal(tc.findings, findings) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("findings (-want +got):\n%s", cmp.Diff(tc.findings, findings))
		})
	}
}

// TestHostileLeavesNothing runs the bad answers again in one go and counts what is left.
func TestHostileLeavesNothing(t *testing.T) {
	leakCheck(t)
	n := 0
	var mu sync.Mutex
	url := modernServer(t, func(w http.ResponseWriter, id string) {
		mu.Lock()
		n++
		k := n % 5
		mu.Unlock()
		switch k {
		case 0:
			cutOff(w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {")
		case 1:
			asEvents(w, fmt.Sprintf(okResult, id), "{}", "{}")
		case 2:
			time.Sleep(60 * time.Millisecond)
		case 3:
			asJSON(w, "{")
		default:
			asJSON(w, okResult, id)
		}
	})
	s := newServer(t, Config{URL: url, Era: EraModern, Timeout: 30 * time.Millisecond, Breaker: BreakerConfig{Failures: 1000}})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			l, err := s.Link(t.Context(), Key{}, Init{Revision: warder.Revision20260728})
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = collect(t.Context(), l, callTool(t, true, `1`, "x", ""))
		})
	}
	wg.Wait()
}

// TestModernDisconnect proves that the end of the caller's context ends the request at the server.
func TestModernDisconnect(t *testing.T) {
	leakCheck(t)
	began, ended := make(chan struct{}), make(chan struct{})
	url := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(began)
		<-r.Context().Done()
		close(ended)
	}))
	s := newServer(t, Config{URL: url, Era: EraModern})
	s.learn(func(e *eras) { e.modern = yes })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, err := collect(ctx, link(t, s, Key{}, warder.Revision20260728), callTool(t, true, `1`, "x", ""))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want it to wrap context.Canceled", err)
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
		t.Error("the server was not told")
	}
	if st := s.Stats(); st.Canceled != 1 || st.Failures != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestBreakOff proves that a consumer who breaks off cancels the request.
func TestBreakOff(t *testing.T) {
	leakCheck(t)
	ended := make(chan struct{})
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asEvents(w, `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
		<-r.Context().Done()
		close(ended)
	}))
	s := newServer(t, Config{URL: url, Era: EraModern})
	s.learn(func(e *eras) { e.modern = yes })
	for _, err := range link(t, s, Key{}, warder.Revision20260728).Call(t.Context(), callTool(t, true, `1`, "x", ""), nil) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
		t.Error("the server was not told")
	}
}

// TestRoutingHeaders proves what the stateless era mirrors in headers, and that callers and
// configuration cannot replace it.
func TestRoutingHeaders(t *testing.T) {
	var got http.Header
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		raw, _ := io.ReadAll(r.Body)
		m, _ := wire.Decode(raw, wire.Limits{})
		asJSON(w, okResult, m.IDBytes())
	}))
	s := newServer(t, Config{URL: url, Era: EraModern})
	s.learn(func(e *eras) { e.modern = yes })
	req := message(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"größe","_meta":{`+modernMetaJSON+`}}}`)
	extra := http.Header{
		"Mcp-Param-Region": {"eu"}, "Traceparent": {"00-1-2-01"},
		"Mcp-Method": {"evil"}, "Mcp-Session-Id": {"evil"}, "Content-Length": {"5"}, "Host": {"evil"},
	}
	for _, err := range link(t, s, Key{Session: "s"}, warder.Revision20260728).Call(t.Context(), req, extra) {
		if err != nil {
			t.Fatal(err)
		}
	}
	delete(got, "Content-Length")
	want := http.Header{
		"Accept": {"application/json, text/event-stream"}, "Accept-Encoding": {"identity"}, "Content-Type": {"application/json"},
		"User-Agent": {"warder"}, "Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"},
		"Mcp-Name": {wire.EncodeHeaderValue("größe")}, "Mcp-Param-Region": {"eu"}, "Traceparent": {"00-1-2-01"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}
