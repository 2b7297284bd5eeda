package attacks

import (
	"crypto/rand"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/issuer"
)

const (
	exchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	tokenType = "urn:ietf:params:oauth:token-type:access_token"
)

// services are clients that authenticate with a key, and a foreign issuer whose assertions are taken.
func services(f *forger) setup {
	ec := jwk(&f.ec.PublicKey)
	ec["kid"] = "ec"
	set := string(f.json(map[string]any{"keys": []any{ec}}))
	return setup{
		Issuer: `  clients:
    - {id: svc, jwks: '` + set + `', grants: [client_credentials, "` + exchange + `", "` + jwtBearer + `"], exchange_from: [web, svc2]}
    - {id: svc2, jwks: '` + set + `', grants: [client_credentials, "` + exchange + `"], exchange_from: [svc, web]}
    - {id: alone, jwks: '` + set + `', grants: ["` + exchange + `"]}
    - {id: web, redirect_uris: ["https://app.example/callback"]}
  max_actors: 2
  trust:
    - {issuer: "https://idp.test", use: [id_jag, exchange], jwks_file: "%FILE:keys.json%", subject_prefix: "idp:", scopes: [read]}
    - {issuer: "https://jag.test", use: [id_jag], jwks_file: "%FILE:keys.json%", subject_prefix: "jag:"}`,
		Identity: foreignIdentity, More: everything, Files: map[string][]byte{"keys.json": f.keySet()},
	}
}

// A service is a client with a key, at the token endpoint.
type service struct {
	w  *world
	f  *forger
	id string
}

// assertion is what the client authenticates with.
func (s *service) assertion(more object) string {
	now := time.Now()
	claims := object{"iss": s.id, "sub": s.id, "aud": s.w.base + "/issuer", "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	return s.f.sign(object{"typ": "JWT", "alg": "ES256", "kid": "ec"}, claims.with(more), s.f.ec)
}

func (s *service) token(p url.Values, assertion string) answer {
	s.w.t.Helper()
	form := url.Values{"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}}
	maps.Copy(form, p)
	return s.w.post("token", form, nil)
}

// exchange asks for a token in place of another.
func (s *service) exchange(subject string, more url.Values) answer {
	s.w.t.Helper()
	p := url.Values{"grant_type": {exchange}, "subject_token": {subject}, "subject_token_type": {tokenType}}
	maps.Copy(p, more)
	return s.token(p, s.assertion(nil))
}

// testDelegation attacks client authentication, token exchange and assertions (RFC 7523, RFC 8693, ID-JAG).
func testDelegation(t *testing.T, n *tally) {
	t.Helper()
	f := newForger(t)
	w := newWorld(t, n, services(f))
	svc := &service{w, f, "svc"}
	w.try(func(*world) answer { return svc.own(nil) }, answer.granted, assertions(w, f, svc))
	read := func() string { return w.mint(issuer.Claims{Client: "web", Scopes: []string{"read"}}) }
	w.try(func(w *world) answer {
		got := svc.exchange(read(), nil)
		if call := w.send(call{token: got.member("access_token")}); !call.passed() {
			return call
		}
		return got
	}, answer.granted, exchanges(w, f, svc, read))
	w.try(func(*world) answer { return svc.jag(nil, nil, "svc") }, answer.granted, enterprise(w, f, svc))
	header, claims := object{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}, f.claims(foreignIssuer, w.resource("a"))
	show := func(more object) func(*world) answer {
		return func(w *world) answer { return w.send(call{token: f.sign(header, claims.with(more), f.ec)}) }
	}
	chain := func(name, reason string, more object) attack {
		return attack{name, show(more), step{"AUT-09", reasonOf(reason)}, reason}
	}
	w.try(show(object{"act": object{"sub": "x", "act": object{"sub": "y"}}, "scope": "read"}), answer.passed, []attack{
		chain("cyclic actors", "chain_cyclic", object{"act": object{"sub": "x", "act": object{"sub": "y", "act": object{"sub": "x"}}}}),
		chain("an actor that is the subject", "chain_cyclic", object{"act": object{"sub": "ada"}}),
		chain("five actors", "chain_too_deep", object{"act": nest(5)}),
		chain("another actor than may_act", "actor_not_allowed", object{"may_act": object{"sub": "z"}, "act": object{"sub": "x"}}),
		chain("scope wider than an actor held", "chain_widens_scope", object{"scope": "read write", "act": object{"sub": "x", "scope": "read"}}),
		{"nine actors", show(object{"act": nest(9)}), iam05("token_malformed"), "token_malformed"},
		{"actor without a name", show(object{"act": object{"role": "x"}}), iam05("actor_malformed"), ""},
		{"act that is a list", show(object{"act": []string{"x"}}), iam05("claim_invalid"), ""},
	})
}

// nest is a chain of n actors.
func nest(n int) object {
	out := object{"sub": strings.Repeat("x", n)}
	if n > 1 {
		out["act"] = nest(n - 1)
	}
	return out
}

// own is a token that the client gets for itself.
func (s *service) own(more object) answer {
	return s.token(url.Values{"grant_type": {"client_credentials"}, "resource": {s.w.resource("a")}}, s.assertion(more))
}

// assertions are client assertions in the wrong hands.
func assertions(w *world, f *forger, svc *service) []attack {
	with := func(name, reason string, more object) attack {
		return attack{name, func(*world) answer { return svc.own(more) }, step{"", reasonOf(reason)}, "invalid_client"}
	}
	raw := func(name, reason string, make func() string) attack {
		return attack{name, func(*world) answer {
			return svc.token(url.Values{"grant_type": {"client_credentials"}, "resource": {w.resource("a")}}, make())
		}, step{"", reasonOf(reason)}, "invalid_client"}
	}
	now := time.Now()
	good := object{"iss": "svc", "sub": "svc", "aud": w.base + "/issuer", "jti": "x", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	head := object{"typ": "JWT", "alg": "ES256", "kid": "ec"}
	return []attack{
		{"assertion used twice", func(*world) answer {
			a := svc.assertion(nil)
			p := url.Values{"grant_type": {"client_credentials"}, "resource": {w.resource("a")}}
			if first := svc.token(p, a); !first.granted() {
				w.t.Errorf("near miss: %s", first)
			}
			return svc.token(p, a)
		}, step{"", "assertion_refused"}, "invalid_client"},
		with("for another server", "assertion_refused", object{"aud": "https://as.example"}),
		with("for the resource", "assertion_refused", object{"aud": w.resource("a")}),
		with("for several", "assertion_refused", object{"aud": []string{w.base + "/issuer", "https://as.example"}}),
		with("about another client", "assertion_refused", object{"sub": "svc2"}),
		with("expired", "assertion_refused", object{"iat": ago(10 * time.Minute), "exp": ago(5 * time.Minute)}),
		with("for an hour", "assertion_refused", object{"exp": ago(-time.Hour)}),
		with("without id", "assertion_refused", object{"jti": nil}),
		with("of nobody", "assertion_malformed", object{"iss": nil}),
		with("of an unknown client", "client_unknown", object{"iss": "evil", "sub": "evil"}),
		raw("signed with another key", "assertion_refused", func() string { return f.sign(head, good, f.mallory) }),
		raw("signed with the client id as HS256", "assertion_malformed", func() string { return f.sign(head.with(object{"alg": "HS256"}), good, []byte("svc")) }),
		raw("unsigned", "assertion_malformed", func() string { return f.sign(head.with(object{"alg": "none"}), good, nil) }),
		{"no authentication", func(w *world) answer {
			return w.post("token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"svc"}, "resource": {w.resource("a")}}, nil)
		}, step{"", "auth_method"}, "invalid_client"},
		{"a secret instead", func(w *world) answer {
			return w.post("token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"svc"}, "client_secret": {""}, "resource": {w.resource("a")}}, nil)
		}, step{"", "auth_method"}, "invalid_client"},
		{"two ways at once", func(*world) answer {
			return svc.token(url.Values{"grant_type": {"client_credentials"}, "client_secret": {"x"}, "resource": {w.resource("a")}}, svc.assertion(nil))
		}, step{"", "invalid_request"}, ""},
		{"client_id of another beside the assertion", func(*world) answer {
			return svc.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {"svc2"}, "resource": {w.resource("a")}}, svc.assertion(nil))
		}, step{"", "client_mismatch"}, ""},
		{"a grant it may not use", func(w *world) answer {
			alone := &service{w, f, "alone"}
			return alone.own(nil)
		}, step{"", "unauthorized_client"}, ""},
		{"introspection by a public client", func(w *world) answer {
			return w.post("introspect", url.Values{"client_id": {"web"}, "token": {w.mint(claimsOf("ada"))}}, nil)
		}, step{"", "client_public"}, ""},
	}
}

// exchanges are token exchanges that would widen.
func exchanges(w *world, f *forger, svc *service, read func() string) []attack {
	with := func(name, reason string, more url.Values) attack {
		return attack{name, func(*world) answer { return svc.exchange(read(), more) }, step{"", reasonOf(reason)}, ""}
	}
	of := func(name, reason string, subject func() string) attack {
		return attack{name, func(*world) answer { return svc.exchange(subject(), nil) }, step{"", reasonOf(reason)}, ""}
	}
	narrow := func() string {
		return w.mint(issuer.Claims{Client: "web", Details: []warder.Detail{{Server: "a", Tools: []string{"echo"}}}})
	}
	header, claims := object{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}, f.claims(foreignIssuer, w.base+"/issuer")
	foreign := func(more object) func() string {
		return func() string { return f.sign(header, claims.with(object{"jti": rand.Text()}).with(more), f.ec) }
	}
	return []attack{
		with("wider scope", "scope_wider", url.Values{"scope": {"read write"}}),
		with("other resource", "resource_mismatch", url.Values{"resource": {w.resource("b")}}),
		with("other audience", "resource_mismatch", url.Values{"audience": {w.resource("b")}}),
		with("two resources", "resource_repeated", url.Values{"resource": {w.resource("a"), w.resource("b")}}),
		with("a refresh token asked for", "invalid_request", url.Values{"requested_token_type": {"urn:ietf:params:oauth:token-type:refresh_token"}}),
		with("an actor token of another", "actor_of_another", url.Values{"actor_token": {w.mint(issuer.Claims{Subject: "bob", Client: "web"})}, "actor_token_type": {tokenType}}),
		with("an actor type without actor", "invalid_request", url.Values{"actor_token_type": {tokenType}}),
		{"wider details", func(*world) answer {
			return svc.exchange(narrow(), url.Values{"authorization_details": {`[{"type":"mcp","server":"a","tools":["echo","pay"]}]`}})
		}, step{"", "details_wider"}, ""},
		{"details of another server", func(*world) answer {
			return svc.exchange(narrow(), url.Values{"authorization_details": {`[{"type":"mcp","server":"b"}]`}})
		}, step{"", "details_of_another"}, ""},
		of("too many actors", "actors_too_many", func() string { return w.mint(issuer.Claims{Client: "web", Actors: []string{"x", "y"}}) }),
		of("a token of a client it may not act for", "exchange_not_allowed", func() string { return w.mint(issuer.Claims{Client: "cli"}) }),
		of("a token that names another actor", "may_act_mismatch", func() string { return w.mint(issuer.Claims{Client: "web", MayAct: "svc2"}) }),
		of("a bound token without its key", "key_mismatch", func() string { return w.mint(issuer.Claims{Client: "web", Binding: strings.Repeat("A", 43)}) }),
		of("a forged token", "token_refused", func() string {
			return f.sign(header, f.claims(w.base+"/issuer", w.resource("a")), f.mallory)
		}),
		of("a token of an unknown issuer", "issuer_unknown", foreign(object{"iss": "https://evil.test"})),
		of("a token of an issuer for other uses", "issuer_unknown", foreign(object{"iss": "https://jag.test"})),
		of("a foreign token for a server", "audience_mismatch", foreign(object{"aud": w.resource("a")})),
		of("a foreign token for two", "audience_mismatch", foreign(object{"aud": []string{w.base + "/issuer", "x"}})),
		of("a foreign token nobody allowed it", "exchange_not_allowed", foreign(nil)),
		of("a foreign token with a forged chain", "token_refused", foreign(object{"act": nest(9)})),
		{"a public client", func(w *world) answer {
			return w.post("token", url.Values{"grant_type": {exchange}, "client_id": {"web"}, "subject_token": {read()}, "subject_token_type": {tokenType}}, nil)
		}, step{"", "unauthorized_client"}, ""},
		{"a revoked token", func(w *world) answer {
			old := w.mint(issuer.Claims{Subject: "gone", Client: "web"})
			w.revoke("principal", w.base+"/issuer|gone")
			return svc.exchange(old, nil)
		}, step{"", "token_revoked"}, ""},
		{"the chain at the server", func(w *world) answer {
			first := svc.exchange(read(), nil)
			second := (&service{w, f, "svc2"}).exchange(first.member("access_token"), nil)
			if !second.granted() {
				w.t.Errorf("near miss: %s", second)
			}
			return svc.exchange(second.member("access_token"), nil)
		}, step{"", "actors_too_many"}, ""},
	}
}

// jag shows an identity assertion of a company.
func (s *service) jag(header, more object, by string) answer {
	now := time.Now()
	claims := object{
		"iss": foreignIssuer, "sub": "ada", "aud": s.w.base + "/issuer", "client_id": "svc", "jti": rand.Text(), "resource": s.w.resource("a"),
		"scope": "read", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	head := object{"typ": "oauth-id-jag+jwt", "alg": "ES256", "kid": "ec"}
	p := url.Values{"grant_type": {jwtBearer}, "assertion": {s.f.sign(head.with(header), claims.with(more), s.f.ec)}}
	as := service{s.w, s.f, by}
	return as.token(p, as.assertion(nil))
}

// enterprise are identity assertions in the wrong hands.
func enterprise(w *world, f *forger, svc *service) []attack {
	with := func(name, reason string, more object) attack {
		return attack{name, func(*world) answer { return svc.jag(nil, more, "svc") }, step{"AUT-07", reasonOf(reason)}, ""}
	}
	id := rand.Text()
	return []attack{
		with("assertion for another server", "jag_audience", object{"aud": "https://as.example"}),
		with("assertion for several", "jag_audience", object{"aud": []string{w.base + "/issuer", "x"}}),
		with("assertion for another client", "jag_client", object{"client_id": "svc2"}),
		with("assertion without id", "jag_id", object{"jti": nil}),
		with("assertion of an unknown issuer", "issuer_unknown", object{"iss": "https://evil.test"}),
		with("assertion that is too old", "assertion_refused", object{"iat": ago(time.Hour), "exp": ago(30 * time.Minute)}),
		with("assertion for an hour", "assertion_refused", object{"exp": ago(-time.Hour)}),
		with("assertion for an unknown resource", "resource_unknown", object{"resource": "https://evil.example"}),
		{"assertion of typ JWT", func(*world) answer { return svc.jag(object{"typ": "JWT"}, nil, "svc") }, step{"", "workload_unknown"}, ""},
		{"assertion with a foreign key", func(*world) answer {
			other := *f
			other.ec = f.mallory
			p := url.Values{"grant_type": {jwtBearer}, "assertion": {other.sign(object{"typ": "oauth-id-jag+jwt", "alg": "ES256", "kid": "ec"},
				f.claims(foreignIssuer, w.base+"/issuer").with(object{"client_id": "svc"}), f.mallory)}}
			return svc.token(p, svc.assertion(nil))
		}, step{"AUT-07", "assertion_refused"}, ""},
		{"assertion used twice", func(*world) answer {
			if first := svc.jag(nil, object{"jti": id}, "svc"); !first.granted() {
				w.t.Errorf("near miss: %s", first)
			}
			return svc.jag(nil, object{"jti": id}, "svc")
		}, step{"AUT-07", "jag_replayed"}, ""},
		{"assertion shown by another client", func(*world) answer { return svc.jag(nil, nil, "svc2") }, step{"", "unauthorized_client"}, ""},
	}
}
