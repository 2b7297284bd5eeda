package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long a file must rest before it is read again: editors write in several steps.
const quiet = 200 * time.Millisecond

// A Watcher sees changes of one configuration file.
type Watcher struct {
	path   string
	log    *slog.Logger
	files  *fsnotify.Watcher
	hangup chan os.Signal
	last   [sha256.Size]byte // digest of the bytes read last
}

// Watch begins to watch a configuration file and SIGHUP; what happens from now on is not missed. The
// folder is watched, not the file, so that editors and mounted secrets that replace the file are
// seen. Call [Watcher.Run] to act on it, which also ends the watch.
func Watch(path string, log *slog.Logger) (*Watcher, error) {
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch configuration: %w", err)
	}
	if err := files.Add(filepath.Dir(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("watch configuration: %w", err), files.Close())
	}
	w := &Watcher{path: path, log: log, files: files, hangup: make(chan os.Signal, 1)}
	signal.Notify(w.hangup, syscall.SIGHUP)
	if data, err := os.ReadFile(path); err == nil {
		w.last = sha256.Sum256(data)
	}
	return w, nil
}

// Run calls apply with the new configuration whenever the file changes or the process receives
// SIGHUP, until ctx is done. A file that is not valid is handed to reject and changes nothing; so is
// an error of apply. Calls do not overlap. A SIGHUP always reads, a change of the folder only when
// the bytes of the file differ from those read last.
func (w *Watcher) Run(ctx context.Context, apply func(context.Context, *Config) error, reject func(context.Context, error)) error {
	defer w.close(ctx)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.hangup:
			w.reload(ctx, true, apply, reject)
		case <-timer.C:
			w.reload(ctx, false, apply, reject)
		case event, ok := <-w.files.Events:
			if !ok {
				return errors.New("watch configuration: the watcher stopped")
			}
			if w.concerns(event) {
				timer.Reset(quiet)
			}
		case err, ok := <-w.files.Errors:
			if !ok {
				return errors.New("watch configuration: the watcher stopped")
			}
			w.log.LogAttrs(ctx, slog.LevelWarn, "configuration watch lost events", slog.Any("error", err))
			timer.Reset(quiet)
		}
	}
}

func (w *Watcher) close(ctx context.Context) {
	signal.Stop(w.hangup)
	if err := w.files.Close(); err != nil {
		w.log.LogAttrs(ctx, slog.LevelWarn, "configuration watch not closed", slog.Any("error", err))
	}
}

// concerns reports whether an event may have changed the file: itself, or a link that it goes
// through, such as the "..data" of a mounted volume.
func (w *Watcher) concerns(event fsnotify.Event) bool {
	if event.Op == fsnotify.Chmod {
		return false
	}
	name := filepath.Base(event.Name)
	return name == filepath.Base(w.path) || name == "..data"
}

func (w *Watcher) reload(ctx context.Context, always bool, apply func(context.Context, *Config) error, reject func(context.Context, error)) {
	data, err := os.ReadFile(w.path)
	if err != nil {
		reject(ctx, fmt.Errorf("read configuration: %w", err))
		return
	}
	digest := sha256.Sum256(data)
	if digest == w.last && !always {
		return
	}
	w.last = digest
	cfg, err := Load(w.path)
	if err == nil {
		err = apply(ctx, cfg)
	}
	if err != nil {
		reject(ctx, err)
	}
}
