package attacks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// A forger writes compact JWS with whatever header and claims an attacker likes.
type forger struct {
	t       *testing.T
	ec      *ecdsa.PrivateKey
	rsa     *rsa.PrivateKey
	mallory *ecdsa.PrivateKey // that no issuer publishes
}

func newForger(t *testing.T) *forger {
	t.Helper()
	f := &forger{t: t}
	for _, to := range []**ecdsa.PrivateKey{&f.ec, &f.mallory} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		*to = key
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f.rsa = key
	return f
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk renders a public key.
func jwk(key crypto.PublicKey) map[string]any {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		raw, err := k.Bytes()
		if err != nil {
			return nil
		}
		return map[string]any{"kty": "EC", "crv": "P-256", "x": b64(raw[1:33]), "y": b64(raw[33:])}
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "n": b64(k.N.Bytes()), "e": "AQAB"}
	default:
		return nil
	}
}

// keySet is what the issuer publishes: an EC key named ec and an RSA key named rsa.
func (f *forger) keySet() []byte {
	f.t.Helper()
	ec, rs := jwk(&f.ec.PublicKey), jwk(&f.rsa.PublicKey)
	ec["kid"], rs["kid"] = "ec", "rsa"
	return f.json(map[string]any{"keys": []any{ec, rs}})
}

func (f *forger) json(v any) []byte {
	f.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// object is a header or a claims set.
type object map[string]any

// with returns a copy with members set, or removed where the value is nil.
func (o object) with(more object) object {
	out := object{}
	maps.Copy(out, o)
	for k, v := range more {
		if v == nil {
			delete(out, k)
			continue
		}
		out[k] = v
	}
	return out
}

// sign writes a JWS. key is an EC or RSA private key, the bytes of a symmetric one, or nil for no signature.
func (f *forger) sign(header, claims object, key any) string {
	f.t.Helper()
	return f.raw(f.json(header), f.json(claims), key)
}

// raw is sign for texts that are not what encoding/json would write.
func (f *forger) raw(header, claims []byte, key any) string {
	f.t.Helper()
	input := b64(header) + "." + b64(claims)
	return input + "." + b64(f.signature([]byte(input), key))
}

func (f *forger) signature(input []byte, key any) []byte {
	f.t.Helper()
	sum := sha256.Sum256(input)
	switch k := key.(type) {
	case nil:
		return nil
	case []byte:
		m := hmac.New(sha256.New, k)
		m.Write(input)
		return m.Sum(nil)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			f.t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		out, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		if err != nil {
			f.t.Fatal(err)
		}
		return out
	default:
		f.t.Fatalf("no signature with a %T", key)
		return nil
	}
}

// publicPEM is what attackers use as the secret of HS256.
func (f *forger) publicPEM(key crypto.PublicKey) []byte {
	f.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		f.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// claims are those of a good access token.
func (f *forger) claims(issuer, audience string) object {
	now := time.Now()
	return object{
		"iss": issuer, "sub": "ada", "aud": audience, "client_id": "c", "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
}

func reasonOf(text string) warder.Reason { return warder.Reason(text) }
