package kit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// A Shim is an HTTP server that shows a bearer token for clients that cannot be told one. It forwards
// each request as it came, with its own Host and Origin, and each piece of an answer as it comes.
type Shim struct {
	URL string // base, without a path
	// SessionsOnly refuses stateless requests (2026-07-28), so that a client that speaks both eras
	// opens a session. Set it before the first request.
	SessionsOnly bool
	// Held is shown the link of a call that waits for a person, such as one who must authorize Warder at
	// the server; when it returns nil the call is sent again. Set it before the first request; nil: the
	// client is told.
	Held func(ctx context.Context, link string) error
	srv  *http.Server
}

// maxHeld is how often one call is sent again because it was held.
const maxHeld = 4

const noStateless = `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"Unsupported protocol version",` +
	`"data":{"supported":["2025-11-25"],"requested":"2026-07-28"}}}`

// Bearer opens a shim before base. The gateway must be configured with base, so Host names it.
func Bearer(base, token string) (*Shim, error) {
	to, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	s := &Shim{URL: "http://" + l.Addr().String()}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	s.srv = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.SessionsOnly && r.Header.Get("Mcp-Protocol-Version") == "2026-07-28" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, noStateless) // the client may have left
			return
		}
		if s.Held != nil && r.Method == http.MethodPost {
			s.patient(w, r, transport, to, token)
			return
		}
		forward(w, r, transport, to, token)
	})}
	go func() { _ = s.srv.Serve(l) }() // ends with Close
	return s, nil
}

// Close ends the shim and every connection.
func (s *Shim) Close() error {
	if s == nil {
		return nil
	}
	return s.srv.Close()
}

// link is that of a held call, in an error, an elicitation or a text.
var link = regexp.MustCompile(`https?://[^"\\\s]+/oauth/connect/[^"\\\s]+`)

// patient forwards a request, shows the person the link if it is held, and then sends it again.
func (s *Shim) patient(w http.ResponseWriter, r *http.Request, t http.RoundTripper, to *url.URL, token string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for try := 0; ; try++ {
		out := r.Clone(r.Context())
		out.Body = io.NopCloser(bytes.NewReader(body))
		out.URL.Scheme, out.URL.Host, out.RequestURI = to.Scheme, to.Host, ""
		out.Header.Set("Authorization", "Bearer "+token)
		resp, err := t.RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // read to its end
		if err != nil {
			panic(http.ErrAbortHandler) // an answer cut short must not look whole
		}
		if found := link.Find(answer); found != nil && try < maxHeld && s.Held(r.Context(), string(found)) == nil {
			continue
		}
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(answer) // the client may have left
		return
	}
}

// forward makes one request with the token and copies the answer.
func forward(w http.ResponseWriter, r *http.Request, t http.RoundTripper, to *url.URL, token string) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = to.Scheme, to.Host, ""
	out.Header.Set("Authorization", "Bearer "+token)
	resp, err := t.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	flush := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil || flush.Flush() != nil {
				return // the client left
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // an answer cut short must not look whole
		}
	}
}
