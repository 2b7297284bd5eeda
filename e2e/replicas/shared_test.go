package replicas

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/issuer"
)

// appClient is a public client of people.
const appClient = `, login: {local: {enabled: true}}, clients: [{id: app, name: App, native: true, redirect_uris: ["` + callback + `"]}]`

// TestOneAuthorizationServer logs a person in at one gateway and does the rest at the other: consent, code,
// tokens and their refresh; what is good once is good once on both. Controls AUT-02, IAM-07.
func TestOneAuthorizationServer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, setup{issuer: appClient})
	a, b := f.gates[0], f.gates[1]
	p := f.login(a, "eva")
	p.at(b)
	redeem := func(g *gate, code string) tokens {
		return f.ask(g, "token", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"app"}, "redirect_uri": {callback}, "code_verifier": {verifier}}, nil)
	}
	refresh := func(g *gate, token string) tokens {
		return f.ask(g, "token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"app"}}, nil)
	}
	first := redeem(a, p.code(f.resource("modern")))
	if first.Access == "" || first.Refresh == "" {
		t.Fatalf("no tokens: %+v", first)
	}
	for i, g := range f.gates {
		if got := f.client(g, first.Access).call("modern", "write", "x"); !got.good() {
			t.Errorf("the token at gateway %d: %v", i, got)
		}
	}
	second := refresh(b, first.Refresh)
	if second.Access == "" {
		t.Fatalf("refresh at the other gateway: %+v", second)
	}
	if again := refresh(a, first.Refresh); again.Access != "" {
		t.Error("a refresh token was good at one gateway after it was used at the other")
	}
	if after := refresh(b, second.Refresh); after.Access != "" {
		t.Error("the refresh token of a family whose tokens were stolen is good")
	}
	for range 5 {
		code := p.code(f.resource("modern"))
		if n := atOnce(f, func(g *gate) bool { return redeem(g, code).Access != "" }); n > 1 {
			t.Errorf("a code was good %d times at once", n)
		}
	}
	fresh := redeem(a, p.code(f.resource("modern")))
	if n := atOnce(f, func(g *gate) bool { return refresh(g, fresh.Refresh).Access != "" }); n > 1 {
		t.Errorf("a refresh token was good %d times at once", n)
	}
}

// atOnce does something at every gateway at once, four times each, and counts how often it went well.
func atOnce(f *fleet, do func(g *gate) bool) int {
	var work sync.WaitGroup
	good := make(chan bool, 16)
	for i := range 8 {
		work.Go(func() { good <- do(f.gates[i%len(f.gates)]) })
	}
	work.Wait()
	close(good)
	n := 0
	for ok := range good {
		if ok {
			n++
		}
	}
	return n
}

// TestKeysAreShared rotates the signing keys at one gateway, in order and in an emergency: the other follows.
// Control IAM-07.
func TestKeysAreShared(t *testing.T) {
	t.Parallel()
	f := newFleet(t, setup{})
	a, b := f.gates[0], f.gates[1]
	before := f.mint(issuer.Claims{Subject: "ana"})
	operate[admin.KeyList](a, "keys.rotate", nil, admin.Reason{})
	rotated := f.mint(issuer.Claims{Subject: "ana"})
	for i, g := range f.gates {
		for when, token := range map[string]string{"before": before, "after": rotated} {
			if got := f.client(g, token).call("modern", "write", "x"); !got.good() {
				t.Errorf("a token signed %s the rotation at gateway %d: %v", when, i, got)
			}
		}
	}
	begun := time.Now()
	operate[admin.KeyList](a, "keys.emergency", nil, admin.Reason{Reason: "test"})
	until(t, "tokens of the old keys are refused", 3*time.Second, func() bool {
		return f.client(b, before).call("modern", "echo", "x").status == http.StatusUnauthorized && f.client(b, rotated).call("modern", "echo", "x").status == http.StatusUnauthorized
	})
	t.Logf("the other gateway refused tokens of the old keys %v after the emergency began", time.Since(begun).Round(time.Millisecond))
	after := f.mint(issuer.Claims{Subject: "ana"})
	for i, g := range f.gates {
		if got := f.client(g, after).call("modern", "write", "x"); !got.good() {
			t.Errorf("a token signed after the emergency at gateway %d: %v", i, got)
		}
	}
}

// TestSecretRotates changes the file that holds what a server is shown: it is shown the new one at both
// gateways, and nobody restarts anything. Control MSH-03.
func TestSecretRotates(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/secret"
	write := func(text string) {
		t.Helper()
		if err := errorsOf(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write("first-secret")
	up := newUpstream(t, true)
	up.keep = true
	f := newFleet(t, setup{
		extra:   "secrets: {cache: 1s}",
		servers: fmt.Sprintf("  - {name: secured, url: %q, era: modern, timeout: 10s, credentials: {secret: {header: X-Api-Key, value: {file: %q}}}}\n", up.URL, path),
	})
	c := f.client(f.gates[0], f.mint(issuer.Claims{Subject: "ana", Audience: f.resource("secured")}))
	shown := func(g *gate, secret string) bool {
		up.mu.Lock()
		up.raw = nil
		up.mu.Unlock()
		return c.at(g).call("secured", "write", "x").good() && strings.Contains(string(up.seen()), "X-Api-Key: "+secret)
	}
	for i, g := range f.gates {
		if !shown(g, "first-secret") {
			t.Errorf("gateway %d does not show the secret: %.300s", i, up.seen())
		}
	}
	write("second-secret")
	for _, g := range f.gates {
		until(t, "the new secret is shown", 10*time.Second, func() bool { return shown(g, "second-secret") })
		if shown(g, "first-secret") {
			t.Error("the old secret is shown again")
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, g := range f.gates {
		until(t, "calls are refused without a secret", 10*time.Second, func() bool {
			got := c.at(g).call("secured", "write", "x")
			return strings.Contains(got.body, `"reason":"secret_unavailable"`)
		})
	}
	write("third-secret")
	for _, g := range f.gates {
		until(t, "the secret that came back is shown", 10*time.Second, func() bool { return shown(g, "third-secret") })
	}
}
