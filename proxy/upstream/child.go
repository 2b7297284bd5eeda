package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A child is a server that runs as a process of ours and speaks over stdin and stdout, one message
// on each line. Its process group and everything in it ends with it, and it ends with Warder.
type child struct {
	srv   *Server
	entry *entry // learns of unexpected ends; may be nil
	mux   *mux
	cmd   *exec.Cmd
	start time.Time

	turn    chan struct{} // holds one token: writing
	stdin   *os.File
	line    []byte // scratch of the writer
	tail    tail   // the last of stderr
	asked   atomic.Bool
	stopped sync.Once
	exited  chan struct{} // closed when the process has ended
	over    chan struct{} // closed when nothing of it is left
	status  error         // how it ended; read after exited
}

var _ carrier = (*child)(nil)

// describe names the program only: arguments may hold what should not be in a log.
func (c *child) describe() string { return c.srv.cfg.Run.Command[0] }

// openChild starts a child and finds out its era: the preferred one first, then the other on the
// same process. A process that ends over the first attempt is started once more for the second.
func (s *Server) openChild(ctx context.Context, init Init, e *entry) (liveLink, error) {
	var errs []error
	var c *child
	for _, modern := range s.order(init.Revision.Modern()) {
		if c == nil || !alive(c.mux) {
			var err error
			if c, err = s.startChild(ctx, e, init.Credential); err != nil {
				return nil, err
			}
		}
		hello, err := c.greet(ctx, init, modern)
		if err == nil {
			c.mux.modern, c.mux.hello = modern, hello
			s.noteEra(modern, c.mux, nil)
			return c.mux, nil
		}
		if errors.Is(err, errNotSpoken) {
			s.noteEra(modern, nil, err)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	c.mux.shut(context.WithoutCancel(ctx))
	s.forgetEra()
	err := errs[len(errs)-1]
	if errors.Is(err, errNotSpoken) {
		return nil, fail(ReasonNotMCP, c.explain(errors.Join(errs...)))
	}
	return nil, asFailure(c.explain(err), ReasonUnreachable)
}

// greet opens the conversation in one era.
func (c *child) greet(ctx context.Context, init Init, modern bool) (wire.Hello, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.srv.cfg.ProbeTimeout, errIdle)
	defer cancel()
	if !modern {
		return c.mux.handshake(ctx, c.srv.initRequest(init))
	}
	m, err := c.mux.ask(ctx, c.srv.discoverRequest())
	if err != nil {
		return wire.Hello{}, err
	}
	return modernHello(m)
}

// explain adds what the child said last on stderr.
func (c *child) explain(err error) error {
	if said := c.tail.String(); said != "" {
		return fmt.Errorf("%w; stderr ends with %q", err, said)
	}
	return err
}

// startChild starts the process and the goroutines that serve it: one that waits for it, one for
// each of its outputs.
func (s *Server) startChild(ctx context.Context, e *entry, cred warder.Credential) (*child, error) {
	run := s.cfg.Run
	cmd := exec.CommandContext(context.WithoutCancel(ctx), run.Command[0], run.Command[1:]...) // outlives the request
	cmd.Dir = run.Dir
	cmd.SysProcAttr = processAttributes()
	var err error
	if cmd.Env, err = run.environment(ctx); err != nil {
		return nil, fail(ReasonUnreachable, err)
	}
	p, err := openPipes(cmd)
	if err != nil {
		return nil, fail(ReasonUnreachable, err)
	}
	err = withSecrets(ctx, cmd, cred)
	p.theirs = append(p.theirs, cmd.ExtraFiles...)
	if err != nil {
		p.closeAll()
		return nil, err
	}
	c := &child{
		srv: s, entry: e, cmd: cmd, start: s.opt.Now(), turn: make(chan struct{}, 1),
		exited: make(chan struct{}), over: make(chan struct{}),
	}
	c.mux = newMux(s, false)
	c.mux.out = c
	c.stdin = p.stdin
	started := make(chan error, 1)
	if !s.spawn(func(context.Context) { c.run(p, started) }) {
		p.closeAll()
		return nil, fail(ReasonShutdown, nil)
	}
	if err := <-started; err != nil {
		return nil, failf(ReasonUnreachable, "start %s: %w", run.Command[0], err)
	}
	s.stats.starts.Add(1)
	s.lifecycle("child_started", slog.Int("pid", cmd.Process.Pid), slog.String("command", cut(run.Command[0], 200)))
	return c, nil
}

// environment builds the minimal environment and what is declared.
func (r *Run) environment(ctx context.Context) ([]string, error) {
	var env []string
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	for name, v := range r.Env {
		env = append(env, name+"="+v)
	}
	for name, ref := range r.SecretEnv {
		v, err := ref.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("environment %s: %w", name, err)
		}
		if bytes.IndexByte(v.Bytes(), 0) >= 0 {
			return nil, fmt.Errorf("environment %s: the secret contains a zero byte", name)
		}
		env = append(env, name+"="+string(v.Bytes()))
	}
	slices.Sort(env)
	return env, nil
}

// pipes are the ends of the child's standard streams.
type pipes struct {
	stdin, stdout, stderr *os.File   // ours
	theirs                []*os.File // closed once the child has them
}

func openPipes(cmd *exec.Cmd) (*pipes, error) {
	p := &pipes{}
	for _, end := range []struct {
		ours   **os.File
		theirs func(*os.File)
		input  bool
	}{
		{&p.stdin, func(f *os.File) { cmd.Stdin = f }, true},
		{&p.stdout, func(f *os.File) { cmd.Stdout = f }, false},
		{&p.stderr, func(f *os.File) { cmd.Stderr = f }, false},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			p.closeAll()
			return nil, fmt.Errorf("open pipe: %w", err)
		}
		if end.input {
			r, w = w, r
		}
		*end.ours = r
		end.theirs(w)
		p.theirs = append(p.theirs, w)
	}
	return p, nil
}

func (p *pipes) closeTheirs() {
	for _, f := range p.theirs {
		_ = f.Close() // our copy of the child's end
	}
	p.theirs = nil
}

func (p *pipes) closeAll() {
	p.closeTheirs()
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			_ = f.Close() // nothing is left to be said
		}
	}
}

// run starts the process, serves it and ends when nothing of it is left. It keeps its thread,
// because the kernel kills the child when the thread that started it ends (PR_SET_PDEATHSIG).
func (c *child) run(p *pipes, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.over)
	err := c.cmd.Start()
	p.closeTheirs()
	if err != nil {
		p.closeAll()
		close(c.exited)
		started <- err
		return
	}
	var readers sync.WaitGroup
	readers.Go(func() { c.read(p.stdout) })
	readers.Go(func() { c.listen(p.stderr) })
	started <- nil
	c.status = c.cmd.Wait()
	killGroup(c.cmd.Process.Pid) // what it left behind
	close(c.exited)
	limit := time.Now().Add(reapTime)
	_ = p.stdout.SetReadDeadline(limit) // pipes have deadlines; without one the read ends with the group
	_ = p.stderr.SetReadDeadline(limit)
	readers.Wait()
	c.bury() // before anybody can ask for the next one
	c.mux.end(closedBy(c.explain(c.ending())))
	p.closeAll()
}

// ending says how the process ended.
func (c *child) ending() error {
	if c.status == nil {
		return errors.New("the child ended with status 0")
	}
	return fmt.Errorf("the child ended: %w", c.status)
}

// bury reports the end of a process that was not asked to end.
func (c *child) bury() {
	if c.asked.Load() {
		return
	}
	c.srv.stats.deaths.Add(1)
	if c.entry != nil {
		c.entry.died(c.srv.cfg.Restart, c.srv.opt.Now())
	}
	c.srv.lifecycle("child_exited", slog.Int("pid", c.cmd.Process.Pid), slog.String("status", c.ending().Error()),
		slog.String("stderr", c.tail.String()))
}

// read hands the lines of stdout to the mux. When stdout ends, so does the conversation.
func (c *child) read(stdout *os.File) {
	src := &endReader{r: stdout}
	r := wire.NewLineReader(src, int64(c.srv.cfg.MaxMessage))
	for {
		line, err := r.Next()
		if errors.Is(err, &warder.Error{Code: warder.CodeTooLarge}) {
			c.mux.unreadable(nil, undecodable(err))
			continue
		}
		if err != nil || src.torn {
			break
		}
		c.mux.dispatch(line)
	}
	select {
	case <-c.exited:
	case <-time.After(reapTime / 5): // it closed stdout and lives on
		c.mux.end(closedBy(errors.New("the child closed its stdout")))
		c.srv.spawn(c.stop)
	}
}

// An endReader notices when its source ends inside a line: what the line reader returns then is a
// torn message.
type endReader struct {
	r    io.Reader
	last byte
	torn bool
}

// Read implements io.Reader.
func (e *endReader) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if n > 0 {
		e.last = b[n-1]
	}
	if err != nil {
		e.torn = e.last != '\n'
	}
	return n, err
}

// listen keeps the last of stderr and logs it.
func (c *child) listen(stderr *os.File) {
	r := bufio.NewReaderSize(stderr, 4096)
	for {
		line, err := r.ReadSlice('\n') // a longer line comes in pieces
		if len(line) > 0 {
			c.tail.add(line)
			c.srv.log.DebugContext(c.srv.base, "child wrote to stderr",
				slog.Int("pid", c.cmd.Process.Pid), slog.String("text", printable(line)))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// write implements carrier. A message that cannot be written whole ends the conversation, because
// the next one would be read as its rest.
func (c *child) write(ctx context.Context, p payload) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ended(ctx)
	case <-c.mux.done:
		return c.mux.Err()
	}
	defer func() { <-c.turn }()
	c.line = append(oneLine(p.appendTo(c.line[:0])), '\n')
	_ = c.stdin.SetWriteDeadline(time.Now().Add(c.srv.cfg.ConnectTimeout)) // pipes have deadlines
	_, err := c.stdin.Write(c.line)
	if cap(c.line) > 64<<10 {
		c.line = nil
	}
	if err == nil {
		return nil
	}
	failure := closedBy(fmt.Errorf("write to the child: %w", err))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		failure = fail(ReasonTimeout, errors.New("the child does not read its stdin"))
	}
	select {
	case <-c.exited: // the exit says more
		<-c.over
		return c.mux.Err()
	case <-time.After(reapTime / 10):
	}
	c.mux.end(failure)
	c.srv.spawn(c.stop)
	return failure
}

// oneLine blanks line breaks, which JSON has only between tokens.
func oneLine(b []byte) []byte {
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return b
	}
	for i := range b {
		if b[i] == '\n' || b[i] == '\r' {
			b[i] = ' '
		}
	}
	return b
}

// stop implements carrier: close stdin, then SIGTERM, then SIGKILL (2025-03-26, shutdown of stdio).
func (c *child) stop(ctx context.Context) {
	c.stopped.Do(func() {
		c.asked.Store(c.asked.Load() || !c.lost())
		_ = c.stdin.Close() // it may be closed already
		for _, end := range []func(int){terminateGroup, killGroup} {
			if c.gone(ctx, c.srv.cfg.Run.Grace) {
				return
			}
			end(c.cmd.Process.Pid)
		}
	})
	<-c.over
}

// lost reports whether the conversation ended by the child's fault.
func (c *child) lost() bool {
	err := c.mux.Err()
	var e *warder.Error
	return errors.As(err, &e) && e.Reason != ReasonShutdown
}

// gone waits for the end of the process. A context that is done leaves no time at all.
func (c *child) gone(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.exited:
		return true
	case <-t.C:
		return false
	case <-ctx.Done():
		return false
	}
}

// A tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 2048

func (t *tail) add(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - tailBytes; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
}

// String returns what was kept, without surrounding white space.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return printable(t.b)
}

// printable makes foreign text fit for a log.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(string(bytes.TrimSpace(b)), "?"))
}
