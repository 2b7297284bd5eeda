package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
)

func legacyChild(t *testing.T, kind string, change func(*Config)) (*Server, Link) {
	t.Helper()
	cfg := childConfig(kind)
	cfg.Era, cfg.Timeout, cfg.MaxMessage, cfg.MaxResponse = EraLegacy, 300*time.Millisecond, 64<<10, 1<<20
	cfg.Run.Grace = 100 * time.Millisecond
	if change != nil {
		change(&cfg)
	}
	s := newServer(t, cfg)
	return s, link(t, s, Key{Owner: "o"}, warder.Revision20251125)
}

// TestHostileChild holds every way in which a child may misbehave against its reason.
func TestHostileChild(t *testing.T) {
	for _, tc := range []struct {
		kind     string
		reason   warder.Reason
		messages int
		findings map[string]int64
		text     string // of the error
	}{
		{kind: "honest", messages: 1},
		{kind: "dies", reason: ReasonClosed, text: "segmentation fault"},
		{kind: "dies in a line", reason: ReasonClosed, text: "exit status 9"},
		{kind: "closes stdout", reason: ReasonClosed, text: "closed its stdout"},
		{kind: "hangs", reason: ReasonTimeout},
		{kind: "wrong id", reason: ReasonTimeout, findings: map[string]int64{findUnknownID: 1}},
		{kind: "twice", messages: 1, findings: map[string]int64{findUnknownID: 1}},
		{kind: "banner", messages: 1, findings: map[string]int64{findMalformed: 2}},
		{kind: "duplicate key", reason: ReasonMalformed, findings: map[string]int64{findMalformed: 1}},
		{kind: "oversized", reason: ReasonTooLarge, findings: map[string]int64{findOversized: 1}},
		{kind: "floods", reason: ReasonTooLarge, messages: -1},
		{kind: "pings", messages: 1},
		{kind: "asks a lot", messages: maxQuestions + 1, findings: map[string]int64{findQuestions: 200 - maxQuestions}},
		{kind: "token", messages: 2, findings: map[string]int64{findToken: 1}},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			s, l := legacyChild(t, tc.kind, nil)
			got, err := collect(t.Context(), l, callTool(t, false, `"me"`, "x", ""))
			if reasonOf(err) != tc.reason || err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error %v, want reason %q and %q", err, tc.reason, tc.text)
			}
			if tc.messages >= 0 && len(got) != tc.messages {
				t.Errorf("got %d messages %.500q, want %d", len(got), got, tc.messages)
			}
			if tc.reason == "" {
				contains(t, last(got), `"id":"me"`)
			}
			if tc.kind == "token" {
				contains(t, got[0], `"progressToken":"tok"`)
			}
			var findings map[string]int64
			for range 50 {
				if findings = s.Stats().Findings; cmp.Equal(tc.findings, findings) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("findings (-want +got):\n%s", cmp.Diff(tc.findings, findings))
		})
	}
}

// TestFlood proves that a call nobody reads is given up, and that others go on.
func TestFlood(t *testing.T) {
	leakCheck(t)
	_, l := legacyChild(t, "floods", func(c *Config) { c.Timeout, c.MaxResponse = 5*time.Second, 16<<20 })
	n := 0
	var failure error
	for _, err := range l.Call(t.Context(), callTool(t, false, `1`, "x", ""), nil) {
		if n++; n == 1 {
			waitFlooded(t, l) // a slow reader
		}
		failure = err
	}
	if reasonOf(failure) != ReasonFlood {
		t.Errorf("after %d messages: %v, want %s", n, failure, ReasonFlood)
	}
	if !alive(l) {
		t.Errorf("the link died: %v", l.Err())
	}
}

// waitFlooded waits until the only call of a link was given up.
func waitFlooded(t *testing.T, l Link) {
	t.Helper()
	m := l.(*mux)
	for range 1000 {
		m.mu.Lock()
		for _, c := range m.calls {
			c.mu.Lock()
			over := c.over
			c.mu.Unlock()
			if over {
				m.mu.Unlock()
				return
			}
		}
		m.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the call was not given up")
}

// TestManyCalls proves that concurrent calls with equal ids over one child get their own answers.
func TestManyCalls(t *testing.T) {
	leakCheck(t)
	s := newServer(t, childConfig("sdk"))
	l := link(t, s, Key{Owner: "o"}, warder.Revision20251125)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			text := fmt.Sprintf("text-%d", i)
			got, err := collect(t.Context(), l, callTool(t, false, `1`, "progress", text))
			if err != nil || len(got) != 4 {
				t.Errorf("got %q, %v", got, err)
				return
			}
			contains(t, got[0], `"progressToken":"tok"`)
			contains(t, got[3], `"id":1`, `"`+text+`"`)
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Starts != 1 || len(st.Findings) != 0 || st.InFlight != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestInstances proves who shares a child with whom.
func TestInstances(t *testing.T) {
	leakCheck(t)
	keys := []Key{{Owner: "a"}, {Owner: "a", Session: "s"}, {Owner: "b"}, {Owner: "a", Capabilities: [32]byte{1}}}
	for _, tc := range []struct {
		instances string
		starts    int64
	}{{PerPrincipal, 3}, {Shared, 1}} {
		cfg := childConfig("honest")
		cfg.Era, cfg.Run.Instances = EraLegacy, tc.instances
		s := newServer(t, cfg)
		for range 2 {
			for _, k := range keys {
				if _, err := collect(t.Context(), link(t, s, k, warder.Revision20251125), callTool(t, false, `1`, "x", "")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := s.Stats().Starts; got != tc.starts {
			t.Errorf("%s: %d children, want %d", tc.instances, got, tc.starts)
		}
	}
}

// TestMaxChildren proves the bound on children.
func TestMaxChildren(t *testing.T) {
	leakCheck(t)
	cfg := childConfig("honest")
	cfg.Era, cfg.Run.MaxChildren = EraLegacy, 2
	s := newServer(t, cfg)
	for i, want := range []warder.Reason{"", "", ReasonBusy} {
		_, err := s.Link(t.Context(), Key{Owner: fmt.Sprint(i)}, Init{Revision: warder.Revision20251125})
		if reasonOf(err) != want {
			t.Errorf("child %d: %v, want %q", i, err, want)
		}
	}
}

// TestRestart proves that a dead child is started again after a pause, and not before.
func TestRestart(t *testing.T) {
	leakCheck(t)
	cfg := childConfig("dies")
	cfg.Era, cfg.Restart = EraLegacy, Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}
	s := newServer(t, cfg)
	for i := range 3 {
		start := time.Now()
		l := link(t, s, Key{Owner: "o"}, warder.Revision20251125)
		if waited := time.Since(start); i > 0 && waited < 100*time.Millisecond<<(i-1) {
			t.Errorf("start %d after %s", i, waited)
		}
		if _, err := collect(t.Context(), l, callTool(t, false, `1`, "x", "")); reasonOf(err) != ReasonClosed {
			t.Fatalf("call: %v", err)
		}
		<-l.Done()
	}
	if st := s.Stats(); st.Starts != 3 || st.Deaths != 3 {
		t.Errorf("stats %+v", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Link(ctx, Key{Owner: "o"}, Init{Revision: warder.Revision20251125}); reasonOf(err) != ReasonRestarting {
		t.Errorf("without patience: %v, want %s", err, ReasonRestarting)
	}
	if _, err := s.Link(t.Context(), Key{Owner: "other"}, Init{Revision: warder.Revision20251125}); err != nil {
		t.Errorf("another owner waits, too: %v", err)
	}
}

// TestChildCannotStart proves that the operator learns why.
func TestChildCannotStart(t *testing.T) {
	leakCheck(t)
	for _, tc := range []struct {
		cfg    Config
		reason warder.Reason
		text   string
	}{
		{Config{Run: &Run{Command: []string{"/nonexistent/server"}}}, ReasonUnreachable, "no such file"},
		{childConfig("exits"), ReasonClosed, "cannot open database"},
		{Config{Run: &Run{Command: []string{"cat"}, SecretEnv: map[string]secret.Ref{"K": {Env: "WARDER_NOT_SET"}}}}, ReasonUnreachable, "WARDER_NOT_SET"},
	} {
		s := newServer(t, tc.cfg)
		_, err := s.Link(t.Context(), Key{}, Init{Revision: warder.Revision20251125})
		if reasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %s with %q", tc.cfg.Run.Command, err, tc.reason, tc.text)
		}
	}
}

// TestTouchyChild proves that a server which dies of the probe is started again for initialize.
func TestTouchyChild(t *testing.T) {
	leakCheck(t)
	s := newServer(t, childConfig("touchy"))
	l := link(t, s, Key{Owner: "o"}, warder.Revision20260728)
	if l.Modern() || l.Hello().Revision != warder.Revision20251125 {
		t.Errorf("modern %v, revision %s", l.Modern(), l.Hello().Revision)
	}
	if _, err := collect(t.Context(), l, callTool(t, false, `1`, "x", "")); err != nil {
		t.Fatal(err)
	}
}

// TestStubbornChild proves that nothing of a child outlives its server, grandchildren included.
func TestStubbornChild(t *testing.T) {
	leakCheck(t)
	s, l := legacyChild(t, "stubborn", nil)
	got, err := collect(t.Context(), l, callTool(t, false, `1`, "x", ""))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Result struct{ PID, Grandchild int }
	}
	if err := json.Unmarshal([]byte(got[0]), &answer); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 200*time.Millisecond || d > 3*time.Second {
		t.Errorf("closing took %s, want two graces of 100 ms", d)
	}
	for _, pid := range []int{answer.Result.PID, answer.Result.Grandchild} {
		if !goneOrZombie(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	if s.Stats().Deaths != 0 {
		t.Error("an ordered end was counted as a death")
	}
}

// goneOrZombie waits for the end of a process; in a container nobody may collect orphans.
func goneOrZombie(pid int) bool {
	for range 100 {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return true
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(b), ") Z ") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// TestDeafChild proves that a child which does not read cannot hold up its callers.
func TestDeafChild(t *testing.T) {
	leakCheck(t)
	_, l := legacyChild(t, "deaf", func(c *Config) { c.ConnectTimeout = 200 * time.Millisecond; c.Timeout = 5 * time.Second })
	big := strings.Repeat("x", 1<<20)
	start := time.Now()
	_, err := collect(t.Context(), l, callTool(t, false, `1`, "x", big))
	if reasonOf(err) != ReasonTimeout {
		t.Errorf("error %v, want %s", err, ReasonTimeout)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it took %s", d)
	}
	<-l.Done()
}

// TestEnvironment proves what a child sees.
func TestEnvironment(t *testing.T) {
	leakCheck(t)
	t.Setenv("SECRET_OF_WARDER", "must not leak")
	t.Setenv("TOKEN_SOURCE", "t0ken")
	dir := t.TempDir()
	_, l := legacyChild(t, "environment", func(c *Config) {
		c.Run.SecretEnv = map[string]secret.Ref{"TOKEN": {Env: "TOKEN_SOURCE"}}
		c.Run.Dir = dir
	})
	got, err := collect(t.Context(), l, callTool(t, false, `1`, "x", ""))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Result struct {
			Env []string
			Dir string
		}
	}
	if err := json.Unmarshal([]byte(got[0]), &answer); err != nil {
		t.Fatal(err)
	}
	want := []string{"TOKEN=t0ken", "UPSTREAM_TEST_CHILD=environment"}
	for _, name := range []string{"HOME", "LANG", "PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			want = append(want, name+"="+v)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, answer.Result.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if answer.Result.Dir != dir {
		t.Errorf("directory %s, want %s", answer.Result.Dir, dir)
	}
}

// TestOneLine proves that a message with line breaks reaches a child as one line.
func TestOneLine(t *testing.T) {
	leakCheck(t)
	_, l := legacyChild(t, "mirror", nil)
	req := message(t, "{\n\"jsonrpc\":\"2.0\",\r\n\"id\":\"ä\",\"method\":\"tools/call\",\n\"params\":{\"name\":\"a\\nb\"}\n}")
	got, err := collect(t.Context(), l, req)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, got[0], `"id":"ä"`, `{\"name\":\"a\\nb\"}`)
}

// TestChildCancel proves that a child is told under the id it knows.
func TestChildCancel(t *testing.T) {
	leakCheck(t)
	s, l := legacyChild(t, "hangs", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := collect(ctx, l, callTool(t, false, `"mine"`, "x", ""))
	if reasonOf(err) != ReasonTimeout {
		t.Errorf("error %v", err)
	}
	id := s.ids.Load()
	c := l.(*mux).out.(*child)
	want := fmt.Sprintf(`"requestId":%d`, id)
	for range 100 {
		if strings.Contains(c.tail.String(), want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("stderr %q, want it to contain %s", c.tail.String(), want)
}
