package tools

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder/internal/bounded"
)

// Kinds of definitions that need approval, and those that are only filtered.
const (
	kindTool         = "tool"
	kindPrompt       = "prompt"
	kindResource     = "resource"
	kindTemplate     = "template"
	kindInstructions = "instructions"
)

// retryUnknown is how old a list must be before a name that it lacks is worth asking the server
// again. It bounds what a client that guesses names can make the gateway do.
const retryUnknown = 5 * time.Second

// Bounds of what is remembered; a peer chooses the keys.
const (
	keepViews = 20_000 // lists of one principal from one server, pointers to shared ones
	keepNames = 512    // different lists
)

// Definitions remembers which definition each server last offered to each principal under which
// name. It is shared by the controls of the layer and by PRT-10, and safe for concurrent use.
type Definitions struct {
	cfg      Config
	registry Registry
	lister   Lister
	now      func() time.Time
	start    time.Time

	servers sync.Map // server name → *announced
	views   views
	shared  *bounded.Cache[[sha256.Size]byte, *names]
	held    atomic.Int64 // names in all lists that are in use
	limit   int64        // of held
}

// NewDefinitions returns an empty memory. The clock may be nil.
func NewDefinitions(cfg Config, registry Registry, lister Lister, now func() time.Time) (*Definitions, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	if registry == nil || lister == nil {
		return nil, errors.New("tools: registry or lister missing")
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = Default().Refresh
	}
	if now == nil {
		now = time.Now
	}
	d := &Definitions{
		cfg: cfg, registry: registry, lister: lister, now: now, start: now(), limit: maxHeld,
		shared: bounded.New[[sha256.Size]byte, *names](keepNames),
	}
	d.views.forget()
	return d, nil
}

// MarkStale says that a server announced a change of its tools or prompts (kind "tool" or "prompt";
// empty means both). Whatever was listed before now is fetched again before it judges a call.
func (d *Definitions) MarkStale(server, kind string) {
	a := d.announced(server)
	if kind == "" || kind == kindTool {
		mark(&a.tool, d.clock(d.now()))
	}
	if kind == "" || kind == kindPrompt {
		mark(&a.prompt, d.clock(d.now()))
	}
}

// mark moves a moment forward, also when the clock did not move: each announcement is later than the
// one before it.
func mark(at *atomic.Int64, now int64) {
	for {
		old := at.Load()
		if at.CompareAndSwap(old, max(now, old+1)) {
			return
		}
	}
}

// announced is when a server last announced a change, on the clock of Definitions.
type announced struct{ tool, prompt atomic.Int64 }

const never = math.MinInt64 / 2

func (a *announced) at(kind string) int64 {
	if kind == kindPrompt {
		return a.prompt.Load()
	}
	return a.tool.Load()
}

func (d *Definitions) announced(server string) *announced {
	if a, ok := d.servers.Load(server); ok {
		return a.(*announced)
	}
	fresh := &announced{}
	fresh.tool.Store(never + 1)
	fresh.prompt.Store(never + 1)
	a, _ := d.servers.LoadOrStore(server, fresh)
	return a.(*announced)
}

// clock turns a moment into nanoseconds since the memory began. It follows the monotonic clock, so a
// change of the wall clock does not make an old list young.
func (d *Definitions) clock(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return int64(t.Sub(d.start))
}
