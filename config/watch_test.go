package config

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// watching watches a file and hands back what it said.
func watching(t *testing.T, apply func(*Config) error) (name string, applied <-chan *Config, rejected <-chan error) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "warder.yaml")
	write(t, name, "version: 1\n")
	good, bad := make(chan *Config, 8), make(chan error, 8)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	w, err := Watch(name, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- w.Run(ctx,
			func(_ context.Context, cfg *Config) error {
				if err := apply(cfg); err != nil {
					return err
				}
				good <- cfg
				return nil
			},
			func(_ context.Context, err error) { bad <- err })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	return name, good, bad
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s within 10 s", what)
		panic("unreachable")
	}
}

func TestWatch(t *testing.T) {
	errSwap := errors.New("self-check: nothing works")
	name, applied, rejected := watching(t, func(cfg *Config) error {
		if cfg.Admin.Address == "127.0.0.1:2" {
			return errSwap
		}
		return nil
	})

	write(t, name, "version: 1\nadmin: {address: \"127.0.0.1:1\"}\n")
	if cfg := receive(t, applied, "configuration after a change"); cfg.Admin.Address != "127.0.0.1:1" {
		t.Errorf("address = %q", cfg.Admin.Address)
	}

	write(t, name, "version: 1\nadmin: {colour: x}\n")
	if _, ok := errors.AsType[*Error](receive(t, rejected, "rejection of a wrong file")); !ok {
		t.Error("want *Error")
	}

	write(t, name, "version: 1\nadmin: {address: \"127.0.0.1:2\"}\n")
	if err := receive(t, rejected, "rejection by apply"); !errors.Is(err, errSwap) {
		t.Errorf("rejected with %v, want the error of apply", err)
	}

	// Editors and volume mounts replace the file.
	other := name + ".new"
	write(t, other, "version: 1\nadmin: {address: \"127.0.0.1:3\"}\n")
	if err := os.Rename(other, name); err != nil {
		t.Fatal(err)
	}
	if cfg := receive(t, applied, "configuration after a rename"); cfg.Admin.Address != "127.0.0.1:3" {
		t.Errorf("address = %q", cfg.Admin.Address)
	}

	// The dependency of a reload is the file: without it the old configuration stays.
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, rejected, "rejection of a missing file"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("rejected with %v, want os.ErrNotExist", err)
	}

	write(t, name, "version: 1\n")
	receive(t, applied, "configuration after the file came back")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	receive(t, applied, "configuration after SIGHUP, without a change")
}
