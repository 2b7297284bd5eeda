package admin

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/warder-mcp/warder/registry"
)

// maxAnswer bounds an answer that a client reads.
const maxAnswer = 16 << 20

// A Client asks a gateway. It is safe for concurrent use.
type Client struct {
	http      *http.Client
	base      string
	authorize func(ctx context.Context, r *http.Request) error
	routes    map[string]operation
}

var _ Registry = (*Client)(nil)

// NewClient returns a client of the API at base, scheme and host, such as https://admin.example.com.
// authorize sets the credential of a request; nil: there is none.
func NewClient(base string, h *http.Client, authorize func(ctx context.Context, r *http.Request) error) *Client {
	a := &API{glass: newBreakGlass(&Deps{})}
	c := &Client{http: h, base: strings.TrimSuffix(strings.TrimSuffix(base, "/"), prefix), authorize: authorize, routes: map[string]operation{}}
	for _, o := range a.table() {
		c.routes[o.id] = o
	}
	return c
}

// Dial finds the gateway that serves the data folder. The error wraps [ErrNotRunning] if there is
// none.
func Dial(ctx context.Context, data string) (*Client, error) {
	path, err := socketOf(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	if err := c.Close(); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return NewClient("http://admin", &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
	}}, nil), nil
}

// With returns the client with another way to authorize, for a caller at the socket who has a token.
func (c *Client) With(authorize func(ctx context.Context, r *http.Request) error) *Client {
	out := *c
	out.authorize = authorize
	return &out
}

// An Ask is one request: the operation by its id, parameters of its path, query of a list, the state
// of it that was looked at, and the body.
type Ask struct {
	Operation string
	Path      map[string]string
	Query     url.Values
	Match     string // ETag of what was looked at; empty: any
	Body      any    // nil: none
}

// Do carries out an operation and reads the answer into out, which may be nil. A refusal is an *Error.
func (c *Client) Do(ctx context.Context, ask Ask, out any) error {
	r, err := c.request(ctx, ask)
	if err != nil {
		return fmt.Errorf("%s: %w", ask.Operation, err)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("%s: %w", ask.Operation, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("%s: %w", ask.Operation, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("%s: the answer is too long", ask.Operation)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return refusal(resp, body)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s: read answer: %w", ask.Operation, err)
	}
	return nil
}

// refusal reads a problem; whoever answers something else is no gateway.
func refusal(resp *http.Response, body []byte) error {
	p := &Error{}
	if err := json.Unmarshal(body, p); err != nil || p.Code == "" {
		return fmt.Errorf("not a Warder admin API: it answered %s", resp.Status)
	}
	p.Status, p.Challenge = resp.StatusCode, resp.Header.Values("WWW-Authenticate")
	return p
}

func (c *Client) request(ctx context.Context, ask Ask) (*http.Request, error) {
	o, ok := c.routes[ask.Operation]
	if !ok {
		return nil, errors.New("no such operation")
	}
	path := o.path
	for name, value := range ask.Path {
		if value == "" {
			return nil, fmt.Errorf("%s is empty", name)
		}
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	target := c.base + prefix + path
	if len(ask.Query) > 0 {
		target += "?" + ask.Query.Encode()
	}
	var body io.Reader
	if ask.Body != nil {
		b, err := encode(ask.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, o.method, target, body)
	if err != nil {
		return nil, err
	}
	if ask.Body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if ask.Match != "" {
		r.Header.Set("If-Match", ask.Match)
	}
	if c.authorize != nil {
		return r, c.authorize(ctx, r)
	}
	return r, nil
}

// Approve asks for the approval of a definition. The Who of the request is not used.
func (c *Client) Approve(ctx context.Context, req registry.Request) error {
	return c.decide(ctx, "tools.approve", req)
}

// Revoke asks for the revocation of a definition. The Who of the request is not used.
func (c *Client) Revoke(ctx context.Context, req registry.Request) error {
	return c.decide(ctx, "tools.revoke", req)
}

func (c *Client) decide(ctx context.Context, operation string, req registry.Request) error {
	return c.Do(ctx, Ask{Operation: operation, Body: DefinitionDecision{
		Server: req.Server, Kind: req.Kind, Name: req.Name, Digest: hex.EncodeToString(req.Digest[:]),
		Effect: req.Effect.String(), Labels: req.Labels, Note: req.Note, Keep: req.Keep,
	}}, nil)
}
