package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
)

// replica opens another issuer over the same store.
func (w *world) replica(t *testing.T) *Issuer {
	t.Helper()
	is, err := New(t.Context(), w.cfg, w.deps)
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// accepted reports whether an issuer's verifier takes a token.
func accepted(t *testing.T, is *Issuer, raw string) error {
	t.Helper()
	_, f := is.verify(t.Context(), raw)
	if f == nil {
		return nil
	}
	return f
}

func mint(t *testing.T, is *Issuer, ttl time.Duration) string {
	t.Helper()
	raw, err := is.Mint(t.Context(), Claims{Subject: "ada", Audience: notes, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func kid(t *testing.T, raw string) string {
	t.Helper()
	token, err := jose.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return token.Header.KeyID
}

func (w *world) published() []string {
	w.t.Helper()
	r := w.get(w.url + "/jwks.json")
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
			D  string `json:"d"`
		} `json:"keys"`
	}
	if err := json.Unmarshal([]byte(r.body), &set); err != nil {
		w.t.Fatal(err)
	}
	var ids []string
	for _, k := range set.Keys {
		if k.D != "" {
			w.t.Error("a private key is published")
		}
		ids = append(ids, k.ID)
	}
	return ids
}

func TestIAM07(t *testing.T) {
	t.Parallel()
	t.Run("pass/schedule", rotatesOnSchedule)
	t.Run("pass/load", rotatesUnderLoad)
	t.Run("pass/replicas", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		other := w.replica(t)
		if a, b := kid(t, mint(t, w.is, time.Minute)), kid(t, mint(t, other, time.Minute)); a != b {
			t.Errorf("two replicas sign with two keys: %s, %s", a, b)
		}
		var wg sync.WaitGroup
		for _, is := range []*Issuer{w.is, other, w.is, other} {
			wg.Go(func() {
				if err := is.Rotate(t.Context(), "operator"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(w.published()); n != 2 {
			t.Errorf("%d keys after everybody rotated at once, want 2", n)
		}
		w.clock.move(w.is.cfg.Keys.Publish)
		if err := accepted(t, other, mint(t, w.is, time.Minute)); err != nil {
			t.Errorf("the other replica refuses: %v", err)
		}
	})
	t.Run("near_miss/overlap", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		old := mint(t, w.is, MaxTTL)
		if err := w.is.Rotate(t.Context(), "operator"); err != nil {
			t.Fatal(err)
		}
		if got := kid(t, mint(t, w.is, time.Minute)); got != kid(t, old) {
			t.Error("a key signs before it can be known")
		}
		w.clock.move(w.is.cfg.Keys.Publish)
		if got := kid(t, mint(t, w.is, time.Minute)); got == kid(t, old) {
			t.Error("the old key signs on")
		}
		w.clock.move(MaxTTL - w.is.cfg.Keys.Publish - time.Second)
		if err := accepted(t, w.is, old); err != nil {
			t.Errorf("the longest token of the old key, a second before its end: %v", err)
		}
	})
	t.Run("deny/retired", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		old := kid(t, mint(t, w.is, time.Minute))
		stolen := w.is.keys.current.Load().ring.Keys[0]
		if err := w.is.Rotate(t.Context(), "operator"); err != nil {
			t.Fatal(err)
		}
		w.clock.move(w.is.cfg.Keys.Publish + overlap)
		// Whoever kept the old key signs a token that is in time in every other way.
		pub, err := stolen.publicKey()
		if err != nil {
			t.Fatal(err)
		}
		signer, err := w.is.keys.keeper.Open(t.Context(), pub, stolen.Sealed, "")
		if err != nil {
			t.Fatal(err)
		}
		now := w.clock.now()
		forged, err := jose.SignOpaque(t.Context(), signer, old, "at+jwt", map[string]any{
			"iss": w.url, "sub": "ada", "aud": notes, "client_id": "app", "jti": "x", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := accepted(t, w.is, forged); err == nil || !strings.Contains(err.Error(), "key_retired") {
			t.Errorf("a token of a retired key: %v", err)
		}
		if e := w.log.last(); e.Control != iam07 || e.Reason != "key_retired" || e.Target != old {
			t.Errorf("the trail says %+v", e)
		}
		if ids := w.published(); len(ids) != 1 || ids[0] == old {
			t.Errorf("published: %v", ids)
		}
		w.mode(iam07, Monitor)
		if err := accepted(t, w.is, forged); err != nil {
			t.Errorf("monitored: %v", err)
		}
		w.mode(iam07, Off)
		if err := accepted(t, w.is, forged); err != nil {
			t.Errorf("without the control something else refuses: %v", err)
		}
	})
	t.Run("deny/emergency", emergency)
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := mint(t, w.is, time.Hour)
		w.store.fail(errors.New("gone"))
		if err := accepted(t, w.is, token); err != nil {
			t.Errorf("a ring that was just read serves on: %v", err)
		}
		w.clock.move(ringFresh + time.Second)
		_, f := w.is.verify(t.Context(), token)
		if f == nil || f.status != http.StatusServiceUnavailable {
			t.Errorf("a ring that is too old decides: %v", f)
		}
		if _, err := w.is.Mint(t.Context(), Claims{Subject: "a", Audience: notes}); err == nil {
			t.Error("a ring that is too old signs")
		}
		if r := w.get(w.url + "/jwks.json"); r.status != http.StatusServiceUnavailable {
			t.Errorf("key set: status %d", r.status)
		}
		w.store.fail(nil)
		w.log.mu.Lock()
		w.log.broken = errors.New("disk full")
		w.log.mu.Unlock()
		before := len(w.published())
		if err := w.is.Rotate(t.Context(), "operator"); err == nil || len(w.published()) != before {
			t.Errorf("a key that nobody recorded is in the ring: %v", err)
		}
	})
}

func rotatesOnSchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) { c.Keys = KeysConfig{RotateEvery: 24 * time.Hour, Publish: 10 * time.Minute} })
	seen := map[string]bool{}
	var old string
	for hour := range 24 * 7 {
		for range 12 {
			w.clock.move(5 * time.Minute)
			if err := w.is.keys.maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			token := mint(t, w.is, time.Hour)
			seen[kid(t, token)] = true
			if old != "" && accepted(t, w.is, old) != nil {
				t.Fatalf("hour %d: a token of five minutes ago is refused", hour)
			}
			old = token
		}
	}
	if len(seen) != 7 && len(seen) != 8 {
		t.Errorf("%d keys signed in a week, want one a day", len(seen))
	}
	if n := len(w.published()); n > 3 {
		t.Errorf("%d keys are published", n)
	}
	for _, k := range w.is.keys.current.Load().ring.Keys {
		if k.retired(w.clock.now()) && k.Sealed != "" {
			t.Error("the secret of a retired key is kept")
		}
	}
}

// rotatesUnderLoad has an outside verifier that caches the key set as long as it may.
func rotatesUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) { c.Keys = KeysConfig{RotateEvery: time.Hour, Publish: 5 * time.Minute} })
	var cached *jose.KeySet
	var fetched time.Time
	failed, verified := 0, 0
	for range 6 * 60 {
		w.clock.move(time.Minute)
		if err := w.is.keys.maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.clock.now().Sub(fetched) >= keySetAge*time.Second {
			set, err := jose.ParseKeySet([]byte(w.get(w.url + "/jwks.json").body))
			if err != nil {
				t.Fatal(err)
			}
			cached, fetched = set, w.clock.now()
		}
		token, err := jose.Parse(mint(t, w.is, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		key, ok := cached.Key(token.Header.KeyID)
		if !ok || token.Verify(key, []string{"ES256"}) != nil {
			failed++
		}
		verified++
	}
	if failed != 0 {
		t.Errorf("%d of %d tokens could not be verified from a key set within its cache time", failed, verified)
	}
	var bad atomic.Int64
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				raw, err := w.is.Mint(t.Context(), Claims{Subject: "ada", Audience: notes})
				if err != nil {
					bad.Add(1)
				} else if _, f := w.is.verify(t.Context(), raw); f != nil {
					bad.Add(1)
				}
			}
		})
	}
	for ctx.Err() == nil {
		w.clock.move(time.Second)
		if err := errors.Join(w.is.keys.maintain(t.Context()), w.is.Rotate(t.Context(), "operator")); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if bad.Load() != 0 {
		t.Errorf("%d requests failed while keys rotated", bad.Load())
	}
}

func emergency(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.replica(t)
	tokens := w.login()
	minted := mint(t, w.is, MaxTTL)
	code := w.code()
	if err := other.Emergency(t.Context(), "laptop stolen", "olga"); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{"issued": tokens.text("access_token"), "minted": minted} {
		if err := accepted(t, other, raw); err == nil {
			t.Errorf("%s: still accepted where the emergency was declared", name)
		}
		// The other replica hears of it with its next look at the ring.
		if err := w.is.keys.maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := accepted(t, w.is, raw); err == nil {
			t.Errorf("%s: still accepted on the other replica", name)
		}
	}
	w.wants("refresh token", w.post("token", refreshForm(tokens.text("refresh_token"))), 400, "invalid_grant", "refresh_dead")
	w.wants("code", w.post("token", redeemForm(code)), 400, "invalid_grant", "before_emergency")
	if got := w.rev.entries; len(got) == 0 || got[0].Kind != "issuer" || got[0].Value != w.url || got[0].By != "olga" || got[0].Reason != "laptop stolen" {
		t.Errorf("revocations: %+v", got)
	}
	if !w.log.has("key_emergency") {
		t.Error("the emergency is not recorded")
	}
	fresh := mint(t, w.is, time.Minute)
	if err := errors.Join(accepted(t, w.is, fresh), accepted(t, other, fresh)); err != nil {
		t.Errorf("a fresh token, the same second: %v", err)
	}
	if ids := w.published(); len(ids) != 1 || ids[0] != kid(t, fresh) {
		t.Errorf("published: %v", ids)
	}
}

func TestKeyList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	states := func() string {
		t.Helper()
		list, err := w.is.Keys().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, k := range list {
			words = append(words, k.State)
		}
		return strings.Join(words, " ")
	}
	check := func(want string) {
		t.Helper()
		if got := states(); got != want {
			t.Errorf("keys are %q, want %q", got, want)
		}
	}
	check("active")
	if err := w.is.Rotate(t.Context(), "operator"); err != nil {
		t.Fatal(err)
	}
	check("active next")
	w.clock.move(w.is.cfg.Keys.Publish)
	check("verifying active")
	w.clock.move(overlap)
	check("retired active")
	if err := w.is.Emergency(t.Context(), "test", "operator"); err != nil {
		t.Fatal(err)
	}
	check("retired retired active")
}

func TestRunFollowsOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.replica(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.is.Run(ctx) }()
	token := mint(t, w.is, time.Hour)
	time.Sleep(20 * time.Millisecond) // let it watch
	if err := other.Emergency(t.Context(), "test", "test"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); accepted(t, w.is, token) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the replica never heard of the emergency")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
