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
	Streams   int  `yaml:"streams"`   // open subscriptions/listen streams of one caller; default 8
	Resources int  `yaml:"resources"` // resources that one stream may subscribe to; default 100
}

func defaultChanges() Changes { return Changes{Rate: Rate{1, 10}, Streams: 8, Resources: 100} }

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
	open  map[*warder.Exchange]uint64 // streams; bounded by the exchanges that proxy lets run
	count map[uint64]int              // streams by caller
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
		table: newBuckets(maxChangeKeys), open: make(map[*warder.Exchange]uint64), count: make(map[uint64]int),
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
	key := c.caller(0, x.Principal)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.open[x]; known {
		return passed()
	}
	if c.count[key] >= c.cfg.Streams {
		return warder.Refuse(warder.CodeRateLimited, "streams_too_many", "open subscription streams"), nil
	}
	c.open[x] = key
	c.count[key]++
	return passed()
}

// Record releases the stream of an exchange.
func (c subscriptions) Record(_ context.Context, x *warder.Exchange) error {
	if x.Request == nil || x.Request.Method != wire.MethodListen {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key, ok := c.open[x]
	if !ok {
		return nil
	}
	delete(c.open, x)
	if c.count[key]--; c.count[key] <= 0 {
		delete(c.count, key)
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
