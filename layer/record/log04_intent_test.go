package record

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record/wal"
)

func TestLOG04(t *testing.T) {
	t.Parallel()
	t.Run("pass: a call with effect is durable before it is forwarded", testDurableFirst)
	t.Run("pass: a slow read is in the trail within the delay", testLateRead)
	t.Run("near_miss: a quick read has one record only and waits for no disk", testQuickRead)
	t.Run("deny: a full queue refuses reads and writes", testFullQueue)
	t.Run("deny: a changed trail does not open", testTamperedTrail)
	t.Run("dependency_killed: without a store nothing is forwarded, and service returns with it", testStoreKilled)
}

func intercept(t *testing.T, l *Log, x *warder.Exchange) warder.Decision {
	t.Helper()
	d, err := (&intent{log: l, digest: "cfg-1", now: time.Now}).Intercept(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func testDurableFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig()
	cfg.Delay = 10 * time.Second // nothing gets there but by waiting for it
	l := openLog(t, dir, cfg)
	for _, effect := range []warder.Effect{warder.EffectUnknown, warder.EffectWrite, warder.EffectDestructive} {
		x := call(t, effect, `{"to":"bob"}`)
		syncs := l.Stats().Syncs
		if d := intercept(t, l, x); d.Verdict != warder.Pass {
			t.Fatalf("%v: %+v", effect, d)
		}
		got := events(t, dir, Filter{Exchange: x.ID})
		if len(got) != 1 || got[0].Type != warder.EventIntent || got[0].Effect != effect.String() || got[0].RequestHash == "" || got[0].ConfigDigest != "cfg-1" {
			t.Fatalf("%v: events %+v", effect, got)
		}
		if l.Stats().Syncs == syncs {
			t.Errorf("%v: no sync before the call was let through", effect)
		}
	}
	unknown := call(t, 0, `{}`)
	unknown.Tool = nil
	if intercept(t, l, unknown); len(events(t, dir, Filter{Exchange: unknown.ID})) != 1 {
		t.Error("a tool that the registry does not know was let through without a record")
	}
	vendor := call(t, 0, `{}`)
	vendor.Request, vendor.Tool = decode(t, `{"jsonrpc":"2.0","id":1,"method":"vendor/erase"}`), nil
	if intercept(t, l, vendor); len(events(t, dir, Filter{Exchange: vendor.ID})) != 1 {
		t.Error("an unknown method was let through without a record")
	}
}

func testLateRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	x := call(t, warder.EffectRead, `{}`)
	if d := intercept(t, l, x); d.Verdict != warder.Pass {
		t.Fatal(d)
	}
	waitFor(t, "late intent", func() bool { return len(events(t, dir, Filter{Exchange: x.ID, Type: warder.EventIntent})) == 1 })
	if err := newRecorder(l).Record(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if n := len(events(t, dir, Filter{Exchange: x.ID})); n != 3 { // intent, exchange, first authentication
		t.Errorf("%d events, want 3", n)
	}
	if len(l.late.open) != 0 || l.late.held != 0 {
		t.Errorf("%d late intents are still held, %d bytes", len(l.late.open), l.late.held)
	}
}

func testQuickRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig()
	cfg.Delay = 300 * time.Millisecond
	l := openLog(t, dir, cfg)
	r := newRecorder(l)
	start := time.Now()
	for _, m := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}`,
	} {
		x := call(t, warder.EffectRead, `{}`)
		x.Request = decode(t, m)
		x.Inbound = x.Request
		if d := intercept(t, l, x); d.Verdict != warder.Pass {
			t.Fatalf("%s: %+v", m, d)
		}
		if err := r.Record(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	if syncs := l.Stats().Syncs; syncs != 0 && time.Since(start) < cfg.Delay {
		t.Errorf("reads waited for %d syncs", syncs)
	}
	waitFor(t, "finished records", func() bool { return len(events(t, dir, Filter{Type: warder.EventExchange})) == 5 })
	closeLog(t, l)
	if got := events(t, dir, Filter{Type: warder.EventIntent}); len(got) != 0 {
		t.Errorf("%d superfluous intents", len(got))
	}
}

func testFullQueue(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Queue, cfg.Delay = 64<<10, 5*time.Second
	l := openLog(t, t.TempDir(), cfg)
	for err := error(nil); err == nil; {
		err = l.wal.Append(make([]byte, 1000))
	}
	for _, effect := range []warder.Effect{warder.EffectRead, warder.EffectWrite} {
		d := intercept(t, l, call(t, effect, `{}`))
		if d.Verdict != warder.Deny || d.Code != warder.CodeUnavailable || d.Reason != "audit_unavailable" {
			t.Errorf("%v: %+v, want audit_unavailable", effect, d)
		}
	}
}

func testTamperedTrail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	for range 5 {
		if err := l.AppendWait(t.Context(), warder.Event{Type: warder.EventApproval, Target: "send_mail"}); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	names, _ := filepath.Glob(filepath.Join(walOf(dir), "*.wal"))
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(names[0], int64(len(b)-40)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLog(t.Context(), dir, testConfig(), l.logger); !errors.Is(err, ErrTampered) {
		t.Fatalf("a trail without its last record opens: %v", err)
	}
}

func testStoreKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	if d := intercept(t, l, call(t, warder.EffectWrite, `{}`)); d.Verdict != warder.Pass {
		t.Fatal(d)
	}
	if err := os.Rename(walOf(dir), walOf(dir)+".away"); err != nil {
		t.Fatal(err)
	}
	for _, effect := range []warder.Effect{warder.EffectWrite, warder.EffectRead, warder.EffectWrite} {
		if d := intercept(t, l, call(t, effect, `{}`)); d.Verdict != warder.Deny || d.Code != warder.CodeUnavailable {
			t.Errorf("%v without a store: %+v", effect, d)
		}
	}
	if err := os.Rename(walOf(dir)+".away", walOf(dir)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "recovery", func() bool { return l.Healthy() == nil })
	if d := intercept(t, l, call(t, warder.EffectWrite, `{}`)); d.Verdict != warder.Pass {
		t.Errorf("after the store is back: %+v", d)
	}
	closeLog(t, l)
	rep, err := Verify(t.Context(), dir, l.VerifierKey())
	if err != nil || !rep.OK() {
		t.Errorf("trail after the outage: %+v, %v", rep, err)
	}
}

func TestAppendWaitIsCovered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	start := time.Now()
	if err := l.AppendWait(t.Context(), warder.Event{Type: warder.EventConfig, Detail: "loaded"}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	rep, err := Verify(t.Context(), dir, l.VerifierKey())
	if err != nil || !rep.OK() || rep.Covered == 0 || rep.Covered != rep.Records {
		t.Errorf("report %+v, %v: want the record under a checkpoint", rep, err)
	}
	t.Logf("covered by a checkpoint after %v", took)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.AppendWait(ctx, warder.Event{Type: warder.EventConfig}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled wait: %v", err)
	}
}

func TestOneWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir, testConfig())
	if _, err := OpenLog(t.Context(), dir, testConfig(), l.logger); err == nil {
		t.Fatal("a second process may write the trail")
	}
	closeLog(t, l)
	if err := l.Emit(warder.Event{Type: warder.EventLifecycle}); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	openLog(t, dir, testConfig())
}

func TestCaptureIsBoundedAndErasable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig()
	cfg.Capture = Capture{Enabled: true, Total: 8 << 10, Each: 2 << 10}
	l := openLog(t, dir, cfg)
	var ids []string
	for range 20 {
		x := call(t, warder.EffectRead, `{"text":"`+string(make0(900))+`"}`)
		if d := intercept(t, l, x); d.Verdict != warder.Pass {
			t.Fatal(d)
		}
		ids = append(ids, x.ID)
		time.Sleep(time.Millisecond)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Body(ids[0]); !errors.Is(err, ErrNotFound) {
		t.Errorf("oldest body: %v, want erased", err)
	}
	last := ids[len(ids)-1]
	if _, err := r.Body(last); err != nil {
		t.Errorf("newest body: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, captureDir, last), filepath.Join(dir, captureDir, ids[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Body(ids[0]); err == nil {
		t.Error("a body passes for that of another exchange")
	}
	if err := l.Erase(ids[len(ids)-2]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Body(ids[len(ids)-2]); !errors.Is(err, ErrNotFound) {
		t.Errorf("erased body: %v", err)
	}
	large := call(t, warder.EffectRead, `{"text":"`+string(make0(4000))+`"}`)
	intercept(t, l, large)
	if _, err := r.Body(large.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("body above the bound: %v", err)
	}
	if l.vault.held > int64(cfg.Capture.Total) {
		t.Errorf("%d bytes held, bound %d", l.vault.held, cfg.Capture.Total)
	}
}

func make0(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a'
	}
	return b
}

// TestCloseEndsEverything opens and closes a trail again and again; nothing of it may stay behind.
func TestCloseEndsEverything(t *testing.T) {
	dir := t.TempDir()
	before, files := runtime.NumGoroutine(), descriptors(t)
	for range 5 {
		l := openLog(t, dir, testConfig())
		if err := l.AppendWait(t.Context(), warder.Event{Type: warder.EventLifecycle}); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
	}
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	if now := descriptors(t); now > files {
		t.Errorf("%d descriptors open, %d before", now, files)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Logf("descriptors are not counted here: %v", err)
	}
	return len(fds)
}
