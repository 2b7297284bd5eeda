package upstream_test

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/layer/upstream"
)

// TestMSH03 plays the life of a secret that a server is shown.
func TestMSH03(t *testing.T) {
	t.Parallel()
	keyed := func(t *testing.T) (*replica, string) {
		t.Helper()
		ref := write(t, "key", "first-key\n")
		r := newRig(t, upstream.Credentials{Secret: &upstream.Secret{Header: "X-Api-Key", Prefix: "k=", Value: ref}})
		r.resource.Header, r.resource.Key = "X-Api-Key", "k=first-key"
		return r.open(), ref.File
	}
	rotate := func(t *testing.T, r *replica, file string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("second-key"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.resource.Mu.Lock()
		r.resource.Key = "k=second-key"
		r.resource.Mu.Unlock()
	}
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		r, _ := keyed(t)
		for range 2 {
			if status, e := r.call(alice()); status != http.StatusOK {
				t.Errorf("got %d, %v", status, e)
			}
		}
		if got := r.leaks("first-key"); len(got) == 0 || got[0] != "server header X-Api-Key" || got[len(got)-1] != "server header X-Api-Key" {
			t.Errorf("the secret appears in %q", got)
		}
		if got := r.leaks(inbound); got != nil {
			t.Errorf("the caller's own token appears in %q", got)
		}
	})
	t.Run("near_miss rotated, the server tells", func(t *testing.T) {
		t.Parallel()
		r, file := keyed(t)
		if status, _ := r.call(alice()); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		rotate(t, r, file)
		r.clock.Store(int64(10 * time.Second))
		if status, e := r.call(alice()); status != http.StatusOK || !r.told("renewed", "secret_rotated") {
			t.Errorf("after the rotation: %d, %v", status, e)
		}
	})
	t.Run("near_miss rotated, its lease ends", func(t *testing.T) {
		t.Parallel()
		r, file := keyed(t)
		if status, e := r.call(alice()); status != http.StatusOK {
			t.Fatalf("before the rotation: %d, %v", status, e)
		}
		rotate(t, r, file)
		r.clock.Store(int64(6 * time.Minute))
		before := len(r.resource.Requests)
		if status, e := r.call(alice()); status != http.StatusOK || len(r.resource.Requests) != before+1 {
			t.Errorf("got %d, %v", status, e)
		}
	})
	t.Run("deny wrong secret", func(t *testing.T) {
		t.Parallel()
		r, _ := keyed(t)
		r.resource.Key = "k=other"
		if _, e := r.call(alice()); e == nil || e.Reason != "server_denied" {
			t.Errorf("got %v", e)
		}
	})
	t.Run("deny secret that fits in no header", func(t *testing.T) {
		t.Parallel()
		ref := write(t, "key", "a\r\nX-Injected: b")
		r := newRig(t, upstream.Credentials{Secret: &upstream.Secret{Value: ref}}).open()
		if _, e := r.call(alice()); e == nil || e.Reason != "secret_unavailable" || len(r.resource.Requests) != 0 {
			t.Errorf("got %v", e)
		}
	})
	t.Run("dependency_killed file gone", func(t *testing.T) {
		t.Parallel()
		r, file := keyed(t)
		if status, _ := r.call(alice()); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if status, _ := r.call(alice()); status != http.StatusOK {
			t.Errorf("within the lease: %d", status)
		}
		r.clock.Store(int64(time.Hour))
		before := len(r.resource.Requests)
		if _, e := r.call(alice()); e == nil || e.Code != warder.CodeUpstreamFailed || e.Reason != "secret_unavailable" || len(r.resource.Requests) != before {
			t.Errorf("after the lease: %v", e)
		}
	})
	t.Run("pass child process", func(t *testing.T) {
		t.Parallel()
		box, err := seal.New(seal.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		keeper, err := secret.NewKeeper(secret.Stores{}, secret.KeeperConfig{}, secret.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = keeper.Close() }() // holds nothing that outlives the test
		k, err := upstream.Open(upstream.Config{}, upstream.Deps{
			State: state.NewMemory(nil), Box: box, Secrets: keeper,
			Servers: []upstream.Server{{Name: "s", Credentials: upstream.Credentials{Secret: &upstream.Secret{
				Env: map[string]secret.Ref{"API_KEY": write(t, "k", "v")}, FD: map[string]secret.Ref{"FILE_KEY": write(t, "f", "w")},
			}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = k.Close() }()
		layer, err := upstream.New(k)
		if err != nil {
			t.Fatal(err)
		}
		r := &replica{rig: &rig{t: t}, layer: layer}
		x := exchange(alice())
		if d, err := r.decide(x); err != nil || d.Verdict != warder.Pass || x.Attach.Env == nil || x.Attach.Header != nil {
			t.Fatalf("got %v, %v", d, err)
		}
		for range 2 { // the receiver overwrites what it got; the next one gets it again
			env, err := x.Attach.Env(t.Context())
			if err != nil || len(env) != 2 || env[0].Name != "API_KEY" || string(env[0].Value) != "v" || env[0].File {
				t.Fatalf("got %v, %v", env, err)
			}
			if env[1].Name != "FILE_KEY" || string(env[1].Value) != "w" || !env[1].File {
				t.Fatalf("got %v", env[1])
			}
			clear(env[1].Value)
			clear(env[0].Value)
		}
	})
}

// BenchmarkIntercept measures what a call costs whose credential is there: the controls and the headers
// of one request.
func BenchmarkIntercept(b *testing.B) {
	bench := func(b *testing.B, r *replica) {
		b.Helper()
		p := alice()
		header := http.Header{}
		req := &http.Request{Method: http.MethodPost, Header: header}
		x := exchange(p)
		b.ReportAllocs()
		for b.Loop() {
			x.Attach = warder.Credential{}
			if d, err := r.decide(x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(d, err)
			}
			if err := x.Attach.Header(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("oauth", func(b *testing.B) {
		r := newRig(b, personal()).open()
		r.authorized(alice())
		if status, e := r.call(alice()); status != http.StatusOK {
			b.Fatal(status, e)
		}
		bench(b, r)
	})
	b.Run("secret", func(b *testing.B) {
		bench(b, newRig(b, upstream.Credentials{Secret: &upstream.Secret{Value: write(b, "key", "value")}}).open())
	})
}
