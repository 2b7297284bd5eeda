package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The examples of RFC 9449.
const (
	// Section 4.1, figure 2.
	rfcTokenProof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ" +
		".2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	// Section 7.1, figure 12.
	rfcResourceProof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9" +
		".2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	rfcToken      = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	rfcThumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" // section 6.1
)

func TestProofOfTheStandard(t *testing.T) {
	t.Parallel()
	p, err := CheckProof(rfcTokenProof, ProofRule{
		Method: "POST", URL: "https://server.example.com/token", Thumbprint: rfcThumbprint, Now: time.Unix(1562262616, 0),
	})
	if err != nil || p.ID != "-BwC3ESc6acc2lTc" || p.Thumbprint != rfcThumbprint {
		t.Errorf("proof at the token endpoint: %+v, %v", p, err)
	}
	sum := TokenSum(rfcToken)
	rule := ProofRule{
		Method: "GET", URL: "https://resource.example.org/protectedresource", TokenSum: &sum,
		Thumbprint: rfcThumbprint, Now: time.Unix(1562262618, 0),
	}
	if p, err = CheckProof(rfcResourceProof, rule); err != nil || p.ID != "e1j3V_bKic8-LAEB" {
		t.Errorf("proof at the resource: %+v, %v", p, err)
	}
}

// A forger makes proofs that a good client would not make.
type forger struct {
	key *ecdsa.PrivateKey
	now time.Time
}

func newForger(tb testing.TB) *forger {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &forger{key: key, now: time.Unix(1_800_000_000, 0)}
}

func (f *forger) jwk() map[string]any {
	b, _ := f.key.PublicKey.Bytes()
	enc := base64.RawURLEncoding
	return map[string]any{"kty": "EC", "crv": "P-256", "x": enc.EncodeToString(b[1:33]), "y": enc.EncodeToString(b[33:])}
}

func (f *forger) header(change map[string]any) map[string]any {
	return with(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": f.jwk()}, change)
}

func (f *forger) claims(change map[string]any) map[string]any {
	sum := TokenSum("token")
	return with(map[string]any{
		"jti": "id-1", "htm": "POST", "htu": "https://gate.example/mcp/files", "iat": f.now.Unix(),
		"ath": base64.RawURLEncoding.EncodeToString(sum[:]),
	}, change)
}

func with(m, change map[string]any) map[string]any {
	for k, v := range change {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

// sign makes a compact token with ES256 over any header and claims, given as JSON text or values.
func (f *forger) sign(tb testing.TB, header, claims any) string {
	tb.Helper()
	part := func(v any) string {
		text, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				tb.Fatal(err)
			}
			text = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	signed := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, f.key, sum[:])
	if err != nil {
		tb.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig[:])
}

func (f *forger) rule() ProofRule {
	sum := TokenSum("token")
	return ProofRule{Method: "POST", URL: "https://gate.example/mcp/files", TokenSum: &sum, Now: f.now}
}

func TestCheckProof(t *testing.T) {
	t.Parallel()
	f, other, known := newForger(t), newForger(t), NewProofKeys()
	claims := func(change map[string]any) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			return f.sign(t, f.header(nil), f.claims(change))
		}
	}
	header := func(change map[string]any) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			return f.sign(t, f.header(change), f.claims(nil))
		}
	}
	jwk := func(change map[string]any) func(*testing.T) string {
		return header(map[string]any{"jwk": with(f.jwk(), change)})
	}
	tests := []struct {
		name  string
		proof func(*testing.T) string
		rule  func(*ProofRule)
		want  error
	}{
		{"good", claims(nil), nil, nil},
		{"type with its prefix in upper case", header(map[string]any{"typ": "application/DPoP+JWT"}), nil, nil},
		{"address written differently", claims(map[string]any{"htu": "HTTPS://Gate.Example:443/mcp/./x/../%66iles?q=1#f"}), nil, nil},
		{"oldest", claims(map[string]any{"iat": f.now.Add(-DefaultWindow).Unix()}), nil, nil},
		{"newest", claims(map[string]any{"iat": f.now.Add(DefaultWindow).Unix()}), nil, nil},
		{"key with uses of the browser's API", jwk(map[string]any{"key_ops": []string{"verify"}, "ext": true, "use": "sig"}), nil, nil},
		{"another method", claims(map[string]any{"htm": "GET"}), nil, ErrProofMethod},
		{"method in lower case", claims(map[string]any{"htm": "post"}), nil, ErrProofMethod},
		{"no method", claims(map[string]any{"htm": nil}), nil, ErrProofMethod},
		{"no method on either side", claims(map[string]any{"htm": nil}), func(r *ProofRule) { r.Method = "" }, ErrProofMethod},
		{"another path", claims(map[string]any{"htu": "https://gate.example/mcp/mail"}), nil, ErrProofURL},
		{"longer path", claims(map[string]any{"htu": "https://gate.example/mcp/files/"}), nil, ErrProofURL},
		{"path in another case", claims(map[string]any{"htu": "https://gate.example/MCP/files"}), nil, ErrProofURL},
		{"another host", claims(map[string]any{"htu": "https://gate.example.evil/mcp/files"}), nil, ErrProofURL},
		{"another port", claims(map[string]any{"htu": "https://gate.example:8443/mcp/files"}), nil, ErrProofURL},
		{"another scheme", claims(map[string]any{"htu": "http://gate.example/mcp/files"}), nil, ErrProofURL},
		{"user in the address", claims(map[string]any{"htu": "https://u@gate.example/mcp/files"}), nil, ErrProofURL},
		{"relative address", claims(map[string]any{"htu": "/mcp/files"}), nil, ErrProofURL},
		{"no address", claims(map[string]any{"htu": nil}), nil, ErrProofURL},
		{"too old", claims(map[string]any{"iat": f.now.Add(-DefaultWindow - time.Second).Unix()}), nil, ErrProofTime},
		{"from the future", claims(map[string]any{"iat": f.now.Add(DefaultWindow + time.Second).Unix()}), nil, ErrProofTime},
		{"no time", claims(map[string]any{"iat": nil}), nil, ErrProofTime},
		{"time as text", claims(map[string]any{"iat": "1800000000"}), nil, ErrProofMalformed},
		{"another token", claims(map[string]any{"ath": rfcThumbprint}), nil, ErrProofToken},
		{"no token", claims(map[string]any{"ath": nil}), nil, ErrProofToken},
		{"no id", claims(map[string]any{"jti": nil}), nil, ErrProofMalformed},
		{"long id", claims(map[string]any{"jti": strings.Repeat("x", 257)}), nil, ErrProofMalformed},
		{"claim twice", func(t *testing.T) string {
			t.Helper()
			return f.sign(t, f.header(nil), `{"jti":"a","jti":"b","htm":"POST","htu":"https://gate.example/mcp/files","iat":1800000000}`)
		}, nil, ErrProofMalformed},
		{"token bound to another key", claims(nil), func(r *ProofRule) { r.Thumbprint = rfcThumbprint }, ErrProofKey},
		{"signed with another key", func(t *testing.T) string {
			t.Helper()
			return other.sign(t, f.header(nil), f.claims(nil))
		}, nil, ErrProofSignature},
		{"claims of another proof", func(t *testing.T) string {
			t.Helper()
			a, b := strings.Split(claims(nil)(t), "."), strings.Split(claims(map[string]any{"jti": "id-2"})(t), ".")
			return a[0] + "." + b[1] + "." + a[2]
		}, nil, ErrProofSignature},
		{"signature of zeros", func(t *testing.T) string {
			t.Helper()
			a := strings.Split(claims(nil)(t), ".")
			return a[0] + "." + a[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
		}, nil, ErrProofSignature},
		{"signature cut", func(t *testing.T) string {
			t.Helper()
			a := strings.Split(claims(nil)(t), ".")
			return a[0] + "." + a[1] + "." + a[2][:80]
		}, nil, ErrProofSignature},
		{"signature in ASN.1", func(t *testing.T) string {
			t.Helper()
			a := strings.Split(claims(nil)(t), ".")
			sum := sha256.Sum256([]byte(a[0] + "." + a[1]))
			der, err := ecdsa.SignASN1(rand.Reader, f.key, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return a[0] + "." + a[1] + "." + base64.RawURLEncoding.EncodeToString(der)
		}, nil, ErrProofSignature},
		{"private key", jwk(map[string]any{"d": rfcThumbprint}), nil, ErrProofKey},
		{"symmetric key", jwk(map[string]any{"kty": "oct", "k": "AA"}), nil, ErrProofKey},
		{"key for encryption", jwk(map[string]any{"use": "enc"}), nil, ErrProofKey},
		{"key for another algorithm", jwk(map[string]any{"alg": "ES384"}), nil, ErrProofKey},
		{"certificate with the key", jwk(map[string]any{"x5c": []string{"AA"}}), nil, ErrProofKey},
		{"no key", header(map[string]any{"jwk": nil}), nil, ErrProofKey},
		{"key as text", header(map[string]any{"jwk": "x"}), nil, ErrProofKey},
		{"key by id", header(map[string]any{"jwk": nil, "kid": "x"}), nil, ErrProofKey},
		{"not on the curve", jwk(map[string]any{"y": f.jwk()["x"]}), nil, ErrProofKey},
		{"coordinates not canonical", jwk(map[string]any{"x": f.jwk()["x"].(string) + "="}), nil, ErrProofKey},
		{"curve of another name", jwk(map[string]any{"crv": "secp256k1"}), nil, ErrProofKey},
		{"jku", header(map[string]any{"jku": "https://evil.example/keys"}), nil, ErrProofMalformed},
		{"x5u", header(map[string]any{"x5u": "https://evil.example/cert"}), nil, ErrProofMalformed},
		{"critical", header(map[string]any{"crit": []string{"b64"}}), nil, ErrProofMalformed},
		{"none", header(map[string]any{"alg": "none"}), nil, ErrProofKey},
		{"HS256", header(map[string]any{"alg": "HS256"}), nil, ErrProofKey},
		{"algorithm in lower case", header(map[string]any{"alg": "es256"}), nil, ErrProofKey},
		{"no algorithm", header(map[string]any{"alg": nil}), nil, ErrProofKey},
		{"algorithm of another key", header(map[string]any{"alg": "EdDSA"}), nil, ErrProofKey},
		{"algorithm not allowed", claims(nil), func(r *ProofRule) { r.Algorithms = []string{"EdDSA"} }, ErrProofKey},
		{"type of an access token", header(map[string]any{"typ": "at+jwt"}), nil, ErrProofMalformed},
		{"no type", header(map[string]any{"typ": nil}), nil, ErrProofMalformed},
		{"oversized", claims(map[string]any{"x": strings.Repeat("x", MaxProof)}), nil, ErrProofMalformed},
		{"two parts", func(*testing.T) string { return "a.b" }, nil, ErrProofMalformed},
		{"four parts", func(t *testing.T) string {
			t.Helper()
			return claims(nil)(t) + ".x"
		}, nil, ErrProofMalformed},
		{"empty", func(*testing.T) string { return "" }, nil, ErrProofMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rule := f.rule()
			if tt.rule != nil {
				tt.rule(&rule)
			}
			rule.Keys = known
			for range 2 { // the second time, the key is known
				if _, err := CheckProof(tt.proof(t), rule); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
					t.Errorf("error = %v, want %v", err, tt.want)
				}
			}
		})
	}
	if _, err := CheckProof(claims(nil)(t), ProofRule{}); err == nil {
		t.Error("the zero rule accepts a proof")
	}
}

func TestProofAlgorithms(t *testing.T) {
	t.Parallel()
	f := newForger(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[string]any{"ES256": f.key, "EdDSA": ed, "ES384": p384, "PS256": rsaKey, "RS256": rsaKey} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key},
				(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
			if err != nil {
				t.Fatal(err)
			}
			payload, err := json.Marshal(f.claims(nil))
			if err != nil {
				t.Fatal(err)
			}
			jws, err := signer.Sign(payload)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := jws.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			p, err := CheckProof(raw, f.rule())
			if err != nil {
				t.Fatal(err)
			}
			if p.Thumbprint == "" {
				t.Error("no thumbprint")
			}
			head, rest, _ := strings.Cut(raw, ".")
			body, sig, _ := strings.Cut(rest, ".")
			other, err := json.Marshal(f.claims(map[string]any{"jti": "id-2"}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := CheckProof(head+"."+base64.RawURLEncoding.EncodeToString(other)+"."+sig, f.rule()); !errors.Is(err, ErrProofSignature) {
				t.Errorf("changed claims %s: %v, want %v", body[:8], err, ErrProofSignature)
			}
		})
	}
}

// TestThumbprint has the key of RFC 7638 section 3.1.
func TestThumbprint(t *testing.T) {
	t.Parallel()
	doc := `{"keys":[{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}`
	set, err := ParseKeySet([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	key, _ := set.Key("2011-04-29")
	got, err := key.Thumbprint()
	if want := "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; got != want || err != nil {
		t.Errorf("thumbprint = %q, %v, want %q", got, err, want)
	}
}

func TestProver(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return now }
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	p, err := OpenProver(root, "key.pem", clock)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenProver(root, "key.pem", clock)
	if err != nil || again.Thumbprint() != p.Thumbprint() {
		t.Fatalf("opened again: %v, %v", again, err)
	}
	nonces, err := NewNonces(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	sum, content := TokenSum("token"), sha256.Sum256([]byte("{}"))
	rule := ProofRule{
		Method: "POST", URL: "https://gate.example/mcp/files", TokenSum: &sum, Thumbprint: p.Thumbprint(), Now: now,
		Nonces: nonces, Content: &content,
	}
	raw, err := p.ProofOf("POST", "https://GATE.example/mcp/files?x=1#y", "token", nonces.Make(now), content)
	if err != nil {
		t.Fatal(err)
	}
	first, err := CheckProof(raw, rule)
	if err != nil {
		t.Fatal(err)
	}
	if got := ProofContent(raw); got != ContentDigest(content) {
		t.Errorf("content = %q", got)
	}
	raw, err = p.ProofOf("POST", "https://gate.example/mcp/files", "token", nonces.Make(now), content)
	if err != nil {
		t.Fatal(err)
	}
	second, err := CheckProof(raw, rule)
	if err != nil || second.ID == first.ID {
		t.Errorf("second proof: %+v, %v: want an id of its own", second, err)
	}
	raw, err = p.Proof("POST", "https://gate.example/mcp/files", "token", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckProof(raw, rule); !errors.Is(err, ErrProofContent) {
		t.Errorf("without digest: %v", err)
	}
	rule.Content = nil
	if _, err := CheckProof(raw, rule); !errors.Is(err, ErrProofNonce) {
		t.Errorf("without nonce: %v", err)
	}
	if _, err := p.Proof("POST", "gate.example", "token", ""); err == nil {
		t.Error("a proof for no address was made")
	}
}

func TestNonces(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_030, 0)
	old, fresh := []byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 32))
	before, err1 := NewNonces(old)
	rotated, err2 := NewNonces(fresh, old)
	after, err3 := NewNonces(fresh)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	n := before.Make(now)
	for _, tt := range []struct {
		name  string
		by    *Nonces
		nonce string
		at    time.Time
		ok    bool
	}{
		{"now", before, n, now, true},
		{"another replica with the next key", rotated, n, now, true},
		{"three minutes later", before, n, now.Add(3 * time.Minute), true},
		{"a replica whose clock is behind", before, n, now.Add(-time.Minute), true},
		{"four minutes later", before, n, now.Add(4 * time.Minute), false},
		{"from the future", before, n, now.Add(-2 * time.Minute), false},
		{"key is gone", after, n, now, false},
		{"empty", before, "", now, false},
		{"changed", before, "B" + n[1:], now, false},
		{"longer", before, n + "A", now, false},
		{"another alphabet", before, strings.Repeat("+", len(n)), now, false},
	} {
		if err := tt.by.Check(tt.nonce, tt.at); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrProofNonce) {
			t.Errorf("%s: %v, want ok = %v", tt.name, err, tt.ok)
		}
	}
	for _, tt := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"in its minute", now.Add(29 * time.Second), ""},
		{"in the next minute", now.Add(30 * time.Second), rotated.Make(now.Add(time.Minute))},
		{"a replica whose clock is behind", now.Add(-time.Minute), ""},
	} {
		if got := rotated.Renew(n, tt.at); got != tt.want {
			t.Errorf("renewed %s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := before.Renew("", now); got != n {
		t.Errorf("renewed without one: %q, want %q", got, n)
	}
	if rotated.Make(now) == n || after.Make(now) != rotated.Make(now) {
		t.Error("the first key does not make the nonces")
	}
	if _, err := NewNonces(); err == nil {
		t.Error("no key was accepted")
	}
	if _, err := NewNonces([]byte("short")); err == nil {
		t.Error("a short key was accepted")
	}
}

func TestNormalizeURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://a.example":               "https://a.example/",
		"HTTPS://A.Example:443/b?c#d":     "https://a.example/b",
		"http://a.example:80/":            "http://a.example/",
		"http://a.example:443/":           "http://a.example:443/",
		"https://[2001:DB8::1]:443/x":     "https://[2001:db8::1]/x",
		"https://a.example/%7Eb/%2f%c3":   "https://a.example/~b/%2F%C3",
		"https://a.example/a/./b/../c":    "https://a.example/a/c",
		"https://a.example/a/..":          "https://a.example/",
		"https://a.example/../a":          "https://a.example/a",
		"https://a.example/a/.":           "https://a.example/a/",
		"https://a.example/%2e%2e/a":      "https://a.example/a",
		"https://a.example/a/b/../../../": "https://a.example/",
		"https://a.example/.well-known/x": "https://a.example/.well-known/x",
		"https://a.example//b":            "https://a.example//b",
		"https://a.example/a%20b":         "https://a.example/a%20b",
	} {
		got, err := NormalizeURL(in)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
			continue
		}
		if again, err := NormalizeURL(got); err != nil || again != got {
			t.Errorf("%s: not stable: %q, %v", got, again, err)
		}
	}
	for _, in := range []string{"", "a.example", "/a", "ftp://a.example/", "https:///a", "https:a", "https://u:p@a.example/", "https://a.example/%zz", "javascript:alert(1)"} {
		if got, err := NormalizeURL(in); err == nil {
			t.Errorf("%q: %q, want an error", in, got)
		}
	}
}

// FuzzCheckProof: nothing but a proof that its key signed is accepted.
func FuzzCheckProof(f *testing.F) {
	forge := newForger(f)
	good := forge.sign(f, forge.header(nil), forge.claims(nil))
	f.Add(good)
	f.Add(rfcResourceProof)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := CheckProof(raw, forge.rule())
		if err == nil && raw != good {
			// Another key may well sign a proof; it must then be the key whose thumbprint is reported.
			jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.ES384, jose.ES512, jose.PS256, jose.RS256})
			if err != nil {
				t.Fatalf("accepted %q: %v", raw, err)
			}
			sum, err := jws.Signatures[0].Protected.JSONWebKey.Thumbprint(crypto.SHA256)
			if err != nil || base64.RawURLEncoding.EncodeToString(sum) != p.Thumbprint {
				t.Fatalf("accepted %q: thumbprint %q, %v", raw, p.Thumbprint, err)
			}
			if _, err := jws.Verify(jws.Signatures[0].Protected.JSONWebKey); err != nil {
				t.Fatalf("accepted %q: %v", raw, err)
			}
		}
	})
}

// FuzzNormalizeURL: a normal form stays as it is.
func FuzzNormalizeURL(f *testing.F) {
	f.Add("https://A.example:443/a/../b%7e?x")
	f.Add("http://127.0.0.1:80/%2e/")
	f.Fuzz(func(t *testing.T, s string) {
		once, err := NormalizeURL(s)
		if err != nil {
			return
		}
		twice, err := NormalizeURL(once)
		if err != nil || twice != once {
			t.Fatalf("%q: %q, then %q, %v", s, once, twice, err)
		}
	})
}

func BenchmarkCheckProof(b *testing.B) {
	f := newForger(b)
	raw, rule := f.sign(b, f.header(nil), f.claims(nil)), f.rule()
	b.Run("proof", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := CheckProof(raw, rule); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("proof of a known key", func(b *testing.B) {
		rule.Keys = NewProofKeys()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := CheckProof(raw, rule); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("signature", func(b *testing.B) {
		sum := sha256.Sum256([]byte(raw))
		r, s, err := ecdsa.Sign(rand.Reader, f.key, sum[:])
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if !ecdsa.Verify(&f.key.PublicKey, sum[:], r, s) {
				b.Fatal("does not verify")
			}
		}
	})
	b.Run("make", func(b *testing.B) {
		p, err := NewProver(nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Proof("POST", "https://gate.example/mcp/files", "token", ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}
