package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/layer/record"
)

// TestTrustedProxies sends calls through a reverse proxy: with the proxy listed, the trail names its client,
// and what a client says of itself changes nothing.
func TestTrustedProxies(t *testing.T) {
	for name, tt := range map[string]struct{ network, want string }{
		"listed":     {`network: {trusted_proxies: ["127.0.0.0/8"]}`, "198.51.100.7"},
		"not listed": {`network: {trusted_proxies: ["10.0.0.0/8"]}`, "127.0.0.1"},
		"none":       {``, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			a, door, token := openBound(t, data, tt.network)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door+"/mcp/s", strings.NewReader(initialize))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("X-Forwarded-For", "10.9.9.9, 198.51.100.7")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("status %d", resp.StatusCode)
			}
			req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, door+"/issuer/token", strings.NewReader("grant_type=refresh_token&refresh_token=x&client_id=nobody"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "X-Forwarded-For": {"198.51.100.7"}}
			if resp, err = http.DefaultClient.Do(req); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if err := a.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			seen := map[string][]string{}
			for _, e := range trailOf(t, data) {
				if e.Peer != "" {
					seen[e.Peer] = append(seen[e.Peer], string(e.Type))
				}
			}
			if len(seen) != 1 || len(seen[tt.want]) < 2 {
				t.Errorf("peers of the trail: %v, want only %s, with a call and a token request", seen, tt.want)
			}
		})
	}
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`

// openBound opens a gateway with one server and returns a token for it.
func openBound(t *testing.T, data, more string, change ...func(*issuer.Claims, *Options)) (a *App, door, token string) {
	t.Helper()
	ts := httptest.NewUnstartedServer(nil)
	base := "http://" + ts.Listener.Addr().String()
	cfg, err := config.Parse("w.yaml", fmt.Appendf(nil, `version: 1
data: %s
identity: {base_url: %q, dpop: {nonce: true}}
issuer: {url: "%s/issuer", clients: [{id: app, redirect_uris: ["http://127.0.0.1/callback"]}], login: {local: {enabled: true}}, cimd: {allow: ["*"]}}
limits: {drain_timeout: 1s}
tools: {trust: first_use}
access: {inline: 'permit(principal, action, resource);'}
servers: [{name: s, era: legacy, url: %q}, {name: inside, url: "https://10.1.2.4/mcp"}]
%s
`, data, base, base, legacyServer(t), more))
	if err != nil {
		t.Fatal(err)
	}
	opt, claims := Options{}, issuer.Claims{Subject: "ada", Audience: base + "/mcp/s"}
	for _, f := range change {
		f(&claims, &opt)
	}
	if a, err = Open(t.Context(), cfg, opt); err != nil {
		t.Fatal(err)
	}
	ts.Config.Handler = a
	ts.Start()
	t.Cleanup(ts.Close)
	t.Cleanup(func() { _ = a.Close(t.Context()) })
	token, err = a.Mint(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	return a, base, token
}

// trailOf are the records of a gateway that has closed.
func trailOf(t *testing.T, data string) []warder.Event {
	t.Helper()
	r, err := record.Open(filepath.Join(data, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	var out []warder.Event
	for e, err := range r.Events(record.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// TestNonces lets a client go on with one nonce after the other: it is refused once, for want of the first,
// and gets the next with its answers (RFC 9449 section 8.2), from the servers and from the token endpoint.
func TestNonces(t *testing.T) {
	var now atomic.Pointer[time.Time]
	start := time.Now()
	now.Store(&start)
	clock := func() time.Time { return *now.Load() }
	prover, err := jose.NewProver(clock)
	if err != nil {
		t.Fatal(err)
	}
	_, door, token := openBound(t, filepath.Join(t.TempDir(), "data"), "", func(c *issuer.Claims, o *Options) {
		c.Binding, c.TTL, o.Now = prover.Thumbprint(), 15*time.Minute, clock
	})
	nonce, refusals := "", 0
	var call func(method, path, body string) (int, string)
	// patient waits until the gateway has seen that its state is current also at the new time.
	patient := func() (status int, next string) {
		for range 50 {
			if status, next = call(http.MethodPost, "/mcp/s", initialize); status != http.StatusServiceUnavailable {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		return status, next
	}
	call = func(method, path, body string) (status int, next string) {
		t.Helper()
		credential, media := token, "application/json"
		if path != "/mcp/s" {
			credential, media = "", "application/x-www-form-urlencoded"
		}
		proof, err := prover.Proof(method, door+path, credential, nonce)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, door+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {media}, "Dpop": {proof}}
		if credential != "" {
			req.Header.Set("Authorization", "DPoP "+credential)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("DPoP-Nonce")
	}
	for minute := range 6 {
		status, next := patient()
		if status == http.StatusUnauthorized && next != "" {
			refusals++
			nonce = next
			if status, next = call(http.MethodPost, "/mcp/s", initialize); next != "" {
				t.Errorf("minute %d: the nonce of this minute was renewed", minute)
			}
		}
		if status != http.StatusOK {
			t.Fatalf("minute %d: status %d", minute, status)
		}
		if next != "" {
			nonce = next
		}
		later := clock().Add(time.Minute)
		now.Store(&later)
	}
	if refusals != 1 {
		t.Errorf("refused %d times in six minutes, want once", refusals)
	}
	nonce = "invented"
	if status, next := call(http.MethodPost, "/issuer/token", "grant_type=refresh_token&refresh_token=x&client_id=app"); status != http.StatusBadRequest && status != http.StatusUnauthorized || next == "" {
		t.Errorf("the token endpoint: status %d, nonce %q", status, next)
	}
}
