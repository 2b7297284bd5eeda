package attacks

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder/issuer"
)

const foreignIssuer = "https://idp.test"

// foreignIdentity lets a foreign issuer in beside the gateway's own.
const foreignIdentity = `  issuers:
    - {url: "https://idp.test", jwks: {file: "%FILE:keys.json%"}, group_prefix: "idp:"}`

// bait is a server that must never be asked, because only tokens name it.
func bait(t *testing.T) (address string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"keys":[]}`)) // whoever asked may be gone
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// testTokens attacks with tokens that are not what they say, or not for whom they are shown.
func testTokens(t *testing.T, n *tally) {
	t.Helper()
	f := newForger(t)
	w := newWorld(t, n, setup{Identity: foreignIdentity, More: everything, Files: map[string][]byte{"keys.json": f.keySet()}})
	trap, asked := bait(t)
	header := object{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}
	claims := f.claims(foreignIssuer, w.resource("a"))
	good := func(w *world) answer { return w.send(call{token: f.sign(header, claims, f.ec)}) }
	show := func(token string) func(*world) answer {
		return func(w *world) answer { return w.send(call{token: token}) }
	}
	forged := func(name, reason string, head, body object, key any) attack {
		return attack{name, show(f.sign(header.with(head), claims.with(body), key)), iam05(reason), reason}
	}
	hs, rs := f.publicPEM(&f.rsa.PublicKey), object{"alg": "HS256", "kid": "rsa"}
	mallory := jwk(&f.mallory.PublicKey)
	attacks := []attack{
		forged("alg none", "token_malformed", object{"alg": "none"}, nil, nil),
		forged("alg none with a signature", "algorithm_not_allowed", object{"alg": "none"}, nil, f.ec),
		forged("alg NoNe", "algorithm_not_allowed", object{"alg": "NoNe"}, nil, f.ec),
		forged("HS256 with the PEM of the public key", "algorithm_not_allowed", rs, nil, hs),
		forged("HS256 with the modulus", "algorithm_not_allowed", rs, nil, f.rsa.N.Bytes()),
		forged("HS256 with an empty key", "algorithm_not_allowed", rs, nil, []byte{}),
		forged("the EC key as RS256", "algorithm_not_allowed", object{"alg": "RS256"}, nil, f.rsa),
		forged("the RSA key as ES256", "algorithm_not_allowed", object{"kid": "rsa"}, nil, f.ec),
		forged("RS256 said to be PS256", "signature_invalid", object{"alg": "PS256", "kid": "rsa"}, nil, f.rsa),
		forged("alg as an array", "token_malformed", object{"alg": []string{"ES256"}}, nil, f.ec),
		forged("no alg", "algorithm_not_allowed", object{"alg": nil}, nil, f.ec),
		forged("key of nobody", "signature_invalid", nil, nil, f.mallory),
		forged("kid of a path", "key_unknown", object{"kid": "../../../../dev/null"}, nil, []byte{}),
		forged("kid of a file", "key_unknown", object{"kid": "file:///proc/self/environ"}, nil, f.mallory),
		forged("kid with SQL", "key_unknown", object{"kid": "x' UNION SELECT 'key'--"}, nil, f.mallory),
		forged("kid with a command", "key_unknown", object{"kid": "ec|id"}, nil, f.mallory),
		forged("kid with a NUL", "key_unknown", object{"kid": "ec\x00"}, nil, f.mallory),
		forged("kid in another case", "key_unknown", object{"kid": "EC"}, nil, f.ec),
		forged("kid that is a number", "token_malformed", object{"kid": 1}, nil, f.ec),
		forged("no kid where two keys are", "key_unknown", object{"kid": nil}, nil, f.ec),
		forged("jku", "signature_invalid", object{"jku": trap + "/jwks"}, nil, f.mallory),
		forged("x5u", "signature_invalid", object{"x5u": trap + "/x5u"}, nil, f.mallory),
		forged("kid that is an address", "key_unknown", object{"kid": trap + "/jwks"}, nil, f.mallory),
		forged("embedded jwk", "embedded_key", object{"jwk": mallory, "kid": nil}, nil, f.mallory),
		forged("x5c", "token_malformed", object{"x5c": []string{"MIIB"}}, nil, f.mallory),
		forged("crit", "critical_header", object{"crit": []string{"exp"}}, nil, f.ec),
		forged("b64 false", "critical_header", object{"b64": false, "crit": []string{"b64"}}, nil, f.ec),
		forged("zip", "critical_header", object{"zip": "DEF"}, nil, f.ec),
		forged("typ of an ID token", "token_type", object{"typ": "id+jwt"}, nil, f.ec),
		forged("typ of a proof", "token_type", object{"typ": "dpop+jwt"}, nil, f.ec),
		forged("typ of a logout token", "token_type", object{"typ": "logout+jwt"}, nil, f.ec),
		forged("expired", "token_expired", nil, object{"iat": ago(10 * time.Minute), "exp": ago(time.Second)}, f.ec),
		forged("no end", "claim_invalid", nil, object{"exp": nil}, f.ec),
		forged("end that is a text", "claim_invalid", nil, object{"exp": "9999999999"}, f.ec),
		forged("end beyond numbers", "claim_invalid", nil, object{"exp": 1e300}, f.ec),
		forged("not yet valid", "token_not_yet_valid", nil, object{"nbf": ago(-time.Minute)}, f.ec),
		forged("from the future", "token_from_future", nil, object{"iat": ago(-time.Minute)}, f.ec),
		forged("for two days", "token_lifetime", nil, object{"exp": ago(-48 * time.Hour)}, f.ec),
		{"for two hours", show(f.sign(header, claims.with(object{"exp": ago(-2 * time.Hour)}), f.ec)), step{"IAM-03", "token_lifetime"}, "token_lifetime"},
		forged("unknown issuer", "issuer_unknown", nil, object{"iss": "https://evil.test"}, f.ec),
		forged("issuer with a slash", "issuer_unknown", nil, object{"iss": foreignIssuer + "/"}, f.ec),
		forged("issuer in another case", "issuer_unknown", nil, object{"iss": "https://IDP.test"}, f.ec),
		forged("issuer list", "claim_invalid", nil, object{"iss": []string{foreignIssuer}}, f.ec),
		forged("the gateway's issuer with a foreign key", "key_unknown", nil, object{"iss": w.base + "/issuer"}, f.ec),
		forged("no subject", "subject_missing", nil, object{"sub": nil}, f.ec),
		forged("control characters in the subject", "claim_invalid", nil, object{"sub": "ada\x1fhttps://idp.test\x1froot"}, f.ec),
		forged("control characters in a group", "claim_invalid", nil, object{"groups": []string{"x\x1froot"}}, f.ec),
		{"repeated member", show(f.raw(f.json(header), repeated(f.json(claims), `"sub":"root"`), f.ec)), iam05("token_duplicate_member"), ""},
		{"repeated alg", show(f.raw(repeated(f.json(header), `"alg":"none"`), f.json(claims), f.ec)), iam05("token_duplicate_member"), ""},
		{"signature taken off", show(f.raw(f.json(header), f.json(claims), nil)), iam05("token_malformed"), ""},
		{"five parts", show("e30.e30.e30.e30.e30"), iam05("token_malformed"), ""},
		{"huge", show("a." + strings.Repeat("b", 17<<10) + ".c"), iam05("token_too_large"), ""},
	}
	w.try(good, answer.passed, append(attacks, audiences(w, f, header, claims)...))
	if asked.Load() != 0 {
		t.Errorf("%d fetches because a token said so", asked.Load())
	}
	own := func(w *world) answer { return w.send(call{token: w.mint(issuer.Claims{})}) }
	w.try(own, answer.passed, append(smuggled(w), attack{"token of server a at b", func(w *world) answer {
		return w.send(call{server: "b", token: w.mint(issuer.Claims{})})
	}, iam05("audience_mismatch"), ""}))
	if got := w.send(call{server: "b", token: w.mint(issuer.Claims{Audience: w.resource("b")})}); !got.passed() {
		t.Errorf("token of server b at b: %s", got)
	}
}

func iam05(reason string) step { return step{"IAM-05", reasonOf(reason)} }

// ago is a NumericDate.
func ago(d time.Duration) int64 { return time.Now().Add(-d).Unix() }

// repeated adds a member at the end of an object.
func repeated(raw []byte, member string) []byte {
	return []byte(strings.TrimSuffix(string(raw), "}") + "," + member + "}")
}

// audiences are tokens for something that looks like the server.
func audiences(w *world, f *forger, header, claims object) []attack {
	a := w.resource("a")
	var out []attack
	for name, aud := range map[string]any{
		"prefix": w.base + "/mcp", "longer": a + "b", "below": a + "/x", "trailing slash": a + "/", "query": a + "?x", "fragment": a + "#x",
		"upper case": strings.ToUpper(a), "upper scheme": strings.Replace(a, "http", "HTTP", 1), "percent": strings.Replace(a, "mcp", "%6dcp", 1),
		"percent slash": strings.Replace(a, "/mcp/", "/mcp%2F", 1), "dot segment": strings.Replace(a, "/mcp/a", "/mcp/./a", 1),
		"other host": strings.Replace(a, "127.0.0.1", "localhost", 1), "userinfo": strings.Replace(a, "://", "://x@", 1),
		"wildcard": "*", "host alone": w.base, "space": a + " ", "other server": w.resource("b"), "client id": "c",
	} {
		out = append(out, attack{"audience " + name, func(w *world) answer {
			return w.send(call{token: f.sign(header, claims.with(object{"aud": aud}), f.ec)})
		}, iam05("audience_mismatch"), ""})
	}
	for name, of := range map[string]struct {
		aud    any
		reason string
	}{
		"list with others":         {[]string{a, w.resource("b")}, "audience_not_alone"},
		"list with the same":       {[]string{a, a}, "audience_not_alone"},
		"list of others":           {[]string{w.resource("b"), "*"}, "audience_mismatch"},
		"empty list":               {[]string{}, "audience_mismatch"},
		"none":                     {nil, "audience_mismatch"},
		"object":                   {object{"a": a}, "claim_invalid"},
		"number":                   {1, "claim_invalid"},
		"list with a number":       {[]any{a, 1}, "claim_invalid"},
		"words separated by space": {a + " " + w.resource("b"), "audience_mismatch"},
	} {
		out = append(out, attack{"audience " + name, func(w *world) answer {
			return w.send(call{token: f.sign(header, claims.with(object{"aud": of.aud}), f.ec)})
		}, iam05(of.reason), ""})
	}
	return out
}

// smuggled are credentials and identities in places where none belong.
func smuggled(w *world) []attack {
	good := func() string { return w.mint(issuer.Claims{}) }
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	missing := step{"AUT-01", "token_missing"}
	return []attack{
		{"X-Forwarded-User", func(w *world) answer { return w.send(call{header: identityHeaders()}) }, missing, "Bearer"},
		{"Authorization twice", func(w *world) answer {
			return w.send(call{header: http.Header{"Authorization": {"Bearer " + good(), "Bearer " + w.mint(issuer.Claims{Subject: "root"})}}})
		}, step{"AUT-01", "token_ambiguous"}, ""},
		{"two tokens in one header", func(w *world) answer { return w.send(call{token: good() + ", Bearer " + good()}) }, step{"AUT-01", "token_not_bearer"}, ""},
		{"Basic", func(w *world) answer { return w.send(call{token: good(), scheme: "Basic"}) }, step{"AUT-01", "token_not_bearer"}, ""},
		{"in the query", func(w *world) answer { return w.send(call{query: "access_token=" + good()}) }, step{"AUT-01", "token_in_query"}, ""},
		{"in the query beside a header", func(w *world) answer { return w.send(call{token: good(), query: "access_token=x"}) }, step{"AUT-01", "token_in_query"}, ""},
		{"in the query with an encoded name", func(w *world) answer { return w.send(call{token: good(), query: "acc%65ss_token=x"}) }, step{"AUT-01", "token_in_query"}, ""},
		{"in a cookie", func(w *world) answer {
			return w.send(call{header: http.Header{"Cookie": {"access_token=" + good() + "; Authorization=Bearer " + good()}}})
		}, missing, ""},
		{"in X-Authorization", func(w *world) answer {
			return w.send(call{header: http.Header{"X-Authorization": {"Bearer " + good()}}})
		}, missing, ""},
		{"in Proxy-Authorization", func(w *world) answer {
			return w.send(call{header: http.Header{"Proxy-Authorization": {"Bearer " + good()}}})
		}, missing, ""},
		{"in the body of a form", func(w *world) answer { return w.send(call{body: "access_token=" + good(), header: form}) }, missing, ""},
		{"DPoP scheme with a bearer token", func(w *world) answer { return w.send(call{token: good(), scheme: "DPoP"}) }, step{"IAM-06", "token_not_bound"}, ""},
	}
}

// identityHeaders are those by which proxies tell servers who is calling.
func identityHeaders() http.Header {
	h := http.Header{}
	for _, name := range []string{
		"X-Forwarded-User", "X-Remote-User", "X-Auth-Request-User", "X-Forwarded-Email", "X-Goog-Authenticated-User-Email",
		"X-Amzn-Oidc-Identity", "X-Ms-Client-Principal-Name", "X-Warder-Principal", "Remote-User",
	} {
		h.Set(name, "root")
	}
	return h
}
