package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/tlsconf"
	"github.com/warder-mcp/warder/wire"
)

// Header names in canonical form, for direct use as map keys.
const (
	hdrAccept         = "Accept"
	hdrAcceptEncoding = "Accept-Encoding"
	hdrContentType    = "Content-Type"
	hdrUserAgent      = "User-Agent"
	hdrVersion        = "Mcp-Protocol-Version"
	hdrMethod         = "Mcp-Method"
	hdrName           = "Mcp-Name"
	hdrSession        = "Mcp-Session-Id"
	hdrLastEvent      = "Last-Event-Id"
)

const (
	maxHeaderBytes = 64 << 10               // of one response
	drainBytes     = 64 << 10               // read after the end, to keep a connection
	drainTime      = 200 * time.Millisecond //
	goodbyeTime    = 5 * time.Second        // for DELETE and notifications/cancelled
)

// A client sends HTTP requests of one server. Header values that never change are kept as slices
// that the requests share.
type client struct {
	srv       *Server
	transport *http.Transport
	keeper    *keeper // for POSTs over plain HTTP/1.1; nil where there is none

	accept, acceptStream, identity, contentType, agent []string
}

func newClient(s *Server) (*client, error) {
	tlsConfig, err := tlsconf.ClientConfig(s.cfg.TLS)
	if err != nil {
		return nil, err
	}
	dialer := safedial.New(safedial.Config{Allow: s.dialRules(), Timeout: s.cfg.ConnectTimeout, Refused: s.opt.Refused})
	return &client{
		srv:          s,
		transport:    newTransport(s.cfg, dialer, tlsConfig),
		keeper:       newKeeper(s.cfg, dialer.DialContext),
		accept:       []string{"application/json, text/event-stream"},
		acceptStream: []string{"text/event-stream"},
		identity:     []string{"identity"},
		contentType:  []string{"application/json"},
		agent:        []string{"warder"},
	}, nil
}

func newTransport(cfg Config, dialer *safedial.Dialer, tlsConfig *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    cfg.ConnectTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           cfg.MaxIdleConns,
		MaxIdleConnsPerHost:    cfg.MaxIdleConns,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ExpectContinueTimeout:  time.Second,
	}
}

// dialRules are the exceptions for the hosts that the configuration names.
func (s *Server) dialRules() []safedial.Rule {
	var rules []safedial.Rule
	for _, raw := range []string{s.cfg.URL, s.cfg.LegacyURL, s.cfg.SSE} {
		if raw == "" {
			continue
		}
		if u, err := s.cfg.endpoint(raw); err == nil {
			host := u.Hostname()
			rules = append(rules, safedial.Rule{Host: host, Loopback: loopbackHost(host), Private: s.cfg.AllowPrivate})
		}
	}
	return rules
}

// do sends one request without following redirects. The error is a *warder.Error, or wraps that of
// ctx.
func (c *client) do(ctx context.Context, method string, u *url.URL, hdr http.Header, body *payload) (*http.Response, error) {
	resp, err := c.send(ctx, method, u, hdr, body)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ended(ctx)
		}
		return nil, unreachable(err)
	}
	if enc := resp.Header["Content-Encoding"]; len(enc) > 0 && (len(enc) > 1 || !strings.EqualFold(enc[0], "identity")) {
		_ = resp.Body.Close() // nothing of it is wanted
		return nil, failf(ReasonEncoding, "content-encoding %.40q", strings.Join(enc, ","))
	}
	return resp, nil
}

func (c *client) send(ctx context.Context, method string, u *url.URL, hdr http.Header, body *payload) (*http.Response, error) {
	if c.keeper != nil && method == http.MethodPost && u.Scheme == "http" {
		return c.keeper.do(ctx, u, hdr, body)
	}
	req := (&http.Request{
		Method: method, URL: u, Host: u.Host, Header: hdr,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if body != nil {
		req.ContentLength = int64(body.size())
		req.Body = &reader{left: *body}
		req.GetBody = func() (io.ReadCloser, error) { return &reader{left: *body}, nil }
	}
	return c.transport.RoundTrip(req)
}

// close closes idle connections.
func (c *client) close() {
	c.transport.CloseIdleConnections()
	if c.keeper != nil {
		c.keeper.close()
	}
}

// unreachable tells a connection that never was from one that broke.
func unreachable(err error) *warder.Error {
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	if errors.As(err, &op) && op.Op == "dial" || errors.As(err, &cert) ||
		errors.Is(err, safedial.ErrForbiddenAddress) || errors.Is(err, safedial.ErrForbiddenHost) {
		return fail(ReasonUnreachable, err)
	}
	return fail(ReasonClosed, err)
}

// readBody reads a whole body of at most limit bytes into one buffer and closes it.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, failf(ReasonTooLarge, "the answer announces %d bytes, the bound is %d", resp.ContentLength, limit)
	}
	if resp.ContentLength >= 0 {
		b := make([]byte, resp.ContentLength)
		if _, err := io.ReadFull(resp.Body, b); err != nil {
			return nil, closedBy(fmt.Errorf("read answer: %w", err))
		}
		return b, nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case int64(len(b)) > limit:
		return nil, failf(ReasonTooLarge, "the answer has more than %d bytes", limit)
	case err != nil:
		return nil, closedBy(fmt.Errorf("read answer: %w", err))
	}
	return b, nil
}

// discard reads what little is left of a body, so that the connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, drainBytes) // only the connection depends on it
	_ = resp.Body.Close()
}

// media says what a response carries.
type media uint8

const (
	mediaOther media = iota
	mediaJSON
	mediaEvents
)

func mediaOf(h http.Header) media {
	v := h[hdrContentType]
	if len(v) != 1 {
		return mediaOther
	}
	name := v[0]
	if name != "application/json" && name != "text/event-stream" {
		parsed, _, err := mime.ParseMediaType(name)
		if err != nil {
			return mediaOther
		}
		name = parsed
	}
	switch name {
	case "application/json":
		return mediaJSON
	case "text/event-stream":
		return mediaEvents
	default:
		return mediaOther
	}
}

// refusal turns a status without a usable answer into a failure.
func refusal(resp *http.Response) *warder.Error {
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return failf(ReasonUnauthorized, "status %d, challenge %.200q", status, resp.Header.Get("WWW-Authenticate"))
	case status == http.StatusTooManyRequests:
		return failf(ReasonLimited, "status 429, retry after %.40q", resp.Header.Get("Retry-After"))
	case status >= 300 && status < 400:
		return failf(ReasonRedirect, "status %d to %.200q", status, resp.Header.Get("Location"))
	default:
		return fail(ReasonStatus, &statusError{status})
	}
}

// A statusError is an HTTP status that says nothing more.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("status %d", e.status) }

// counts reports whether a failure speaks against the server as a whole.
func countsAgainst(err error) bool {
	var e *warder.Error
	if !errors.As(err, &e) {
		return false
	}
	if st, ok := errors.AsType[*statusError](err); ok {
		return st.status >= 502 && st.status <= 504
	}
	return e.Reason == ReasonUnreachable || e.Reason == ReasonClosed
}

// batches returns the messages of a body or event: several only in the revision that knows batches.
func (l *httpLink) batches(raw []byte) ([][]byte, error) {
	if l.hello.Revision != warder.Revision20250326 {
		return [][]byte{raw}, nil
	}
	list, batch, err := wire.SplitBatch(raw, l.srv.lim)
	if err != nil {
		return nil, undecodable(err)
	}
	if !batch {
		return [][]byte{raw}, nil
	}
	return list, nil
}
