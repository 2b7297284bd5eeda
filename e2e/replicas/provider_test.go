package replicas

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
	"github.com/warder-mcp/warder/internal/jose"
)

// A provider is an identity provider that a test takes away and brings back.
type provider struct {
	t      *testing.T
	url    string
	key    *jose.Signer
	server *http.Server
	gone   atomic.Bool // its user was removed
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	address, err1 := kit.Address()
	key, err2 := jose.NewSigner()
	if err := errorsOf(err1, err2); err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, url: "http://" + address, key: key}
	t.Cleanup(p.stop)
	return p
}

// start makes the provider reachable.
func (p *provider) start() {
	p.t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	server := p.server
	go func() { _ = server.Serve(l) }() // ends with stop
}

// stop makes the provider unreachable.
func (p *provider) stop() {
	if p.server != nil {
		_ = p.server.Close() // every connection ends
		p.server = nil
	}
}

// ServeHTTP serves metadata, keys and introspection.
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server":
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks","introspection_endpoint":"%s/introspect"}`, p.url, p.url, p.url) // the gateway may be gone
	case "/jwks":
		set, err := p.key.KeySet()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(set) // as above
	case "/introspect":
		_, _ = fmt.Fprintf(w, `{"active":%t}`, !p.gone.Load()) // as above
	default:
		http.NotFound(w, r)
	}
}

// token signs a token that has not been seen before.
func (p *provider) token(f *fleet, subject string) string {
	p.t.Helper()
	now := time.Now()
	token, err := p.key.Sign("at+jwt", map[string]any{
		"iss": p.url, "sub": subject, "aud": f.resource("modern"), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"jti": fmt.Sprint(ids.Add(1)), "client_id": "app",
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// TestProviderUnreachable takes identity providers away, also before the gateways start: what needs them is
// refused with an error that says so, keys that are known go on, and nobody has to restart anything.
// Controls IAM-01 and IAM-05.
func TestProviderUnreachable(t *testing.T) {
	t.Parallel()
	keys, asks := newProvider(t), newProvider(t)
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, setup{identity: fmt.Sprintf(`, issuers: [
  {url: %q, group_prefix: "k:"},
  {url: %q, group_prefix: "a:", introspection: {client_id: warder, client_secret: {file: %q}, tokens: jwt}}]`, keys.url, asks.url, secret)})
	each := func(p *provider, what string, want func(answer) bool) {
		t.Helper()
		for i, g := range f.gates {
			if got := f.client(g, p.token(f, "ana")).call("modern", "write", "x"); !want(got) {
				t.Errorf("%s, gateway %d: %v", what, i, got)
			}
		}
	}
	unavailable := func(a answer) bool { return a.status == http.StatusServiceUnavailable }
	each(keys, "keys were never to be had", unavailable)
	each(asks, "nobody could ever be asked", unavailable)
	keys.start()
	asks.start()
	begun := time.Now()
	for _, p := range []*provider{keys, asks} {
		for _, g := range f.gates {
			until(t, "the provider that came is used", 40*time.Second, func() bool {
				return f.client(g, p.token(f, "ana")).call("modern", "write", "x").good()
			})
		}
	}
	t.Logf("both providers were in use %v after they came", time.Since(begun).Round(time.Millisecond))
	keys.stop()
	asks.stop()
	each(keys, "keys are known", answer.good)
	each(asks, "nobody can be asked any more", unavailable)
	asks.start()
	for _, g := range f.gates {
		until(t, "the provider that came back is asked", 20*time.Second, func() bool {
			return f.client(g, asks.token(f, "ana")).call("modern", "write", "x").good()
		})
	}
	c := f.client(f.gates[0], asks.token(f, "ben"))
	if got := c.call("modern", "echo", "x"); !got.good() {
		t.Errorf("before the user was removed: %v", got)
	}
	asks.gone.Store(true)
	for i, g := range f.gates {
		if got := c.at(g).call("modern", "echo", "x"); got.status != http.StatusUnauthorized {
			t.Errorf("a user who was removed, gateway %d: %v, want 401", i, got)
		}
	}
}
