package tools

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/registry"
	"github.com/warder-mcp/warder/store"
	"github.com/warder-mcp/warder/wire"
)

// upstream is a server that offers definitions, and can be changed, slowed or stopped.
type upstream struct {
	mu     sync.Mutex
	offers map[string][]string // kind → definitions
	broken error
	during func() // called while a list is being made
	asked  atomic.Int64
}

func (u *upstream) offer(kind string, definitions ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.offers[kind] = definitions
}

func (u *upstream) stop(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.broken = err
}

// List implements Lister.
func (u *upstream) List(ctx context.Context, _ *warder.Exchange, kind string) ([][]byte, error) {
	u.asked.Add(1)
	u.mu.Lock()
	definitions, broken, during := slices.Clone(u.offers[kind]), u.broken, u.during
	u.mu.Unlock()
	if during != nil {
		during()
	}
	if broken != nil {
		return nil, broken
	}
	raws := make([][]byte, len(definitions))
	for i, d := range definitions {
		raws[i] = []byte(d)
	}
	return raws, ctx.Err()
}

// policy hides names, or fails.
type policy struct {
	mu     sync.Mutex
	hidden map[string]bool
	broken error
}

func (p *policy) hide(names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range names {
		p.hidden[n] = true
	}
}

// Visible implements Visibility.
func (p *policy) Visible(_ context.Context, x *warder.Exchange, tool *warder.Tool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tool.Server != x.Server.Name || tool.Kind == "" {
		return false, fmt.Errorf("asked about %q of %q", tool.Name, tool.Server)
	}
	return !p.hidden[tool.Name], p.broken
}

// rig is the layer with all it works with; only the server behind it and the policy are fakes.
type rig struct {
	layer       warder.Layer
	definitions *Definitions
	registry    *registry.Registry
	db          *store.DB
	path        string
	upstream    *upstream
	policy      *policy
	clock       *atomic.Int64 // added to the real clock, nanoseconds
}

func newRig(tb testing.TB, cfg Config) *rig {
	tb.Helper()
	r := &rig{
		path:     filepath.Join(tb.TempDir(), "warder.db"),
		upstream: &upstream{offers: map[string][]string{}},
		policy:   &policy{hidden: map[string]bool{}},
		clock:    &atomic.Int64{},
	}
	var err error
	if r.db, err = store.Open(tb.Context(), r.path); err != nil {
		tb.Fatal(err)
	}
	r.registry, err = registry.New(tb.Context(), registry.Config{Poll: 10 * time.Millisecond, MaxStale: 2 * time.Second},
		registry.Deps{Store: r.db.Registry()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = errors.Join(r.registry.Close(), r.db.Close()) }) // some tests remove the file
	r.definitions, err = NewDefinitions(cfg, r.registry, r.upstream, r.now)
	if err != nil {
		tb.Fatal(err)
	}
	if r.layer, err = New(cfg, Deps{Definitions: r.definitions, Visibility: r.policy}); err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }

func (r *rig) pass(d time.Duration) { r.clock.Add(int64(d)) }

// approve approves definitions of the server "notes".
func (r *rig) approve(tb testing.TB, kind string, definitions ...string) {
	tb.Helper()
	for _, d := range definitions {
		tool, err := r.registry.Resolve("notes", kind, []byte(d))
		if err != nil {
			tb.Fatal(err)
		}
		if err := r.registry.Approve(tb.Context(), registry.Request{Key: registry.KeyOf(tool), Who: "ada", Effect: warder.EffectRead}); err != nil {
			tb.Fatal(err)
		}
	}
}

func (r *rig) revoke(tb testing.TB, kind, definition string) {
	tb.Helper()
	tool, err := r.registry.Resolve("notes", kind, []byte(definition))
	if err != nil {
		tb.Fatal(err)
	}
	if err := r.registry.Revoke(tb.Context(), registry.Request{Key: registry.KeyOf(tool), Who: "ada"}); err != nil {
		tb.Fatal(err)
	}
}

// exchange is a request of the user "alice" to the server "notes".
func (r *rig) exchange(tb testing.TB, rev warder.Revision, method, params string) *warder.Exchange {
	tb.Helper()
	m, err := wire.Decode(wire.Request([]byte("1"), method, []byte(params)), wire.Limits{})
	if err != nil {
		tb.Fatalf("request %s %s: %v", method, params, err)
	}
	return &warder.Exchange{
		Revision: rev, Received: r.now(), Server: &warder.Server{Name: "notes"}, Inbound: m, Request: m,
		Principal: &warder.Principal{Issuer: "https://idp.example", Subject: "alice"},
	}
}

func call(name string) string { return fmt.Sprintf(`{"name":%q,"arguments":{}}`, name) }

// request runs the Request phase. Controls named in off do not run.
func (r *rig) request(tb testing.TB, x *warder.Exchange, off ...warder.ControlID) (warder.Decision, error) {
	tb.Helper()
	return run(tb.Context(), x, r.layer.Request, off)
}

// answer runs the Response phase over a result.
func (r *rig) answer(tb testing.TB, x *warder.Exchange, result string, off ...warder.ControlID) (warder.Decision, error) {
	tb.Helper()
	m, err := wire.Decode(wire.Response([]byte("1"), []byte(result)), wire.Limits{})
	if err != nil {
		tb.Fatalf("answer %s: %v", result, err)
	}
	x.Response = m
	return run(tb.Context(), x, r.layer.Response, off)
}

// list asks for a list through the layer and returns the result as the client sees it.
func (r *rig) list(tb testing.TB, rev warder.Revision, method, result string) string {
	tb.Helper()
	x := r.exchange(tb, rev, method, `{}`)
	if d, err := r.request(tb, x); err != nil || d.Verdict != warder.Pass {
		tb.Fatalf("%s: %+v, %v", method, d, err)
	}
	if d, err := r.answer(tb, x, result); err != nil || d.Verdict != warder.Pass {
		tb.Fatalf("answer to %s: %+v, %v", method, d, err)
	}
	return string(x.Response.At(x.Response.ResultSpan))
}

// run calls controls as the runner does: the first that does not pass ends the phase.
func run(ctx context.Context, x *warder.Exchange, controls []warder.Interceptor, off []warder.ControlID) (warder.Decision, error) {
	last := warder.Continue()
	for _, c := range controls {
		if slices.Contains(off, c.Control()) {
			continue
		}
		d, err := c.Intercept(ctx, x)
		d.Control = c.Control()
		if err != nil || d.Verdict != warder.Pass {
			return d, err
		}
		last.Findings = append(last.Findings, d.Findings...)
	}
	return last, nil
}

func wantRefusal(tb testing.TB, d warder.Decision, err error, control warder.ControlID, code warder.Code, reason warder.Reason) {
	tb.Helper()
	if err != nil || d.Verdict != warder.Deny || d.Control != control || d.Code != code || d.Reason != reason {
		tb.Errorf("decision = %s %v %s %q (%s), %v, want %s deny %s %q", d.Control, d.Verdict, d.Code, d.Reason, d.Detail, err, control, code, reason)
	}
}

func wantPass(tb testing.TB, d warder.Decision, err error) {
	tb.Helper()
	if err != nil || d.Verdict != warder.Pass {
		tb.Errorf("decision = %s %v %s %q (%s), %v, want pass", d.Control, d.Verdict, d.Code, d.Reason, d.Detail, err)
	}
}

func wantError(tb testing.TB, d warder.Decision, err error) {
	tb.Helper()
	if err == nil {
		tb.Errorf("decision = %+v without an error, want one that denies", d)
	}
}

func toolOf(name, text string) string {
	return fmt.Sprintf(`{"name":%q,"description":%q,"inputSchema":{"type":"object","properties":{"q":{"type":"string"}}}}`, name, text)
}

func promptOf(name, text string) string {
	return fmt.Sprintf(`{"name":%q,"description":%q}`, name, text)
}

func resultOf(member string, definitions ...string) string {
	return `{"` + member + `":[` + strings.Join(definitions, ",") + `]}`
}
