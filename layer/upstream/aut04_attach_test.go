package upstream_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/oauth/oauthtest"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/layer/upstream"
)

func personal() upstream.Credentials { return upstream.Credentials{OAuth: &upstream.OAuth{}} }

// TestAUT04 plays what a person and a server do with a token that the person granted.
func TestAUT04(t *testing.T) {
	t.Parallel()
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		r.authorized(alice())
		if status, e := r.call(alice()); status != http.StatusOK || e != nil {
			t.Errorf("after authorization: %d, %v", status, e)
		}
		if !r.told("obtained", "") {
			t.Error("no event says that a token was obtained")
		}
		if got := r.leaks(inbound); got != nil {
			t.Errorf("the caller's own token appears in %q", got)
		}
		if got := r.leaks("access-"); len(got) != 1 || got[0] != "server header Authorization" {
			t.Errorf("the access token appears in %q, want the Authorization header of the server alone", got)
		}
		if got := r.leaks("refresh-"); got != nil {
			t.Errorf("the refresh token appears in %q", got)
		}
	})
	t.Run("near_miss another client of the same person", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		r.authorized(alice())
		p := alice()
		p.Client, p.Agent = "other", ""
		if status, e := r.call(p); status != http.StatusOK {
			t.Errorf("got %d, %v", status, e)
		}
	})
	t.Run("near_miss token that ended is renewed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		r.authorized(alice())
		r.as.Revoke(false)
		r.clock.Store(int64(2 * time.Hour))
		if status, e := r.call(alice()); status != http.StatusOK || !r.told("renewed", "") {
			t.Errorf("got %d, %v", status, e)
		}
	})
	t.Run("near_miss token that the server refuses is renewed once", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		r.authorized(alice())
		r.as.Revoke(false)
		r.clock.Store(int64(time.Minute))
		if status, e := r.call(alice()); status != http.StatusOK || len(r.as.Seen("/token")) != 2 {
			t.Errorf("got %d, %v after %d requests for tokens", status, e, len(r.as.Seen("/token")))
		}
	})
	t.Run("deny another person", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		r.authorized(alice())
		p := alice()
		p.Subject = "mallory"
		_, e := r.call(p)
		if e == nil || e.Code != warder.CodeHeld {
			t.Fatalf("got %v, want held", e)
		}
		before := len(r.resource.Requests)
		if status, text := r.browse(e.Ask.URL); status != http.StatusForbidden || !strings.Contains(text, "link_of_another") {
			t.Errorf("alice opens the link of mallory: %d %s", status, text)
		}
		if len(r.as.Seen("/authorize")) != 1 || len(r.resource.Requests) != before {
			t.Error("the link of another was followed")
		}
	})
	t.Run("deny nobody logged in", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		_, e := r.call(alice())
		r.person.Store(nil)
		if status, _ := r.browse(e.Ask.URL); status != http.StatusUnauthorized || len(r.as.Requests) != 0 {
			t.Errorf("got %d", status)
		}
	})
	t.Run("deny used or unknown link", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		_, e := r.call(alice())
		if status, _ := r.browse(e.Ask.URL); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		for _, link := range []string{e.Ask.URL, r.base + "/oauth/connect/s?hold=NONSENSE", r.base + "/oauth/callback?state=x&code=y"} {
			if status, text := r.browse(link); status != http.StatusGone {
				t.Errorf("%s: %d %s", link, status, text)
			}
		}
		if status, _ := r.browse(r.base + "/oauth/connect/unknown"); status != http.StatusNotFound {
			t.Errorf("unknown server: %d", status)
		}
	})
	t.Run("deny mix-up at the redirect", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal())
		r.as.Iss = func() (string, bool) { return "https://evil.example.com", true }
		rep := r.open()
		_, e := rep.call(alice())
		if status, text := r.browse(e.Ask.URL); status != http.StatusBadGateway || !strings.Contains(text, "issuer_mixed_up") {
			t.Errorf("got %d %s", status, text)
		}
		if len(r.as.Seen("/token")) != 0 || !r.told("refused", "iss_mismatch") {
			t.Error("the code was used, or nothing was told")
		}
	})
	t.Run("deny scopes that are not granted are not asked for again", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal())
		r.resource.Scopes = []string{"read"}
		rep := r.open()
		rep.authorized(alice())
		r.resource.Mu.Lock()
		r.resource.Scopes = []string{"write"}
		r.resource.Mu.Unlock()
		_, e := rep.call(alice())
		if e == nil || e.Code != warder.CodeHeld {
			t.Fatalf("step up: %v, want held", e)
		}
		rep.browse(e.Ask.URL)
		if got := r.as.Seen("/authorize")[1].Form.Get("scope"); !strings.Contains(got, "write") || !strings.Contains(got, "read") {
			t.Errorf("asked for %q, want the union", got)
		}
		if status, e := rep.call(alice()); status != http.StatusOK {
			t.Errorf("after the step up: %d, %v", status, e)
		}
		r.as.Mu.Lock()
		for k, v := range r.as.Issued {
			v.Scope = ""
			r.as.Issued[k] = v
		}
		r.as.Mu.Unlock()
		if _, e := rep.call(alice()); e == nil || e.Reason != "scope_not_granted" || len(r.as.Seen("/authorize")) != 2 {
			t.Errorf("got %v, want scope_not_granted", e)
		}
	})
	t.Run("deny authorization server changed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal())
		rep := r.open()
		rep.authorized(alice())
		other := oauthtest.New(t)
		r.resource.Mu.Lock()
		r.resource.Servers = []*oauthtest.Server{other}
		r.resource.Mu.Unlock()
		_, e := rep.call(alice())
		if e == nil || e.Code != warder.CodeHeld || !r.told("removed", "authorization_server_changed") {
			t.Fatalf("got %v, want held anew", e)
		}
		if status, _ := r.browse(e.Ask.URL); status != http.StatusOK {
			t.Errorf("authorize at the new server: %d", status)
		}
		if len(other.Seen("/register")) != 1 || other.Seen("/token")[0].Form.Get("client_id") == r.as.Seen("/token")[0].Form.Get("client_id") {
			t.Error("the registration of the old server was used at the new one")
		}
		if status, e := rep.call(alice()); status != http.StatusOK {
			t.Errorf("with the new server: %d, %v", status, e)
		}
	})
	t.Run("deny revoked everywhere", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		r.authorized(alice())
		r.as.Revoke(true)
		r.clock.Store(int64(time.Minute))
		if _, e := r.call(alice()); e == nil || e.Code != warder.CodeHeld || !r.told("removed", "") {
			t.Errorf("got %v, want held", e)
		}
	})
	t.Run("dependency_killed authorization server", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, personal()).open()
		r.authorized(alice())
		r.clock.Store(int64(2 * time.Hour))
		r.as.Mu.Lock()
		r.as.Down = true
		r.as.Mu.Unlock()
		if _, e := r.call(alice()); e == nil || e.Code != warder.CodeUpstreamFailed {
			t.Errorf("got %v, want %s", e, warder.CodeUpstreamFailed)
		}
		r.as.Mu.Lock()
		r.as.Down = false
		r.as.Mu.Unlock()
		r.clock.Add(int64(time.Minute))
		if status, e := r.call(alice()); status != http.StatusOK {
			t.Errorf("when it is back: %d, %v", status, e)
		}
	})
	t.Run("dependency_killed store", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, upstream.Credentials{OAuth: &upstream.OAuth{}, Authorization: upstream.Authorization{DPoP: "off"}})
		r.broken = down{r.state}
		if _, e := r.open().call(alice()); e == nil || e.Code == warder.CodeHeld || len(r.resource.Requests) != 0 {
			t.Errorf("got %v, want a refusal", e)
		}
	})
}

// TestReplicas lets two replicas share a token: one authorization serves both, and a renewal happens
// once, because the refresh token is good once.
func TestReplicas(t *testing.T) {
	t.Parallel()
	r := newRig(t, personal())
	a, b := r.open(), r.open()
	a.authorized(alice())
	if status, e := b.call(alice()); status != http.StatusOK {
		t.Fatalf("the other replica: %d, %v", status, e)
	}
	r.as.Revoke(false)
	r.clock.Store(int64(2 * time.Hour))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			rep := a
			if i%2 == 1 {
				rep = b
			}
			if status, e := rep.call(alice()); status != http.StatusOK {
				t.Errorf("got %d, %v", status, e)
			}
		})
	}
	wg.Wait()
	refreshes := 0
	for _, q := range r.as.Seen("/token") {
		if q.Form.Get("grant_type") == "refresh_token" {
			refreshes++
		}
	}
	if refreshes != 1 {
		t.Errorf("%d renewals, want 1", refreshes)
	}
	docs, err := r.state.Changes(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if d.Kind == "oauth.token" {
			if err := r.state.Delete(t.Context(), d.Kind, d.ID, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, e1 := a.call(alice())
		_, e2 := b.call(alice())
		if e1 != nil && e2 != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a removed token is still used")
		}
	}
}

// TestWithoutAPerson proves the kinds that need nobody at a browser.
func TestWithoutAPerson(t *testing.T) {
	t.Parallel()
	client := func(r *rig) upstream.Client {
		return upstream.Client{Issuer: r.as.URL, ID: "warder", Secret: write(t, "secret", "s3cret")}
	}
	tests := []struct {
		kind  string
		creds func(r *rig) upstream.Credentials
	}{
		{"client_credentials", func(r *rig) upstream.Credentials {
			return upstream.Credentials{ClientCredentials: &upstream.ClientCredentials{Client: client(r)}}
		}},
		{"exchange", func(r *rig) upstream.Credentials {
			r.mint = func(_ context.Context, p *warder.Principal, audience string) (string, error) {
				return "assertion|" + p.Subject + "|" + p.Agent + "|" + audience, nil
			}
			r.as.Subjects = []string{"assertion|alice|agent|" + r.as.URL}
			return upstream.Credentials{Exchange: &upstream.Exchange{Client: client(r)}}
		}},
		{"workload", func(r *rig) upstream.Credentials {
			r.as.Subjects = []string{"svid"}
			return upstream.Credentials{Workload: &upstream.Workload{Token: write(t, "svid", "svid\n")}}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, upstream.Credentials{})
			r.creds = tt.creds(r)
			r.as.Clients["warder"] = "s3cret"
			rep := r.open()
			for range 3 {
				if status, e := rep.call(alice()); status != http.StatusOK {
					t.Fatalf("got %d, %v", status, e)
				}
			}
			if n := len(r.as.Seen("/token")); n != 1 {
				t.Errorf("%d requests for tokens, want 1", n)
			}
			if tt.kind == "exchange" { // it speaks for the caller, whose groups may change
				r.clock.Store(int64(11 * time.Minute))
				if status, e := rep.call(alice()); status != http.StatusOK || len(r.as.Seen("/token")) != 2 {
					t.Errorf("after eleven minutes: %d, %v, %d requests for tokens", status, e, len(r.as.Seen("/token")))
				}
			}
			r.as.Revoke(true)
			r.clock.Add(int64(time.Minute))
			if status, e := rep.call(alice()); status != http.StatusOK {
				t.Errorf("after a revocation: %d, %v", status, e)
			}
			r.as.Mu.Lock()
			r.as.Subjects, r.as.Clients = nil, map[string]string{}
			r.as.Mu.Unlock()
			r.as.Revoke(true)
			r.clock.Add(int64(time.Minute))
			_, e := rep.call(alice())
			if e == nil || e.Code != warder.CodeUpstreamFailed || !strings.HasPrefix(string(e.Reason), "as_invalid_") {
				t.Errorf("got %v, want the error code of the authorization server", e)
			}
			if e != nil && strings.Contains(e.Sentence()+e.Error(), "SECRET-OF-THE-SERVER") {
				t.Errorf("the error repeats what the server said: %v", e)
			}
			if got := r.leaks(inbound); got != nil {
				t.Errorf("the caller's own token appears in %q", got)
			}
		})
	}
}

// TestTaint proves by the source that nothing here can read what the client sent as its credential.
func TestTaint(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{".Conn", "x.Inbound", "x.Client"} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s mentions %s", name, word)
			}
		}
	}
}

// TestConfig proves which configurations are refused.
func TestConfig(t *testing.T) {
	t.Parallel()
	file := secret.Ref{File: "x"}
	for name, c := range map[string]upstream.Credentials{
		"two kinds":         {OAuth: &upstream.OAuth{}, Secret: &upstream.Secret{Value: file}},
		"client no issuer":  {OAuth: &upstream.OAuth{Client: &upstream.Client{ID: "a"}}},
		"no secret":         {ClientCredentials: &upstream.ClientCredentials{Client: upstream.Client{Issuer: "https://a", ID: "b"}}},
		"workload no token": {Workload: &upstream.Workload{}},
		"secret of nothing": {Secret: &upstream.Secret{}},
		"protocol header":   {Secret: &upstream.Secret{Header: "mcp-session-id", Value: file}},
		"host header":       {Secret: &upstream.Secret{Header: "Host", Value: file}},
		"line break":        {Secret: &upstream.Secret{Prefix: "a\r\n", Value: file}},
		"dpop word":         {OAuth: &upstream.OAuth{}, Authorization: upstream.Authorization{DPoP: "yes"}},
		"subject type":      {Exchange: &upstream.Exchange{Client: upstream.Client{Issuer: "https://a", ID: "b"}, SubjectType: "saml"}},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (&upstream.Credentials{}).Validate(); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

// TestIdentityOfTheCaller lets the identity provider vouch for whoever calls: each person by the ID token of
// their own login, which only the provider sees, and nobody whose login is not there.
func TestIdentityOfTheCaller(t *testing.T) {
	t.Parallel()
	idp := oauthtest.New(t)
	idp.Clients["gate"] = "provider-s3cret"
	idp.Body = `{"access_token":"jag-1","issued_token_type":"urn:ietf:params:oauth:token-type:id-jag","token_type":"N_A","expires_in":300}`
	r := newRig(t, upstream.Credentials{})
	r.as.Clients["warder"] = "s3cret"
	r.as.Subjects = []string{"jag-1"}
	errGone := errors.New("the login session has ended")
	r.identity = func(_ context.Context, p *warder.Principal, provider string) (secret.Value, error) {
		if p.Subject != "alice" || provider != idp.URL {
			return secret.Value{}, errGone
		}
		return secret.New([]byte("ID-TOKEN-OF-ALICE")), nil
	}
	r.creds = upstream.Credentials{IDJAG: &upstream.IDJAG{
		Client:   upstream.Client{Issuer: r.as.URL, ID: "warder", Secret: write(t, "secret", "s3cret")},
		Provider: upstream.Client{Issuer: idp.URL, ID: "gate", Secret: write(t, "provider", "provider-s3cret")},
	}}
	rep := r.open()
	if status, e := rep.call(alice()); status != http.StatusOK {
		t.Fatalf("got %d, %v", status, e)
	}
	seen := idp.Seen("/token")
	if len(seen) != 1 || seen[0].Form.Get("subject_token") != "ID-TOKEN-OF-ALICE" || seen[0].Form.Get("audience") != r.as.URL {
		t.Errorf("the provider saw %+v", seen)
	}
	if seen := r.as.Seen("/token"); len(seen) != 1 || seen[0].Form.Get("assertion") != "jag-1" {
		t.Errorf("the authorization server of the server saw %+v", seen)
	}
	bob := alice()
	bob.Subject = "bob"
	if status, e := rep.call(bob); status == http.StatusOK || e == nil || strings.Contains(e.Sentence(), errGone.Error()) {
		t.Errorf("bob, who is not logged in: %d, %v", status, e)
	}
	if n := len(idp.Seen("/token")); n != 1 {
		t.Errorf("the provider was asked %d times, want once", n)
	}
	for _, token := range []string{inbound, "ID-TOKEN-OF-ALICE"} {
		if got := r.leaks(token); got != nil {
			t.Errorf("%s appears in %q", token, got)
		}
	}
}
