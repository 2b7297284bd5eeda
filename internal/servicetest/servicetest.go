// Package servicetest starts the real services that tests of Warder need: PostgreSQL and Redis, as
// Debian packages them. Each has a folder of its own and ends with the test, or with the test process
// if that dies.
//
//	func TestMain(m *testing.M) { servicetest.Main(m) } // one PostgreSQL for all tests of the package
//
//	dsn := servicetest.Postgres(t)               // a database of its own on that server
//	dsn, server := servicetest.PostgresServer(t) // a server of its own, durable, that a test may kill
//	address, redis := servicetest.RedisServer(t)
//
// Where a service is not installed, the test is skipped and says so.
package servicetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a service may take to answer, also to recover after it was killed.
const startTimeout = 30 * time.Second

// ErrMissing says that a service is not installed.
var ErrMissing = errors.New("not installed")

// A Server is a service that a test may stop and start again. Its address and its folder stay the same.
type Server struct {
	dir     string
	argv    []string
	user    *syscall.Credential // nil: the user of the test
	quick   syscall.Signal      // ends it at once, without a chance to save anything
	answers func(ctx context.Context) error

	mu     sync.Mutex
	cmd    *exec.Cmd // nil while it is down
	done   chan struct{}
	output lockedBuffer
}

// Start starts the service and waits until it answers.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("it is running")
	}
	cmd := exec.CommandContext(context.Background(), s.argv[0], s.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &s.output, &s.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: s.quick, Credential: s.user}
	started, done := make(chan error), make(chan struct{})
	go func() {
		// The service gets its signal when the thread that started it ends: this one stays until then.
		runtime.LockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is what the test decided
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", s.argv[0], err)
	}
	s.cmd, s.done = cmd, done
	if err := s.ready(done); err != nil {
		s.end(s.quick)
		return fmt.Errorf("start %s: %w: %s", s.argv[0], err, s.output.String())
	}
	return nil
}

func (s *Server) ready(done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end sends a signal and waits. The caller holds mu.
func (s *Server) end(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(signal) // it may have ended by itself
	select {
	case <-s.done:
	case <-time.After(startTimeout):
		_ = s.cmd.Process.Kill() // as above
		<-s.done
	}
	s.cmd = nil
}

// Stop ends the service in good order; it saves what it saves.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(syscall.SIGINT)
}

// Kill ends the service at once: a PostgreSQL must recover when it starts again, a Redis has lost
// everything.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(s.quick)
}

// Restart kills the service and starts it again.
func (s *Server) Restart() error {
	s.Kill()
	return s.Start()
}

// close kills the service and removes its folder.
func (s *Server) close() error {
	s.Kill()
	return os.RemoveAll(s.dir)
}

// own ends a server with the test.
func own(tb testing.TB, s *Server) {
	tb.Helper()
	tb.Cleanup(func() {
		if err := s.close(); err != nil {
			tb.Errorf("remove folder of the service: %v", err)
		}
	})
}

// needed skips the test if a service is not installed, and fails it for any other error.
func needed(tb testing.TB, what string, err error) {
	tb.Helper()
	switch {
	case errors.Is(err, ErrMissing):
		tb.Skipf("NOT EXERCISED: %s: %v; run make fixtures", what, err)
	case err != nil:
		tb.Fatalf("%s: %v", what, err)
	}
}

// find returns the newest of the programs that fit, or the one in the path.
func find(name string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			slices.Sort(found)
			return found[len(found)-1], nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, ErrMissing)
	}
	return path, nil
}

// folder makes a folder for a service. If the test runs as root, it belongs to an ordinary user, as
// whom the service runs then: PostgreSQL refuses root.
func folder(prefer string) (string, *syscall.Credential, error) {
	dir, err := os.MkdirTemp("", "warder-service-")
	if err != nil {
		return "", nil, err
	}
	if os.Getuid() != 0 {
		return dir, nil, nil
	}
	u, err := user.Lookup(prefer)
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return "", nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
		return "", nil, err
	}
	return dir, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// A lockedBuffer keeps the last output of a service.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 64<<10 {
		l.b.Reset()
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
