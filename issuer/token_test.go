package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/seal"
)

func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.login()
	second := w.post("token", refreshForm(first.text("refresh_token"), "scope", "a"))
	if second.status != 200 || second.text("refresh_token") == first.text("refresh_token") || second.text("scope") != "a" {
		t.Fatalf("refresh: %d %s", second.status, second.body)
	}
	third := w.post("token", refreshForm(second.text("refresh_token")))
	if third.status != 200 || third.text("scope") != "a b" {
		t.Fatalf("all that was granted: %d %s", third.status, third.body)
	}
	w.wants("wider scope", w.post("token", refreshForm(third.text("refresh_token"), "scope", "a c")), 400, "invalid_scope", "scope_wider")
	w.wants("other resource", w.post("token", refreshForm(third.text("refresh_token"), "resource", files)), 400, "invalid_target", "resource_mismatch")
	w.wants("unknown", w.post("token", refreshForm("wr_x.y")), 400, "invalid_grant", "refresh_unknown")
	w.wants("an access token", w.post("token", refreshForm(third.text("access_token"))), 400, "invalid_grant", "refresh_unknown")
	if r := w.post("token", refreshForm(third.text("refresh_token"))); r.status != 200 {
		t.Fatalf("refused requests must not use the token up: %s", r.body)
	}
	// An old one ends the family, the youngest included, and the access tokens it gave.
	w.wants("reuse", w.post("token", refreshForm(second.text("refresh_token"))), 400, "invalid_grant", "refresh_dead")
	if !strings.Contains(w.log.last().Detail, "refresh_reused") {
		t.Errorf("the trail says %q", w.log.last().Detail)
	}
	if _, f := w.is.verify(t.Context(), third.text("access_token")); f == nil {
		t.Error("an access token of the family still works")
	}
	other := w.login()
	if w.claims(other.text("access_token")) == nil {
		t.Error("another login must not suffer")
	}
	// In the hands of another client it is stolen: it ends for both.
	w.wants("of another client", w.post("token", refreshForm(other.text("refresh_token"), "client_id", "native")), 400, "invalid_grant", "refresh_dead")
	w.wants("of another client, afterwards", w.post("token", refreshForm(other.text("refresh_token"))), 400, "invalid_grant", "refresh_dead")
}

func TestRefreshEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) {
		c.Lifetimes.RefreshIdle, c.Lifetimes.Refresh = time.Hour, 2*time.Hour
	})
	idle := w.login()
	w.clock.move(time.Hour)
	w.wants("not used for an hour", w.post("token", refreshForm(idle.text("refresh_token"))), 400, "invalid_grant", "refresh_unknown")
	r := w.login()
	for range 2 {
		w.clock.move(59 * time.Minute)
		if r = w.post("token", refreshForm(r.text("refresh_token"))); r.status != 200 {
			t.Fatal(r.body)
		}
	}
	w.clock.move(2 * time.Minute)
	w.wants("two hours after the login", w.post("token", refreshForm(r.text("refresh_token"))), 400, "invalid_grant", "refresh_unknown")
}

func TestRefreshFollowsTheLogin(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	person, outage := &User{Subject: "ada", Groups: []string{"dev"}}, error(nil)
	set := func(u *User, err error) {
		mu.Lock()
		defer mu.Unlock()
		person, outage = u, err
	}
	w := newWorld(t, func(_ *Config, d *Deps) {
		d.Session = func(_ context.Context, id string) (*User, error) {
			mu.Lock()
			defer mu.Unlock()
			if id != "s1" {
				return nil, nil
			}
			return person, outage
		}
	})
	token := w.login().text("refresh_token")
	set(&User{Subject: "ada", Groups: []string{"ops"}}, nil)
	r := w.post("token", refreshForm(token))
	if r.status != 200 {
		t.Fatal(r.body)
	}
	if groups, err := w.claims(r.text("access_token")).List("groups"); err != nil || len(groups) != 1 || groups[0] != "ops" {
		t.Errorf("groups = %v, %v: the provider has changed them", groups, err)
	}
	token = r.text("refresh_token")
	set(nil, errors.New("provider is away"))
	w.wants("nobody knows", w.post("token", refreshForm(token)), 503, "temporarily_unavailable", "unavailable")
	set(&User{Subject: "eve"}, nil)
	w.wants("somebody else's session", w.post("token", refreshForm(token)), 400, "invalid_grant", "session_ended")
	set(nil, nil)
	w.wants("logged out", w.post("token", refreshForm(token)), 400, "invalid_grant", "session_ended")
}

func TestRevokedPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *Config, d *Deps) {
		d.Resources = func() []Resource {
			return []Resource{{URI: notes, Server: "notes"}, {URI: files, Server: "files", Tenant: "acme"}}
		}
	})
	if q := w.authorize(authRequest("resource", files)); q.Get("error") != "access_denied" {
		t.Errorf("a server of another tenant: %v", q)
	}
	token, code := w.login().text("refresh_token"), w.code()
	if err := w.rev.revoke(t.Context(), Revocation{Kind: "principal", Value: w.url + "|ada"}); err != nil {
		t.Fatal(err)
	}
	w.wants("refresh", w.post("token", refreshForm(token)), 400, "invalid_grant", "revoked")
	w.wants("code", w.post("token", redeemForm(code)), 400, "invalid_grant", "revoked")
	if q := w.authorize(authRequest()); q.Get("error") != "access_denied" {
		t.Errorf("authorize: %v", q)
	}
}

func TestRefreshRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.login().text("refresh_token")
	var wg sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for range 16 {
		wg.Go(func() {
			if r := w.post("token", refreshForm(token)); r.status == 200 {
				mu.Lock()
				good++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if good > 1 {
		t.Errorf("%d of 16 got a token for one refresh token", good)
	}
}

func TestDPoP(t *testing.T) {
	t.Parallel()
	key := seal.NewKey()
	nonces, err := jose.NewNonces(key)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	p, other := prover(t, w.clock.now), prover(t, w.clock.now)
	at := w.url + "/token"
	dpop := func(p *jose.Prover) string { return proof(t, p, "POST", at, "") }

	r := w.post("token", redeemForm(w.code("dpop_jkt", p.Thumbprint())), "DPoP", dpop(p))
	if r.status != 200 || r.text("token_type") != "DPoP" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	cnf, err := w.claims(r.text("access_token")).Object("cnf")
	if err != nil || cnf["jkt"] != p.Thumbprint() {
		t.Errorf("cnf = %v, %v", cnf, err)
	}
	w.wants("code bound to another key", w.post("token", redeemForm(w.code("dpop_jkt", p.Thumbprint())), "DPoP", dpop(other)), 400, "invalid_dpop_proof", "key_mismatch")
	w.wants("code bound, no proof", w.post("token", redeemForm(w.code("dpop_jkt", p.Thumbprint()))), 400, "invalid_dpop_proof", "key_mismatch")
	token := r.text("refresh_token")
	w.wants("refresh with another key", w.post("token", refreshForm(token), "DPoP", dpop(other)), 400, "invalid_dpop_proof", "key_mismatch")
	w.wants("refresh without a key", w.post("token", refreshForm(token)), 400, "invalid_dpop_proof", "key_mismatch")
	used := dpop(p)
	if r = w.post("token", refreshForm(token), "DPoP", used); r.status != 200 {
		t.Fatalf("refresh: %d %s", r.status, r.body)
	}
	token = r.text("refresh_token")
	w.wants("proof used twice", w.post("token", refreshForm(token), "DPoP", used), 400, "invalid_dpop_proof", "proof_replayed")
	w.wants("two proofs", w.post("token", refreshForm(token), "DPoP", dpop(p), "DPoP", dpop(p)), 400, "invalid_dpop_proof", "proof_repeated")
	w.wants("proof for another address", w.post("token", refreshForm(token), "DPoP", proof(t, p, "POST", w.url+"/par", "")), 400, "invalid_dpop_proof", "proof_refused")
	w.wants("proof for another method", w.post("token", refreshForm(token), "DPoP", proof(t, p, "GET", at, "")), 400, "invalid_dpop_proof", "proof_refused")
	old := dpop(p)
	w.clock.move(10 * time.Minute)
	w.wants("old proof", w.post("token", refreshForm(token), "DPoP", old), 400, "invalid_dpop_proof", "proof_refused")

	strict := newWorld(t, func(c *Config, d *Deps) { c.RequireDPoP, d.Nonces = true, nonces })
	p = prover(t, strict.clock.now)
	code := strict.code()
	strict.wants("no proof where one is required", strict.post("token", redeemForm(code)), 400, "invalid_dpop_proof", "proof_missing")
	r = strict.post("token", redeemForm(code), "DPoP", proof(t, p, "POST", strict.url+"/token", ""))
	strict.wants("no nonce", r, 400, "use_dpop_nonce", "proof_nonce")
	nonce := r.header.Get("DPoP-Nonce")
	if nonce == "" {
		t.Fatal("no nonce was given")
	}
	// The code is not used up by asking for a nonce.
	if r = strict.post("token", redeemForm(code), "DPoP", proof(t, p, "POST", strict.url+"/token", nonce)); r.status != 200 {
		t.Fatalf("with nonce: %d %s", r.status, r.body)
	}
	if next := r.header.Get("DPoP-Nonce"); next != "" {
		t.Errorf("the nonce of this minute was renewed to %q", next)
	}
	strict.clock.move(2 * time.Minute)
	r = strict.post("token", refreshForm(r.text("refresh_token")), "DPoP", proof(t, p, "POST", strict.url+"/token", nonce))
	if next := r.header.Get("DPoP-Nonce"); r.status != 200 || next == "" || next == nonce {
		t.Errorf("two minutes later: %d %s, renewed to %q", r.status, r.body, next)
	}
}

func TestPAR(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	push := func(pairs ...string) reply { return w.post("par", authRequest(pairs...)) }
	r := push()
	uri := r.text("request_uri")
	if r.status != http.StatusCreated || !strings.HasPrefix(uri, pushedPrefix) || r.json["expires_in"] != 90.0 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	short := url.Values{"client_id": {"app"}, "request_uri": {uri}}
	if q := w.authorize(short); q.Get("code") == "" || q.Get("state") != "st&1" {
		t.Errorf("pushed request: %v", q)
	}
	if r := w.get(w.url + "/authorize?" + short.Encode()); r.status != 400 {
		t.Errorf("a pushed request is good once: %d", r.status)
	}
	short.Set("request_uri", push().text("request_uri"))
	short.Set("client_id", "native")
	if r := w.get(w.url + "/authorize?" + short.Encode()); r.status != 400 || w.log.last().Reason != "request_of_another" {
		t.Errorf("a pushed request of another client: %d %q", r.status, w.log.last().Reason)
	}
	short = url.Values{"client_id": {"app"}, "request_uri": {push().text("request_uri")}}
	w.clock.move(2 * time.Minute)
	if r := w.get(w.url + "/authorize?" + short.Encode()); r.status != 400 {
		t.Errorf("a pushed request that waited too long: %d", r.status)
	}
	w.wants("bad redirect", push("redirect_uri", "https://evil.example/"), 400, "invalid_request", "redirect_mismatch")
	w.wants("nested", push("request_uri", uri), 400, "invalid_request", "invalid_request")
	w.wants("no resource", push("resource", ""), 400, "invalid_target", "resource_missing")
	p := prover(t, w.clock.now)
	w.wants("proof of another key", w.post("par", authRequest("dpop_jkt", challenge("x")), "DPoP", proof(t, p, "POST", w.url+"/par", "")), 400, "invalid_dpop_proof", "key_mismatch")
	uri = w.post("par", authRequest(), "DPoP", proof(t, p, "POST", w.url+"/par", "")).text("request_uri")
	code := w.authorize(url.Values{"client_id": {"app"}, "request_uri": {uri}}).Get("code")
	w.wants("code of a pushed proof, no proof", w.post("token", redeemForm(code)), 400, "invalid_dpop_proof", "key_mismatch")

	strict := newWorld(t, func(c *Config, _ *Deps) { c.RequirePAR = true })
	if r := strict.get(strict.url + "/authorize?" + authRequest().Encode()); r.status != 400 || strict.log.last().Reason != "par_required" {
		t.Errorf("not pushed: %d", r.status)
	}
}

// machine is a world with clients that prove who they are.
func machine(t *testing.T) (w *world, key *jose.Signer, platform *jose.Signer) {
	t.Helper()
	key, jwks := newSigner(t)
	platform, platformKeys := newSigner(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, []byte(platformKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	grants := []string{grantClient, grantExchange, grantJWTBearer}
	w = newWorld(t, func(c *Config, _ *Deps) {
		c.Trust = []Trust{{Issuer: "https://cluster.example", Use: []string{UseWorkload}, JWKSFile: file}}
		c.Clients = append(c.Clients,
			ClientConfig{ID: "robot", Grants: grants, JWKS: jwks, Servers: []string{"notes"}, Scopes: []string{"a", "b"}, Groups: []string{"robots"}, Introspect: true},
			ClientConfig{ID: "pod", Grants: grants, Workload: WorkloadConfig{Issuer: "https://cluster.example", Subject: "system:serviceaccount:ns:pod"}},
		)
	})
	return w, key, platform
}

// asserted adds a client assertion to a form.
func asserted(t *testing.T, w *world, s *jose.Signer, client, audience string, form url.Values) url.Values {
	t.Helper()
	raw, err := s.Assert(client, audience, w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	return with(form, "client_assertion", raw, "client_assertion_type", jose.AssertionType)
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	w, key, _ := machine(t)
	form := url.Values{"grant_type": {grantClient}, "resource": {notes}, "scope": {"a"}}
	r := w.post("token", asserted(t, w, key, "robot", w.url, form))
	if r.status != 200 || r.text("refresh_token") != "" || r.text("scope") != "a" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	c := w.claims(r.text("access_token"))
	if c["sub"] != "robot" || c["client_id"] != "robot" || c["aud"] != notes {
		t.Errorf("claims: %v", c)
	}
	used := asserted(t, w, key, "robot", w.url+"/token", form)
	if r := w.post("token", used); r.status != 200 {
		t.Errorf("the token endpoint as audience: %d %s", r.status, r.body)
	}
	stranger, _ := newSigner(t)
	for name, c := range map[string]struct {
		form   url.Values
		status int
		code   string
		reason warder.Reason
	}{
		"assertion used twice":   {used, 401, "invalid_client", "assertion_refused"},
		"another audience":       {asserted(t, w, key, "robot", "https://other.example", form), 401, "invalid_client", "assertion_refused"},
		"key of a stranger":      {asserted(t, w, stranger, "robot", w.url, form), 401, "invalid_client", "assertion_refused"},
		"no assertion":           {with(form, "client_id", "robot"), 401, "invalid_client", "auth_method"},
		"client_id of another":   {with(asserted(t, w, key, "robot", w.url, form), "client_id", "app"), 401, "invalid_client", "client_mismatch"},
		"unknown assertion type": {with(asserted(t, w, key, "robot", w.url, form), "client_assertion_type", "x"), 401, "invalid_client", "assertion_malformed"},
		"no client at all":       {form, 401, "invalid_client", "client_missing"},
		"a public client":        {with(form, "client_id", "app"), 400, "unauthorized_client", "unauthorized_client"},
		"no resource":            {asserted(t, w, key, "robot", w.url, with(form, "resource", "")), 400, "invalid_target", "resource_missing"},
		"server not allowed":     {asserted(t, w, key, "robot", w.url, with(form, "resource", files, "scope", "")), 400, "invalid_target", "server_not_allowed"},
		"scope not allowed":      {asserted(t, w, key, "robot", w.url, with(form, "scope", "a z")), 400, "invalid_scope", "scope_not_allowed"},
		"two methods":            {with(asserted(t, w, key, "robot", w.url, form), "client_secret", "x"), 400, "invalid_request", "invalid_request"},
	} {
		w.wants(name, w.post("token", c.form), c.status, c.code, c.reason)
	}
	if err := w.rev.revoke(t.Context(), Revocation{Kind: "principal", Value: w.url + "|robot"}); err != nil {
		t.Fatal(err)
	}
	w.wants("revoked", w.post("token", asserted(t, w, key, "robot", w.url, form)), 400, "invalid_grant", "revoked")
}

func TestWorkload(t *testing.T) {
	t.Parallel()
	w, _, platform := machine(t)
	now := w.clock.now()
	base := map[string]any{
		"iss": "https://cluster.example", "sub": "system:serviceaccount:ns:pod", "aud": w.url, "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	bearer := func(pairs ...any) url.Values {
		return url.Values{"grant_type": {grantJWTBearer}, "resource": {notes}, "assertion": {sign(t, platform, "JWT", claimsWith(base, pairs...))}}
	}
	if r := w.post("token", bearer()); r.status != 200 || w.claims(r.text("access_token"))["sub"] != "pod" {
		t.Fatalf("jwt-bearer: %d %s", r.status, r.body)
	}
	credentials := url.Values{
		"grant_type": {grantClient}, "resource": {notes}, "client_assertion_type": {jose.AssertionType},
		"client_assertion": {sign(t, platform, "JWT", claimsWith(base))},
	}
	if r := w.post("token", credentials); r.status != 200 {
		t.Fatalf("as client assertion: %d %s", r.status, r.body)
	}
	stranger, _ := newSigner(t)
	forged := with(bearer(), "assertion", sign(t, stranger, "JWT", claimsWith(base)))
	w.wants("forged", w.post("token", forged), 400, "invalid_grant", "assertion_refused")
	w.wants("another audience", w.post("token", bearer("aud", "https://other.example")), 400, "invalid_grant", "workload_audience")
	w.wants("two audiences", w.post("token", bearer("aud", []string{w.url, "https://other.example"})), 400, "invalid_grant", "workload_audience")
	w.wants("another subject", w.post("token", bearer("sub", "system:serviceaccount:ns:other")), 401, "invalid_client", "workload_unknown")
	w.wants("expired", w.post("token", bearer("exp", now.Add(-time.Minute).Unix())), 400, "invalid_grant", "assertion_refused")
	w.wants("too long", w.post("token", bearer("exp", now.Add(3*time.Hour).Unix())), 400, "invalid_grant", "assertion_refused")
	w.wants("a client that has no platform", w.post("token", with(bearer(), "client_id", "app")), 400, "unauthorized_client", "unauthorized_client")
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := url.Parse("spiffe://example.com/agent")
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(names ...string) *x509.Certificate {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agent"}, DNSNames: names, URIs: []*url.URL{id},
			NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_900_000_000, 0),
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	good, bad := leaf("agent.example"), leaf("other.example")
	var mu sync.Mutex
	var shownLeaf *x509.Certificate
	verified := true
	show := func(c *x509.Certificate, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		shownLeaf, verified = c, ok
	}
	w := newWorld(t, func(c *Config, d *Deps) {
		grants := []string{grantClient}
		c.Clients = append(c.Clients,
			ClientConfig{ID: "dns", Grants: grants, TLS: ClientTLS{SANDNS: "agent.example"}},
			ClientConfig{ID: "uri", Grants: grants, TLS: ClientTLS{SANURI: "spiffe://example.com/agent"}},
			ClientConfig{ID: "dn", Grants: grants, TLS: ClientTLS{SubjectDN: "CN=agent"}},
			ClientConfig{ID: "self", Grants: grants, TLS: ClientTLS{Thumbprint: thumb(good)}},
		)
		d.Certificate = func(*http.Request) (*x509.Certificate, bool) {
			mu.Lock()
			defer mu.Unlock()
			return shownLeaf, verified
		}
	})
	form := func(id string) url.Values {
		return url.Values{"grant_type": {grantClient}, "client_id": {id}, "resource": {notes}}
	}
	for _, id := range []string{"dns", "uri", "dn", "self"} {
		show(good, id != "self")
		r := w.post("token", form(id))
		if r.status != 200 {
			t.Fatalf("%s: %d %s", id, r.status, r.body)
		}
		cnf, err := w.claims(r.text("access_token")).Object("cnf")
		if err != nil || cnf["x5t#S256"] != thumb(good) {
			t.Errorf("%s: cnf = %v, %v", id, cnf, err)
		}
	}
	show(nil, false)
	w.wants("no certificate", w.post("token", form("dns")), 401, "invalid_client", "certificate_refused")
	show(bad, true)
	w.wants("certificate of another", w.post("token", form("dns")), 401, "invalid_client", "certificate_refused")
	w.wants("another self-signed", w.post("token", form("self")), 401, "invalid_client", "certificate_refused")
	show(good, false)
	w.wants("not verified", w.post("token", form("dns")), 401, "invalid_client", "certificate_refused")
	show(good, true)
	w.clock.move(5 * 365 * 24 * time.Hour)
	w.wants("expired", w.post("token", form("self")), 401, "invalid_client", "certificate_refused")
}

func thumb(c *x509.Certificate) string {
	return challenge(string(c.Raw))
}

func TestLegacySecret(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3cret:/ with signs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	legacy := func(c *Config, _ *Deps) {
		k := ClientConfig{ID: "old one", Grants: []string{grantClient}}
		k.ID = "old"
		k.Secret.File = file
		c.Clients = append(c.Clients, k)
		c.LegacySecrets = true
	}
	w := newWorld(t, legacy)
	form := url.Values{"grant_type": {grantClient}, "resource": {notes}}
	basic := func(user, pass string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(user)+":"+url.QueryEscape(pass)))
	}
	if r := w.post("token", form, "Authorization", basic("old", "s3cret:/ with signs")); r.status != 200 {
		t.Fatalf("basic: %d %s", r.status, r.body)
	}
	if r := w.post("token", with(form, "client_id", "old", "client_secret", "s3cret:/ with signs")); r.status != 200 {
		t.Fatalf("post: %d %s", r.status, r.body)
	}
	r := w.post("token", form, "Authorization", basic("old", "wrong"))
	w.wants("wrong", r, 401, "invalid_client", "secret_refused")
	if !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("no challenge: %v", r.header)
	}
	w.wants("empty", w.post("token", with(form, "client_id", "old", "client_secret", "")), 401, "invalid_client", "auth_method")
	w.wants("basic for another", w.post("token", with(form, "client_id", "app"), "Authorization", basic("old", "x")), 401, "invalid_client", "auth_malformed")
	w.cfg.LegacySecrets = false
	if err := w.cfg.Validate(); err == nil || !strings.Contains(err.Error(), "legacy_secrets") {
		t.Errorf("a secret without legacy_secrets: %v", err)
	}
}

func TestFailsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code, tokens := w.code(), w.login()
	outage := errors.New("the database is gone")
	w.store.fail(outage)
	w.wants("code", w.post("token", redeemForm(code)), 503, "temporarily_unavailable", "unavailable")
	w.wants("refresh", w.post("token", refreshForm(tokens.text("refresh_token"))), 503, "temporarily_unavailable", "unavailable")
	w.wants("par", w.post("par", authRequest()), 503, "temporarily_unavailable", "unavailable")
	p := prover(t, w.clock.now)
	w.wants("replay memory", w.post("token", redeemForm(code), "DPoP", proof(t, p, "POST", w.url+"/token", "")), 503, "temporarily_unavailable", "unavailable")
	if q := w.authorize(authRequest()); q.Get("error") != "temporarily_unavailable" || q.Has("code") {
		t.Errorf("authorize: %v", q)
	}
	w.store.fail(nil)
	w.log.mu.Lock()
	w.log.broken = errors.New("disk full")
	w.log.mu.Unlock()
	if r := w.post("token", redeemForm(code)); r.status != 503 || strings.Contains(r.body, "access_token") {
		t.Errorf("a token that nobody recorded: %d %s", r.status, r.body)
	}
	if q := w.authorize(authRequest()); q.Has("code") {
		t.Errorf("a code that nobody recorded: %v", q)
	}
	w.log.mu.Lock()
	w.log.broken = nil
	w.log.mu.Unlock()
	if r := w.post("token", refreshForm(tokens.text("refresh_token"))); r.status != 200 {
		t.Errorf("after the outage: %d %s", r.status, r.body)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) { c.Limits = Limits{PerAddress: 60, PerClient: 100, Register: 3} })
	if r := w.post("token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"app"}, "x": {strings.Repeat("x", maxForm)}}); r.status != 413 {
		t.Errorf("huge body: %d", r.status)
	}
	if r := w.post("token?client_id=app", redeemForm("x", "client_id", "")); r.text("error") != "invalid_request" {
		t.Errorf("parameters in the query: %d %s", r.status, r.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/token", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if r := w.do(req); r.text("error") != "invalid_request" {
		t.Errorf("JSON: %d %s", r.status, r.body)
	}
	limited := false
	for range 40 {
		if r := w.post("token", refreshForm("wr_x.y")); r.status == http.StatusTooManyRequests && r.header.Get("Retry-After") != "" {
			limited = true
		}
	}
	if !limited {
		t.Error("forty requests at once were let through")
	}
	w.clock.move(time.Minute)
	if r := w.post("token", refreshForm("wr_x.y")); r.status != 400 {
		t.Errorf("a minute later: %d", r.status)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for peer, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "::ffff:192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64", "unix": "unix",
	} {
		if got := network(peer); got != want {
			t.Errorf("%s is counted for %s, want %s", peer, got, want)
		}
	}
}
