package jose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// A Fetch reads a JWK set document, at most a bounded size.
type Fetch func(ctx context.Context) ([]byte, error)

// Refresh bounds how a [Source] renews its keys. Zero fields take the defaults given.
type Refresh struct {
	Every    time.Duration // renew keys older than this; default 15 minutes
	Pause    time.Duration // at least this long between two fetches, also for unknown key ids; default 30 seconds; after a failure 1 second, doubled each time up to this
	MaxStale time.Duration // keys older than this are not used any more; default 24 hours
	Timeout  time.Duration // of one fetch; default 5 seconds
}

func (r Refresh) withDefaults() Refresh {
	for _, f := range []struct {
		d    *time.Duration
		want time.Duration
	}{{&r.Every, 15 * time.Minute}, {&r.Pause, 30 * time.Second}, {&r.MaxStale, 24 * time.Hour}, {&r.Timeout, 5 * time.Second}} {
		if *f.d <= 0 {
			*f.d = f.want
		}
	}
	return r
}

// A Source holds an issuer's current keys and renews them: when they are old, and when a token names
// an unknown key, but never more often than Refresh.Pause, so tokens with invented key ids cannot
// make Warder flood the issuer. It is safe for concurrent use; callers with a known, fresh key never
// wait for a lock.
type Source struct {
	fetch   Fetch
	refresh Refresh
	now     func() time.Time
	current atomic.Pointer[snapshot]

	mu    sync.Mutex // one fetch at a time
	tried time.Time  // last attempt, successful or not
	err   error      // of the last attempt
	fails int        // attempts that failed since the last one that did not
}

type snapshot struct {
	set     *KeySet
	fetched time.Time
}

// NewSource returns a source that fetches on first use. now is the clock, nil for time.Now.
func NewSource(fetch Fetch, refresh Refresh, now func() time.Time) *Source {
	if now == nil {
		now = time.Now
	}
	return &Source{fetch: fetch, refresh: refresh.withDefaults(), now: now}
}

// Static returns a source of keys that never change.
func Static(set *KeySet) *Source {
	s := NewSource(nil, Refresh{}, nil)
	s.current.Store(&snapshot{set: set})
	return s
}

// Key finds the key a token names. The error is [ErrUnknownKey] when the issuer has no such key and
// [ErrKeysUnavail] when its keys could not be had.
func (s *Source) Key(ctx context.Context, id string) (Key, error) {
	now := s.now()
	cur := s.current.Load()
	known := false
	if cur != nil {
		var k Key
		if k, known = cur.set.Key(id); known && (s.fetch == nil || now.Sub(cur.fetched) < s.refresh.Every) {
			return k, nil
		}
	}
	if s.fetch == nil {
		return Key{}, ErrUnknownKey
	}
	err := s.renew(ctx, cur, now, known)
	cur = s.current.Load()
	if cur == nil || now.Sub(cur.fetched) > s.refresh.MaxStale {
		return Key{}, errors.Join(ErrKeysUnavail, err)
	}
	if k, ok := cur.set.Key(id); ok {
		return k, nil
	}
	if err != nil {
		return Key{}, errors.Join(ErrKeysUnavail, err)
	}
	return Key{}, ErrUnknownKey
}

// renew fetches unless someone else just did or the pause is not over. A caller whose key is known,
// only old, does not wait for a fetch that is under way.
func (s *Source) renew(ctx context.Context, seen *snapshot, now time.Time, known bool) error {
	if !known {
		s.mu.Lock()
	} else if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	if s.current.Load() != seen {
		return nil // renewed while we waited
	}
	if !s.tried.IsZero() && now.Sub(s.tried) < s.pause() {
		return s.err
	}
	s.tried = now
	s.fails++
	// The fetch outlives the caller: a client that gives up must not spoil the keys of all others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.refresh.Timeout)
	defer cancel()
	data, err := s.fetch(ctx)
	if err != nil {
		s.err = fmt.Errorf("fetch issuer keys: %w", err)
		return s.err
	}
	set, err := ParseKeySet(data)
	if err != nil {
		s.err = err
		return err
	}
	s.err, s.fails = nil, 0
	s.current.Store(&snapshot{set: set, fetched: now})
	return nil
}

// pause is how long to wait after the last attempt: briefly after a first failure, so that an issuer that
// starts later than Warder is found soon, then longer and longer.
func (s *Source) pause() time.Duration {
	if s.fails == 0 {
		return s.refresh.Pause
	}
	return min(s.refresh.Pause, time.Second<<min(s.fails-1, 10))
}

// FromFile reads the key set from a file.
func FromFile(name string) Fetch {
	return func(context.Context) ([]byte, error) {
		root, err := os.OpenRoot(filepath.Dir(name))
		if err != nil {
			return nil, fmt.Errorf("open key set folder: %w", err)
		}
		defer root.Close()
		f, err := root.Open(filepath.Base(name))
		if err != nil {
			return nil, fmt.Errorf("open key set: %w", err)
		}
		defer f.Close()
		return readBounded(f)
	}
}

// FromURL reads the key set over HTTPS; plain HTTP is accepted for loopback addresses only.
// Redirects are not followed (a key set has one address). The client decides what may be dialled.
func FromURL(client *http.Client, address string) (Fetch, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("key set address: %w", err)
	}
	if u.Host == "" || u.User != nil || u.Fragment != "" || !SecureURL(u) {
		return nil, fmt.Errorf("key set address %q: want https, or http to a loopback address", address)
	}
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/jwk-set+json, application/json")
		resp, err := c.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("key set answered status %d", resp.StatusCode)
		}
		return readBounded(resp.Body)
	}, nil
}

// SecureURL reports whether the URL is https, or http to a loopback address.
func SecureURL(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return true
	case "http":
		if u.Hostname() == "localhost" {
			return true
		}
		ip, err := netip.ParseAddr(u.Hostname())
		return err == nil && net.IP(ip.AsSlice()).IsLoopback()
	default:
		return false
	}
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	if len(b) > maxKeySet {
		return nil, fmt.Errorf("%w: key set is larger than %d bytes", ErrKey, maxKeySet)
	}
	return b, nil
}
