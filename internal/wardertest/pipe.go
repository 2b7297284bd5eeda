package wardertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
)

// A pipePeer is the client at the other end of a pipe.
type pipePeer struct {
	r   *runner
	rev warder.Revision
	in  *io.PipeWriter

	ready  bool
	stop   func()
	writes sync.Mutex
	mu     sync.Mutex
	lines  []string // everything the gateway wrote
	ended  bool
	news   chan struct{}
}

func (r *runner) newPipePeer(rev warder.Revision) *pipePeer {
	toGate, in := io.Pipe()
	out, fromGate := io.Pipe()
	p := &pipePeer{r: r, rev: rev, in: in, news: make(chan struct{}, 1)}
	var work sync.WaitGroup
	work.Go(func() {
		_ = r.app.Stdio(r.t.Context(), r.c.key("endpoint", "s"), toGate, fromGate) // it ends with the pipe
		_ = fromGate.Close()
		_ = toGate.Close()
	})
	work.Go(func() { p.read(out) })
	p.stop = func() {
		_ = in.Close()
		work.Wait()
	}
	return p
}

// read collects the lines of the gateway and answers the questions among them.
func (p *pipePeer) read(out io.Reader) {
	s := bufio.NewScanner(out)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		p.add(s.Text(), false)
		if reply := p.r.c.answerTo(s.Bytes()); reply != nil {
			go func() { _ = p.write(reply) }() // the gateway may be writing: never wait for it here
		}
	}
	p.add("", true)
}

func (p *pipePeer) add(line string, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended = ended; !ended {
		p.lines = append(p.lines, line)
	}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *pipePeer) close() { p.stop() }

func (p *pipePeer) streamed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *pipePeer) write(raw []byte) error {
	p.writes.Lock()
	defer p.writes.Unlock()
	_, err := p.in.Write(append(bytes.ReplaceAll(raw, []byte("\n"), nil), '\n'))
	return err
}

func (p *pipePeer) hello() (*answer, error) {
	if p.rev.Modern() || p.ready {
		return nil, nil
	}
	p.ready = true
	got, err := p.send(p.r.c.initialize(p.rev), `"init"`, false)
	if err != nil {
		return nil, err
	}
	if got.refused() {
		return &got, nil
	}
	p.r.opened = got.text
	return nil, p.write([]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
}

// send writes a message and waits for its answer; an empty id means there is none, "*" takes any.
func (p *pipePeer) send(raw []byte, id string, _ bool) (answer, error) {
	p.mu.Lock()
	from := len(p.lines)
	p.mu.Unlock()
	if err := p.write(raw); err != nil || id == "" {
		return answer{}, err
	}
	return p.wait(from, func(line string) bool {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		return json.Unmarshal([]byte(line), &m) == nil && m.Method == "" && (id == "*" || string(m.ID) == id)
	})
}

// wait returns the lines from a place on up to the first that fits.
func (p *pipePeer) wait(from int, fits func(line string) bool) (answer, error) {
	limit := time.After(patience)
	for {
		p.mu.Lock()
		lines, ended := p.lines, p.ended
		p.mu.Unlock()
		for i := from; i < len(lines); i++ {
			if fits(lines[i]) {
				return answer{text: strings.Join(lines[from:i+1], "\n")}, nil
			}
		}
		if ended {
			return answer{}, fmt.Errorf("the gateway closed the pipe after %.500s", strings.Join(lines, "\n"))
		}
		select {
		case <-p.news:
		case <-limit:
			return answer{}, fmt.Errorf("no answer within %s, but %.500s", patience, strings.Join(lines[from:], "\n"))
		}
	}
}

// listen opens the stream of a stateless client; a session on a pipe has one from the beginning.
func (p *pipePeer) listen(request []byte) (*answer, error) {
	if !p.rev.Modern() {
		return nil, nil
	}
	p.mu.Lock()
	from := len(p.lines)
	p.mu.Unlock()
	if err := p.write(request); err != nil {
		return nil, err
	}
	got, err := p.wait(from, func(line string) bool {
		return strings.Contains(line, "subscriptions/acknowledged") || strings.Contains(line, `"error":`)
	})
	if err != nil || !got.refused() {
		return nil, err
	}
	return &got, nil
}
