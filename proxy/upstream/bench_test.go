//go:build unix

package upstream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// rawEcho is an HTTP/1.1 server that costs next to nothing, so that a benchmark sees the client: it
// answers every POST with the id of the request and a fixed result.
func rawEcho(b *testing.B, size int) string {
	b.Helper()
	ln, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ln.Close() })
	pad := strings.Repeat("x", size)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go rawServe(c, pad)
		}
	}()
	return "http://" + ln.Addr().String() + "/mcp"
}

func rawServe(c net.Conn, pad string) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 16<<10)
	body := make([]byte, 64<<10)
	out := make([]byte, 0, len(pad)+1024)
	for {
		length := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := io.ReadFull(r, body[:length]); err != nil {
			return
		}
		at := bytes.Index(body[:length], []byte(`"id":`)) + 5
		end := at + bytes.IndexByte(body[at:length], ',')
		answer := len(`{"jsonrpc":"2.0","id":,"result":{"content":[{"type":"text","text":""}]}}`) + end - at + len(pad)
		out = append(out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Length: "...)
		out = append(strconv.AppendInt(out, int64(answer), 10), "\r\n\r\n"...)
		out = append(append(append(out, `{"jsonrpc":"2.0","id":`...), body[at:end]...), `,"result":{"content":[{"type":"text","text":"`...)
		out = append(append(out, pad...), `"}]}}`...)
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchRequest(size int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"echo","arguments":{"text":%q},"_meta":{%s}}}`,
		strings.Repeat("y", size), modernMetaJSON)
}

func reportCPU(b *testing.B, start time.Duration) {
	b.Helper()
	b.ReportMetric(float64((cpu()-start).Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
}

// BenchmarkCall measures one call over HTTP; cpu-µs includes the raw server's share, which
// BenchmarkFloor shows.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{250, 10000, 100000} {
		for _, key := range []Key{{Session: "s"}, {}} {
			name := fmt.Sprintf("size=%d/pooled=%v", size, key.Session == "")
			b.Run(name, func(b *testing.B) {
				s, err := New("bench", Config{URL: rawEcho(b, size), Era: EraModern}, Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = s.Close(b.Context()) }()
				s.learn(func(e *eras) { e.modern = yes })
				req, err := wire.Decode([]byte(benchRequest(min(size, 20000))), wire.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				l, err := s.Link(b.Context(), key, Init{Revision: warder.Revision20260728})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				start := cpu()
				for b.Loop() {
					for _, err := range l.Call(b.Context(), req, nil) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
				reportCPU(b, start)
			})
		}
	}
}

// BenchmarkClient is the same exchange with a bare http.Client.
func BenchmarkClient(b *testing.B) {
	url, body := rawEcho(b, 250), benchRequest(250)
	c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer c.CloseIdleConnections()
	b.ReportAllocs()
	start := cpu()
	for b.Loop() {
		req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("Mcp-Protocol-Version", "2026-07-28")
		req.Header.Set("Mcp-Method", "tools/call")
		req.Header.Set("Mcp-Name", "echo")
		resp, err := c.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	reportCPU(b, start)
}

// BenchmarkFloor is the same exchange with a connection written and read by hand: what the raw
// server and the kernel cost.
func BenchmarkFloor(b *testing.B) {
	url, body := rawEcho(b, 250), benchRequest(250)
	c, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/mcp"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	out := []byte("POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	in := make([]byte, 64<<10)
	b.ReportAllocs()
	start := cpu()
	for b.Loop() {
		if _, err := c.Write(out); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(in); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, start)
}

// BenchmarkChild measures one call over stdio, the child included in wall time but not in cpu-µs.
func BenchmarkChild(b *testing.B) {
	s, err := New("bench", childConfig("echo"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close(b.Context()) }()
	req, err := wire.Decode([]byte(benchRequest(250)), wire.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	l, err := s.Link(b.Context(), Key{}, Init{Revision: warder.Revision20260728})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	start := cpu()
	for b.Loop() {
		for _, err := range l.Call(b.Context(), req, nil) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	reportCPU(b, start)
}

// BenchmarkRelocate compares moving spans with decoding again.
func BenchmarkRelocate(b *testing.B) {
	raw := []byte(`{"jsonrpc":"2.0","id":17592186044416,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 500) + `"}]}}`)
	m, err := wire.Decode(raw, wire.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("move", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			relocate(m, m.ID, []byte("7"))
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := wire.WithID(m, []byte("7"), wire.Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
