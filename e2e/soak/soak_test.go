package soak

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// callers is how many clients call at once.
const callers = 8

// TestSoak calls a tool through a gateway for WARDER_SOAK, 5 seconds by default.
func TestSoak(t *testing.T) {
	wanted := 5 * time.Second
	if word := os.Getenv("WARDER_SOAK"); word != "" {
		var err error
		if wanted, err = time.ParseDuration(word); err != nil {
			t.Fatalf("WARDER_SOAK: %v", err)
		}
	}
	g, token := gateway(t)
	for n := range notes {
		if err := call(t.Context(), g.URL("notes"), token, "add_note", n); err != nil {
			t.Fatalf("add a note: %v\n%s", err, g.Log())
		}
	}
	load(t, g, token, wanted/4) // pools, caches and the heap take their size
	before := usage(t, g.Pid())
	calls := load(t, g, token, wanted)
	after := usage(t, g.Pid())
	t.Logf("%d calls in %v; before %v, after %v", calls, wanted, before, after)

	if calls == 0 {
		t.Fatal("no call was answered")
	}
	if after.descriptors > before.descriptors+callers {
		t.Errorf("descriptors grew from %d to %d", before.descriptors, after.descriptors)
	}
	if after.threads > before.threads+callers {
		t.Errorf("threads grew from %d to %d", before.threads, after.threads)
	}
	if after.kilobytes > 2*before.kilobytes+32<<10 {
		t.Errorf("resident memory grew from %d kB to %d kB", before.kilobytes, after.kilobytes)
	}
	if out, err := g.Run(t.Context(), "audit", "verify"); err != nil {
		t.Errorf("the audit trail does not verify: %v\n%s", err, out)
	}
}

// gateway starts Warder in front of the notes sample and returns a token for it.
func gateway(t *testing.T) (*kit.Gateway, string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "warder")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/warder-mcp/warder/cmd/warder")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	g, err := kit.Open(t.Context(), bin, kit.Setup{
		Dir: t.TempDir(), Trust: "first_use",
		Servers: fmt.Sprintf("  - {name: notes, run: {command: [%q, sample, notes], instances: shared}}\n", bin),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("end the gateway: %v\n%s", err, g.Log())
		}
	})
	token, err := g.Token(t.Context(), "notes")
	if err != nil {
		t.Fatal(err)
	}
	return g, token
}

// load calls for a while and returns how many calls were answered well.
func load(t *testing.T, g *kit.Gateway, token string, d time.Duration) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var good atomic.Int64
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				if err := call(ctx, g.URL("notes"), token, "read_note", n%notes); err == nil {
					good.Add(1)
				} else if ctx.Err() == nil {
					t.Errorf("call: %v\n%s", err, g.Log())
					return
				}
			}
		})
	}
	group.Wait()
	return good.Load()
}

// notes is how many notes are read in turn, so that no call is a repeat of the one before.
const notes = 64

// call adds a note, or reads it.
func call(ctx context.Context, url, token, tool string, note int) error {
	args := fmt.Sprintf(`{"title":"note %d"}`, note)
	want := "the text of a note"
	if tool == "add_note" {
		args, want = fmt.Sprintf(`{"title":"note %d","text":%q}`, note, want), "Stored."
	}
	message := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"soak","version":"1"},`+
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`, tool, args)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(message))
	if err != nil {
		return err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + token,
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool,
	} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(want)) {
		return fmt.Errorf("HTTP %s: %.300s", resp.Status, body)
	}
	return nil
}

// A use is what a process holds.
type use struct{ kilobytes, threads, descriptors int }

func (u use) String() string {
	return fmt.Sprintf("%d kB, %d threads, %d descriptors", u.kilobytes, u.threads, u.descriptors)
}

func usage(t *testing.T, pid int) use {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var u use
	for line := range strings.SplitSeq(string(status), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1]) // other lines hold words
		switch f[0] {
		case "VmRSS:":
			u.kilobytes = n
		case "Threads:":
			u.threads = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	u.descriptors = len(fds)
	return u
}
