package attacks

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/issuer"
)

// A holder has a key and a token that is bound to it.
type holder struct {
	w     *world
	key   *jose.Signer
	token string
	nonce string
}

func newHolder(w *world, subject, server string) *holder {
	w.t.Helper()
	key, err := jose.NewSigner()
	if err != nil {
		w.t.Fatal(err)
	}
	return &holder{w: w, key: key, token: w.mint(issuer.Claims{Subject: subject, Audience: w.resource(server), Binding: key.KeyID()})}
}

// proof makes a proof; age is how long ago.
func (h *holder) proof(method, address, token string, age time.Duration) string {
	h.w.t.Helper()
	p, err := jose.ProverOf(h.key, func() time.Time { return time.Now().Add(-age) }).Proof(method, address, token, h.nonce)
	if err != nil {
		h.w.t.Fatal(err)
	}
	return p
}

// fresh is the proof of an honest call at server a.
func (h *holder) fresh() string { return h.proof(http.MethodPost, h.w.resource("a"), h.token, 0) }

// send shows a token with proofs.
func (h *holder) send(token string, proofs ...string) answer {
	h.w.t.Helper()
	return h.w.send(call{token: token, scheme: "DPoP", header: http.Header{"Dpop": proofs}})
}

// testProofs attacks with stolen tokens and proofs (RFC 9449).
func testProofs(t *testing.T, n *tally) {
	t.Helper()
	w := newWorld(t, n, setup{More: everything, Identity: "  dpop: {nonce: true}\n"})
	h, eve := newHolder(w, "ada", "a"), newHolder(w, "eve", "a")
	first := h.send(h.token, h.fresh())
	h.nonce = first.header.Get("Dpop-Nonce")
	eve.nonce = h.nonce
	if first.passed() || h.nonce == "" {
		t.Fatalf("no nonce asked for: %s", first)
	}
	f := newForger(t)
	good := func(*world) answer { return h.send(h.token, h.fresh()) }
	step := func(reason string) step { return step{"IAM-06", reasonOf(reason)} }
	a, post := w.resource("a"), http.MethodPost
	one := func(name, reason string, proofs func() []string) attack {
		return attack{name, func(*world) answer { return h.send(h.token, proofs()...) }, step(reason), reason}
	}
	re := func(name, reason, method, address, token string, age time.Duration) attack {
		return one(name, reason, func() []string { return []string{h.proof(method, address, token, age)} })
	}
	used := h.fresh()
	if got := h.send(h.token, used); !got.passed() {
		t.Fatalf("proof to be replayed: %s", got)
	}
	stale := *h
	stale.nonce = "bm9uZSBvZiB5b3Vycw"
	bare := *h
	bare.nonce = ""
	head, body := proofParts(f, h)
	forged := func(name, reason string, more, claims object, key any) attack {
		return one(name, reason, func() []string { return []string{f.sign(head.with(more), body(claims), key)} })
	}
	w.try(good, answer.passed, []attack{
		{"stolen token as a bearer token", func(w *world) answer { return w.send(call{token: h.token}) }, step("proof_required"), ""},
		one("stolen token without proof", "proof_missing", func() []string { return nil }),
		one("stolen token with the thief's key", "proof_key", func() []string { return []string{eve.proof(post, a, h.token, 0)} }),
		one("replayed proof", "proof_replayed", func() []string { return []string{used} }),
		{"replayed proof with another token", func(*world) answer { return eve.send(eve.token, used) }, step("proof_key"), ""},
		re("proof for GET", "proof_method", http.MethodGet, a, h.token, 0),
		re("proof for post", "proof_method", "post", a, h.token, 0),
		re("proof for server b", "proof_url", post, w.resource("b"), h.token, 0),
		re("proof for another host", "proof_url", post, strings.Replace(a, "127.0.0.1", "evil.test", 1), h.token, 0),
		re("proof for https", "proof_url", post, strings.Replace(a, "http", "https", 1), h.token, 0),
		re("proof for a path below", "proof_url", post, a+"/", h.token, 0),
		re("proof for another token", "proof_token", post, a, eve.token, 0),
		re("proof without token hash", "proof_token", post, a, "", 0),
		re("proof of yesterday", "proof_time", post, a, h.token, 24*time.Hour),
		re("proof of six minutes ago", "proof_time", post, a, h.token, 6*time.Minute),
		re("proof made in advance", "proof_time", post, a, h.token, -time.Hour),
		one("nonce of another server", "proof_nonce", func() []string { return []string{stale.fresh()} }),
		one("no nonce", "proof_nonce", func() []string { return []string{bare.fresh()} }),
		one("two proofs", "proof_ambiguous", func() []string { return []string{h.fresh(), h.fresh()} }),
		one("two proofs in one header", "proof_malformed", func() []string { return []string{h.fresh() + ", " + h.fresh()} }),
		one("unsigned proof", "proof_malformed", func() []string { p := h.fresh(); return []string{p[:strings.LastIndex(p, ".")+1]} }),
		one("proof with a changed claim", "proof_signature", func() []string {
			return []string{retargeted(h.proof(post, w.resource("b"), h.token, 0), "/mcp/b", "/mcp/a")}
		}),
		forged("proof with the private key in it", "proof_key", object{"jwk": jwk(&f.mallory.PublicKey)}.with(nil), object{"d": 1}, f.mallory),
		forged("proof signed with none", "proof_key", object{"alg": "none"}, nil, f.ec),
		forged("proof signed with HS256", "proof_key", object{"alg": "HS256"}, nil, []byte("k")),
		forged("proof with typ JWT", "proof_malformed", object{"typ": "JWT"}, nil, f.ec),
		forged("proof with jku", "proof_malformed", object{"jku": "https://evil.test/k", "jwk": nil}, nil, f.ec),
		forged("proof with crit", "proof_malformed", object{"crit": []string{"x"}}, nil, f.ec),
		{"token of the holder at server b", func(w *world) answer {
			return w.send(call{server: "b", token: h.token, scheme: "DPoP", header: http.Header{"Dpop": {h.proof(post, w.resource("b"), h.token, 0)}}})
		}, iam05("audience_mismatch"), ""},
		{"path that another proof is for", func(w *world) answer {
			return w.send(call{path: "%61", token: h.token, scheme: "DPoP", header: http.Header{"Dpop": {h.proof(post, w.resource("b"), h.token, 0)}}})
		}, step("proof_url"), ""},
	})
}

// retargeted puts another address into a signed proof.
func retargeted(proof, from, to string) string {
	parts := strings.Split(proof, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	return parts[0] + "." + b64([]byte(strings.ReplaceAll(string(claims), from, to))) + "." + parts[2]
}

// proofParts are the header and claims of a proof that an attacker writes by hand for the holder's token.
func proofParts(f *forger, h *holder) (object, func(object) object) {
	sum := jose.TokenSum(h.token)
	head := object{"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(&f.ec.PublicKey)}
	return head, func(more object) object {
		return object{
			"jti": "x", "htm": "POST", "htu": h.w.resource("a"), "iat": time.Now().Unix(), "ath": b64(sum[:]), "nonce": h.nonce,
		}.with(more)
	}
}
