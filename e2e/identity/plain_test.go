package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// A holder makes DPoP proofs (RFC 9449 section 4.2) with nothing but the standard library, so that it shares
// no mistake with what it is shown to.
type holder struct{ key *ecdsa.PrivateKey }

func newHolder(t *testing.T) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &holder{key}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a JWT of the claims, with the public key in its header unless kid names it.
func (h *holder) sign(t *testing.T, typ, kid string, claims map[string]any) string {
	t.Helper()
	point, err := h.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	head := map[string]any{"typ": typ, "alg": "ES256"}
	if kid != "" {
		head["kid"] = kid
	} else {
		head["jwk"] = map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	}
	a, err1 := json.Marshal(head)
	b, err2 := json.Marshal(claims)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	text := b64(a) + "." + b64(b)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, h.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// jwks is the public key as a key set.
func (h *holder) jwks(t *testing.T, kid string) []byte {
	t.Helper()
	point, err := h.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:]), "kid": kid, "alg": "ES256", "use": "sig",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// proof is for one request; token and nonce may be empty.
func (h *holder) proof(t *testing.T, method, address, token, nonce string) string {
	t.Helper()
	claims := map[string]any{"htm": method, "htu": address, "iat": time.Now().Unix(), "jti": rand.Text()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = b64(sum[:])
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	return h.sign(t, "dpop+jwt", "", claims)
}

// bound shows a token with a fresh proof for a POST to the address.
func (h *holder) bound(t *testing.T, address, token string) http.Header {
	t.Helper()
	return http.Header{"Authorization": {"DPoP " + token}, "Dpop": {h.proof(t, http.MethodPost, address, token, "")}}
}

// A plain client speaks OAuth by hand.
type plain struct {
	id       string
	secret   string         // for HTTP Basic; empty: public
	metadata map[string]any // of the authorization server
	walk     walker
	key      *holder    // binds its tokens; nil: none
	push     bool       // sends the authorization request through PAR
	more     url.Values // of the authorization request
}

func (c *plain) header(t *testing.T, address string) http.Header {
	t.Helper()
	if c.key == nil {
		return http.Header{}
	}
	return http.Header{"Dpop": {c.key.proof(t, http.MethodPost, address, "", "")}}
}

// login gets tokens for a resource.
func (c *plain) login(ctx context.Context, t *testing.T, resource string) map[string]any {
	t.Helper()
	m, err := c.try(ctx, t, resource)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (c *plain) try(ctx context.Context, t *testing.T, resource string) (map[string]any, error) {
	t.Helper()
	at := func(name string) string { s, _ := c.metadata[name].(string); return s }
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {c.id}, "redirect_uri": {callback}, "state": {state},
		"code_challenge": {b64(sum[:])}, "code_challenge_method": {"S256"},
	}
	if resource != "" {
		q.Set("resource", resource)
	}
	maps.Copy(q, c.more)
	if c.push {
		status, m := form(ctx, t, at("pushed_authorization_request_endpoint"), q, c.header(t, at("pushed_authorization_request_endpoint")))
		uri, _ := m["request_uri"].(string)
		if status != http.StatusCreated {
			return nil, fmt.Errorf("PAR: status %d, %v", status, m)
		}
		q = url.Values{"client_id": {c.id}, "request_uri": {uri}}
	}
	back, err := c.walk(ctx, at("authorization_endpoint")+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	if back.Get("code") == "" || back.Get("state") != state || back.Has("iss") && back.Get("iss") != at("issuer") {
		return nil, fmt.Errorf("redirect: %v", back)
	}
	ask := url.Values{"grant_type": {"authorization_code"}, "code": {back.Get("code")}, "redirect_uri": {callback}, "client_id": {c.id}, "code_verifier": {verifier}}
	if resource != "" {
		ask.Set("resource", resource)
	}
	header := c.header(t, at("token_endpoint"))
	if c.secret != "" {
		ask.Del("client_id")
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.id+":"+c.secret)))
	}
	status, m := form(ctx, t, at("token_endpoint"), ask, header)
	if status != http.StatusOK {
		return nil, fmt.Errorf("token: status %d, %v", status, m)
	}
	return m, nil
}

// text is a member of a JSON object.
func text(m map[string]any, name string) string { s, _ := m[name].(string); return s }
