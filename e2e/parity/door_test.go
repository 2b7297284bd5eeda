package parity

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/wire"
)

// A door is a raw client of one front door.
type door interface {
	// send delivers one message and returns when the door has taken it. A long answer goes on.
	send(raw []byte, st step) error
	// stream opens what brings messages outside calls, if that takes an act of its own.
	stream() error
	close()
}

// A client reads what a door brings, answers questions, and keeps everything.
type client struct {
	t     *testing.T
	name  string
	door  door
	rev   warder.Revision
	fault bool // answer questions with errors

	mu       sync.Mutex
	received [][]byte
	answers  map[string]chan []byte
	answered int // questions answered
}

func (c *client) take(raw []byte) {
	m := parse(raw)
	c.mu.Lock()
	c.received = append(c.received, raw)
	waiting := c.answers[string(m.ID)]
	c.mu.Unlock()
	switch {
	case m.Method != "" && m.ID != nil:
		go c.reply(m)
	case m.Method == "" && waiting != nil:
		waiting <- raw
	}
}

// reply answers a question of a server.
func (c *client) reply(m message) {
	raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, answerTo(m.Method))
	if c.fault {
		raw = fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":-1,"message":"no"}}`, m.ID)
	}
	c.mu.Lock()
	c.answered++
	c.mu.Unlock()
	if err := c.door.send(raw, step{}); err != nil {
		c.t.Errorf("answer %s: %v", m.Method, err)
	}
}

// count returns how many messages came in so far.
func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.received)
}

// do sends a message and waits for its answer, nil for notifications.
func (c *client) do(st step) []byte {
	c.t.Helper()
	var answer chan []byte
	if st.id != "" {
		answer = make(chan []byte, 1)
		c.mu.Lock()
		c.answers[st.id] = answer
		c.mu.Unlock()
	}
	if err := c.door.send(st.raw, st); err != nil {
		c.t.Errorf("%s: %s: %v", c.name, st.name, err)
		return nil
	}
	if answer == nil {
		return nil
	}
	select {
	case raw := <-answer:
		return raw
	case <-time.After(3 * time.Second):
		c.t.Errorf("%s: %s: no answer", c.name, st.name)
		return nil
	}
}

// httpDoor posts each message.
type httpDoor struct {
	ctx    context.Context
	cancel context.CancelFunc
	url    string
	token  string
	rev    warder.Revision
	sink   func([]byte)
	work   sync.WaitGroup

	mu      sync.Mutex
	session string
}

func (d *httpDoor) header(h http.Header, st step) {
	h.Set("Authorization", "Bearer "+d.token)
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session != "" {
		h.Set("Mcp-Session-Id", d.session)
	}
	if d.rev.Modern() {
		h.Set("Mcp-Method", st.method)
		if st.target != "" && named(st.method) {
			h.Set("Mcp-Name", st.target)
		}
	}
	if d.rev.Modern() || d.session != "" {
		h.Set("Mcp-Protocol-Version", string(d.rev))
	}
}

// named reports the methods whose target the Mcp-Name header repeats (2026-07-28).
func named(method string) bool {
	switch method {
	case "tools/call", "prompts/get", "resources/read", "tasks/get", "tasks/update", "tasks/cancel":
		return true
	default:
		return false
	}
}

func (d *httpDoor) send(raw []byte, st step) error {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodPost, d.url, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	d.header(req.Header, st)
	if st.id == "" {
		return d.exchange(req)
	}
	d.work.Go(func() {
		if err := d.exchange(req); err != nil && d.ctx.Err() == nil {
			d.sink(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":0,"message":%q}}`, st.id, err.Error()))
		}
	})
	return nil
}

func (d *httpDoor) exchange(req *http.Request) error {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		d.mu.Lock()
		d.session = id
		d.mu.Unlock()
	}
	return readAll(resp, d.sink)
}

// readAll hands every message of a response to sink.
func readAll(resp *http.Response, sink func([]byte)) error {
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		events := wire.NewEventReader(resp.Body, 16<<20)
		for {
			e, err := events.Next()
			if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
				return nil
			}
			if err != nil {
				return err
			}
			if len(e.Data) > 0 && (e.Name == "" || e.Name == "message") {
				sink(bytes.Clone(e.Data))
			}
		}
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && len(body) > 0 {
		sink(body)
	}
	return err
}

func (d *httpDoor) stream() error {
	if d.rev.Modern() {
		return nil // a request of its own
	}
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.url, http.NoBody)
	if err != nil {
		return err
	}
	d.header(req.Header, step{})
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		body, _ := io.ReadAll(resp.Body) // for the message only
		return errors.Join(fmt.Errorf("GET: %s: %s", resp.Status, body), resp.Body.Close())
	}
	d.work.Go(func() {
		defer resp.Body.Close()
		_ = readAll(resp, d.sink) // ends when the client leaves
	})
	return nil
}

func (d *httpDoor) close() {
	d.cancel()
	d.work.Wait()
}

// sseDoor is a client of HTTP+SSE.
type sseDoor struct {
	ctx    context.Context
	cancel context.CancelFunc
	base   string
	token  string
	post   string
	work   sync.WaitGroup
}

func openSSE(ctx context.Context, base, url, token string, sink func([]byte)) (*sseDoor, error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &sseDoor{ctx: ctx, cancel: cancel, base: base, token: token}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/sse", http.NoBody)
	if err != nil {
		return d, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return d, err
	}
	events := wire.NewEventReader(resp.Body, 16<<20)
	first, err := events.Next()
	if err != nil || first.Name != "endpoint" {
		return d, errors.Join(fmt.Errorf("status %s, event %q: %w", resp.Status, first.Name, err), resp.Body.Close())
	}
	d.post = string(first.Data)
	d.work.Go(func() {
		defer resp.Body.Close()
		for {
			e, err := events.Next()
			if err != nil {
				return
			}
			if len(e.Data) > 0 {
				sink(bytes.Clone(e.Data))
			}
		}
	})
	return d, nil
}

func (d *sseDoor) send(raw []byte, _ step) error {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodPost, d.base+d.post, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

func (*sseDoor) stream() error { return nil }

func (d *sseDoor) close() {
	d.cancel()
	d.work.Wait()
}

// stdioDoor is a client at the other end of a pipe.
type stdioDoor struct {
	mu   sync.Mutex
	in   *io.PipeWriter
	work sync.WaitGroup
}

func openStdio(ctx context.Context, a *app.App, endpoint string, sink func([]byte)) *stdioDoor {
	toGate, in := io.Pipe()
	out, fromGate := io.Pipe()
	d := &stdioDoor{in: in}
	d.work.Go(func() {
		_ = a.Stdio(ctx, endpoint, toGate, fromGate) // a door that breaks leaves answers out, which the tests see
		_ = fromGate.Close()                         // ends the reader
	})
	d.work.Go(func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			sink(bytes.Clone(lines.Bytes()))
		}
	})
	return d
}

func (d *stdioDoor) send(raw []byte, _ step) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.in.Write(append(slices.Clip(raw), '\n'))
	return err
}

func (*stdioDoor) stream() error { return nil }

func (d *stdioDoor) close() {
	_ = d.in.Close() // the door then ends
	d.work.Wait()
}
