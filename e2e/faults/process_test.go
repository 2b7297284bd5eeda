package faults

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record"
)

// TestKilled kills the gateway in the middle of its work, again and again: every call that reached the
// server is in the trail, and the trail verifies.
func TestKilled(t *testing.T) {
	program := binary(t)
	v := newVictim(t, "good")
	dir := filepath.Join(t.TempDir(), "data")
	cfg := configFile(t, dir, v.URL)
	for round := range 3 {
		cmd, g := serve(t, dir, cfg, program)
		ctx, cancel := context.WithCancel(t.Context())
		var load sync.WaitGroup
		session := g.open("legacy")
		for i := range 8 {
			load.Go(func() {
				for ctx.Err() == nil {
					s, server := "", "modern"
					if i%2 == 0 {
						s, server = session, "legacy"
					}
					if _, _, err := g.call(ctx, server, s, "good", newTrace()); err != nil {
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(400+round*300) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		cancel()
		load.Wait()
		audit := filepath.Join(dir, "audit")
		r, err := record.Open(audit)
		if err != nil {
			t.Fatal(err)
		}
		key, err := r.VerifierKey()
		if err != nil {
			t.Fatal(err)
		}
		report, err := record.Verify(t.Context(), audit, key)
		if err != nil || !report.OK() {
			t.Errorf("round %d: %v %+v", round, err, report)
		}
		events := recorded(t, dir)
		missing := 0
		v.mu.Lock()
		seen := len(v.seen)
		for _, parent := range v.seen {
			if len(events[strings.TrimPrefix(parent, "00-")[:32]]) == 0 {
				missing++
			}
		}
		v.mu.Unlock()
		if missing > 0 || seen < 20 {
			t.Errorf("round %d: %d of %d calls that reached the server are not in the trail", round, missing, seen)
		}
		t.Logf("round %d: %d calls reached the server, %d records, %d covered", round, seen, report.Records, report.Covered)
	}
	out, err := exec.CommandContext(t.Context(), program, "audit", "verify", "--config", cfg).CombinedOutput()
	t.Logf("warder audit verify: %v\n%s", err, out)
}

// TestFullDisk fills the disk under the audit trail: calls with effect are refused and say why, and work
// again when there is room. It needs a private mount namespace.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skipf("NOT EXERCISED: a full disk; run as root on Linux, this is %s with uid %d", runtime.GOOS, os.Geteuid())
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("NOT EXERCISED: a full disk; allow private mount namespaces, unshare says %v %s", err, out)
	}
	v := newVictim(t, "good")
	dir := filepath.Join(t.TempDir(), "data")
	disk := filepath.Join(dir, "audit")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"`
	cmd, g := serve(t, dir, configFile(t, dir, v.URL), "unshare", "-m", "sh", "-c", script, disk, binary(t))
	inside := filepath.Join("/proc", itoa(cmd.Process.Pid), "root", disk)
	if _, text, err := g.call(t.Context(), "modern", "", "good", newTrace()); err != nil || !strings.Contains(text, "fine") {
		t.Fatalf("before: %v %s", err, text)
	}
	ballast := filepath.Join(inside, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<16)
	for err == nil {
		_, err = f.Write(block)
	}
	_ = f.Close() // full
	refused := false
	for range 20_000 {
		before := len(v.seen)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, text, err := g.call(ctx, "modern", "", "good", newTrace())
		cancel()
		if err != nil {
			t.Fatalf("hung or broke: %v", err)
		}
		if strings.Contains(text, `"error":{`) {
			if len(v.seen) != before || !strings.Contains(text, "unavailable") {
				t.Errorf("refused, but forwarded %v: %s", len(v.seen) != before, text)
			}
			refused = true
			t.Logf("refused: %s", text)
			break
		}
	}
	if !refused {
		t.Fatal("calls pass though the trail is full")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	var last string
	defer func() {
		if t.Failed() {
			t.Log(last)
		}
	}()
	until(t, "calls pass again", func() bool {
		_, text, err := g.call(t.Context(), "modern", "", "good", newTrace())
		last = text
		return err == nil && strings.Contains(text, "fine")
	})
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// TestStoreGone takes the database away under a running gateway: what is approved goes on or is refused
// with a clear error, nothing new is approved, and nothing hangs.
func TestStoreGone(t *testing.T) {
	v := newVictim(t, "good")
	a, g := inside(t, v, nil)
	session := g.open("legacy")
	if _, text, err := g.call(t.Context(), "legacy", session, "good", newTrace()); err != nil || !strings.Contains(text, "fine") {
		t.Fatalf("before: %v %s", err, text)
	}
	gone, err := filepath.Glob(filepath.Join(g.dir, "warder.db*"))
	if err != nil || len(gone) == 0 {
		t.Fatalf("no database: %v", err)
	}
	for _, name := range gone {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	trace := newTrace()
	for _, s := range []string{session, ""} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, text, err := g.call(ctx, "legacy", s, "good", trace)
		cancel()
		if err != nil || !strings.Contains(text, "fine") && !strings.Contains(text, `"error":{`) {
			t.Errorf("without its database: %v %s", err, text)
		}
		t.Logf("without its database: %.200s", text)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Logf("close: %v", err)
	}
	found := false
	for _, e := range recorded(t, g.dir)[trace] {
		found = found || e.Type == warder.EventExchange
	}
	if !found {
		t.Error("the calls are not in the trail")
	}
}
