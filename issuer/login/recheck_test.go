package login

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

// crowd writes sessions of n people at the provider, each with a refresh token that it knows, which were last
// used and rechecked at these times.
func (s *site) crowd(o *op, n int, used, checked time.Time) {
	s.t.Helper()
	for i := range n {
		id := fmt.Sprintf("%d-%d", used.UnixNano(), i)
		ss := &session{
			User:     issuer.User{Issuer: "x", Subject: o.name + ":" + id, Session: "sid-" + id, Groups: []string{"staff"}},
			Provider: o.name, Created: checked, Seen: used, Max: s.clock.Now().Add(8 * time.Hour), Remote: "u-1", Checked: checked,
			given: &tokens{Refresh: "rt-" + id}, doc: state.Doc{ID: "doc-" + id},
		}
		o.set(func() { o.refresh[ss.given.Refresh] = true })
		if err := s.sealTokens(ss); err != nil {
			s.t.Fatal(err)
		}
		if err := s.put(s.t.Context(), ss); err != nil {
			s.t.Fatal(err)
		}
	}
}

// askedFor is how often the provider was asked for tokens.
func (o *op) askedFor() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.granted)
}

// TestRecheckOfACrowd has 10,000 people logged in, of whom 500 are at work: the provider is asked about those
// only, and someone it removed is out with the first round.
func TestRecheckOfACrowd(t *testing.T) {
	s, o := federatedSite(t)
	idle, atWork := 9500, 500
	if testing.Short() {
		idle, atWork = 950, 50
	}
	now := s.clock.Now()
	s.crowd(o, idle, now.Add(-40*time.Minute), now.Add(-time.Hour))
	s.crowd(o, atWork, now.Add(-time.Minute), now.Add(-time.Minute))
	gone := fmt.Sprintf("%d-%d", now.Add(-time.Minute).UnixNano(), atWork/2)
	o.set(func() { delete(o.refresh, "rt-"+gone) })
	began := time.Now()
	if err := s.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := time.Since(began)
	if n := o.askedFor(); n != atWork {
		t.Errorf("the provider was asked %d times, want %d", n, atWork)
	}
	if len(s.revoked) != 1 || s.revoked[0] != "sid-"+gone {
		t.Errorf("revoked %q, want sid-%s", s.revoked, gone)
	}
	began = time.Now()
	if err := s.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("a round with %d sessions due took %v, one with none due %v, on %d processors", atWork, first, time.Since(began), runtime.GOMAXPROCS(0))
	if n := o.askedFor(); n != atWork {
		t.Errorf("asked again too soon: %d times", n)
	}
}

// TestComingBack uses sessions that nobody used for a while: the provider vouches first, and where it does not,
// nothing is issued; a provider that is down ends no login.
func TestComingBack(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) (*site, *op, string) {
		t.Helper()
		s, o := federatedSite(t)
		used := s.clock.Now().Add(-40 * time.Minute)
		s.crowd(o, 1, used, used)
		return s, o, fmt.Sprintf("sid-%d-0", used.UnixNano())
	}
	t.Run("still there", func(t *testing.T) {
		t.Parallel()
		s, o, sid := open(t)
		o.set(func() { o.claims["groups"] = []string{"new"} })
		for range 3 {
			u, err := s.User(t.Context(), sid)
			if err != nil || u == nil || len(u.Groups) != 1 || u.Groups[0] != "new" {
				t.Fatalf("got %+v, %v, want the groups of now", u, err)
			}
		}
		if n := o.askedFor(); n != 1 {
			t.Errorf("the provider was asked %d times, want once", n)
		}
		s.tick() // it is in use again
		if n := o.askedFor(); n != 2 {
			t.Errorf("after a round: asked %d times, want twice", n)
		}
	})
	t.Run("removed", func(t *testing.T) {
		t.Parallel()
		s, o, sid := open(t)
		o.set(func() { o.gone = true })
		if u, err := s.User(t.Context(), sid); err != nil || u != nil {
			t.Errorf("got %+v, %v, want nobody", u, err)
		}
		if len(s.revoked) != 1 {
			t.Errorf("revoked %q", s.revoked)
		}
	})
	t.Run("provider down", func(t *testing.T) {
		t.Parallel()
		s, o, sid := open(t)
		o.set(func() { o.down = true })
		if u, err := s.User(t.Context(), sid); err == nil || u != nil {
			t.Errorf("got %+v, %v, want an error", u, err)
		}
		if len(s.revoked) != 0 {
			t.Errorf("revoked %q", s.revoked)
		}
		o.set(func() { o.down = false })
		s.clock.add(time.Minute) // providers that fail are left alone for a while
		if u, err := s.User(t.Context(), sid); err != nil || u == nil {
			t.Errorf("afterwards: %+v, %v", u, err)
		}
	})
}

// TestOneProviderHangs rechecks the people of one provider while another does not answer.
func TestOneProviderHangs(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	good, bad := newOP(t, "good", c), newOP(t, "bad", c)
	s := newSite(t, true, func(cfg *Config, s *site) {
		s.clock = c
		s.store.Memory = state.NewMemory(c.Now)
		good.with()(cfg, s)
		bad.with()(cfg, s)
	})
	now := c.Now()
	s.crowd(bad, 2*rechecks, now.Add(-time.Minute), now.Add(-time.Minute))
	s.crowd(good, 2*rechecks, now.Add(-2*time.Minute), now.Add(-2*time.Minute))
	release := make(chan struct{})
	bad.mu.Lock() // it answers nobody
	done := make(chan error, 1)
	go func() { done <- s.Recheck(t.Context()) }()
	go func() {
		defer close(release)
		for end := time.Now().Add(4 * time.Second); time.Now().Before(end) && good.askedFor() < 2*rechecks; {
			time.Sleep(10 * time.Millisecond)
		}
	}()
	<-release
	if n := good.askedFor(); n != 2*rechecks {
		t.Errorf("while the other hangs, the provider was asked %d times, want %d", n, 2*rechecks)
	}
	bad.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
