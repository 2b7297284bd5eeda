package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Changes bounds what servers say about changes, and who listens.
type Changes struct {
	Rate      Rate `yaml:"rate"`      // notifications by caller, server and kind; default 1 a second, burst 10
	Streams   int  `yaml:"streams"`   // open streams of one caller on one endpoint, those of sessions included; default 16
	Resources int  `yaml:"resources"` // resources that one stream may subscribe to; default 100
}

func defaultChanges() Changes { return Changes{Rate: Rate{1, 10}, Streams: 16, Resources: 100} }

// changes lets notifications about changes through at a bounded rate, and only after the definitions
// they are about have been marked to be verified again: a client that hears of a change must not be
// able to fetch it unverified.
// Control PRT-10; MCP 2026-07-28 "Subscriptions"; list_changed notifications of all revisions.
// Phases Request, Response and Complete.
type changes struct {
	hasher
	clock
	cfg       Changes
	refresher Refresher
	rate      limit
	table     *buckets

	mu    sync.Mutex
	open  map[*warder.Exchange]*stream // by exchange; bounded by the exchanges that proxy lets run
	roots map[*warder.Exchange]*stream // by the client's exchange
	count map[uint64]int               // streams by caller and endpoint
}

// A stream is one stream of a client. In a group it has an exchange for every server.
type stream struct {
	caller uint64
	root   *warder.Exchange
	parts  int
}

// maxChangeKeys is how many (caller, server, kind) are limited at one time.
const maxChangeKeys = 1 << 14

func newChanges(cfg Changes, deps Deps) (*changes, error) {
	def := defaultChanges()
	rate, err := cfg.Rate.limit("changes.rate", def.Rate)
	if err != nil {
		return nil, err
	}
	if cfg.Streams == 0 {
		cfg.Streams = def.Streams
	}
	if cfg.Resources == 0 {
		cfg.Resources = def.Resources
	}
	if cfg.Streams < 0 || cfg.Resources < 0 {
		return nil, errors.New("gateway.changes: negative number")
	}
	return &changes{
		hasher: newHasher(), clock: newClock(deps.Now), cfg: cfg, refresher: deps.Refresher, rate: rate,
		table: newBuckets(maxChangeKeys), open: make(map[*warder.Exchange]*stream),
		roots: make(map[*warder.Exchange]*stream), count: make(map[uint64]int),
	}, nil
}

// subscriptions is PRT-10 in phases Request and Complete.
type subscriptions struct{ *changes }

// changeResponses is PRT-10 in phase Response.
type changeResponses struct{ *changes }

var (
	_ warder.Interceptor = subscriptions{}
	_ warder.Interceptor = changeResponses{}
	_ warder.Recorder    = subscriptions{}
)

// Control returns "PRT-10".
func (*changes) Control() warder.ControlID { return "PRT-10" }

// Intercept bounds how many streams a caller holds and how much each of them covers.
func (c subscriptions) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	if m.Method != wire.MethodListen || !m.IsCall() {
		return passed()
	}
	if x.Principal == nil {
		return warder.Decision{}, errNoPrincipal
	}
	if n := wire.At(m, m.Params.Get("notifications")).Get("resourceSubscriptions").Len(); n > c.cfg.Resources {
		return warder.Refuse(warder.CodeRateLimited, "subscriptions_too_many", fmt.Sprintf("%d resources", n)), nil
	}
	if !c.begin(x) {
		return warder.Refuse(warder.CodeRateLimited, "streams_too_many", "open streams"), nil
	}
	return passed()
}

// begin counts the stream of an exchange; false if the caller has too many.
func (c *changes) begin(x *warder.Exchange) bool {
	root := x
	if x.Parent != nil {
		root = x.Parent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.open[x]; known {
		return true
	}
	s := c.roots[root]
	if s == nil {
		key := c.add(c.caller(0, x.Principal), x.Endpoint)
		if c.count[key] >= c.cfg.Streams {
			return false
		}
		s = &stream{caller: key, root: root}
		c.roots[root] = s
		c.count[key]++
	}
	s.parts++
	c.open[x] = s
	return true
}

// Record releases the stream of an exchange.
func (c subscriptions) Record(_ context.Context, x *warder.Exchange) error {
	if x.Request == nil || x.Request.Method != wire.MethodListen {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.open[x]
	if !ok {
		return nil
	}
	delete(c.open, x)
	if s.parts--; s.parts > 0 {
		return nil
	}
	delete(c.roots, s.root)
	if c.count[s.caller]--; c.count[s.caller] <= 0 {
		delete(c.count, s.caller)
	}
	return nil
}

// Intercept judges one notification about a change.
func (c changeResponses) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m.Kind != warder.KindNotification {
		return passed()
	}
	var kind string
	switch m.Method {
	case wire.NotifyToolsChanged:
		kind = "tool"
	case wire.NotifyPromptsChanged:
		kind = "prompt"
	case wire.NotifyResourcesChanged:
		kind = "resource"
	case wire.NotifyResourceUpdated: // content, not definitions: nothing to verify
	default:
		return passed()
	}
	server := serverName(x)
	key := c.add(c.add(c.caller(0, x.Principal), server), m.Method)
	if wait, ok := c.table.take(key, c.rate, c.since()); !ok {
		return tooMany("change_flood", "server "+server, max(wait, time.Second)), nil
	}
	if kind == "" {
		return passed()
	}
	if err := c.refresher.Refresh(ctx, server, kind); err != nil {
		return warder.Decision{}, fmt.Errorf("verify %s definitions of %s again: %w", kind, server, err)
	}
	return passed()
}
