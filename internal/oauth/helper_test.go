package oauth_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/oauth/oauthtest"
	"github.com/warder-mcp/warder/internal/safedial"
)

// A rig is a client, an authorization server and a protected server.
type rig struct {
	as       *oauthtest.Server
	resource *oauthtest.Resource
	client   *oauth.Client

	mu      sync.Mutex
	refused []warder.Reason
}

func newRig(t *testing.T, change func(*oauth.Config)) *rig {
	t.Helper()
	r := &rig{as: oauthtest.New(t)}
	r.resource = oauthtest.NewResource(t, r.as)
	r.client = r.newClient(t, change)
	return r
}

func (r *rig) newClient(t *testing.T, change func(*oauth.Config)) *oauth.Client {
	t.Helper()
	httpClient := safedial.New(safedial.Config{Allow: []safedial.Rule{{Host: "127.0.0.1", Loopback: true}}}).Client(5 * time.Second)
	t.Cleanup(httpClient.CloseIdleConnections)
	cfg := oauth.Config{
		HTTP: httpClient, Redirect: "http://127.0.0.1:1/callback", Loopback: true,
		Refused: func(_ context.Context, _ warder.ControlID, reason warder.Reason, _ string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refused = append(r.refused, reason)
		},
	}
	if change != nil {
		change(&cfg)
	}
	c, err := oauth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// authorize runs the whole code flow as a browser would.
func (r *rig) authorize(t *testing.T) (*oauth.Target, *oauth.Registration, *oauth.Tokens, error) {
	t.Helper()
	ctx := t.Context()
	target, err := r.client.Discover(ctx, r.resource.URL, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	reg, err := r.client.Register(ctx, target.Server)
	if err != nil {
		return target, nil, nil, err
	}
	flow, address, err := r.client.Begin(ctx, target, reg, target.Wanted(nil, nil))
	if err != nil {
		return target, reg, nil, err
	}
	tokens, err := r.client.Finish(ctx, target, reg, flow, browse(t, address))
	return target, reg, tokens, err
}

// browse opens an address and returns the query that the browser would bring back.
func browse(t *testing.T, address string) url.Values {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("authorization endpoint: status %d, %v", resp.StatusCode, err)
	}
	return u.Query()
}

// has reports whether a refusal was told.
func (r *rig) has(reason warder.Reason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.refused, reason)
}
