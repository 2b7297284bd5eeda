package wardertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// An httpPeer is one caller of the HTTP door.
type httpPeer struct {
	r       *runner
	rev     warder.Revision
	token   string
	holder  *holder     // nil: the token is a bearer token
	own     atomic.Bool // the next message is one of the case's own
	session string

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	mu     sync.Mutex
	heard  strings.Builder // on streams
}

// newHTTPPeer makes a caller; with steal it uses that session instead of one of its own.
func (r *runner) newHTTPPeer(rev warder.Revision, subject string, steal peer) *httpPeer {
	h := r.holder()
	p := &httpPeer{r: r, rev: rev, holder: h, token: r.token(subject+"-"+string(rev), h)}
	if owner, ok := steal.(*httpPeer); ok {
		p.session = owner.session
	}
	p.ctx, p.cancel = context.WithCancel(r.t.Context())
	return p
}

func (p *httpPeer) close() {
	p.cancel()
	p.work.Wait()
}

func (p *httpPeer) streamed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard.String()
}

// hello opens the session of a revision that has one. A refusal is the answer to come.
func (p *httpPeer) hello() (refused *answer, err error) {
	if p.rev.Modern() || p.session != "" || p.r.c.sections["token"] == "none" && p.r.shown == nil {
		return nil, nil
	}
	got, resp, err := p.post(p.header(nil), p.r.c.initialize(p.rev))
	if err != nil {
		return nil, err
	}
	if p.session = resp.Get("Mcp-Session-Id"); p.session == "" {
		return &got, nil
	}
	p.r.opened = got.text
	_, _, err = p.post(p.header(nil), []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	return nil, err
}

// header is what every message of this caller carries; body may be nil.
func (p *httpPeer) header(body []byte) http.Header {
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	if p.token != "" {
		h.Set("Authorization", "Bearer "+p.token)
	}
	if p.session != "" {
		h.Set("Mcp-Session-Id", p.session)
		h.Set("Mcp-Protocol-Version", string(p.rev))
	}
	if body != nil {
		mirror(h, body, p.rev)
	}
	return h
}

func (p *httpPeer) send(raw []byte, id string, own bool) (answer, error) {
	h := p.header(raw)
	if own {
		ownHeaders(h, p.r.c.sections["headers"])
	}
	p.own.Store(own)
	defer p.own.Store(false)
	got, _, err := p.post(h, raw)
	if err == nil && id != "" && id != "*" && !answers(got.text, id) {
		err = fmt.Errorf("no answer under the id %s: %d %.500s", id, got.status, got.text)
	}
	return got, err
}

// answers reports whether a text ends in an answer under this id, or under none: some refusals come
// before the id was read.
func answers(text, id string) bool {
	text = strings.TrimSpace(text)
	last := text[strings.LastIndexByte(text, '\n')+1:]
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	return json.Unmarshal([]byte(last), &m) == nil && m.Method == "" && (len(m.ID) == 0 || string(m.ID) == id || string(m.ID) == "null")
}

// post sends one body and reads the whole answer, answering the questions in it.
func (p *httpPeer) post(h http.Header, body []byte) (answer, http.Header, error) {
	resp, err := p.request(http.MethodPost, h, body)
	if err != nil {
		return answer{}, nil, err
	}
	defer resp.Body.Close()
	if nonce := resp.Header.Get("Dpop-Nonce"); nonce != "" && p.holder != nil && p.holder.spec.Nonce && p.holder.nonce != nonce {
		p.holder.nonce = nonce
		return p.post(h, body)
	}
	got := answer{status: resp.StatusCode}
	for _, k := range []string{"Www-Authenticate", "Retry-After", "Dpop-Nonce"} {
		for _, v := range resp.Header.Values(k) {
			got.text += k + ": " + v + "\n"
		}
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		text, err := io.ReadAll(resp.Body)
		got.text += string(text)
		return got, resp.Header, err
	}
	err = p.read(resp.Body, func(data string) { got.text += data + "\n" })
	return got, resp.Header, err
}

func (p *httpPeer) request(method string, h http.Header, body []byte) (*http.Response, error) {
	url := p.r.url + "/mcp/" + p.r.c.key("endpoint", "s")
	if q := p.r.c.key("query", ""); q != "" {
		url += "?" + strings.ReplaceAll(q, "{{token}}", p.token)
	}
	req, err := http.NewRequestWithContext(p.ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = h.Clone()
	if p.holder != nil {
		p.holder.sign(req.Header, method, "https://gate.test/mcp/"+p.r.c.key("endpoint", "s"), p.token, p.own.Load())
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return p.r.client.Do(req)
}

// read hands out the events of a stream and answers the questions among them.
func (p *httpPeer) read(r io.Reader, take func(data string)) error {
	events := wire.NewEventReader(r, 64<<20)
	for {
		e, err := events.Next()
		if err != nil {
			return ignoreEnd(err)
		}
		if len(e.Data) == 0 {
			continue
		}
		take(string(e.Data))
		if reply := p.r.c.answerTo(e.Data); reply != nil {
			if _, _, err := p.post(p.header(nil), reply); err != nil {
				return err
			}
		}
	}
}

// listen opens a stream for what the server sends outside calls. The answer says why it was refused.
func (p *httpPeer) listen(request []byte) (*answer, error) {
	method, h := http.MethodPost, p.header(request)
	if !p.rev.Modern() {
		method, h, request = http.MethodGet, p.header(nil), nil
	}
	resp, err := p.request(method, h, request)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return &answer{status: resp.StatusCode, text: string(text)}, err
	}
	p.work.Go(func() {
		defer resp.Body.Close()
		_ = p.read(resp.Body, func(data string) { // it ends with the test
			p.mu.Lock()
			defer p.mu.Unlock()
			p.heard.WriteString(data + "\n")
		})
	})
	return nil, nil
}

// mirror sets the routing headers of 2026-07-28.
func mirror(h http.Header, body []byte, rev warder.Revision) {
	if !rev.Modern() {
		return
	}
	var m struct {
		Method string
		Params struct{ Name, URI, TaskID string }
	}
	_ = json.Unmarshal(body, &m) // malformed bodies have no headers to mirror
	h.Set("Mcp-Protocol-Version", string(rev))
	h.Set("Mcp-Method", m.Method)
	for _, name := range []string{m.Params.Name, m.Params.URI, m.Params.TaskID} {
		if name != "" && (m.Method == "tools/call" || m.Method == "prompts/get" || m.Method == "resources/read" || strings.HasPrefix(m.Method, "tasks/")) {
			h.Set("Mcp-Name", name)
		}
	}
}

// ownHeaders applies the headers section: the first line of a name replaces what stands there, the
// next add to it, and an empty value removes the header.
func ownHeaders(h http.Header, section string) {
	seen := map[string]bool{}
	for line := range strings.Lines(section) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		canonical := http.CanonicalHeaderKey(key)
		if !seen[canonical] {
			delete(h, canonical)
		}
		seen[canonical] = true
		if value = strings.TrimSpace(value); value != "" {
			h[canonical] = append(h[canonical], value)
		}
	}
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("read the stream: %w", err)
}
