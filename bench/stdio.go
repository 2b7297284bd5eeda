package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"
)

// stdio measures calls over pipes: to the echo server itself, and to it behind "warder wrap". CPU is
// that of the wrapping process alone; the server is its child.
func (b *benchmark) stdio() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	file := b.path("wrap.yaml")
	if err := os.WriteFile(file, []byte(wrapConfiguration), 0o600); err != nil {
		return err
	}
	for _, depth := range []int{1, 32} {
		for _, way := range []struct {
			name string
			argv []string
		}{
			{"direct, stdio", []string{self, "stdio"}},
			{"Warder wrap, stdio", []string{b.warder, "wrap", "--trust", "first_use", "--name", "echo", "--data", b.path("wrap" + strconv.Itoa(depth)), "-c", file, "--", self, "stdio"}},
		} {
			var cells []cell
			for range b.rounds {
				c, err := overPipes(way.name, way.argv, depth, int(2000*b.scale))
				if err != nil {
					return fmt.Errorf("%s: %w", way.name, err)
				}
				cells = append(cells, c)
			}
			b.cells = append(b.cells, median(cells))
		}
	}
	return nil
}

// wrapConfiguration raises the rates above what the load sends and permits what is approved; everything else is as shipped.
const wrapConfiguration = `version: 1
gateway:
  rates: {principal: {per_second: 1000000, burst: 1000000}, server: {per_second: 1000000, burst: 1000000}, tool: {per_second: 1000000, burst: 1000000}}
access: {inline: 'permit(principal, action, resource);'}
output: {volume: {limit: 100GiB, alert: 100GiB}}
`

// overPipes starts one peer, opens a session and makes calls, depth of them at a time.
func overPipes(name string, argv []string, depth, calls int) (cell, error) {
	c := cell{target: name, size: 600, conns: depth}
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return c, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return c, err
	}
	if err := cmd.Start(); err != nil {
		return c, err
	}
	defer func() {
		_ = in.Close() // asks the peer to end
		_ = cmd.Wait() // its status does not matter here
	}()
	p := &pipes{in: in, out: bufio.NewReaderSize(out, 1<<20), waiting: make(map[string]chan struct{})}
	if err := p.handshake(); err != nil {
		return c, err
	}
	go p.read()
	if _, err := p.drive(10, depth); err != nil { // warm up
		return c, err
	}
	before, err := cpuOf(cmd.Process.Pid)
	if err != nil {
		return c, err
	}
	start := time.Now()
	times, err := p.drive(calls, depth)
	if err != nil {
		return c, err
	}
	took := time.Since(start)
	after, err := cpuOf(cmd.Process.Pid)
	if err != nil {
		return c, err
	}
	slices.Sort(times)
	c.calls = len(times)
	c.cpu = (after - before) / time.Duration(c.calls)
	c.p50, c.p99 = times[len(times)/2], times[len(times)*99/100]
	c.perSec = float64(c.calls) / took.Seconds()
	return c, nil
}

// pipes is one client over standard input and output.
type pipes struct {
	in  io.Writer
	out *bufio.Reader

	mu      sync.Mutex
	waiting map[string]chan struct{} // by id
}

func (p *pipes) handshake() error {
	for _, m := range []string{
		`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":"list","method":"tools/list","params":{}}`,
	} {
		if _, err := io.WriteString(p.in, m+"\n"); err != nil {
			return err
		}
		if !bytes.Contains([]byte(m), []byte(`"id"`)) {
			continue
		}
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			return err
		}
		if !bytes.Contains(line, []byte(`"result"`)) {
			return fmt.Errorf("handshake: %.200s", line)
		}
	}
	return nil
}

// read hands answers to those who wait for them.
func (p *pipes) read() {
	for {
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			return
		}
		id := string(between(line, `"id":`, `,`))
		p.mu.Lock()
		ch := p.waiting[id]
		delete(p.waiting, id)
		p.mu.Unlock()
		if ch != nil && bytes.Contains(line, []byte(`"content"`)) && !bytes.Contains(line, []byte(`"isError":true`)) {
			close(ch)
		}
	}
}

// drive makes calls, depth of them at a time.
func (p *pipes) drive(calls, depth int) (times []time.Duration, err error) {
	text := textOf(600)
	var mu sync.Mutex
	var work sync.WaitGroup
	for range depth {
		work.Go(func() {
			for range max(calls/depth, 1) {
				took, e := p.call(text)
				mu.Lock()
				if e != nil {
					err = e
				} else {
					times = append(times, took)
				}
				mu.Unlock()
				if e != nil {
					return
				}
			}
		})
	}
	work.Wait()
	return times, err
}

func (p *pipes) call(text string) (time.Duration, error) {
	n := strconv.FormatInt(serial.Add(1), 10)
	done := make(chan struct{})
	p.mu.Lock()
	p.waiting[n] = done
	start := time.Now()
	_, err := fmt.Fprintf(p.in, `{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"echo","arguments":{"text":"%s%s"}}}`+"\n", n, n, text)
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	select {
	case <-done:
		return time.Since(start), nil
	case <-time.After(10 * time.Second):
		return 0, fmt.Errorf("call %s: no answer", n)
	}
}
