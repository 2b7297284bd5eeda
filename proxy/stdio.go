package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// maxPipelined bounds the requests of one pipe that run at once.
const maxPipelined = 64

// A pipe is a front door of one client that reads and writes messages on one channel: stdio, or the
// two halves of HTTP+SSE.
type pipe struct {
	g        *Gate
	door     warder.Door
	endpoint string
	conn     func() warder.Conn
	sess     *session
	write    func(raw []byte) error // one message; serialised by mu

	mu    sync.Mutex
	gone  bool // nothing may be written any more; guarded by mu
	calls sync.WaitGroup
	slots chan struct{}

	streams    context.Context // of the streams, which end with the client's last message
	endStreams context.CancelCauseFunc
}

// Stdio serves one endpoint to the client at the other end of a pipe: newline-delimited messages,
// nothing else on w. It returns when r ends or ctx is done, after running calls have ended.
func (g *Gate) Stdio(ctx context.Context, endpoint string, r io.Reader, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := g.newPipe(ctx, warder.DoorStdio, endpoint, func() warder.Conn { return warder.Conn{} })
	p.write = func(raw []byte) error {
		_, err := w.Write(append(slices.Clip(raw), '\n'))
		return err
	}
	defer p.shut()
	for lines := readLines(ctx, r, int64(g.cfg.RequestBytes)); ; {
		select {
		case l := <-lines:
			if errors.Is(l.err, io.EOF) {
				p.endStreams(errSessionEnded) // they would never end by themselves
				p.drain(ctx)
				return nil
			}
			if l.err != nil {
				if err := p.unreadable(ctx, l.err); err != nil {
					return err
				}
			} else if len(l.raw) > 0 {
				p.take(ctx, p.conn(), l.raw)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.stop.Done():
			return nil
		}
	}
}

// A rawLine is one line of a pipe, or why there is none.
type rawLine struct {
	raw []byte
	err error
}

// readLines reads in a goroutine of its own, since a read of a pipe cannot be interrupted: the door must
// end with its context all the same. The goroutine ends with the pipe, or at its next line.
func readLines(ctx context.Context, r io.Reader, limit int64) <-chan rawLine {
	out := make(chan rawLine)
	go func() {
		lines := wire.NewLineReader(r, limit)
		for {
			raw, err := lines.Next()
			select {
			case out <- rawLine{bytes.Clone(raw), err}:
			case <-ctx.Done():
				return
			}
			var e *warder.Error
			if err != nil && !errors.As(err, &e) {
				return
			}
		}
	}()
	return out
}

// unreadable answers a line that was too long, which was skipped whole, or returns why the pipe is
// broken.
func (p *pipe) unreadable(ctx context.Context, err error) error {
	f := p.g.begin(p.door, p.endpoint, p.conn())
	failure := asError(ctx, err)
	p.fail(f, failure)
	f.finish(ctx, failure)
	if _, ok := errors.AsType[*warder.Error](err); !ok {
		return err
	}
	return nil
}

// drain waits for the running calls of a client that has said all it had to say.
func (p *pipe) drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		p.calls.Wait()
		close(done)
	}()
	limit := time.NewTimer(p.g.cfg.DrainTimeout)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	case <-ctx.Done():
	case <-p.g.stop.Done():
	}
}

func (g *Gate) newPipe(ctx context.Context, door warder.Door, endpoint string, conn func() warder.Conn) *pipe {
	s := &session{endpoint: endpoint}
	s.digest = digestOf(warder.NewID(g.now()))
	p := &pipe{
		g: g, door: door, endpoint: endpoint, conn: conn, sess: s,
		slots: make(chan struct{}, maxPipelined),
	}
	p.streams, p.endStreams = context.WithCancelCause(ctx)
	return p
}

// shut ends what the client left running.
func (p *pipe) shut() {
	p.endStreams(errSessionEnded)
	p.sess.shut()
	p.calls.Wait()
	p.g.sessions.close(p.sess)
}

// take carries one message. Requests run beside each other; everything else runs in the order of
// arrival, so a cancellation or an answer finds what it is about.
func (p *pipe) take(ctx context.Context, conn warder.Conn, raw []byte) {
	f := p.g.begin(p.door, p.endpoint, conn)
	failure := f.connect(ctx)
	if failure != nil {
		p.refuse(ctx, f, raw, failure)
		return
	}
	p.accept(ctx, f, raw)
}

// accept carries one message whose connection has been judged.
func (p *pipe) accept(ctx context.Context, f *flow, raw []byte) {
	if isBatch(raw) {
		p.batch(ctx, f, raw)
		return
	}
	m, failure := p.g.inspection().read(raw)
	if failure != nil {
		p.refuse(ctx, f, nil, failure)
		return
	}
	f.local = true
	if failure := f.classify(m, "", "", p.sess); failure != nil {
		p.refuse(ctx, f, nil, failure)
		return
	}
	if !m.IsCall() || m.Method == wire.MethodInitialize {
		p.carry(ctx, f)
		if m.Method == wire.NotifyInitialized {
			p.listen(ctx)
		}
		return
	}
	select {
	case p.slots <- struct{}{}:
		if m.Method == wire.MethodListen {
			ctx = p.streams
		}
		if !p.run(func() {
			defer func() { <-p.slots }()
			p.carry(ctx, f)
		}) {
			<-p.slots
			p.refuse(ctx, f, nil, warder.Fail(warder.CodeNoSession, "session_ended", errSessionEnded))
		}
	default: // never wait here: the answers that running calls need come through the same pipe
		p.refuse(ctx, f, nil, warder.Fail(warder.CodeRateLimited, "too_many_requests", nil))
	}
}

// refuse ends an exchange whose message goes nowhere.
func (p *pipe) refuse(ctx context.Context, f *flow, raw []byte, failure *warder.Error) {
	if f.x.Inbound == nil && raw != nil {
		if m, err := wire.Decode(raw, p.g.limits); err == nil {
			f.x.Inbound = m // only to answer under its id
		}
	}
	p.fail(f, failure)
	f.finish(ctx, failure)
}

// batch carries the messages of a 2025-03-26 batch in order.
func (p *pipe) batch(ctx context.Context, f *flow, raw []byte) {
	messages, _, err := wire.SplitBatch(raw, p.g.limits)
	if err != nil || p.sess.speaks() != warder.Revision20250326 || len(messages) == 0 || len(messages) > maxBatch {
		failure := &warder.Error{Code: warder.CodeInvalidRequest, Reason: "batch_not_allowed", Control: "GW-01", Err: err}
		p.refuse(ctx, f, nil, failure)
		return
	}
	f.finish(ctx, nil) // the batch itself; its messages are exchanges of their own
	for _, m := range messages {
		if isBatch(m) {
			f := p.g.begin(p.door, p.endpoint, p.conn())
			p.refuse(ctx, f, nil, &warder.Error{Code: warder.CodeInvalidRequest, Reason: "batch_not_allowed", Control: "GW-01"})
			continue
		}
		p.take(ctx, f.x.Conn, m)
	}
}

// carry runs one exchange to its end.
func (p *pipe) carry(ctx context.Context, f *flow) {
	f.send = p.send
	run, end, failure := f.running(ctx)
	if failure == nil {
		failure = f.carry(run)
		end()
	}
	if failure != nil {
		p.fail(f, failure)
	}
	f.finish(ctx, failure)
}

// listen opens the stream on which the servers reach a session of this pipe.
func (p *pipe) listen(ctx context.Context) {
	f := p.g.begin(p.door, p.endpoint, p.conn())
	failure := f.connect(ctx)
	if failure != nil {
		f.finish(ctx, failure)
		return
	}
	f.local = true
	f.use(p.sess)
	f.x.From = warder.FromServer
	f.x.Inbound = p.g.listenRequest(p.sess)
	f.x.Request = f.x.Inbound
	if !p.run(func() { p.carry(p.streams, f) }) {
		f.finish(ctx, warder.Fail(warder.CodeNoSession, "session_ended", errSessionEnded))
	}
}

// send writes one judged message.
func (p *pipe) send(_ context.Context, m *warder.Message) error { return p.put(m.Raw) }

func (p *pipe) put(raw []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return errSessionEnded
	}
	return p.write(raw)
}

// run starts a call beside the others; false when the client has left.
func (p *pipe) run(call func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return false
	}
	p.calls.Go(call)
	return true
}

// leave stops all writing: the channel to the client is about to end.
func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
}

// fail tells the client why there is no answer. A cancelled request gets none.
func (p *pipe) fail(f *flow, e *warder.Error) {
	in := f.x.Inbound
	if f.x.From == warder.FromServer || errors.Is(e.Err, errCancelled) || errors.Is(e.Err, errSessionEnded) || in != nil && !in.IsCall() {
		return
	}
	_, raw := render(f.x, e)
	_ = p.put(raw) // the failure is recorded; the client may be gone
}
