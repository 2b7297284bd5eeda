package upstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// An entryKey is a Key as far as it matters for the kind of server.
type entryKey struct {
	owner, session string
	capabilities   [32]byte
	modern         bool
}

// entryKey drops what does not tell conversations apart. Children serve all sessions of an owner,
// or everybody.
func (s *Server) entryKey(key Key, modern bool) entryKey {
	switch {
	case s.cfg.Run != nil && s.cfg.Run.Instances == Shared:
		return entryKey{modern: modern}
	case s.cfg.Run != nil:
		return entryKey{owner: key.Owner, capabilities: key.Capabilities, modern: modern}
	case modern:
		return entryKey{session: key.Session, modern: true} // never stored
	default:
		return entryKey{owner: key.Owner, session: key.Session, capabilities: key.Capabilities}
	}
}

// An entry is the place of one conversation: open, being opened, or waiting for its restart.
type entry struct {
	busy chan struct{} // holds one token: opening
	link atomic.Pointer[liveLink]
	used atomic.Int64 // unix nanoseconds of the last look-up

	mu      sync.Mutex
	retired bool
	deaths  int       // in a row
	opened  time.Time // when the last child was started
	notPast time.Time // no new child before then
}

func (e *entry) current() liveLink {
	if p := e.link.Load(); p != nil {
		return *p
	}
	return nil
}

// retire takes the link out of the entry for good.
func (e *entry) retire() liveLink {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retired = true
	if p := e.link.Swap(nil); p != nil {
		return *p
	}
	return nil
}

// install puts an opened link into the entry; false if the entry was retired meanwhile.
func (e *entry) install(l liveLink, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired {
		return false
	}
	e.opened = now
	e.link.Store(&l)
	return true
}

// died notes that the entry's child ended by itself, and delays the next one.
func (e *entry) died(b Backoff, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.opened.IsZero() && now.Sub(e.opened) >= b.Max {
		e.deaths = 0
	}
	e.deaths++
	e.opened, e.notPast = time.Time{}, now.Add(b.delay(e.deaths))
}

// pause is how long the next child must wait, and after how many deaths.
func (e *entry) pause(now time.Time) (time.Duration, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.notPast.Sub(now), e.deaths
}

// lookup finds or creates the entry of a key.
func (s *Server) lookup(k entryKey) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, fail(ReasonShutdown, nil)
	}
	e := s.entries[k]
	if e == nil {
		limit := s.cfg.MaxLinks
		if s.cfg.Run != nil {
			limit = s.cfg.Run.MaxChildren
		}
		if len(s.entries) >= limit && !s.evict() {
			return nil, failf(ReasonBusy, "%d links are open", len(s.entries))
		}
		e = &entry{busy: make(chan struct{}, 1)}
		s.entries[k] = e
		s.clean()
	}
	e.used.Store(time.Now().UnixNano())
	return e, nil
}

// evict drops one entry without a live link; the lock is held.
func (s *Server) evict() bool {
	for k, e := range s.entries {
		if l := e.current(); (l == nil || !alive(l)) && len(e.busy) == 0 {
			delete(s.entries, k)
			return true
		}
	}
	return false
}

// clean makes sure that the janitor comes; the lock is held.
func (s *Server) clean() {
	if s.janitor == nil {
		s.janitor = time.AfterFunc(s.cfg.IdleTimeout/2, s.sweep)
	}
}

// sweep closes pooled links that nobody used for the idle time, and forgets dead ones.
func (s *Server) sweep() {
	limit := time.Now().Add(-s.cfg.IdleTimeout).UnixNano()
	var gone []*entry
	s.mu.Lock()
	for k, e := range s.entries {
		if e.used.Load() > limit || len(e.busy) > 0 {
			continue
		}
		l := e.current()
		dead := l == nil || !alive(l)
		if dead || k.session == "" && !l.inUse() {
			delete(s.entries, k)
			gone = append(gone, e)
		}
	}
	s.janitor = nil
	if len(s.entries) > 0 && !s.closing {
		s.clean()
	}
	s.mu.Unlock()
	for _, e := range gone {
		if l := e.retire(); l != nil {
			s.spawn(l.shut)
		}
	}
}

// obtain returns the live link of an entry, opening it if need be. One caller opens, others wait.
func (s *Server) obtain(ctx context.Context, e *entry, open func(context.Context) (liveLink, error)) (liveLink, error) {
	if l := e.current(); l != nil && alive(l) {
		return l, nil
	}
	select {
	case e.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	defer func() { <-e.busy }()
	if l := e.current(); l != nil {
		if alive(l) {
			return l, nil
		}
		s.spawn(l.shut) // collects what is left of it
	}
	if err := s.waitTurn(ctx, e); err != nil {
		return nil, err
	}
	l, err := open(ctx)
	if err != nil {
		return nil, err
	}
	if !e.install(l, s.opt.Now()) {
		s.spawn(l.shut)
		return nil, fail(ReasonShutdown, errors.New("the session was closed while it was opened"))
	}
	return l, nil
}

// waitTurn waits for the restart of a child, if that is soon.
func (s *Server) waitTurn(ctx context.Context, e *entry) error {
	d, deaths := e.pause(s.opt.Now())
	if d <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); d > s.cfg.ConnectTimeout || ok && time.Until(deadline) < d {
		return failf(ReasonRestarting, "the child died %d times; next start in %s", deaths, d.Round(time.Millisecond))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	case <-s.base.Done():
		return fail(ReasonShutdown, nil)
	}
}
