package replicas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
)

// A client speaks to one gateway over HTTP, with a bearer token or one that is bound to its key. It takes up
// nonces. It is not safe for concurrent use, but its copies are.
type client struct {
	t       *testing.T
	name    string // public address
	http    *http.Client
	token   string
	prover  *jose.Prover // nil: a bearer token
	proof   string       // sent in place of a fresh proof, if any
	nonce   string
	session string // of 2025-11-25; empty: stateless
	sent    string // the last proof
}

func (f *fleet) client(g *gate, token string) *client {
	tr := g.transport()
	f.t.Cleanup(tr.CloseIdleConnections)
	f.mu.Lock()
	f.opened = append(f.opened, tr)
	f.mu.Unlock()
	return &client{t: f.t, name: f.name, http: &http.Client{Transport: tr, Timeout: time.Minute}, token: token}
}

// leave closes the connections of every client.
func (f *fleet) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, tr := range f.opened {
		tr.CloseIdleConnections()
	}
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// good reports an answer of a tool.
func (a answer) good() bool {
	return a.err == nil && a.status == http.StatusOK && strings.Contains(a.body, `"fine `) && !strings.Contains(a.body, `"error":{`)
}

func (a answer) String() string {
	return fmt.Sprintf("%d %v %s", a.status, a.err, a.body[:min(len(a.body), 600)])
}

const stateless = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`

var ids atomic.Int64 // of requests

// request makes one request. params are the members of the params object, without _meta.
func (c *client) request(ctx context.Context, server, method, target, params string) *http.Request {
	c.t.Helper()
	meta := `"progressToken":"p"`
	if c.session == "" && method != "initialize" {
		meta += "," + stateless
	}
	if params != "" {
		params = "," + params
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"_meta":{%s}%s}}`, ids.Add(1), method, meta, params)
	if method == "notifications/initialized" {
		body = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.name+"/mcp/"+server, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	c.head(req, method, target)
	return req
}

// head sets the headers of a request, the credential among them.
func (c *client) head(req *http.Request, method, target string) {
	c.t.Helper()
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	switch {
	case c.session != "":
		h.Set("Mcp-Session-Id", c.session)
		h.Set("Mcp-Protocol-Version", "2025-11-25")
	case method != "initialize":
		h.Set("Mcp-Protocol-Version", "2026-07-28")
		h.Set("Mcp-Method", method)
		if target != "" {
			h.Set("Mcp-Name", target)
		}
	}
	if c.prover == nil {
		h.Set("Authorization", "Bearer "+c.token)
		return
	}
	c.sent = c.proof
	if c.sent == "" {
		var err error
		if c.sent, err = c.prover.Proof(req.Method, req.URL.String(), c.token, c.nonce); err != nil {
			c.t.Fatal(err)
		}
	}
	h.Set("Authorization", "DPoP "+c.token)
	h.Set("DPoP", c.sent)
}

// send makes a request and reads its answer.
func (c *client) send(server, method, target, params string) answer {
	c.t.Helper()
	resp, err := c.http.Do(c.request(c.t.Context(), server, method, target, params))
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	if n := resp.Header.Get("Dpop-Nonce"); n != "" {
		c.nonce = n
	}
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b), err}
}

func (c *client) list(server string) answer { return c.send(server, "tools/list", "", "") }

// call calls a tool; id is its argument.
func (c *client) call(server, tool, id string) answer {
	c.t.Helper()
	return c.send(server, "tools/call", tool, callParams(tool, id, 0))
}

func callParams(tool, id string, sleep int) string {
	return fmt.Sprintf(`"name":%q,"arguments":{"id":%q,"sleep":%d}`, tool, id, sleep)
}

// open opens a session of 2025-11-25.
func (c *client) open(server string) {
	c.t.Helper()
	a := c.send(server, "initialize", "", `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}`)
	if c.session = a.header.Get("Mcp-Session-Id"); c.session == "" {
		c.t.Fatalf("open session: %v", a)
	}
	if a := c.send(server, "notifications/initialized", "", ""); a.status != http.StatusAccepted {
		c.t.Fatalf("open session: %v", a)
	}
}

// A stream is an answer that lasts.
type stream struct {
	what  string
	begun chan struct{} // closed with its first byte
	done  chan struct{} // closed at its end
	// The rest is set at the end.
	status int
	last   time.Time // of the last byte, or of the end if none came
	bytes  int
	tail   string
	err    error // nil: it ended in good order
}

// follow sends a request and follows its answer to the end.
func (c *client) follow(what string, req *http.Request) *stream {
	s := &stream{what: what, begun: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		resp, err := c.http.Do(req)
		if err != nil {
			s.last, s.err = time.Now(), err
			return
		}
		defer resp.Body.Close()
		s.status = resp.StatusCode
		if req.Method == http.MethodGet {
			close(s.begun) // a quiet stream
		}
		s.read(resp.Body, req.Method != http.MethodGet)
	}()
	return s
}

func (s *stream) read(body io.Reader, tell bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		s.last = time.Now()
		if n > 0 {
			if s.bytes == 0 && tell {
				close(s.begun)
			}
			s.bytes += n
			s.tail += string(buf[:n])
			s.tail = s.tail[max(0, len(s.tail)-2000):]
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			s.err = err
			return
		}
	}
}

// get opens the stream of a session.
func (c *client) get(ctx context.Context, server string) *stream {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.name+"/mcp/"+server, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	c.head(req, "", "")
	req.Header.Set("Accept", "text/event-stream")
	return c.follow("stream of a session", req)
}
