package tools

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/warder-mcp/warder"
)

// A viewKey names the list of one kind that one server shows to one principal.
type viewKey struct {
	server, kind                           string
	tenant, issuer, subject, client, agent string
}

func keyOf(x *warder.Exchange, kind string) viewKey {
	k := viewKey{server: x.Server.Name, kind: kind}
	if p := x.Principal; p != nil {
		k.tenant, k.issuer, k.subject, k.client, k.agent = p.Tenant, p.Issuer, p.Subject, p.Client, p.Agent
	}
	return k
}

// A view is what one server last showed to one principal.
type view struct {
	announced *announced
	latest    atomic.Pointer[listing]
	turn      chan struct{} // holds one token; who takes it may fetch the list

	mu   sync.Mutex
	page *pages // the list that a client is paging through; nil if none
}

// A listing is a complete list and when it was asked for.
type listing struct {
	*names
	asOf int64
}

// names maps the names of a list to what was offered under them. It is shared by all who were shown
// the same list, and never changed.
type names struct {
	byName map[string]offer
}

// An offer is the digest of a definition. An offer that is not usable is of a definition that is not
// acceptable in itself, or one of several of that name.
type offer struct {
	digest warder.Digest
	usable bool
}

// pages is the part of a list that a client has seen so far.
type pages struct {
	next   string // cursor of the page that continues it
	asOf   int64
	byName map[string]offer
}

// views holds the views used lately in two generations: when the young one is full, the old one is
// forgotten. Reading takes no lock.
type views struct {
	young, old atomic.Pointer[sync.Map]
	mu         sync.Mutex
	size       int
}

// forget drops every view.
func (v *views) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.young.Store(&sync.Map{})
	v.old.Store(&sync.Map{})
	v.size = 0
}

func (v *views) get(key viewKey, announced func(string) *announced) *view {
	if found, ok := v.young.Load().Load(key); ok {
		return found.(*view)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if found, ok := v.young.Load().Load(key); ok {
		return found.(*view)
	}
	if v.size >= keepViews {
		v.old.Store(v.young.Load())
		v.young.Store(&sync.Map{})
		v.size = 0
	}
	found, ok := v.old.Load().Load(key)
	if !ok {
		fresh := &view{announced: announced(key.server), turn: make(chan struct{}, 1)}
		fresh.latest.Store(&listing{names: &names{}, asOf: never})
		fresh.turn <- struct{}{}
		found = fresh
	}
	v.young.Load().Store(key, found)
	v.size++
	return found.(*view)
}

// find returns what the server of the exchange now offers under a name; ok is false if there is
// nothing. The list behind the answer is at most
// Config.Refresh old and younger than the last change that the server announced. With again, a list
// that lacks the name is fetched again unless it is younger than retryUnknown.
func (d *Definitions) find(ctx context.Context, x *warder.Exchange, kind, name string, again bool) (o offer, ok bool, err error) {
	if x.Server == nil {
		return o, false, errNoServer
	}
	v := d.views.get(keyOf(x, kind), d.announced)
	list := v.latest.Load()
	if oldest := d.clock(d.now()) - int64(d.cfg.Refresh); !v.younger(list, kind, oldest) {
		if list, err = d.refresh(ctx, x, v, kind, oldest); err != nil {
			return o, false, err
		}
	}
	if o, ok = list.byName[name]; ok || !again {
		return o, ok, nil
	}
	if list, err = d.recent(ctx, x, kind); err != nil {
		return o, false, err
	}
	o, ok = list.byName[name]
	return o, ok, nil
}

// recent returns a list that is not older than retryUnknown. Names that are missing and names that
// are hidden both go through it, so that the time an answer takes does not tell them apart.
func (d *Definitions) recent(ctx context.Context, x *warder.Exchange, kind string) (*listing, error) {
	if x.Server == nil {
		return nil, errNoServer
	}
	v := d.views.get(keyOf(x, kind), d.announced)
	oldest := d.clock(d.now()) - int64(min(retryUnknown, d.cfg.Refresh))
	if list := v.latest.Load(); v.younger(list, kind, oldest) {
		return list, nil
	}
	return d.refresh(ctx, x, v, kind, oldest)
}

// younger reports whether a list was asked for after oldest and after the last change that the
// server announced.
func (v *view) younger(list *listing, kind string, oldest int64) bool {
	return list.asOf > oldest && list.asOf > v.announced.at(kind)
}

// put keeps a list unless a younger one is kept.
func (v *view) put(list *listing) {
	for {
		old := v.latest.Load()
		if old.asOf > list.asOf || v.latest.CompareAndSwap(old, list) {
			return
		}
	}
}

// refreshAttempts bounds how often a list is fetched again because the server announced a change
// while it was being fetched.
const refreshAttempts = 8

// refresh fetches the whole list. Of those who need it at once, one asks the server and the others
// take what it got.
func (d *Definitions) refresh(ctx context.Context, x *warder.Exchange, v *view, kind string, oldest int64) (*listing, error) {
	select {
	case <-v.turn:
		defer func() { v.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the definitions: %w", ctx.Err())
	}
	if list := v.latest.Load(); v.younger(list, kind, oldest) {
		return list, nil
	}
	for range refreshAttempts {
		list := &listing{asOf: max(d.clock(d.now()), v.announced.at(kind)+1)}
		raws, err := d.lister.List(ctx, x, kind)
		if err != nil {
			return nil, fmt.Errorf("list definitions: %w", err)
		}
		items, err := d.judge(ctx, x.Server.Name, kind, raws)
		if err != nil {
			return nil, err
		}
		byName := make(map[string]offer, len(items))
		gather(byName, items)
		list.names = d.share(byName)
		v.put(list)
		if v.younger(list, kind, never) {
			return list, nil
		}
	}
	return nil, errUnsteady
}

// undecided is the verdict when nothing certain is known. What a client may know of the cause, such as
// that the server does not answer, it is told; anything else is an error, which denies too.
func undecided(err error) (warder.Decision, error) {
	if known, ok := errors.AsType[*warder.Error](err); ok && known.Code != warder.CodeHeld { // what a person can decide is for the runner to tell
		return warder.Refuse(known.Code, known.Reason, err.Error()), nil
	}
	return warder.Decision{}, err
}

// Errors that deny because nothing certain is known.
var (
	errNoServer = errors.New("the exchange has no server")
	errUnsteady = errors.New("the server changed its definitions while they were listed")
)
