package faults

import (
	"context"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/record"
)

// inside starts a gateway in this process.
func inside(t *testing.T, v *victim, now func() time.Time) (*app.App, *gateway) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	cfg, err := config.Load(configFile(t, dir, v.URL))
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Open(t.Context(), cfg, app.Options{Version: "test", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	door := httptest.NewServer(a)
	t.Cleanup(func() { door.CloseClientConnections(); door.Close() })
	g := &gateway{t: t, url: door.URL, dir: dir}
	g.mint()
	return a, g
}

// recorded reads the events of a closed gateway by trace.
func recorded(t *testing.T, dir string) map[string][]warder.Event {
	t.Helper()
	r, err := record.Open(filepath.Join(dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]warder.Event)
	for e, err := range r.Events(record.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out[e.TraceID] = append(out[e.TraceID], e)
	}
	return out
}

// TestUpstreamFaults lets servers misbehave in every way, in both eras of client and server.
func TestUpstreamFaults(t *testing.T) {
	faults := []struct{ tool, want string }{
		{"dies", "upstream_failed"},
		{"cut", "upstream_failed"},
		{"hangs", "timeout"},
		{"stalls", "timeout"},
		{"floods", "!"},
		{"huge", "!"},
		{"twice", "fine"},
		{"another", "upstream_failed"},
		{"garbage", "!"},
		{"html", "upstream_failed"},
		{"status", "upstream_failed"},
		{"good", "fine"},
	}
	var names []string
	for _, f := range faults {
		names = append(names, f.tool)
	}
	v := newVictim(t, names...)
	a, g := inside(t, v, nil)
	sessions := map[string]string{"modern": g.open("modern"), "legacy": g.open("legacy")}
	for server, s := range sessions { // warm: links, lists
		for _, session := range []string{s, ""} {
			if _, text, err := g.call(t.Context(), server, session, "good", newTrace()); err != nil || !strings.Contains(text, "fine") {
				t.Fatalf("%s: %v %s", server, err, text)
			}
		}
	}
	goroutines, files := runtime.NumGoroutine(), descriptors()
	wanted := make(map[string]string)
	for _, f := range faults {
		for server, s := range sessions {
			for _, session := range []string{s, ""} {
				era := map[bool]string{true: "stateless", false: "session"}[session == ""]
				trace := newTrace()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				status, text, err := g.call(ctx, server, session, f.tool, trace)
				cancel()
				where := fmt.Sprintf("%s, %s client, %s server: %d %.300s", f.tool, era, server, status, text)
				failed := strings.Contains(text, `"error":{`) || strings.Contains(text, `"isError":true`)
				switch {
				case err != nil:
					t.Errorf("%s: %v", where, err)
				case strings.Contains(text, "second") || strings.Contains(text, "10.1.2.3"):
					t.Errorf("passed on what it must not: %s", where)
				case f.want == "fine" && !strings.Contains(text, "fine"), f.want != "fine" && !failed,
					f.want != "fine" && f.want != "!" && !strings.Contains(text, f.want):
					t.Errorf("%s, want %s", where, f.want)
				}
				wanted[trace] = f.want
			}
		}
	}
	settled(t, goroutines, files)
	if n := v.running.Load(); n != 0 {
		t.Errorf("%d calls still run at the server", n)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
	events := recorded(t, g.dir)
	for trace, want := range wanted {
		ok := false
		for _, e := range events[trace] {
			ok = ok || e.Type == warder.EventExchange && (e.Outcome == warder.OutcomeAllowed) == (want == "fine") && e.Forwarded
		}
		if !ok {
			t.Errorf("trace %s (%s): records %+v", trace, want, events[trace])
		}
	}
	t.Logf("%d faults × 2 client eras × 2 server eras", len(faults))
}

// TestClientLeaves: a stateless client that goes cancels its call; a session's call goes on.
func TestClientLeaves(t *testing.T) {
	v := newVictim(t, "hangs", "good")
	a, g := inside(t, v, nil)
	for _, server := range []string{"modern", "legacy"} {
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _, _ = g.call(ctx, server, "", "hangs", newTrace()) // its client leaves
		}()
		until(t, "the call runs", func() bool { return v.running.Load() == 1 })
		leave()
		<-gone
		until(t, server+": the call is cancelled", func() bool { return v.running.Load() == 0 })
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
	n := 0
	for _, events := range recorded(t, g.dir) {
		for _, e := range events {
			if e.Outcome == warder.OutcomeCanceled {
				n++
			}
		}
	}
	if n != 2 {
		t.Errorf("%d cancelled calls in the trail, want 2", n)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 5 s: %s", what)
}

// TestClockJump sets the clock an hour back and a day ahead under running sessions.
func TestClockJump(t *testing.T) {
	v := newVictim(t, "good")
	var jump atomic.Int64
	a, g := inside(t, v, func() time.Time { return time.Now().Add(time.Duration(jump.Load())) })
	s := g.open("legacy")
	for _, by := range []time.Duration{0, -time.Hour, 0, 48 * time.Hour} {
		jump.Store(int64(by))
		for _, session := range []string{s, ""} {
			status, text, err := g.call(t.Context(), "legacy", session, "good", newTrace())
			switch {
			case err != nil:
				t.Errorf("clock by %s: %v", by, err)
			case by == 0 && session == "" && !strings.Contains(text, "fine"):
				t.Errorf("clock by %s: %d %s", by, status, text)
			case by > 0 && strings.Contains(text, "fine"):
				t.Errorf("clock by %s: a token that has ended passed: %s", by, text)
			case by != 0 && !strings.Contains(text, "fine") && !strings.Contains(text, `"error":{`):
				t.Errorf("clock by %s: no clear error: %d %s", by, status, text)
			}
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOneBadTool: one of fifty tools is hidden and says why; the others work.
func TestOneBadTool(t *testing.T) {
	names := []string{"bad"}
	for i := range 49 {
		names = append(names, fmt.Sprintf("good%d", i))
	}
	v := newVictim(t, names...)
	a, g := inside(t, v, nil)
	for _, server := range []string{"modern", "legacy"} {
		for _, session := range []string{g.open(server), ""} {
			params := "{}"
			if session == "" {
				params = `{"_meta":{` + stateless + `}}`
			}
			_, list, _, err := g.post(t.Context(), server, session, "tools/list", "", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":`+params+`}`)
			if err != nil || strings.Count(list, `"name":"good`) != 49 || strings.Contains(list, `"bad"`) {
				t.Errorf("%s: list %v %.300s", server, err, list)
			}
			_, text, err := g.call(t.Context(), server, session, "bad", newTrace())
			if err != nil || strings.Contains(text, "fine") || !strings.Contains(text, "PRT-08") && !strings.Contains(text, "MST-01") && !strings.Contains(text, "TDP-04") {
				t.Errorf("%s: bad: %v %s", server, err, text)
			}
			t.Logf("%s, session %v: %s", server, session != "", text)
			for _, name := range names[1:] {
				if _, text, err := g.call(t.Context(), server, session, name, newTrace()); err != nil || !strings.Contains(text, "fine") {
					t.Errorf("%s: %s: %v %s", server, name, err, text)
				}
			}
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
