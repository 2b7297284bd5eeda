package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/registry"
)

// fakeRegistry remembers what it was asked and refuses the name "bad".
type fakeRegistry struct{ asked chan registry.Request }

func (f fakeRegistry) Approve(_ context.Context, req registry.Request) error {
	if req.Name == "bad" {
		return fmt.Errorf("%w: no such definition", registry.ErrUnknown)
	}
	f.asked <- req
	return nil
}

func (fakeRegistry) List(context.Context, registry.Filter) ([]registry.Entry, error) { return nil, nil }

func (f fakeRegistry) Revoke(ctx context.Context, req registry.Request) error {
	req.Note = "revoked: " + req.Note
	return f.Approve(ctx, req)
}

// serving runs Serve on a short-lived folder; paths of sockets must be short.
func serving(t *testing.T) (string, fakeRegistry) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wa")
	if err != nil {
		t.Fatal(err)
	}
	reg := fakeRegistry{make(chan registry.Request, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	api := testAPI(t, Config{}, Deps{Definitions: reg})
	go func() { done <- Serve(ctx, dir, api.Handler(), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for range 200 {
		if _, err := Dial(ctx, dir); err == nil {
			return dir, reg
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the socket did not open within 2 s")
	return "", reg
}

func TestDecisionsTravel(t *testing.T) {
	dir, reg := serving(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	req := registry.Request{
		Key: registry.Key{Server: "notes", Kind: "tool", Name: "search", Digest: warder.Digest{1, 2, 3}},
		Who: "somebody else", Effect: warder.EffectRead, Labels: []string{"internal"}, Note: "looked at it", Keep: true,
	}
	if err := c.Approve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	want := req
	want.Who = me.Username // as the kernel says, not as the request says
	if diff := cmp.Diff(want, <-reg.asked); diff != "" {
		t.Errorf("approve (-want +got):\n%s", diff)
	}
	if err := c.Revoke(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	want.Note = "revoked: looked at it"
	if diff := cmp.Diff(want, <-reg.asked); diff != "" {
		t.Errorf("revoke (-want +got):\n%s", diff)
	}
	req.Name = "bad"
	if err := c.Approve(t.Context(), req); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no such definition") {
		t.Errorf("refused decision: %v, want ErrRefused with the reason", err)
	}
}

func TestDialWithoutGateway(t *testing.T) {
	if _, err := Dial(t.Context(), t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial: %v, want ErrNotRunning", err)
	}
}

func TestServeReplacesWhatADeadProcessLeft(t *testing.T) {
	dir := shortDir(t)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), dir, testAPI(t, Config{}, Deps{}).Handler(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("beside a living gateway: %v, want a refusal", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := Serve(ctx, dir, testAPI(t, Config{}, Deps{}).Handler(), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("after a dead gateway: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, socketName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), dir, testAPI(t, Config{}, Deps{}).Handler(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file in the place of the socket was replaced")
	}
}

func TestReadIsStrict(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	api := testAPI(t, Config{}, Deps{Definitions: fakeRegistry{make(chan registry.Request, 9)}})
	for name, body := range map[string]string{
		"unknown field": `{"server":"a","kind":"tool","name":"b","digest":"` + digest + `","effect":"read","who":"root"}`,
		"short digest":  `{"server":"a","kind":"tool","name":"b","digest":"abcd","effect":"read"}`,
		"long digest":   `{"server":"a","kind":"tool","name":"b","digest":"` + digest + `00","effect":"read"}`,
		"effect":        `{"server":"a","kind":"tool","name":"b","digest":"` + digest + `","effect":"harmless"}`,
		"kind":          `{"server":"a","kind":"thing","name":"b","digest":"` + digest + `","effect":"read"}`,
		"no name":       `{"server":"a","kind":"tool","digest":"` + digest + `","effect":"read"}`,
		"twice":         `{"server":"a","server":"c","kind":"tool","name":"b","digest":"` + digest + `","effect":"read"}`,
		"other case":    `{"server":"a","SERVER":"c","kind":"tool","name":"b","digest":"` + digest + `","effect":"read"}`,
		"two values":    `{"server":"a","kind":"tool","name":"b","digest":"` + digest + `","effect":"read"}{}`,
		"no object":     `[]`,
		"nothing":       ``,
	} {
		if code, p := ask(api, asLocal(http.MethodPost, "/tools/approve", body)); code != http.StatusBadRequest || p.Code != codeInvalid {
			t.Errorf("%s: %d %s, want 400 invalid_request", name, code, p.Code)
		}
	}
	good := `{"server":"a","kind":"tool","name":"b","digest":"` + digest + `","effect":"read"}`
	if code, p := ask(api, asLocal(http.MethodPost, "/tools/approve", good)); code != http.StatusNoContent {
		t.Errorf("near miss: %d %s %s, want 204", code, p.Code, p.Detail)
	}
	r := asLocal(http.MethodPost, "/tools/approve", good)
	r.Header.Set("Content-Type", "text/plain")
	if code, p := ask(api, r); code != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d %s, want 415", code, p.Code)
	}
	if code, p := ask(api, asLocal(http.MethodPost, "/tools/approve", good[:1]+strings.Repeat(" ", maxBody)+good[1:])); code != http.StatusRequestEntityTooLarge {
		t.Errorf("large: %d %s, want 413", code, p.Code)
	}
}

// shortDir is a folder whose path is short enough for sockets in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wa")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
