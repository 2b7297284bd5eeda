package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A target is one way to the echo tool.
type target struct {
	name   string
	addr   string // host:port
	path   string
	token  string
	crowd  *crowd // callers with tokens of their own; nil: token
	pid    int
	memory string // URL of the process's runtime counters; empty for the direct way
}

// A cell is one measurement: so many calls of one size over so many connections.
type cell struct {
	target  string
	size    int
	conns   int
	calls   int
	failed  int // errors, wrong texts and replies cut short
	cpu     time.Duration
	p50     time.Duration
	p99     time.Duration
	perSec  float64
	bytes   int64 // allocated per call
	mallocs int64
}

// request builds the HTTP request of one call (2026-07-28).
func request(t target, id int, text string) ([]byte, error) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{"text":"%s"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, id, text)
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n", t.path, t.addr)
	if t.crowd != nil {
		headers, err := t.crowd.headers()
		if err != nil {
			return nil, err
		}
		b.WriteString(headers)
	} else if t.token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", t.token)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes(), nil
}

// textOf makes the message reach the size of the whole body, about.
func textOf(size int) string {
	return strings.Repeat("The quick brown fox jumps over the lazy dog. ", size/45+1)[:max(size-300, 40)]
}

// serial makes every call differ from every other.
var serial atomic.Int64

// warmUp is the number of calls before a measurement.
const warmUp = 20

// drive makes calls over conns connections for at least the given time and calls.
func drive(t target, size, conns, calls int) (cell, error) {
	c := cell{target: t.name, size: size, conns: conns}
	text := textOf(size)
	var mu sync.Mutex
	var times []time.Duration
	var firstErr error
	var work sync.WaitGroup
	perConn := max(calls/conns, 1)
	if failed, err := oneConnection(t, text, warmUp, nil); failed == warmUp {
		return c, fmt.Errorf("%s: %w", t.name, err)
	}
	before, err := usage(t)
	if err != nil {
		return c, err
	}
	start := time.Now()
	for range conns {
		work.Go(func() {
			mine := make([]time.Duration, 0, perConn)
			failed, err := oneConnection(t, text, perConn, &mine)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			c.failed += failed
			if err != nil {
				firstErr = err
			}
		})
	}
	work.Wait()
	took := time.Since(start)
	after, err := usage(t)
	if err != nil {
		return c, err
	}
	if len(times) == 0 {
		return c, fmt.Errorf("%s: %w", t.name, firstErr)
	}
	slices.Sort(times)
	c.calls = len(times)
	n := int64(c.calls)
	c.cpu = (after.cpu - before.cpu) / time.Duration(n)
	c.bytes, c.mallocs = (after.bytes-before.bytes)/n, (after.mallocs-before.mallocs)/n
	c.p50, c.p99 = times[len(times)/2], times[len(times)*99/100]
	c.perSec = float64(c.calls) / took.Seconds()
	if firstErr != nil {
		fmt.Printf("  %s, %d bytes, %d connections: %d calls failed, first: %v\n", t.name, size, conns, c.failed, firstErr)
	}
	return c, nil
}

// A line is one connection that is opened again when the peer broke it.
type line struct {
	t    target
	conn net.Conn
	r    *bufio.Reader
}

func (l *line) open() error {
	conn, err := net.Dial("tcp", l.t.addr)
	if err != nil {
		return err
	}
	l.conn, l.r = conn, bufio.NewReaderSize(conn, 128<<10)
	return nil
}

func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close() // nothing is pending
	}
	l.conn = nil
}

// call makes one call and checks the reply to its end.
func (l *line) call(raw, want []byte) (time.Duration, error) {
	if l.conn == nil {
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if _, err := l.conn.Write(raw); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // read to its end above
	if err != nil {
		return 0, fmt.Errorf("reply cut short: %w", err)
	}
	took := time.Since(start)
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, want) {
		return 0, fmt.Errorf("status %d, %.200s", resp.StatusCode, body)
	}
	return took, nil
}

// oneConnection makes n calls back to back, counts those that failed, and returns the first failure.
func oneConnection(t target, text string, n int, times *[]time.Duration) (failed int, first error) {
	l := &line{t: t}
	defer l.close()
	for i := range n {
		each := strconv.FormatInt(serial.Add(1), 10) + text // a call repeated without change is a loop (GW-04)
		var took time.Duration
		raw, err := request(t, i+1, each)
		if err == nil {
			took, err = l.call(raw, []byte(each))
		}
		if err != nil {
			l.close()
			failed++
			if first == nil {
				first = fmt.Errorf("call %d: %w", i, err)
			}
			continue
		}
		if times != nil {
			*times = append(*times, took)
		}
	}
	return failed, first
}
