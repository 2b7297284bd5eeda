package safedial

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrRedirect reports that a server answered with a redirect, which is never followed.
var ErrRedirect = errors.New("redirect refused")

// Client returns an HTTP client for small documents, such as key sets and metadata: https only
// (http for hosts whose rule allows loopback or private addresses), no proxy of the environment, no
// redirects, bounded headers, and timeout for the whole exchange. Callers bound the body with
// [ReadAll].
func (d *Dialer) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &guard{dialer: d, next: &http.Transport{
			DialContext:            d.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 32 << 10,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
		}},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return d.egress.tell(r.Context(), fmt.Errorf("%w: to %s", ErrRedirect, quote(r.URL.Redacted())))
		},
	}
}

// guard refuses schemes before a connection is made.
type guard struct {
	dialer *Dialer
	next   *http.Transport
}

// RoundTrip forwards https requests, and http requests to hosts with a rule.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	rule := g.dialer.rule(r.URL.Hostname())
	if r.URL.Scheme != "https" && (r.URL.Scheme != "http" || !rule.Loopback && !rule.Private) {
		if r.Body != nil {
			_ = r.Body.Close() // RoundTrippers close the body, also on error
		}
		return nil, g.dialer.egress.tell(r.Context(), fmt.Errorf("%w: scheme %s for %s", ErrForbiddenNetwork, quote(r.URL.Scheme), quote(r.URL.Host)))
	}
	if r.URL.User != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as above
		}
		return nil, g.dialer.egress.tell(r.Context(), fmt.Errorf("%w: the url holds credentials", ErrForbiddenHost))
	}
	return g.next.RoundTrip(r)
}

// CloseIdleConnections closes connections that wait for reuse.
func (g *guard) CloseIdleConnections() { g.next.CloseIdleConnections() }

// ReadAll reads a body of at most limit bytes; a longer one is an error, never cut.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read body: longer than %d bytes", limit)
	}
	return b, nil
}
