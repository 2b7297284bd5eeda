package secret

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Lease is a secret with the time it may be used for. It is immutable; the value is overwritten some
// time after a newer lease took its place.
type Lease struct {
	Value    Value
	Fetched  time.Time
	NotAfter time.Time // from then on the value must not be used
	renewAt  time.Time // from then on it is fetched again, beside the calls
}

// A Store fetches secrets of one place, such as a Vault. It is safe for concurrent use.
type Store interface {
	// Fetch returns the secret and for how long the place vouches for it; 0 if it does not say.
	Fetch(ctx context.Context, ref Ref) (Value, time.Duration, error)
}

// Bounds of a keeper.
const (
	defaultCache = 5 * time.Minute
	fetchTimeout = 15 * time.Second
	failurePause = 2 * time.Second  // between attempts after a failure
	burnAfter    = 30 * time.Second // a replaced value is overwritten after this long: calls in flight may use it
	maxHandles   = 4096
)

// KeeperConfig sets up a keeper.
type KeeperConfig struct {
	Cache time.Duration    // how long a secret without a lease is used before it is fetched again; 0: 5 minutes
	Now   func() time.Time // nil for time.Now
	Log   *slog.Logger     // nil for none
	// Renewed is told of every fetch: the place of the secret, whether its value changed, and the error.
	// May be nil.
	Renewed func(ctx context.Context, where string, changed bool, err error)
}

// A Keeper fetches secrets when they are needed, keeps each no longer than its lease, and fetches it
// again before that ends, so that a secret that was rotated at its place is followed without a restart.
// When its place cannot be asked, a value is used until its lease ends and not a moment longer. It is
// safe for concurrent use; a caller whose secret is fresh takes no lock.
type Keeper struct {
	cfg    KeeperConfig
	stores map[string]Store // by kind and name, such as "vault/main"

	mu      sync.Mutex
	handles map[string]*Handle
	closed  bool
	work    sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

// NewKeeper returns a keeper for the stores of the configuration.
func NewKeeper(stores Stores, cfg KeeperConfig, deps Deps) (*Keeper, error) {
	if cfg.Cache < 0 || cfg.Cache > 24*time.Hour {
		return nil, errors.New("secrets: cache must be at most 24h")
	}
	if cfg.Cache == 0 {
		cfg.Cache = defaultCache
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	opened, err := stores.open(deps)
	if err != nil {
		return nil, err
	}
	k := &Keeper{cfg: cfg, stores: opened, handles: map[string]*Handle{}}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k, nil
}

// Handle returns the handle of a secret. The same reference has one handle.
func (k *Keeper) Handle(ref Ref) (*Handle, error) {
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	var store Store
	if name := ref.store(); name != "" {
		if store = k.stores[name]; store == nil {
			return nil, fmt.Errorf("secret: there is no store %s", name)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key := ref.key()
	if h, ok := k.handles[key]; ok {
		return h, nil
	}
	if k.closed || len(k.handles) == maxHandles {
		return nil, errors.New("secret: the keeper is closed or full")
	}
	h := &Handle{keeper: k, ref: ref, store: store, turn: make(chan struct{}, 1)}
	k.handles[key] = h
	return h, nil
}

// Get returns a secret that may be used now.
func (k *Keeper) Get(ctx context.Context, ref Ref) (Value, error) {
	h, err := k.Handle(ref)
	if err != nil {
		return Value{}, err
	}
	l, err := h.Get(ctx)
	if err != nil {
		return Value{}, err
	}
	return l.Value, nil
}

// Close forgets and overwrites every secret. It waits for fetches under way.
func (k *Keeper) Close() error {
	k.mu.Lock()
	k.closed = true
	handles := k.handles
	k.handles = map[string]*Handle{}
	k.mu.Unlock()
	k.cancel()
	k.work.Wait()
	for _, h := range handles {
		if l := h.current.Swap(nil); l != nil {
			l.Value.burn()
		}
	}
	return nil
}

// A Handle is one secret of a keeper. It is safe for concurrent use.
type Handle struct {
	keeper  *Keeper
	ref     Ref
	store   Store // nil: the reference reads itself
	current atomic.Pointer[Lease]
	turn    chan struct{} // one fetch at a time

	// Both are owned by whoever has the turn.
	failed   error
	failedAt time.Time
}

// Get returns the current lease. It asks the secret's place only when there is none or it has ended; a
// lease that is about to end is renewed beside the call.
func (h *Handle) Get(ctx context.Context) (*Lease, error) {
	now := h.keeper.cfg.Now()
	if l := h.current.Load(); l != nil && now.Before(l.NotAfter) {
		if !now.Before(l.renewAt) {
			h.renewBeside()
		}
		return l, nil
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("secret %s: %w", h.ref.Where(), ctx.Err())
	}
	return h.fetch(ctx, h.current.Load())
}

// Forget makes the next Get ask the secret's place: the server that was shown the value refused it.
func (h *Handle) Forget() {
	if l := h.current.Load(); l != nil && h.keeper.cfg.Now().Sub(l.Fetched) > failurePause && h.current.CompareAndSwap(l, nil) {
		h.burnLater(l)
	}
}

// renewBeside fetches on a goroutine of the keeper unless a fetch is under way.
func (h *Handle) renewBeside() {
	select {
	case h.turn <- struct{}{}:
	default:
		return
	}
	h.keeper.mu.Lock()
	if h.keeper.closed {
		h.keeper.mu.Unlock()
		<-h.turn
		return
	}
	h.keeper.work.Add(1)
	h.keeper.mu.Unlock()
	go func() {
		defer h.keeper.work.Done()
		defer func() { <-h.turn }()
		_, _ = h.fetch(h.keeper.ctx, h.current.Load()) // the old value serves until its lease ends; the failure was told
	}()
}

// fetch asks the secret's place. The caller has the turn; old is the lease it found wanting.
func (h *Handle) fetch(ctx context.Context, old *Lease) (*Lease, error) {
	k := h.keeper
	now := k.cfg.Now()
	if l := h.current.Load(); l != nil && l != old && now.Before(l.NotAfter) {
		return l, nil // fetched while we waited
	}
	if old != nil && now.Before(old.renewAt) && now.Before(old.NotAfter) {
		return old, nil
	}
	if h.failed != nil && now.Sub(h.failedAt) < failurePause {
		return nil, h.failed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout) // one caller's leaving is not every caller's failure
	defer cancel()
	value, lease, err := h.read(ctx)
	if err != nil {
		h.failed, h.failedAt = fmt.Errorf("secret %s: %w", h.ref.Where(), err), now
		k.told(ctx, h.ref, false, h.failed)
		return nil, h.failed
	}
	h.failed = nil
	if lease <= 0 || lease > k.cfg.Cache && h.store == nil {
		lease = k.cfg.Cache
	}
	fresh := &Lease{Value: value, Fetched: now, NotAfter: now.Add(lease), renewAt: now.Add(lease * 2 / 3)}
	before := h.current.Swap(fresh)
	changed := before == nil || !before.Value.Equal(value)
	if before != nil {
		h.burnLater(before)
	}
	k.told(ctx, h.ref, changed, nil)
	return fresh, nil
}

func (h *Handle) read(ctx context.Context) (Value, time.Duration, error) {
	if h.store != nil {
		return h.store.Fetch(ctx, h.ref)
	}
	v, err := h.ref.Read(ctx)
	return v, 0, err
}

// burnLater overwrites a replaced value once no call can be using it any more.
func (h *Handle) burnLater(l *Lease) { time.AfterFunc(burnAfter, l.Value.burn) }

func (k *Keeper) told(ctx context.Context, ref Ref, changed bool, err error) {
	if k.cfg.Renewed != nil {
		k.cfg.Renewed(ctx, ref.Where(), changed, err)
	}
	if err != nil && k.cfg.Log != nil {
		k.cfg.Log.WarnContext(ctx, "secret cannot be fetched", slog.String("secret", ref.Where()), slog.String("error", strings.ToValidUTF8(err.Error(), "?")))
	}
}
