package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// A trail remembers what was recorded, and fails when it is told to.
type trail struct {
	mu     sync.Mutex
	events []warder.Event
	broken error
}

func (t *trail) Record(_ context.Context, e warder.Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return t.broken
	}
	t.events = append(t.events, e)
	return nil
}

// last is the entry written last.
func (t *trail) last(tb testing.TB) warder.Event {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == 0 {
		tb.Fatal("nothing was recorded")
	}
	return t.events[len(t.events)-1]
}

// testAPI makes an API with a trail, if deps has none, and a store in memory, if deps has none.
func testAPI(t *testing.T, cfg Config, deps Deps) *API {
	t.Helper()
	if deps.Record == nil {
		deps.Record = new(trail).Record
	}
	if deps.State == nil {
		deps.State = state.NewMemory(deps.Now)
	}
	api, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// asLocal is a request of the user who runs the gateway, at the socket.
func asLocal(method, path, body string) *http.Request {
	r := request0(method, path, body)
	return r.WithContext(context.WithValue(r.Context(), peerKey{}, caller{name: "ana"}))
}

func request0(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, "https://admin.example"+prefix+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// as is a request with a token, at the listener.
func as(token, method, path, body string) *http.Request {
	r := request0(method, path, body)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// ask sends a request and reads the problem, if the answer is one.
func ask(api *API, r *http.Request) (int, Error) {
	code, body, _ := send(api, r)
	var p Error
	_ = json.Unmarshal([]byte(body), &p) // other answers are no problems
	return code, p
}

func send(api *API, r *http.Request) (int, string, http.Header) {
	w := httptest.NewRecorder()
	api.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

// A clock stands still until it is told to go on.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// contextWithPeer says who the kernel says is at the other end of the socket.
func contextWithPeer(r *http.Request, c caller) context.Context {
	return context.WithValue(r.Context(), peerKey{}, c)
}
