//go:build unix

package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A scriptServer accepts connections and answers each request with the next text.
type scriptServer struct {
	url      *url.URL
	conns    atomic.Int32
	requests atomic.Int32
}

// scripted starts a server; answer gets the number of the connection and of the request on it.
func scripted(t *testing.T, answer func(c net.Conn, conn, request int) (goOn bool)) *scriptServer {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scriptServer{url: &url.URL{Scheme: "http", Host: ln.Addr().String(), Path: "/mcp"}}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n := int(s.conns.Add(1))
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			wg.Go(func() {
				defer stop()
				defer c.Close()
				r := bufio.NewReader(c)
				for i := 1; ; i++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					s.requests.Add(1)
					if !answer(c, n, i) {
						return
					}
				}
			})
		}
	})
	return s
}

func newTestKeeper(t *testing.T) *keeper {
	t.Helper()
	var d net.Dialer
	k := newKeeper(Config{MaxIdleConns: 4}, d.DialContext)
	t.Cleanup(k.close)
	return k
}

func post(ctx context.Context, k *keeper, u *url.URL, body string) (status int, text string, err error) {
	p := whole([]byte(body))
	resp, err := k.do(ctx, u, http.Header{"Accept": {"*/*"}}, &p)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// TestKeeperResponses holds answers against what is read, and whether the connection is used again.
func TestKeeperResponses(t *testing.T) {
	leakCheck(t)
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tc := range []struct {
		name, raw string
		status    int
		body      string
		fails     bool
		reused    bool
	}{
		{name: "length", raw: ok + "Content-Length: 5\r\n\r\nhello", status: 200, body: "hello", reused: true},
		{name: "length, other case and spaces", raw: ok + "content-LENGTH: \t5 \r\n\r\nhello", status: 200, body: "hello", reused: true},
		{name: "empty", raw: ok + "Content-Length: 0\r\n\r\n", status: 200, reused: true},
		{name: "bare line feeds", raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", status: 200, body: "hi", reused: true},
		{name: "no phrase", raw: "HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n", status: 202, reused: true},
		{name: "chunked", raw: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", status: 200, body: "hello", reused: true},
		{name: "chunked with trailer", raw: ok + "Transfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n", status: 200, body: "x", reused: true},
		{name: "no content", raw: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, reused: true},
		{name: "informational first", raw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok + "Content-Length: 1\r\n\r\nx", status: 200, body: "x", reused: true},
		{name: "until the end", raw: ok + "\r\nhello", status: 200, body: "hello"},
		{name: "HTTP/1.0", raw: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", status: 200, body: "x"},
		{name: "close", raw: ok + "Connection: close\r\nContent-Length: 1\r\n\r\nx", status: 200, body: "x"},
		{name: "bytes behind the body", raw: ok + "Content-Length: 1\r\n\r\nx" + ok + "Content-Length: 4\r\n\r\nevil", status: 200, body: "x"},
		{name: "bytes behind the chunks", raw: ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nevil", status: 200, body: "x"},
		{name: "cut in the body", raw: ok + "Content-Length: 9\r\n\r\nhello", status: 200, body: "hello", fails: true},
		{name: "cut in a chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\n9\r\nhello", status: 200, body: "hello", fails: true},
		{name: "cut between chunks", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", status: 200, body: "hello", fails: true},
		{name: "cut in the trailer", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", status: 200, body: "hello", fails: true},
		{name: "bad chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", status: 200, fails: true},
		{name: "nothing", raw: "", fails: true},
		{name: "cut in the header", raw: ok + "Content-Le", fails: true},
		{name: "length and chunked", raw: ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", fails: true},
		{name: "two lengths", raw: ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", fails: true},
		{name: "list of lengths", raw: ok + "Content-Length: 5, 5\r\n\r\nhello", fails: true},
		{name: "signed length", raw: ok + "Content-Length: +5\r\n\r\nhello", fails: true},
		{name: "negative length", raw: ok + "Content-Length: -5\r\n\r\nhello", fails: true},
		{name: "huge length", raw: ok + "Content-Length: 99999999999999999999\r\n\r\nhello", fails: true},
		{name: "unknown coding", raw: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", fails: true},
		{name: "folded header", raw: ok + "A: b\r\n c\r\nContent-Length: 0\r\n\r\n", fails: true},
		{name: "space before the colon", raw: ok + "Content-Length : 5\r\n\r\nhello", fails: true},
		{name: "no colon", raw: ok + "nonsense\r\n\r\n", fails: true},
		{name: "bad status", raw: "HTTP/1.1 2x0 OK\r\n\r\n", fails: true},
		{name: "long status", raw: "HTTP/1.1 2000 OK\r\n\r\n", fails: true},
		{name: "HTTP/2 preface", raw: "HTTP/2.0 200 OK\r\n\r\n", fails: true},
		{name: "other protocol", raw: "SSH-2.0-OpenSSH_9.2p1\r\n\r\n", fails: true},
		{name: "upgrade", raw: "HTTP/1.1 101 Switching Protocols\r\n\r\n", fails: true},
		{name: "only informational", raw: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), fails: true},
		{name: "long line", raw: ok + "A: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", fails: true},
		{name: "long header", raw: ok + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 80) + "\r\n", fails: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := scripted(t, func(c net.Conn, _, _ int) bool {
				_, _ = io.WriteString(c, tc.raw)
				return tc.reused
			})
			k := newTestKeeper(t)
			for range 2 {
				status, body, err := post(t.Context(), k, s.url, `{}`)
				if status != tc.status || body != tc.body || (err != nil) != tc.fails {
					t.Errorf("got %d %q %v, want %d %q, failure %v", status, body, err, tc.status, tc.body, tc.fails)
				}
				if err != nil && errors.Is(err, io.EOF) {
					t.Errorf("an early end reads as a proper one: %v", err)
				}
			}
			want := int32(2)
			if tc.reused {
				want = 1
			}
			if s.conns.Load() != want || s.requests.Load() != 2 {
				t.Errorf("%d connections and %d requests, want %d and 2", s.conns.Load(), s.requests.Load(), want)
			}
		})
	}
}

// TestKeeperStale proves that a connection the server has closed, or spoken on, is not used again,
// and that no request is sent twice.
func TestKeeperStale(t *testing.T) {
	leakCheck(t)
	for name, after := range map[string]string{"closed": "", "spoke": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"} {
		t.Run(name, func(t *testing.T) {
			s := scripted(t, func(c net.Conn, _, _ int) bool {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				time.Sleep(20 * time.Millisecond)
				_, _ = io.WriteString(c, after)
				return after != ""
			})
			k := newTestKeeper(t)
			for range 3 {
				if _, body, err := post(t.Context(), k, s.url, `{}`); body != "ok" || err != nil {
					t.Errorf("got %q, %v", body, err)
				}
				time.Sleep(60 * time.Millisecond)
			}
			if s.conns.Load() != 3 || s.requests.Load() != 3 {
				t.Errorf("%d connections and %d requests, want 3 and 3", s.conns.Load(), s.requests.Load())
			}
		})
	}
}

// TestKeeperNoReplay proves that a request is not repeated when a used connection breaks.
func TestKeeperNoReplay(t *testing.T) {
	leakCheck(t)
	s := scripted(t, func(c net.Conn, _, request int) bool {
		if request == 2 {
			return false // it may have acted on it
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return true
	})
	k := newTestKeeper(t)
	if _, _, err := post(t.Context(), k, s.url, `{}`); err != nil {
		t.Fatal(err)
	}
	if _, _, err := post(t.Context(), k, s.url, `{}`); err == nil {
		t.Error("no error")
	}
	if s.requests.Load() != 2 {
		t.Errorf("%d requests", s.requests.Load())
	}
}

// TestKeeperHosts proves that a connection is used for the host it was made to.
func TestKeeperHosts(t *testing.T) {
	leakCheck(t)
	k := newTestKeeper(t)
	var servers []*scriptServer
	for i := range 3 {
		servers = append(servers, scripted(t, func(c net.Conn, _, _ int) bool {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", i)
			return true
		}))
	}
	for range 3 {
		for i, s := range servers {
			if _, body, err := post(t.Context(), k, s.url, `{}`); body != fmt.Sprint(i) || err != nil {
				t.Errorf("server %d answered %q, %v", i, body, err)
			}
		}
	}
	for i, s := range servers {
		if s.conns.Load() != 1 {
			t.Errorf("server %d: %d connections", i, s.conns.Load())
		}
	}
}

// TestKeeperInterrupt proves that the end of the context ends every phase.
func TestKeeperInterrupt(t *testing.T) {
	leakCheck(t)
	for name, answer := range map[string]string{
		"header": "", "in the header": "HTTP/1.1 200 OK\r\nA", "body": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	} {
		t.Run(name, func(t *testing.T) {
			hold := make(chan struct{})
			s := scripted(t, func(c net.Conn, _, _ int) bool {
				_, _ = io.WriteString(c, answer)
				<-hold
				return false
			})
			defer close(hold)
			k := newTestKeeper(t)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, _, err := post(ctx, k, s.url, `{}`)
			if err == nil || time.Since(start) > 2*time.Second {
				t.Errorf("error %v after %s", err, time.Since(start))
			}
			if len(k.idle[s.url.Host]) != 0 {
				t.Error("the connection was kept")
			}
		})
	}
}

// TestKeeperWriteInterrupt proves the same for a server that does not read.
func TestKeeperWriteInterrupt(t *testing.T) {
	leakCheck(t)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	k := newTestKeeper(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	u := &url.URL{Scheme: "http", Host: ln.Addr().String(), Path: "/"}
	if _, _, err := post(ctx, k, u, strings.Repeat("x", 32<<20)); err == nil {
		t.Error("no error")
	}
}

// TestKeeperHeaderInjection proves that values cannot end their line.
func TestKeeperHeaderInjection(t *testing.T) {
	t.Parallel()
	u := &url.URL{Scheme: "http", Host: "h", Path: "/"}
	for _, h := range []http.Header{{"A": {"b\r\nC: d"}}, {"A": {"b\n"}}, {"A\r\nB": {"c"}}, {"A": {"\x00"}}, {"A:": {"b"}}, {"": {"b"}}, {"A B": {"c"}}} {
		if b, err := appendHead(nil, u, h, 1); err == nil {
			t.Errorf("%q was written as %q", h, b)
		}
	}
	b, err := appendHead(nil, &url.URL{Scheme: "http", Host: "h:1", Path: "/a b", RawQuery: "c=d"}, http.Header{"A": {"b\tc", "ü"}}, 7)
	if want := "POST /a%20b?c=d HTTP/1.1\r\nHost: h:1\r\nContent-Length: 7\r\nA: b\tc\r\nA: ü\r\n\r\n"; err != nil || string(b) != want {
		t.Errorf("got %q, %v, want %q", b, err, want)
	}
}

// TestKeeperAgainstNetHTTP sends bodies of many sizes to a server of the standard library, many at a
// time, and compares what comes back: nothing may be cut.
func TestKeeperAgainstNetHTTP(t *testing.T) {
	leakCheck(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if len(b)%2 == 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		}
		_, _ = w.Write(b)
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL + "/")
	k := newTestKeeper(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 60 {
				body := strings.Repeat(fmt.Sprintf("%d-%d|", w, i), 1+i*i*3)
				if _, got, err := post(t.Context(), k, u, body); got != body || err != nil {
					t.Errorf("sent %d bytes, got %d, %v", len(body), len(got), err)
				}
			}
		})
	}
	wg.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.idle[u.Host]); n == 0 || n > k.max {
		t.Errorf("%d idle connections, want 1 to %d", n, k.max)
	}
}

func FuzzKeeperHead(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		c := &kept{r: bufio.NewReader(strings.NewReader(raw))}
		resp, err := c.head()
		if err != nil {
			return
		}
		// What is accepted here means the same to the standard library.
		want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
		if err != nil {
			t.Fatalf("accepted, but net/http says %v", err)
		}
		defer want.Body.Close()
		if resp.StatusCode != want.StatusCode {
			t.Errorf("status %d, net/http reads %d", resp.StatusCode, want.StatusCode)
		}
		if resp.StatusCode >= 200 && resp.ContentLength >= 0 && resp.ContentLength != want.ContentLength {
			t.Errorf("length %d, net/http reads %d", resp.ContentLength, want.ContentLength)
		}
	})
}
