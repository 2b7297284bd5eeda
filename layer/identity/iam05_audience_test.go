package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/wardertest/issuer"
)

func TestIAM05(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*Config, *Deps)
		token  func(*bench) string
		prep   func(*warder.Exchange)
		want   outcome
	}{
		{name: "pass token for this server", token: good, want: passed()},
		{name: "pass token of a second issuer", token: with(nil), want: passed()},
		{
			name:  "pass token for a group",
			token: with(map[string]any{"aud": groupURI}),
			prep:  func(x *warder.Exchange) { at(x, "office") },
			want:  passed(),
		},
		{name: "pass audience array with this server alone", token: with(map[string]any{"aud": []string{filesURI}}), want: passed()},
		{
			name:   "pass further audiences where configured",
			change: func(c *Config, _ *Deps) { c.Issuers[1].Audience.AllowOthers = true },
			token:  with(map[string]any{"aud": []string{"x", filesURI}}), want: passed(),
		},
		{
			name:   "pass audience map of an issuer without resource indicators",
			change: func(c *Config, _ *Deps) { c.Issuers[1].Audience.Servers = map[string]string{"files": "api://files"} },
			token:  with(map[string]any{"aud": "api://files"}), want: passed(),
		},
		{
			name:   "near_miss audience map has no entry for this endpoint",
			change: func(c *Config, _ *Deps) { c.Issuers[1].Audience.Servers = map[string]string{"mail": "api://mail"} },
			token:  with(map[string]any{"aud": []string{"", filesURI}}), want: invalid("audience_mismatch"),
		},
		{name: "deny token for another server", token: with(map[string]any{"aud": mailURI}), want: invalid("audience_mismatch")},
		{name: "deny token for a group the server is in", token: with(map[string]any{"aud": groupURI}), want: invalid("audience_mismatch")},
		{name: "deny audience missing", token: with(map[string]any{"aud": nil}), want: invalid("audience_mismatch")},
		{name: "near_miss trailing slash", token: with(map[string]any{"aud": filesURI + "/"}), want: invalid("audience_mismatch")},
		{name: "near_miss prefix", token: with(map[string]any{"aud": base}), want: invalid("audience_mismatch")},
		{name: "near_miss longer", token: with(map[string]any{"aud": filesURI + "x"}), want: invalid("audience_mismatch")},
		{name: "near_miss case", token: with(map[string]any{"aud": "https://GATE.example/mcp/files"}), want: invalid("audience_mismatch")},
		{name: "near_miss list in a string", token: with(map[string]any{"aud": mailURI + " " + filesURI}), want: invalid("audience_mismatch")},
		{name: "near_miss list with others", token: with(map[string]any{"aud": []string{filesURI, mailURI}}), want: invalid("audience_not_alone")},
		{name: "near_miss same audience twice", token: with(map[string]any{"aud": []string{filesURI, filesURI}}), want: invalid("audience_not_alone")},
		{name: "near_miss nested list", token: with(map[string]any{"aud": []any{[]any{filesURI}}}), want: invalid("claim_invalid")},
		{name: "near_miss object", token: with(map[string]any{"aud": map[string]any{filesURI: 1}}), want: invalid("claim_invalid")},
		{name: "deny unknown issuer", token: with(map[string]any{"iss": "https://evil.example"}), want: invalid("issuer_unknown")},
		{name: "near_miss issuer with trailing slash", token: with(map[string]any{"iss": otherIDP + "/"}), want: invalid("issuer_unknown")},
		{name: "deny key of another issuer", token: with(map[string]any{"iss": issuerURL}), want: invalid("key_unknown")},
		{name: "deny expired", token: with(map[string]any{"exp": 1000}), want: invalid("token_expired")},
		{name: "near_miss expires this second", token: func(b *bench) string {
			return b.sign("at+jwt", b.claims(map[string]any{"iat": b.clock.now().Unix() - 5, "exp": b.clock.now().Unix()}))
		}, want: invalid("token_expired")},
		{name: "deny without expiry", token: with(map[string]any{"exp": nil}), want: invalid("claim_invalid")},
		{name: "deny not yet valid", token: func(b *bench) string {
			return b.sign("JWT", b.claims(map[string]any{"nbf": b.clock.now().Unix() + 1}))
		}, want: invalid("token_not_yet_valid")},
		{name: "deny issued in the future", token: func(b *bench) string {
			return b.sign("JWT", b.claims(map[string]any{"iat": b.clock.now().Unix() + 1}))
		}, want: invalid("token_from_future")},
		{name: "deny too long a life", token: func(b *bench) string {
			return b.sign("JWT", b.claims(map[string]any{"exp": b.clock.now().Unix() + 25*3600}))
		}, want: invalid("token_lifetime")},
		{name: "deny id token type", token: func(b *bench) string { return b.sign("id+jwt", b.claims(nil)) }, want: invalid("token_type")},
		{name: "deny a binding that is not known", token: with(map[string]any{"cnf": map[string]any{"kid": "x"}}), want: invalid("confirmation_unknown")},
		{name: "deny a binding beside another", token: with(map[string]any{"cnf": map[string]any{"jkt": thumb, "kid": "x"}}), want: invalid("confirmation_unknown")},
		{name: "near_miss an empty binding", token: with(map[string]any{"cnf": map[string]any{}}), want: invalid("confirmation_unknown")},
		{name: "near_miss a binding that is null", token: func(b *bench) string {
			c := b.claims(nil)
			c["cnf"] = nil
			return b.sign("at+jwt", c)
		}, want: invalid("confirmation_unknown")},
		{name: "near_miss a short thumbprint", token: with(map[string]any{"cnf": map[string]any{"jkt": thumb[1:]}}), want: invalid("confirmation_unknown")},
		{name: "deny control character in subject", token: with(map[string]any{"sub": "ada\x1fc"}), want: invalid("claim_invalid")},
		{name: "deny control character in a group", token: with(map[string]any{"groups": []string{"a", "b\n"}}), want: invalid("claim_invalid")},
		{name: "deny without subject", token: with(map[string]any{"sub": nil}), want: invalid("subject_missing")},
		{name: "deny subject of another type", token: with(map[string]any{"sub": 7}), want: invalid("claim_invalid")},
		{name: "deny signature of another token", token: func(b *bench) string {
			a, c := strings.Split(with(nil)(b), "."), strings.Split(with(map[string]any{"sub": "eve"})(b), ".")
			return c[0] + "." + c[1] + "." + a[2]
		}, want: invalid("signature_invalid")},
		{name: "deny none", token: forged(`{"alg":"none","typ":"JWT"}`), want: invalid("algorithm_not_allowed")},
		{name: "deny symmetric", token: forged(`{"alg":"HS256","typ":"JWT"}`), want: invalid("algorithm_not_allowed")},
		{name: "deny critical header", token: forged(`{"alg":"ES256","crit":["exp"],"typ":"JWT"}`), want: invalid("critical_header")},
		{name: "deny embedded key", token: forged(`{"alg":"ES256","jwk":{"kty":"EC"},"typ":"JWT"}`), want: invalid("embedded_key")},
		{name: "deny repeated header", token: forged(`{"alg":"ES256","alg":"none","typ":"JWT"}`), want: invalid("token_duplicate_member")},
		{name: "deny not a token", token: func(*bench) string { return "abc" }, want: invalid("token_malformed")},
		{
			name:   "dependency_killed keys unavailable",
			change: func(_ *Config, d *Deps) { d.Keys[otherIDP] = deadKeys{} }, token: with(nil),
			want: outcome{Control: "IAM-05", Code: warder.CodeUnavailable, Reason: "issuer_unavailable"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.change)
			x := exchange("Bearer " + tt.token(b))
			if tt.prep != nil {
				tt.prep(x)
			}
			d := b.connect(x)
			if diff := cmp.Diff(tt.want, outcomeOf(d)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s\ndetail: %s", diff, d.Detail)
			}
			if (x.Principal != nil) != (tt.want == passed()) {
				t.Errorf("principal = %+v after %v", x.Principal, d.Verdict)
			}
			if strings.Contains(d.Detail, "eyJ") {
				t.Errorf("detail %q repeats the token", d.Detail)
			}
		})
	}
}

func good(b *bench) string { return b.mint(issuer.Claims{Audience: filesURI}) }

// thumb has the form of a thumbprint.
const thumb = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"

func with(change map[string]any) func(*bench) string {
	return func(b *bench) string { return b.sign("at+jwt", b.claims(change)) }
}

// forged replaces the header of a good token.
func forged(header string) func(*bench) string {
	return func(b *bench) string {
		_, rest, _ := strings.Cut(with(nil)(b), ".")
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + rest
	}
}

type deadKeys struct{}

func (deadKeys) Key(context.Context, string) (jose.Key, error) {
	return jose.Key{}, errors.Join(jose.ErrKeysUnavail, errors.New("connection refused"))
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config, _ *Deps) { c.Issuers[1].Claims.Tenant = "tid" })
	now := b.clock.now()
	token := b.sign("at+jwt", b.claims(map[string]any{
		"azp": "app", "tid": "t1", "scope": "a  b", "groups": []string{"dev"}, "acr": "aal2", "amr": []string{"pwd", "otp"},
		"auth_time": now.Unix() - 60,
		"act":       map[string]any{"sub": "agent-1", "act": map[string]any{"sub": "agent-0"}},
	}))
	x := exchange("bearer " + token) // the scheme compares without case
	if d := b.connect(x); d.Verdict != warder.Pass {
		t.Fatal(d)
	}
	want := &warder.Principal{
		Issuer: otherIDP, Subject: "bob", Tenant: "t1", Client: "app", Agent: "agent-1",
		Actors: []string{"agent-1", "agent-0"}, Chain: []warder.Actor{{Subject: "agent-1"}, {Subject: "agent-0"}}, Scopes: []string{"a", "b"}, Groups: []string{"other/dev"},
		ACR: "aal2", AMR: []string{"pwd", "otp"}, AuthTime: now.Add(-time.Minute), TokenID: "t-1",
		IssuedAt: now, NotAfter: now.Add(10 * time.Minute), Transport: "bearer",
	}
	if diff := cmp.Diff(want, x.Principal); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}
}

func TestTokenCache(t *testing.T) {
	t.Parallel()
	t.Run("a remembered token is good for its resource only", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		token := "Bearer " + good(b)
		if d := b.connect(exchange(token)); d.Verdict != warder.Pass {
			t.Fatal(d)
		}
		if d := b.connect(at(exchange(token), "mail")); d.Reason != "audience_mismatch" {
			t.Errorf("at another server: %+v, want audience_mismatch", d)
		}
	})
	t.Run("it ends with the token", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		token := "Bearer " + b.mint(issuer.Claims{Audience: filesURI, TTL: 10 * time.Second})
		b.connect(exchange(token))
		b.clock.advance(10 * time.Second)
		if d := b.connect(exchange(token)); d.Reason != "token_expired" {
			t.Errorf("after the end: %+v, want token_expired", d)
		}
	})
	t.Run("it is verified again after a minute and after a revocation", func(t *testing.T) {
		t.Parallel()
		keys := &countingKeys{}
		b := newBench(t, nil)
		keys.inner = static(t, keysOfSigner(b.signer))
		var err error
		if b.layer, err = New(Config{BaseURL: base, Issuers: []Issuer{{URL: otherIDP}}}, Deps{
			Resource: resource, Keys: map[string]Keys{otherIDP: keys}, Now: b.clock.now,
			Generation: func() uint64 { return b.gen },
		}); err != nil {
			t.Fatal(err)
		}
		token := "Bearer " + with(nil)(b)
		var got []int
		step := func() {
			if d := b.connect(exchange(token)); d.Verdict != warder.Pass {
				t.Fatal(d)
			}
			got = append(got, keys.asked)
		}
		step()
		step()
		b.clock.advance(59 * time.Second)
		step()
		b.clock.advance(time.Second)
		step()
		b.gen++
		step()
		if diff := cmp.Diff([]int{1, 1, 1, 2, 3}, got); diff != "" {
			t.Errorf("verifications (-want +got):\n%s", diff)
		}
	})
	t.Run("it is bounded", func(t *testing.T) {
		t.Parallel()
		c := newCache(1024)
		now := time.Now()
		for i := range 10_000 {
			k := cacheKey{resource: filesURI}
			k.sum[0], k.sum[1], k.sum[2] = byte(i), byte(i>>8), byte(i>>16)
			c.put(k, cached{principal: &warder.Principal{}, until: now.Add(time.Minute)}, now)
		}
		n := 0
		for i := range c.shards {
			n += len(c.shards[i].entries)
		}
		if n < 1024 || n > 2048 {
			t.Errorf("cache holds %d entries, want at least 1024 and at most 2048", n)
		}
	})
}

// TestCacheHoldsItsSize: as many tokens as it is for stay, though they fall unevenly into its shards.
func TestCacheHoldsItsSize(t *testing.T) {
	t.Parallel()
	c, now := newCache(defaultCache), time.Now()
	keys := make([]cacheKey, defaultCache)
	for i := range keys {
		keys[i] = cacheKey{sum: jose.TokenSum(strconv.Itoa(i)), resource: filesURI}
		c.put(keys[i], cached{principal: &warder.Principal{}, until: now.Add(time.Minute)}, now)
	}
	lost := 0
	for i := range keys {
		if c.get(&keys[i], now, 0) == nil {
			lost++
		}
	}
	if lost > defaultCache/1000 {
		t.Errorf("%d of %d tokens were forgotten", lost, len(keys))
	}
}

type countingKeys struct {
	inner Keys
	asked int
}

func (k *countingKeys) Key(ctx context.Context, id string) (jose.Key, error) {
	k.asked++
	return k.inner.Key(ctx, id)
}

func BenchmarkConnect(b *testing.B) {
	bench := newBench(b, nil)
	token := "Bearer " + bench.mint(issuer.Claims{Audience: filesURI, Groups: []string{"dev", "ops"}, Scopes: []string{"a", "b"}})
	b.Run("cached", func(b *testing.B) {
		x := exchange(token)
		b.ReportAllocs()
		for b.Loop() {
			x.Principal = nil
			for _, ic := range bench.layer.Connect {
				if d, err := ic.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
					b.Fatal(d, err)
				}
			}
		}
	})
	b.Run("verified", func(b *testing.B) {
		x := exchange(token)
		b.ReportAllocs()
		for b.Loop() {
			bench.gen++
			if d := bench.connect(x); d.Verdict != warder.Pass {
				b.Fatal(d)
			}
		}
	})
}
