package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// A line is a client at the other end of a pipe.
type line struct {
	t    *testing.T
	in   *io.PipeWriter
	out  chan string
	done chan error
}

func (r *rig) stdio() *line {
	toGate, in := io.Pipe()
	out, fromGate := io.Pipe()
	l := &line{t: r.t, in: in, out: make(chan string, 1024), done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	r.t.Cleanup(func() {
		cancel()
		_ = in.Close() // the door ends with it
	})
	go func() {
		l.done <- r.g.Stdio(ctx, "s", toGate, fromGate)
		_ = fromGate.Close() // ends the reader
	}()
	go func() {
		defer close(l.out)
		for s := bufio.NewScanner(out); s.Scan(); {
			l.out <- s.Text()
		}
	}()
	return l
}

func (l *line) say(raw string) {
	l.t.Helper()
	if _, err := io.WriteString(l.in, raw+"\n"); err != nil {
		l.t.Fatal(err)
	}
}

// want waits for a line with all of the texts, past others.
func (l *line) want(texts ...string) string {
	l.t.Helper()
	limit := time.After(5 * time.Second)
	var seen []string
	for {
		select {
		case got, ok := <-l.out:
			if !ok {
				l.t.Fatalf("pipe closed; want %q, saw %q", texts, seen)
			}
			seen = append(seen, got)
			all := true
			for _, text := range texts {
				all = all && strings.Contains(got, text)
			}
			if all {
				return got
			}
		case <-limit:
			l.t.Fatalf("no line with %q within 5 s, saw %q", texts, seen)
		}
	}
}

func (l *line) open(rev warder.Revision) {
	l.t.Helper()
	l.say(opening(rev))
	l.want(`"id":"open"`, `"result"`)
	l.say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

func TestStdioEndDrains(t *testing.T) {
	t.Parallel()
	s := newTalker("slow")
	r := newRig(t, Config{}, []string{"s"}, one(s))
	l := r.stdio()
	l.open(warder.Revision20250618)
	l.say(callOf(1, "slow"))
	l.want("notifications/progress")
	_ = l.in.Close()
	close(s.release)
	l.want(`"id":1`, "slow")
	select {
	case err := <-l.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the door does not end with its input")
	}
	if r.sessions.Len() != 0 || r.g.Running() != 0 {
		t.Errorf("%d sessions and %d exchanges left", r.sessions.Len(), r.g.Running())
	}
}

func TestStdioCancellation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, call, cancel string }{
		{"session", callOf(5, "hang"), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`},
		{
			"stateless", now(5, "tools/call", `"name":"hang","arguments":{}`),
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"requestId":5}}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newTalker("hang", "echo")
			r := newRig(t, Config{}, []string{"s"}, one(s))
			l := r.stdio()
			if tc.name == "session" {
				l.open(warder.Revision20250618)
			}
			l.say(tc.call)
			soon(t, "the call reaches the server", func() bool { return s.called.Load() == 1 })
			l.say(tc.cancel)
			soon(t, "the server is told", func() bool { return s.cancelled.Load() > 0 })
			soon(t, "the exchange ends as cancelled", func() bool {
				return r.ended.count(func(x *warder.Exchange) bool { return x.Outcome == warder.OutcomeCanceled }) == 1
			})
			l.say(strings.Replace(strings.Replace(tc.call, `"id":5`, `"id":6`, 1), "hang", "echo", 1))
			if got := l.want(`"id":6`); !strings.Contains(got, "echo") {
				t.Errorf("after the cancellation: %s", got)
			}
		})
	}
}

func TestStdioBounds(t *testing.T) {
	t.Parallel()
	s := newTalker("hang", "echo")
	r := newRig(t, Config{RequestBytes: 4096}, []string{"s"}, one(s))
	l := r.stdio()
	l.open(warder.Revision20250618)
	l.say(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"x":"` + strings.Repeat("x", 8192) + `"}}}`)
	l.want(`"too_large"`)
	l.say("{not json")
	l.want(`-32700`)
	l.say(callOf(2, "echo"))
	l.want(`"id":2`, "echo")
	for i := range maxPipelined {
		l.say(callOf(100+i, "hang"))
	}
	soon(t, "all slots are taken", func() bool { return s.called.Load() == maxPipelined+1 })
	l.say(callOf(999, "echo"))
	l.want(`"id":999`, "too_many_requests")
	l.say(callOf(100, "echo"))
	l.want(`"id":100`, `"error"`)
}

func TestStdioBatches(t *testing.T) {
	t.Parallel()
	for _, rev := range warder.Revisions()[:4] {
		t.Run(string(rev), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{}, []string{"s"}, one(newTalker("echo")))
			l := r.stdio()
			l.open(rev)
			l.say(fmt.Sprintf(`[{"jsonrpc":"2.0","method":"notifications/roots/list_changed"},%s,%s]`, callOf(1, "echo"), callOf(2, "echo")))
			if rev != warder.Revision20250326 {
				l.want("batch_not_allowed")
				return
			}
			got := l.want("echo") + l.want("echo")
			if !strings.Contains(got, `"id":1`) || !strings.Contains(got, `"id":2`) {
				t.Error(got)
			}
			l.say(fmt.Sprintf(`[[%s]]`, callOf(3, "echo")))
			l.want("batch_not_allowed")
		})
	}
}
