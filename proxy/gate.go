// Package proxy is the data plane: the front doors (Streamable HTTP, stdio, legacy HTTP+SSE), the
// sessions of old revisions, groups of servers, the bridge between the two eras of the protocol, and
// the runner that drives every exchange through the layers.
//
// There is one way through: a door makes an exchange, [Chain.Connect] judges the connection, the
// door reads and decodes the message, [Chain.Request] judges it, the bridge forwards it, every
// message that comes back passes [Chain.Response], and [Chain.Complete] records the end. Doors
// differ only in how they read and write bytes, so a control never asks which door it stands behind.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// Causes of cancelled contexts.
var (
	errCancelled    = errors.New("cancelled by the client")
	errSessionEnded = errors.New("the session ended")
	errDraining     = errors.New("the gateway is shutting down")
	errWall         = errors.New("the hard maximum for one exchange has passed")
)

// A Backend is one server with the connection to it.
type Backend struct {
	Server *warder.Server
	Up     *upstream.Server
}

// An Endpoint is what a URL names: one server, or a group of servers.
type Endpoint struct {
	Name     string
	Resource string // canonical URI that tokens name as audience
	Group    bool
	Backends []*Backend // exactly one unless Group
}

// A Gate joins endpoints, chain and sessions. It is immutable after New and safe for concurrent use;
// a reload builds another one and keeps the sessions.
type Gate struct {
	cfg       Config
	chain     *Chain
	endpoints map[string]*Endpoint
	sessions  *Sessions
	parked    *lot
	routes    *routes
	trails    trails
	seats     *seats
	live      *liveSet
	limits    wire.Limits
	budget    warder.Budget
	floor     *wire.Floor
	log       *slog.Logger
	now       func() time.Time

	running atomic.Int64
	signals atomic.Uint64 // revocations that were signalled
	work    sync.WaitGroup
	stop    context.Context
	halt    context.CancelCauseFunc
}

// New builds the data plane over a chain. The floor is that of the chain's PRT-01; sessions may be
// shared with the gate this one replaces.
func New(cfg Config, floor *wire.Floor, chain *Chain, endpoints []*Endpoint, sessions *Sessions, log *slog.Logger) *Gate {
	cfg = cfg.WithDefaults()
	g := &Gate{
		cfg: cfg, chain: chain, sessions: sessions, log: log, now: time.Now,
		endpoints: make(map[string]*Endpoint, len(endpoints)),
		parked:    newLot(cfg.AnswerTimeout),
		routes:    newRoutes(),
		seats:     newSeats(cfg.Concurrent),
		live:      newLiveSet(),
		floor:     floor,
		limits:    wire.Limits{Bytes: int64(cfg.MessageBytes), Depth: cfg.Depth},
		budget: warder.Budget{
			RequestBytes: int64(cfg.RequestBytes), MessageBytes: int64(cfg.MessageBytes),
			ResponseBytes: int64(cfg.ResponseBytes), Wall: cfg.CallTimeout,
		},
	}
	for _, e := range endpoints {
		g.endpoints[e.Name] = e
	}
	g.stop, g.halt = context.WithCancelCause(context.Background())
	sessions.bind(g)
	g.work.Go(func() { sessions.sweep(g.stop) })
	return g
}

// Drain refuses new exchanges, ends streams, and waits for running calls until ctx ends.
func (g *Gate) Drain(ctx context.Context) error {
	g.halt(errDraining)
	g.parked.clear()
	done := make(chan struct{})
	go func() {
		g.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Running returns the number of exchanges in progress.
func (g *Gate) Running() int64 { return g.running.Load() }

// begin makes the exchange for one message of a connection, or refuses when the gate is full.
func (g *Gate) begin(door warder.Door, endpoint string, conn warder.Conn) *flow {
	now := g.now()
	f := &flow{g: g, end: g.endpoints[endpoint], own: warder.Exchange{
		ID: warder.NewID(now), Received: now, Door: door, Endpoint: endpoint, Conn: conn, Budget: g.budget,
		Trail: g.trails.get(),
	}}
	f.x = &f.own
	f.signals = g.signals.Load()
	x := f.x
	if f.end != nil && !f.end.Group {
		f.back = f.end.Backends[0]
		x.Server = f.back.Server
	}
	g.running.Add(1)
	g.work.Add(1)
	if g.chain.observer != nil {
		g.chain.observer.Started(x)
	}
	return f
}

// trails lends room for trails; an exchange gives its own back when it has been recorded.
type trails struct{ pool sync.Pool }

// trailSize is the room for the controls that run on an ordinary call, and maxTrail what is kept.
const (
	trailSize = 64
	maxTrail  = 1024
)

func (t *trails) get() []warder.Step {
	if room, ok := t.pool.Get().(*[]warder.Step); ok {
		return (*room)[:0]
	}
	return make([]warder.Step, 0, trailSize)
}

func (t *trails) put(trail []warder.Step) {
	if cap(trail) <= maxTrail {
		t.pool.Put(&trail)
	}
}

// connect judges the connection.
func (f *flow) connect(ctx context.Context) *warder.Error {
	g := f.g
	if g.stop.Err() != nil {
		return warder.Fail(warder.CodeUnavailable, "draining", errDraining)
	}
	if g.running.Load() > int64(g.cfg.Concurrent) {
		return warder.Fail(warder.CodeRateLimited, "too_many_exchanges", nil)
	}
	if err := g.chain.Connect(ctx, f.x); err != nil {
		return err
	}
	if f.x.Principal != nil {
		if f.seat, f.seated = g.seats.take(f.x.Principal); !f.seated {
			return warder.Fail(warder.CodeRateLimited, "too_many_exchanges_of_caller", nil)
		}
	}
	if f.end == nil {
		return &warder.Error{Code: warder.CodeNoSession, Reason: "unknown_endpoint", Public: "Not found."}
	}
	return nil
}

// survive turns a panic of the data plane into a failure of one exchange: most of it runs in goroutines
// whose panic would end the process, and with it every other exchange.
func (g *Gate) survive(ctx context.Context, exchange string, failure **warder.Error) {
	p := recover()
	if p == nil {
		return
	}
	err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	g.log.ErrorContext(ctx, "exchange panicked", slog.String("exchange", exchange), slog.Any("error", err))
	*failure = warder.Fail(warder.CodeInternal, "panic", err)
}

// finish fixes the outcome, lets every recorder see the exchange, and releases its place.
func (f *flow) finish(ctx context.Context, failure *warder.Error) {
	g, x := f.g, f.x
	f.reviewed()
	x.Finished = g.now()
	x.Failure = failure
	x.Outcome = outcome(failure)
	if err := g.chain.Complete(context.WithoutCancel(ctx), x); err != nil {
		g.log.ErrorContext(ctx, "record exchange", slog.String("exchange", x.ID), slog.Any("error", err))
	}
	if f.over != nil {
		close(f.over)
	}
	g.trails.put(x.Trail)
	x.Trail = nil
	if f.seated {
		g.seats.leave(f.seat)
	}
	g.running.Add(-1)
	g.work.Done()
}

// seats counts the exchanges of each caller that run at once, so that one caller's slow calls and open
// streams leave room for the others.
type seats struct {
	seed  maphash.Seed
	limit int

	mu    sync.Mutex
	taken map[uint64]int
}

// seatShare is the part of all exchanges that one caller may run at once.
const seatShare = 8

func newSeats(concurrent int) *seats {
	return &seats{seed: maphash.MakeSeed(), limit: max(concurrent/seatShare, 1), taken: make(map[uint64]int)}
}

// take takes a place for a caller; ok is false when it has its share.
func (s *seats) take(p *warder.Principal) (key uint64, ok bool) {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, part := range [...]string{p.Tenant, p.Issuer, p.Subject, p.Client, p.Agent} {
		_, _ = h.WriteString(part) // a hash never fails
		_ = h.WriteByte(0)
	}
	key = h.Sum64()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[key] >= s.limit {
		return 0, false
	}
	s.taken[key]++
	return key, true
}

func (s *seats) leave(key uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[key]--; s.taken[key] <= 0 {
		delete(s.taken, key)
	}
}

func outcome(failure *warder.Error) warder.Outcome {
	switch {
	case failure == nil:
		return warder.OutcomeAllowed
	case errors.Is(failure.Err, errCancelled), errors.Is(failure.Err, context.Canceled):
		return warder.OutcomeCanceled
	case failure.Control != "" && failure.Code != warder.CodeUnavailable:
		return warder.OutcomeRefused
	}
	switch failure.Code {
	case warder.CodeUpstreamFailed, warder.CodeTimeout, warder.CodeUnavailable, warder.CodeInternal:
		return warder.OutcomeFailed
	default:
		return warder.OutcomeRefused
	}
}

// sessionEnded closes the links that were opened for a session.
func (g *Gate) sessionEnded(s *session) {
	end := g.endpoints[s.endpoint]
	if end == nil {
		return
	}
	for _, b := range end.Backends {
		b.Up.CloseSession(upstream.Key{Owner: s.owner, Session: s.digest, Capabilities: s.capsHash})
	}
}
