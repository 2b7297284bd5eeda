package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/oauth/oauthtest"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/layer/upstream"
)

// A rig is one server with credentials, its authorization server, and one or more replicas of the keeper.
type rig struct {
	t        testing.TB
	as       *oauthtest.Server
	resource *oauthtest.Resource
	state    *state.Memory
	box      *seal.Box
	creds    upstream.Credentials
	clock    atomic.Int64 // nanoseconds added to the time
	person   atomic.Pointer[upstream.Person]
	mint     func(ctx context.Context, p *warder.Principal, audience string) (string, error)
	broken   state.Store // used instead of state; nil: state
	name     string      // public address: that of the first replica
	identity func(context.Context, *warder.Principal, string) (secret.Value, error)

	mu     sync.Mutex
	events []warder.Event
}

// A replica is one keeper with its pages.
type replica struct {
	*rig
	keeper *upstream.Keeper
	layer  warder.Layer
	base   string
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }

func newRig(tb testing.TB, creds upstream.Credentials) *rig {
	tb.Helper()
	r := &rig{t: tb, as: oauthtest.New(tb), creds: creds}
	r.resource = oauthtest.NewResource(tb, r.as)
	r.state = state.NewMemory(r.now)
	var err error
	if r.box, err = seal.New(seal.NewKey()); err != nil {
		tb.Fatal(err)
	}
	r.person.Store(&upstream.Person{Names: []upstream.Name{{Issuer: "https://login.example.com", Subject: "alice"}}})
	return r
}

// open starts a replica.
func (r *rig) open() *replica {
	r.t.Helper()
	rep := &replica{rig: r}
	var handler atomic.Pointer[http.Handler]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { (*handler.Load()).ServeHTTP(w, req) }))
	r.t.Cleanup(srv.Close)
	if r.name == "" {
		r.name = srv.URL
	}
	rep.base = r.name
	secrets, err := secret.NewKeeper(secret.Stores{}, secret.KeeperConfig{Now: r.now}, secret.Deps{})
	if err != nil {
		r.t.Fatal(err)
	}
	var store state.Store = r.state
	if r.broken != nil {
		store = r.broken
	}
	rep.keeper, err = upstream.Open(upstream.Config{}, upstream.Deps{
		Base: r.name, Servers: []upstream.Server{{Name: "s", URL: r.resource.URL, Credentials: r.creds}}, State: store, Box: r.box,
		Secrets: secrets, Mint: r.mint, Identity: r.identity, Now: r.now,
		Record: func(_ context.Context, e warder.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
			return nil
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _, _ = rep.keeper.Close(), secrets.Close() })
	h := rep.keeper.Handler(func(w http.ResponseWriter, _ *http.Request) (*upstream.Person, bool) {
		p := r.person.Load()
		if p == nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
		}
		return p, p != nil
	})
	handler.Store(&h)
	if rep.layer, err = upstream.New(rep.keeper); err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func alice() *warder.Principal {
	return &warder.Principal{Issuer: "https://login.example.com", Subject: "alice", Client: "client", Agent: "agent"}
}

// exchange is a call as it reaches the layer: with the caller's token among the headers of the client.
func exchange(p *warder.Principal) *warder.Exchange {
	return &warder.Exchange{
		Principal: p, Server: &warder.Server{Name: "s"},
		Conn: warder.Conn{Header: http.Header{"Authorization": {"Bearer " + inbound}, "Dpop": {inbound}}},
	}
}

// inbound is the caller's own token. It must appear nowhere.
const inbound = "INBOUND-TOKEN-9f3c"

// decide runs the layer's controls.
func (r *replica) decide(x *warder.Exchange) (warder.Decision, error) {
	r.t.Helper()
	for _, i := range r.layer.Request {
		if d, err := i.Intercept(r.t.Context(), x); err != nil || d.Verdict != warder.Pass {
			return d, err
		}
	}
	return warder.Continue(), nil
}

// call plays one call the way package proxy does: the controls, then the request with the credential,
// again when the credential was bettered. It returns the status, or what refused.
func (r *replica) call(p *warder.Principal) (int, *warder.Error) {
	r.t.Helper()
	x := exchange(p)
	d, err := r.decide(x)
	if err != nil {
		return 0, &warder.Error{Code: warder.CodeUnavailable, Err: err}
	}
	if d.Verdict != warder.Pass {
		return 0, &warder.Error{Code: d.Code, Reason: d.Reason, Ask: d.Ask, Public: d.Public}
	}
	return r.send(x)
}

func (r *replica) send(x *warder.Exchange) (int, *warder.Error) {
	r.t.Helper()
	for denials := 0; ; denials++ {
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.resource.URL, bytes.NewReader([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)))
		if err != nil {
			r.t.Fatal(err)
		}
		if x.Attach.Header != nil {
			if err := x.Attach.Header(r.t.Context(), req); err != nil {
				return 0, r.asError(err)
			}
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			r.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode < 400 || x.Attach.Denied == nil || denials == 2 {
			return resp.StatusCode, nil
		}
		resp.Request = nil // package proxy sends requests that answers do not point back to
		if err := x.Attach.Denied(r.t.Context(), resp); err != nil {
			return 0, r.asError(err)
		}
	}
}

func (r *rig) asError(err error) *warder.Error {
	r.t.Helper()
	e, ok := errors.AsType[*warder.Error](err)
	if !ok {
		r.t.Fatalf("the error cannot be shown: %v", err)
	}
	return e
}

// browse opens a link as a browser does and returns the status and text of the last page.
func (r *rig) browse(link string) (int, string) {
	r.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, link, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := (&http.Client{Jar: jar, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// authorized opens the link of a held call and fails unless that works.
func (r *replica) authorized(p *warder.Principal) {
	r.t.Helper()
	_, e := r.call(p)
	if e == nil || e.Code != warder.CodeHeld || e.Ask == nil {
		r.t.Fatalf("the first call: %v, want it held", e)
	}
	if status, text := r.browse(e.Ask.URL); status != http.StatusOK {
		r.t.Fatalf("authorize: status %d: %s", status, text)
	}
}

// told reports whether an event with an effect and a reason was written.
func (r *rig) told(effect string, reason warder.Reason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Type == warder.EventCredential && e.Effect == effect && (reason == "" || e.Reason == reason) {
			return true
		}
	}
	return false
}

// write puts a secret into a file.
func write(tb testing.TB, name, text string) secret.Ref {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return secret.Ref{File: file}
}

// leaks reports where a text appears among everything that was sent, stored or told.
func (r *rig) leaks(text string) []string {
	r.t.Helper()
	var where []string
	look := func(name, s string) {
		if strings.Contains(s, text) {
			where = append(where, name)
		}
	}
	r.as.Mu.Lock()
	for _, q := range r.as.Requests {
		look("authorization server "+q.Path, q.Form.Encode())
		for k, v := range q.Header {
			look("authorization server header "+k, strings.Join(v, ","))
		}
	}
	r.as.Mu.Unlock()
	r.resource.Mu.Lock()
	for i, q := range r.resource.Requests {
		for k, v := range q.Header {
			look("server header "+k, strings.Join(v, ","))
		}
		look("server body", r.resource.Bodies[i])
	}
	r.resource.Mu.Unlock()
	docs, err := r.state.Changes(r.t.Context(), 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range docs {
		look("document "+d.Kind, string(d.Body)+d.ID+d.Owner+d.Topic)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		look("event", e.Detail+string(e.Reason))
	}
	return where
}

// down is a store that cannot be asked.
type down struct{ state.Store }

var errDown = errors.New("the store is down")

func (down) Get(context.Context, string, string) (state.Doc, error)   { return state.Doc{}, errDown }
func (down) Put(context.Context, ...state.Doc) ([]state.Doc, error)   { return nil, errDown }
func (down) Take(context.Context, string, string) (state.Doc, error)  { return state.Doc{}, errDown }
func (down) Latest(context.Context) (int64, error)                    { return 0, errDown }
func (down) Changes(context.Context, int64, int) ([]state.Doc, error) { return nil, errDown }
