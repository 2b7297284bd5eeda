//go:build unix

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A keeper sends POSTs over kept-alive plain HTTP/1.1 connections. It does what http.Transport does
// for them, in the goroutine of the caller: a transport hands every request to two goroutines of the
// connection, which is more than half of what a small call costs.
//
// A request is sent once. It is not repeated when the connection breaks, because the server may have
// acted on it; instead a kept connection is looked at before use, and one that was closed or has
// bytes waiting, which can be nobody's answer, is not used.
type keeper struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	max  int // idle connections to one host

	mu     sync.Mutex
	idle   map[string][]*kept // by host and port as in the URL; the last used at the end
	timer  *time.Timer
	closed bool
}

const (
	keepTime      = 90 * time.Second // how long a connection may wait for its next use
	oneWrite      = 16 << 10         // a larger request is written in pieces
	maxInfo       = 8                // informational responses before the final one
	maxHeaderLine = 16 << 10
)

// errResponse says that the server does not speak HTTP/1.1 properly.
var errResponse = errors.New("malformed HTTP response")

// A kept is one connection. It has one user at a time.
type kept struct {
	net.Conn
	host  string
	raw   syscall.RawConn
	r     *bufio.Reader
	out   []byte // scratch
	line  []byte // scratch
	since time.Time
	quiet bool // outcome of peek
	look  func(fd uintptr) bool
}

func newKeeper(cfg Config, dial func(context.Context, string, string) (net.Conn, error)) *keeper {
	return &keeper{dial: dial, max: cfg.MaxIdleConns, idle: map[string][]*kept{}}
}

// do sends a POST and reads the head of the response. Only the fields of the response that this
// package reads are set.
func (k *keeper) do(ctx context.Context, u *url.URL, hdr http.Header, body *payload) (*http.Response, error) {
	c, err := k.get(ctx, u)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, c.interrupt)
	resp, err := c.exchange(u, hdr, body)
	if err != nil {
		stop()
		_ = c.Close() // the connection is of no use any more
		return nil, err
	}
	b, ok := resp.Body.(*keptBody)
	if !ok {
		return resp, nil
	}
	b.keeper, b.stop = k, stop
	if b.kind == bodyNone {
		b.release()
	}
	return resp, nil
}

// interrupt makes reads and writes fail at once.
func (c *kept) interrupt() { _ = c.SetDeadline(time.Unix(1, 0)) }

// get returns a kept connection that is quiet, or a new one.
func (k *keeper) get(ctx context.Context, u *url.URL) (*kept, error) {
	for {
		c := k.pop(u.Host)
		if c == nil {
			break
		}
		if time.Since(c.since) < keepTime && c.isQuiet() {
			return c, nil
		}
		_ = c.Close() // the server has closed it, or it is too old
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	conn, err := k.dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	c := &kept{Conn: conn, host: u.Host, r: bufio.NewReaderSize(conn, 4096)}
	if sc, ok := conn.(syscall.Conn); ok {
		c.raw, err = sc.SyscallConn()
	}
	if err != nil || c.raw == nil {
		_ = conn.Close() // not a connection of this machine's network
		return nil, fmt.Errorf("connection cannot be looked at: %w", errors.Join(err, errors.ErrUnsupported))
	}
	c.look = c.peek
	return c, nil
}

func (k *keeper) pop(host string) *kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.idle[host]
	n := len(list)
	if n == 0 {
		return nil
	}
	c := list[n-1]
	list[n-1] = nil
	k.idle[host] = list[:n-1]
	return c
}

// put keeps a connection for the next request.
func (k *keeper) put(c *kept) {
	c.since = time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || len(k.idle[c.host]) >= k.max {
		_ = c.Close() // there are enough
		return
	}
	k.idle[c.host] = append(k.idle[c.host], c)
	if k.timer == nil {
		k.timer = time.AfterFunc(keepTime, k.expire)
	}
}

// expire closes connections that waited too long.
func (k *keeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := 0
	for host, list := range k.idle {
		list = slices.DeleteFunc(list, func(c *kept) bool {
			old := time.Since(c.since) >= keepTime
			if old {
				_ = c.Close() // nobody uses it
			}
			return old
		})
		k.idle[host] = list
		left += len(list)
	}
	k.timer = nil
	if left > 0 && !k.closed {
		k.timer = time.AfterFunc(keepTime/2, k.expire)
	}
}

// close closes the idle connections; those in use are closed when they come back.
func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.timer != nil {
		k.timer.Stop()
	}
	for _, list := range k.idle {
		for _, c := range list {
			_ = c.Close() // nobody uses it
		}
	}
	clear(k.idle)
}

// isQuiet reports whether a kept connection is open and nothing waits on it.
func (c *kept) isQuiet() bool {
	c.quiet = false
	return c.raw.Read(c.look) == nil && c.quiet
}

// peek looks at the socket without waiting or taking anything.
func (c *kept) peek(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	c.quiet = errors.Is(err, syscall.EAGAIN)
	return true
}

// exchange writes the request and reads the head of the response.
func (c *kept) exchange(u *url.URL, hdr http.Header, body *payload) (*http.Response, error) {
	size := body.size()
	head, err := appendHead(c.out[:0], u, hdr, size)
	if err != nil {
		return nil, err
	}
	c.out = head
	if len(head)+size <= oneWrite {
		c.out = body.appendTo(head)
		_, err = c.Write(c.out)
	} else {
		pieces := net.Buffers{head, body[0], body[1], body[2], body[3], body[4]}
		_, err = pieces.WriteTo(c.Conn)
	}
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	for range maxInfo {
		resp, err := c.head()
		if err != nil {
			return nil, fmt.Errorf("read response: %w", err)
		}
		if resp.StatusCode >= 200 {
			return resp, nil
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	return nil, fmt.Errorf("%w: no final response", errResponse)
}

// appendHead writes the head of a request. Names and values that could end their line are refused.
func appendHead(b []byte, u *url.URL, hdr http.Header, size int) ([]byte, error) {
	b = append(append(b, "POST "...), u.RequestURI()...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), u.Host...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(size), 10)
	b = append(b, "\r\n"...)
	for name, values := range hdr {
		for _, v := range values {
			if !validHeaderName(name) || !validHeaderValue(v) {
				return nil, fmt.Errorf("header %.40q cannot be sent", name)
			}
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...), nil
}

// validHeaderValue refuses control characters (RFC 9110 section 5.5).
func validHeaderValue[T string | []byte](v T) bool {
	for i := range len(v) {
		if v[i] < ' ' && v[i] != '\t' || v[i] == 0x7f {
			return false
		}
	}
	return true
}

// head reads a status line and header (RFC 9112 sections 4 and 5).
func (c *kept) head() (*http.Response, error) {
	line, err := c.readLine()
	if err != nil {
		return nil, err
	}
	resp := &http.Response{ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1}
	if resp.StatusCode, resp.Close, err = statusLine(line); err != nil {
		return nil, err
	}
	resp.Header = make(http.Header, 4)
	for total := 0; ; {
		line, err := c.readLine()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		if total += len(line) + 2; total > maxHeaderBytes {
			return nil, fmt.Errorf("%w: header of more than %d bytes", errResponse, maxHeaderBytes)
		}
		if err := field(resp.Header, line); err != nil {
			return nil, err
		}
	}
	return resp, c.frame(resp)
}

// readLine returns the next line without its end; it is good until the next call.
func (c *kept) readLine() ([]byte, error) {
	c.line = c.line[:0]
	for {
		part, err := c.r.ReadSlice('\n')
		if err == nil && len(c.line) == 0 {
			return chomp(part), nil
		}
		c.line = append(c.line, part...)
		switch {
		case err == nil:
			return chomp(c.line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, noEOF(err)
		case len(c.line) > maxHeaderLine:
			return nil, fmt.Errorf("%w: line of more than %d bytes", errResponse, maxHeaderLine)
		}
	}
}

func chomp(b []byte) []byte {
	b = b[:len(b)-1]
	if n := len(b); n > 0 && b[n-1] == '\r' {
		return b[:n-1]
	}
	return b
}

// noEOF makes an early end an error that nobody takes for a proper one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// statusLine reads "HTTP/1.1 200 OK". The connection of an HTTP/1.0 server is not kept.
func statusLine(b []byte) (status int, last bool, err error) {
	if len(b) < 12 || string(b[:7]) != "HTTP/1." || b[7] != '0' && b[7] != '1' || b[8] != ' ' || len(b) > 12 && b[12] != ' ' {
		return 0, false, fmt.Errorf("%w: status line %.40q", errResponse, b)
	}
	for _, d := range b[9:12] {
		if d < '0' || d > '9' {
			return 0, false, fmt.Errorf("%w: status line %.40q", errResponse, b)
		}
		status = status*10 + int(d-'0')
	}
	if status < 100 {
		return 0, false, fmt.Errorf("%w: status %d", errResponse, status)
	}
	return status, b[7] == '0', nil
}

// field reads one header field. Only those that somebody asks for are kept; folded ones and ones
// with white space before the colon are refused (RFC 9112 section 5.1, 5.2).
func field(h http.Header, line []byte) error {
	colon := slices.Index(line, ':')
	if colon <= 0 || !validHeaderName(line[:colon]) {
		return fmt.Errorf("%w: header line %.40q", errResponse, line)
	}
	value := bytes.Trim(line[colon+1:], " \t")
	if !validHeaderValue(value) {
		return fmt.Errorf("%w: value of header %.40q", errResponse, line[:colon])
	}
	if name := knownField(line[:colon]); name != "" {
		h[name] = append(h[name], string(value))
	}
	return nil
}

// knownField returns the canonical name of a field that is kept.
func knownField(b []byte) string {
	for _, name := range [...]string{
		hdrContentType, "Content-Length", "Transfer-Encoding", "Connection", hdrSession, "Content-Encoding",
		"Www-Authenticate", "Dpop-Nonce", "Retry-After", "Location",
	} {
		if len(name) == len(b) && strings.EqualFold(name, string(b)) {
			return name
		}
	}
	return ""
}

// frame finds out how the body ends (RFC 9112 section 6.3).
func (c *kept) frame(resp *http.Response) error {
	b := &keptBody{conn: c, keep: !resp.Close}
	for _, v := range resp.Header["Connection"] {
		if !strings.EqualFold(v, "keep-alive") {
			b.keep = false // "close", or something that is not worth understanding
		}
	}
	n, chunked, err := announced(resp.Header)
	switch {
	case err != nil:
		return err
	case resp.StatusCode < 200:
		return nil
	case resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified:
		resp.ContentLength = 0
	case chunked:
		b.kind, b.chunks = bodyChunked, httputil.NewChunkedReader(c.r)
	case n > 0:
		b.kind, b.left, resp.ContentLength = bodyLength, n, n
	case n == 0:
		resp.ContentLength = 0
	default:
		b.kind, b.keep = bodyToEnd, false
	}
	resp.Body = b
	return nil
}

// announced reads the length of the body, -1 if it is not told, or that it comes in chunks.
// Contradictions are refused.
func announced(h http.Header) (n int64, chunked bool, err error) {
	length, coding := h["Content-Length"], h["Transfer-Encoding"]
	switch {
	case len(length)+len(coding) > 1:
		return 0, false, fmt.Errorf("%w: contradictory length", errResponse)
	case len(coding) == 1 && !strings.EqualFold(coding[0], "chunked"):
		return 0, false, fmt.Errorf("%w: transfer-encoding %.40q", errResponse, coding[0])
	case len(coding) == 1:
		return 0, true, nil
	case len(length) == 0:
		return -1, false, nil
	}
	u, err := strconv.ParseUint(length[0], 10, 62)
	if err != nil {
		return 0, false, fmt.Errorf("%w: content-length %.40q", errResponse, length[0])
	}
	return int64(u), false, nil
}

// A bodyKind says how a body ends.
type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyToEnd
)

// A keptBody reads the body of a response and gives the connection back when it has been read
// whole. Only Close may be called while Read runs.
type keptBody struct {
	conn   *kept
	keeper *keeper
	stop   func() bool
	kind   bodyKind
	left   int64
	chunks io.Reader
	keep   bool

	mu   sync.Mutex
	over bool
	err  error
}

// Read implements io.Reader. A body that ends early is io.ErrUnexpectedEOF.
func (b *keptBody) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	over, last := b.over, b.err
	b.mu.Unlock()
	switch {
	case over && last != nil:
		return 0, last
	case over:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	done := false
	switch b.kind {
	case bodyLength:
		n, err = b.conn.r.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		done, err = b.left == 0, noEOF(err)
	case bodyChunked:
		if n, err = b.chunks.Read(p); errors.Is(err, io.EOF) {
			err = b.trailer()
			done = err == nil
		}
	case bodyToEnd:
		n, err = b.conn.r.Read(p)
		done = errors.Is(err, io.EOF)
	case bodyNone:
		done = true
	}
	if done {
		b.release()
		return n, io.EOF
	}
	if err != nil {
		b.abandon(err)
	}
	return n, err
}

// trailer reads what follows the last chunk, and drops it.
func (b *keptBody) trailer() error {
	for range 32 {
		line, err := b.conn.readLine()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: trailer", errResponse)
}

// release gives the connection back, unless the exchange was interrupted, the server does not keep
// it, or there are bytes behind the body.
func (b *keptBody) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over = true
	if b.stop() && b.keep && b.conn.r.Buffered() == 0 {
		b.keeper.put(b.conn)
		return
	}
	_ = b.conn.Close() // it cannot be used again
}

// abandon closes the connection.
func (b *keptBody) abandon(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over, b.err = true, err
	b.stop()
	_ = b.conn.Close() // it cannot be used again
}

// Close implements io.Closer. A body that was not read whole costs the connection.
func (b *keptBody) Close() error {
	b.abandon(http.ErrBodyReadAfterClose)
	return nil
}
