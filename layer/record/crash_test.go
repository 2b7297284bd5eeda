//go:build unix

package record

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// The test binary plays the gateway that is killed: with this variable set to a folder it appends to
// the trail there and prints the id of every acknowledged record.
const childDir = "WARDER_TEST_RECORD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := storm(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// storm appends from many goroutines until it is killed or, with a limit, until the disk is full.
// Lines "ack ID" are printed after the acknowledgement, "refused" after an error.
func storm(dir string) error {
	cfg := testConfig()
	cfg.Segment = 1 << 20
	l, err := OpenLog(context.Background(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(words ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(words...)
	}
	say("ready")
	stop := time.Now().Add(20 * time.Second)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; time.Now().Before(stop); i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				e := warder.Event{Type: warder.EventIntent, Exchange: id, Detail: strings.Repeat("x y ", (w*31+i*7)%200)}
				if i%5 == 4 {
					_ = l.Emit(e) // not acknowledged, so nothing is said about it
					continue
				}
				if err := l.Append(context.Background(), e); err != nil {
					say("refused", err)
					time.Sleep(20 * time.Millisecond)
					continue
				}
				say("ack", id)
			}
		})
	}
	wg.Wait()
	return nil
}

// child starts the storm; kill ends it the hard way and returns what it said.
func child(t *testing.T, dir string, wrap ...string) (lines func() []string, pid int, kill func()) {
	t.Helper()
	argv := append(slices.Clone(wrap), os.Args[0])
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := bufio.NewReader(pipe)
		for {
			line, err := r.ReadString('\n')
			if err != nil { // a last line without its end is not an acknowledgement
				if !errors.Is(err, io.EOF) {
					t.Log(err)
				}
				return
			}
			mu.Lock()
			said = append(said, strings.TrimSpace(line))
			mu.Unlock()
		}
	}()
	lines = func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), said...)
	}
	kill = func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-done
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	return lines, cmd.Process.Pid, kill
}

// acked collects the acknowledged ids.
func acked(lines []string, into map[string]bool) (refused int) {
	for _, l := range lines {
		if id, ok := strings.CutPrefix(l, "ack "); ok {
			into[id] = true
		}
		if strings.HasPrefix(l, "refused") {
			refused++
		}
	}
	return refused
}

// TestLOG04KillNine kills a gateway in the middle of an append storm, again and again. Every
// acknowledged record is there afterwards, none is there twice, and the trail verifies.
func TestLOG04KillNine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := map[string]bool{}
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		lines, _, kill := child(t, dir)
		more := 100 + 137*round
		waitFor(t, "storm", func() bool { return len(lines()) > more })
		time.Sleep(time.Duration(round*37) * time.Millisecond)
		kill()
		all := lines()
		acked(all, want)
		if all[0] != "ready" {
			t.Fatalf("round %d: %v", round, all[:1])
		}
	}
	l := openLog(t, dir, testConfig())
	if err := l.AppendWait(t.Context(), warder.Event{Type: warder.EventLifecycle, Reason: "last"}); err != nil {
		t.Fatal(err)
	}
	checkTrail(t, dir, l.VerifierKey(), want)
	t.Logf("%d acknowledged records in %d lives, torn end %d bytes", len(want), rounds, l.recovery.Cut)
}

func checkTrail(t *testing.T, dir, key string, want map[string]bool) {
	t.Helper()
	got := map[string]int{}
	for _, e := range events(t, dir, Filter{Type: warder.EventIntent}) {
		got[e.Exchange]++
	}
	for id := range want {
		if got[id] != 1 {
			t.Errorf("acknowledged record %s is there %d times", id, got[id])
		}
	}
	for id, n := range got {
		if n > 1 {
			t.Errorf("record %s is there %d times", id, n)
		}
	}
	rep, err := Verify(t.Context(), dir, key)
	if err != nil || !rep.OK() {
		t.Errorf("report %+v, %v", rep, err)
	}
	if rep.Covered != rep.Records {
		t.Errorf("%d of %d records are in the tree", rep.Covered, rep.Records)
	}
}

// TestLOG04FullDisk fills the disk under a gateway, a small tmpfs in a mount namespace of its own:
// from then on appends are refused, none is acknowledged and lost, and a gateway with room again goes
// on with the same trail.
func TestLOG04FullDisk(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("NOT EXERCISED: a full disk needs mount namespaces; run on Linux")
	}
	unshare := []string{"unshare", "--mount", "--propagation", "private"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	if err := exec.CommandContext(t.Context(), unshare[0], append(unshare[1:], "true")...).Run(); err != nil {
		t.Skipf("NOT EXERCISED: a full disk needs mount namespaces, and unshare says %v; run as root, or allow user namespaces", err)
	}
	small := t.TempDir()
	lines, pid, kill := child(t, small, append(unshare, "sh", "-c", `mount -t tmpfs -o size=6m none "$WARDER_TEST_RECORD_DIR" && exec "$0"`)...)
	want := map[string]bool{}
	waitFor(t, "full disk", func() bool { return acked(lines(), want) > 20 })
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "copy") // the tmpfs dies with its process
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("/proc", strconv.Itoa(pid), "root", small))); err != nil {
		t.Fatal(err)
	}
	kill()
	acked(lines(), want)
	if len(want) == 0 {
		t.Fatal("nothing was acknowledged before the disk was full")
	}
	l := openLog(t, dir, testConfig())
	if err := l.AppendWait(t.Context(), warder.Event{Type: warder.EventLifecycle, Reason: "room_again"}); err != nil {
		t.Fatal(err)
	}
	checkTrail(t, dir, l.VerifierKey(), want)
	t.Logf("%d acknowledged records before the disk was full", len(want))
}
