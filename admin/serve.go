package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// ErrNotRunning says that no gateway serves the data folder.
var ErrNotRunning = errors.New("no gateway is running on this data folder")

// Serve answers on the socket of the data folder until ctx is done. Who calls is who the kernel says is at
// the other end; only the user who runs the gateway, and root, are heard. A socket that a dead process
// left behind is replaced.
func Serve(ctx context.Context, data string, api http.Handler, log *slog.Logger) (err error) {
	before, err := socketOf(data)
	if err == nil {
		err = removeStale(ctx, before)
	}
	if err == nil && before != filepath.Join(data, socketName) {
		_ = os.Remove(filepath.Dir(before)) // what a process that died left behind; it may be gone
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("admin socket: %w", err)
	}
	path, remove, err := place(data)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	srv := &http.Server{
		Handler: api, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			who, err := peer(c)
			return context.WithValue(ctx, peerKey{}, caller{who, err})
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // ends Serve, which reports
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// removeStale removes a socket that nobody answers on.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket", path)
	}
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return errors.Join(errors.New("another gateway is running on this data folder"), c.Close())
	}
	return os.Remove(path)
}

type peerKey struct{}

// A caller is who is at the other end of a connection of the socket.
type caller struct {
	name string
	err  error
}
