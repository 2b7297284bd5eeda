package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/hop"
	"github.com/warder-mcp/warder/wire"
)

var errNoPrincipal = errors.New("no principal")

// Loops configures GW-04. Zero fields mean the defaults of [Default].
type Loops struct {
	Repeats  int           `yaml:"repeats"`  // equal calls with an equal result that fit into one window; default 20
	Changing int           `yaml:"changing"` // equal calls of tools not approved as read-only, whatever their results; default 100
	Window   time.Duration `yaml:"window"`   // how long a repeat counts; a slower cadence is never cut; default 1m
	Depth    int           `yaml:"depth"`    // how often one chain of calls may pass through Warder; default 8
	Failures int           `yaml:"failures"` // refused credentials of one peer before it must wait; default 5
	MaxWait  time.Duration `yaml:"max_wait"` // longest wait after refused credentials; default 5m
}

func defaultLoops() Loops {
	return Loops{Repeats: 20, Changing: 100, Window: time.Minute, Depth: 8, Failures: 5, MaxWait: 5 * time.Minute}
}

func (l Loops) orDefault() (Loops, error) {
	def := defaultLoops()
	for _, f := range []struct {
		field *int
		def   int
	}{{&l.Repeats, def.Repeats}, {&l.Changing, def.Changing}, {&l.Depth, def.Depth}, {&l.Failures, def.Failures}} {
		if *f.field == 0 {
			*f.field = f.def
		}
		if *f.field < 0 {
			return l, errors.New("gateway.loops: negative number")
		}
	}
	if l.Window == 0 {
		l.Window = def.Window
	}
	if l.MaxWait == 0 {
		l.MaxWait = def.MaxWait
	}
	if l.Window < time.Second || l.MaxWait < time.Second {
		return l, errors.New("gateway.loops: window and max_wait must be at least 1s")
	}
	if l.Depth >= hop.Max {
		return l, fmt.Errorf("gateway.loops.depth: at most %d", hop.Max-1)
	}
	return l, nil
}

// maxCalls is how many different calls are watched at one time; the one repeated longest ago is
// forgotten first, and a loop is what is repeated most often.
const maxCalls = 1 << 14

// loops is the state that the phases of GW-04 share.
// Control GW-04; OWASP LLM10 (unbounded consumption), OWASP ASVS 2.4.1 and 6.3.1.
type loops struct {
	hasher
	clock
	cfg   Loops
	calls *table[call]
}

// A call is how often one caller repeated one tool call with equal arguments.
type call struct {
	same, all float64 // levels of two buckets that leak their limit in one window
	last      int64
	cutUntil  int64 // the loop stays cut until the caller pauses
	result    uint64
	read      bool // the approved definition says that it only reads
}

func newLoops(cfg Loops, now func() time.Time) (*loops, error) {
	cfg, err := cfg.orDefault()
	if err != nil {
		return nil, err
	}
	return &loops{newHasher(), newClock(now), cfg, newTable[call](maxCalls, false)}, nil
}

// Control returns "GW-04".
func (*loops) Control() warder.ControlID { return "GW-04" }

// key names a call by what the client sent; retries that carry answers to questions are not repeats.
func (l *loops) key(x *warder.Exchange) (uint64, bool) {
	m := x.Inbound
	if m == nil || m.Kind != warder.KindRequest || m.Method != wire.MethodToolsCall ||
		m.Params.Get("requestState").Present() || m.Params.Get("inputResponses").Present() {
		return 0, false
	}
	key := l.add(l.caller(0, x.Principal), serverName(x))
	return l.bytes(l.add(key, m.Target), m.At(m.Params.Get("arguments"))), true
}

// loopRequests is GW-04 in phase Request: repeats and depth.
type loopRequests struct{ *loops }

// loopResults is GW-04 in phase Response: a changed result tells polling from a loop.
type loopResults struct{ *loops }

var (
	_ warder.Interceptor = loopRequests{}
	_ warder.Interceptor = loopResults{}
)

// Intercept cuts a call that repeats without change or that nests too deep.
func (l loopRequests) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Trace.State != "" && hop.Depth(x.Trace.State) >= l.cfg.Depth {
		return warder.Refuse(warder.CodeRateLimited, "recursion_too_deep", "tracestate says the call came through here before").
			Tell("This chain of calls has passed through the gateway too often."), nil
	}
	key, watched := l.key(x)
	if !watched {
		return warder.Continue(), nil
	}
	now := l.since()
	e, mu := l.calls.lock(key, now, true)
	defer mu.Unlock()
	c := &e.value
	if c.cutUntil > now {
		c.cutUntil = now + int64(l.cfg.Window) // still hammering
		return l.cut(), nil
	}
	share := float64(now-c.last) / float64(l.cfg.Window)
	c.last = now
	c.same = max(0, c.same-share*float64(l.cfg.Repeats)) + 1
	c.all = max(0, c.all-share*float64(l.cfg.Changing)) + 1
	if c.same > float64(l.cfg.Repeats) || !c.read && c.all > float64(l.cfg.Changing) {
		c.cutUntil = now + int64(l.cfg.Window)
		return l.cut(), nil
	}
	return warder.Continue(), nil
}

func (l *loops) cut() warder.Decision {
	d := tooMany("loop_cut", "equal calls without change", l.cfg.Window)
	d.Public = fmt.Sprintf("The same call was repeated too often without a change. Stop, or wait %s before trying it again.", l.cfg.Window)
	return d
}

// Intercept compares the result with the last one.
func (l loopResults) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if !x.Response.IsAnswer() {
		return warder.Continue(), nil
	}
	key, watched := l.key(x)
	if !watched {
		return warder.Continue(), nil
	}
	m := x.Response
	sum := nonzero(l.bytes(l.bytes(uint64(m.Kind), m.At(m.ResultSpan)), m.At(m.ErrorSpan)))
	e, mu := l.calls.lock(key, l.since(), false)
	defer mu.Unlock()
	if e == nil {
		return warder.Continue(), nil
	}
	c := &e.value
	c.read = x.Tool != nil && x.Tool.Effect == warder.EffectRead
	if c.result != 0 && c.result != sum {
		c.same = 0
	}
	c.result = sum
	return warder.Continue(), nil
}

// backoff makes a peer wait that keeps presenting credentials that are refused. Each refusal beyond
// the free ones doubles the wait. It is GW-04 in phases Connect and Complete.
type backoff struct {
	hasher
	clock
	free    int
	longest time.Duration
	peers   *table[failures]
}

type failures struct {
	count int
	until int64
}

// maxPeers is how many failing peers are remembered at one time.
const maxPeers = 1 << 15

func newBackoff(cfg Loops, now func() time.Time) *backoff {
	return &backoff{newHasher(), newClock(now), cfg.Failures, cfg.MaxWait, newTable[failures](maxPeers, false)}
}

var (
	_ warder.Interceptor = (*backoff)(nil)
	_ warder.Recorder    = (*backoff)(nil)
)

// Control returns "GW-04".
func (*backoff) Control() warder.ControlID { return "GW-04" }

// Intercept refuses a peer that must wait.
func (b *backoff) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	addr := x.Conn.Peer.Addr()
	if !addr.IsValid() {
		return warder.Continue(), nil // stdio: no credentials to guess
	}
	now := b.since()
	e, mu := b.peers.lock(b.peerKey(0, addr), now, false)
	defer mu.Unlock()
	if e != nil && e.value.until > now {
		return tooMany("auth_backoff", "refused credentials", time.Duration(e.value.until-now)), nil
	}
	return warder.Continue(), nil
}

// Record counts refused credentials, and forgets them when some are accepted. A first request
// without credentials, which every OAuth client makes to learn where to log in, does not count, nor one
// whose credential was accepted and that needs a stronger or newer one.
func (b *backoff) Record(_ context.Context, x *warder.Exchange) error {
	addr := x.Conn.Peer.Addr()
	if !addr.IsValid() {
		return nil
	}
	refused := x.Principal == nil && x.Failure != nil && x.Failure.Code == warder.CodeUnauthenticated && len(x.Conn.Header["Authorization"]) > 0
	if !refused && x.Principal == nil {
		return nil
	}
	now := b.since()
	e, mu := b.peers.lock(b.peerKey(0, addr), now, refused)
	defer mu.Unlock()
	switch {
	case e == nil:
	case !refused:
		e.value = failures{}
		e.until = now // free the place
	default:
		f := &e.value
		f.count++
		e.until = now + int64(2*b.longest)
		if over := f.count - b.free; over >= 0 {
			f.until = now + int64(min(b.longest, time.Second<<min(over, 20)))
		}
	}
	return nil
}
