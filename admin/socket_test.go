package admin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLongPaths serves a data folder whose path is too long for a socket.
func TestLongPaths(t *testing.T) {
	runtimeDir := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
	data := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), data); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before: %v, want %v", err, ErrNotRunning)
	}
	serve := func() (stop func() error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, data, testAPI(t, Config{}, Deps{}).Handler(), slog.New(slog.DiscardHandler))
		}()
		for range 200 {
			if _, err := Dial(ctx, data); err == nil {
				return func() error { cancel(); return <-done }
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal("the socket did not open within 2 s")
		return nil
	}
	stop := serve()
	path, err := socketOf(data)
	if err != nil || !strings.HasPrefix(path, runtimeDir+"/") {
		t.Fatalf("the socket is at %q, %v", path, err)
	}
	for file, want := range map[string]fs.FileMode{filepath.Dir(path): 0o700 | fs.ModeDir, path: 0o600 | fs.ModeSocket, filepath.Join(data, elsewhereName): 0o600} {
		if info, err := os.Stat(file); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v, %v", file, info.Mode(), want, err)
		}
	}
	if err := Serve(t.Context(), data, testAPI(t, Config{}, Deps{}).Handler(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("a second gateway: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(runtimeDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := Dial(t.Context(), data); !errors.Is(err, ErrNotRunning) {
		t.Errorf("afterwards: %v, want %v", err, ErrNotRunning)
	}
	// A process that died leaves its socket; the next one cleans up.
	dead := filepath.Join(runtimeDir, "warder-dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dead, socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if err := os.WriteFile(filepath.Join(data, elsewhereName), []byte(filepath.Join(dead, socketName)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := serve()(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of the dead process: %v", err)
	}
}

// TestNowhereToListen says what to do where no place is short enough, and believes no file that names another.
func TestNowhereToListen(t *testing.T) {
	data := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	far := filepath.Join(t.TempDir(), strings.Repeat("far/", 30))
	for _, dir := range []string{data, far} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", far)
	err := Serve(t.Context(), data, testAPI(t, Config{}, Deps{}).Handler(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "choose a data folder with a shorter path") {
		t.Errorf("got %v, want a hint", err)
	}
	for _, text := range []string{"", "admin.sock", "/tmp/other.sock\n", "/" + strings.Repeat("x", 200) + "/admin.sock", strings.Repeat("x", maxElsewhere+1)} {
		if err := os.WriteFile(filepath.Join(data, elsewhereName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if path, err := socketOf(data); err == nil {
			t.Errorf("%.20q was taken for %q", text, path)
		}
	}
}
