package issuer

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

// chainWorld has a person at an app, and agents that act for them.
type chainWorld struct {
	*world

	keys  map[string]*jose.Signer
	outer *jose.Signer // of a foreign issuer
}

func newChain(t *testing.T) *chainWorld {
	t.Helper()
	c := &chainWorld{keys: map[string]*jose.Signer{}}
	outer, outerKeys := newSigner(t)
	c.outer = outer
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, []byte(outerKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	c.world = newWorld(t, func(cfg *Config, _ *Deps) {
		cfg.MaxActors = 2
		cfg.Trust = []Trust{{Issuer: idp, Use: []string{UseExchange}, JWKSFile: file, Scopes: []string{"a"}}}
		for _, k := range []ClientConfig{
			{ID: "one", ExchangeFrom: []string{"app", idp}},
			{ID: "two", ExchangeFrom: []string{"one"}},
			{ID: "three", ExchangeFrom: []string{"*"}},
			{ID: "four"},
		} {
			signer, jwks := newSigner(t)
			c.keys[k.ID] = signer
			k.JWKS, k.Grants = jwks, []string{grantExchange, grantClient}
			cfg.Clients = append(cfg.Clients, k)
		}
	})
	return c
}

func (c *chainWorld) exchange(t *testing.T, client, subject string, pairs ...string) reply {
	t.Helper()
	header := []string{}
	form := with(url.Values{"grant_type": {grantExchange}, "subject_token": {subject}, "subject_token_type": {typeAccessToken}})
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == "DPoP" {
			header = append(header, "DPoP", pairs[i+1])
			continue
		}
		form = with(form, pairs[i], pairs[i+1])
	}
	return c.post("token", asserted(t, c.world, c.keys[client], client, c.url, form), header...)
}

func TestExchange(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	user := c.login().text("access_token")
	c.clock.move(2 * time.Minute)
	first := c.exchange(t, "one", user, "scope", "a", "authorization_details", `[{"type":"mcp","tools":["read"]}]`)
	if first.status != 200 || first.text("issued_token_type") != typeAccessToken || first.json["expires_in"] != 180.0 {
		t.Fatalf("%d %s", first.status, first.body)
	}
	if e := c.log.last(); e.Reason != "token_exchanged" || e.Principal.Agent != "one" || e.Principal.Subject != "ada" {
		t.Errorf("the trail says %+v", e)
	}
	second := c.exchange(t, "two", first.text("access_token"))
	if second.status != 200 {
		t.Fatalf("%d %s", second.status, second.body)
	}
	got := c.claims(second.text("access_token"))
	want := map[string]any{"sub": "two", "act": map[string]any{"sub": "one"}}
	if diff := cmp.Diff(want, got["act"]); diff != "" {
		t.Errorf("act (-want +got):\n%s", diff)
	}
	if got["sub"] != "ada" || got["client_id"] != "two" || got["scope"] != "a" || got["authorization_details"] == nil || got["sid"] != "s1" {
		t.Errorf("claims: %v", got)
	}
	one, two := first.text("access_token"), second.text("access_token")
	itself := c.post("token", asserted(t, c.world, c.keys["two"], "two", c.url, url.Values{"grant_type": {grantClient}, "resource": {notes}})).text("access_token")
	if r := c.exchange(t, "two", one, "actor_token", itself, "actor_token_type", typeAccessToken); r.status != 200 {
		t.Errorf("its own token as actor token: %d %s", r.status, r.body)
	}
	own := c.exchange(t, "one", one, "resource", notes)
	if own.status != 200 {
		t.Fatalf("narrowing one's own token: %d %s", own.status, own.body)
	}
	if diff := cmp.Diff(any(map[string]any{"sub": "one"}), c.claims(own.text("access_token"))["act"]); diff != "" {
		t.Errorf("act of a narrowed token (-want +got):\n%s", diff)
	}
	for name, k := range map[string]struct {
		r      reply
		code   string
		reason warder.Reason
	}{
		"wider scope":          {c.exchange(t, "two", one, "scope", "a b"), "invalid_scope", "scope_wider"},
		"wider details":        {c.exchange(t, "two", one, "authorization_details", `[{"type":"mcp","tools":["read","write"]}]`), "invalid_authorization_details", "details_wider"},
		"another server":       {c.exchange(t, "two", one, "resource", files), "invalid_target", "resource_mismatch"},
		"another audience":     {c.exchange(t, "two", one, "audience", files), "invalid_target", "resource_mismatch"},
		"chain too long":       {c.exchange(t, "three", two), "invalid_grant", "actors_too_many"},
		"client not allowed":   {c.exchange(t, "two", user), "unauthorized_client", "exchange_not_allowed"},
		"client never allowed": {c.exchange(t, "four", user), "unauthorized_client", "exchange_not_allowed"},
		"actor of another":     {c.exchange(t, "two", one, "actor_token", user, "actor_token_type", typeAccessToken), "invalid_grant", "actor_of_another"},
		"refresh token wanted": {c.exchange(t, "two", one, "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request", "invalid_request"},
		"not a token":          {c.exchange(t, "two", "x"), "invalid_grant", "token_refused"},
		"tampered":             {c.exchange(t, "two", one[:len(one)-4]+"AAAA"), "invalid_grant", "token_refused"},
		"unknown type":         {c.exchange(t, "two", one, "subject_token_type", "x"), "invalid_request", "invalid_request"},
	} {
		if k.r.status != 400 || k.r.text("error") != k.code || !c.log.has(k.reason) {
			t.Errorf("%s: %d %s, want %s (%s)", name, k.r.status, k.r.body, k.code, k.reason)
		}
	}
	form := url.Values{"grant_type": {grantExchange}, "subject_token": {user}, "subject_token_type": {typeAccessToken}, "client_id": {"app"}}
	c.wants("public client", c.post("token", form), 400, "unauthorized_client", "unauthorized_client")
	c.clock.move(4 * time.Minute)
	c.wants("expired", c.exchange(t, "one", user), 400, "invalid_grant", "token_refused")
}

func TestExchangeMayAct(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	raw, err := c.is.Mint(t.Context(), Claims{Subject: "ada", Audience: notes, MayAct: "four"})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.exchange(t, "four", raw); r.status != 200 {
		t.Errorf("the actor that the token names: %d %s", r.status, r.body)
	}
	c.wants("another actor", c.exchange(t, "three", raw), 400, "invalid_grant", "may_act_mismatch")
	s, f := c.is.verify(t.Context(), raw)
	if f != nil {
		t.Fatal(f)
	}
	if err := c.rev.revoke(t.Context(), Revocation{Kind: "token", Value: c.url + "|" + s.principal.TokenID}); err != nil {
		t.Fatal(err)
	}
	c.wants("revoked", c.exchange(t, "four", raw), 400, "invalid_grant", "token_revoked")
}

func TestExchangeKeepsBinding(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	p, thief := prover(t, c.clock.now), prover(t, c.clock.now)
	at := c.url + "/token"
	bound := c.post("token", redeemForm(c.code()), "DPoP", proof(t, p, "POST", at, "")).text("access_token")
	c.wants("washed off", c.exchange(t, "one", bound), 400, "invalid_dpop_proof", "key_mismatch")
	c.wants("another key", c.exchange(t, "one", bound, "DPoP", proof(t, thief, "POST", at, "")), 400, "invalid_dpop_proof", "key_mismatch")
	r := c.exchange(t, "one", bound, "DPoP", proof(t, p, "POST", at, ""))
	if r.status != 200 || r.text("token_type") != "DPoP" {
		t.Errorf("the holder of the key: %d %s", r.status, r.body)
	}
}

func TestExchangeForeign(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	now := c.clock.now()
	base := map[string]any{
		"iss": idp, "sub": "ada", "aud": c.url, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "a b", "client_id": "app",
	}
	token := func(pairs ...any) string { return sign(t, c.outer, "JWT", claimsWith(base, pairs...)) }
	r := c.exchange(t, "one", token(), "resource", notes)
	if r.status != 200 || r.text("scope") != "a" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if got := c.claims(r.text("access_token")); got["sub"] != idp+"|ada" {
		t.Errorf("a foreign ada is not ours: %v", got["sub"])
	}
	c.wants("for another audience", c.exchange(t, "one", token("aud", notes), "resource", notes), 400, "invalid_grant", "audience_mismatch")
	c.wants("no resource", c.exchange(t, "one", token()), 400, "invalid_target", "resource_missing")
	c.wants("not trusted", c.exchange(t, "one", token("iss", "https://evil.example"), "resource", notes), 400, "invalid_grant", "issuer_unknown")
	c.wants("client of the same name", c.exchange(t, "two", token(), "resource", notes), 400, "unauthorized_client", "exchange_not_allowed")
}
