// Package admin lets the commands of the same machine ask a running gateway to decide about
// definitions, so that every decision is written to the gateway's audit trail before it is in force.
//
// The gateway serves a socket in its data folder, [Serve]; a command finds it with [Dial]. Who decides
// is who the operating system says is at the other end, never what the request says; only the user who
// runs the gateway, and root, are heard.
package admin

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/warder-mcp/warder/registry"
)

// socketName is the name of the socket within the data folder.
const socketName = "admin.sock"

// maxBody bounds a request.
const maxBody = 64 << 10

// ErrNotRunning says that no gateway serves the data folder.
var ErrNotRunning = errors.New("no gateway is running on this data folder")

// ErrRefused is wrapped by errors of decisions that the gateway did not accept.
var ErrRefused = errors.New("the gateway refused the decision")

// A Registry decides about definitions; package registry has one.
type Registry interface {
	Approve(ctx context.Context, req registry.Request) error
	Revoke(ctx context.Context, req registry.Request) error
}

// A decision is a registry.Request as it travels; who decides is not part of it.
type decision struct {
	Server string   `json:"server"`
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Digest string   `json:"digest"`
	Effect string   `json:"effect"`
	Labels []string `json:"labels,omitempty"`
	Note   string   `json:"note,omitempty"`
	Keep   bool     `json:"keep,omitempty"`
}

// Serve answers on the socket of the data folder until ctx is done. A socket that a dead process left
// behind is replaced.
func Serve(ctx context.Context, data string, reg Registry, log *slog.Logger) error {
	path := filepath.Join(data, socketName)
	if err := removeStale(ctx, path); err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /approve", answer(reg.Approve))
	mux.HandleFunc("POST /revoke", answer(reg.Revoke))
	srv := &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			who, err := peer(c)
			return context.WithValue(ctx, peerKey{}, caller{who, err})
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // ends Serve, which reports
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// removeStale removes a socket that nobody answers on.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket", path)
	}
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return errors.Join(errors.New("another gateway is running on this data folder"), c.Close())
	}
	return os.Remove(path)
}

type peerKey struct{}

// A caller is who is at the other end of a connection.
type caller struct {
	name string
	err  error
}

func answer(decide func(context.Context, registry.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := r.Context().Value(peerKey{}).(caller)
		if !ok || who.err != nil || who.name == "" {
			http.Error(w, "you are not the user who runs the gateway", http.StatusForbidden)
			return
		}
		req, err := read(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			req.Who = who.name
			err = decide(r.Context(), req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	}
}

func read(body io.Reader) (registry.Request, error) {
	var d decision
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return registry.Request{}, fmt.Errorf("read decision: %w", err)
	}
	req := registry.Request{Key: registry.Key{Server: d.Server, Kind: d.Kind, Name: d.Name}, Labels: d.Labels, Note: d.Note, Keep: d.Keep}
	digest, err := hex.DecodeString(d.Digest)
	if err != nil || copy(req.Digest[:], digest) != len(digest) || len(digest) != len(req.Digest) {
		return registry.Request{}, errors.New("read decision: digest: want 64 hexadecimal digits")
	}
	effect, err := registry.ParseEffect(d.Effect)
	if err != nil {
		return registry.Request{}, fmt.Errorf("read decision: %w", err)
	}
	req.Effect = effect
	return req, nil
}

// A Client asks a running gateway. It is safe for concurrent use.
type Client struct{ http *http.Client }

var _ Registry = (*Client)(nil)

// Dial finds the gateway that serves the data folder. The error wraps [ErrNotRunning] if there is
// none.
func Dial(ctx context.Context, data string) (*Client, error) {
	path := filepath.Join(data, socketName)
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	if err := c.Close(); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return &Client{http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
	}}}, nil
}

// Approve asks for an approval. The Who of the request is not used.
func (c *Client) Approve(ctx context.Context, req registry.Request) error {
	return c.ask(ctx, "approve", req)
}

// Revoke asks for a revocation. The Who of the request is not used.
func (c *Client) Revoke(ctx context.Context, req registry.Request) error {
	return c.ask(ctx, "revoke", req)
}

func (c *Client) ask(ctx context.Context, verb string, req registry.Request) error {
	body, err := json.Marshal(decision{
		Server: req.Server, Kind: req.Kind, Name: req.Name, Digest: hex.EncodeToString(req.Digest[:]),
		Effect: req.Effect.String(), Labels: req.Labels, Note: req.Note, Keep: req.Keep,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/"+verb, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return fmt.Errorf("%w: %s", ErrRefused, bytes.TrimSpace(text))
}
