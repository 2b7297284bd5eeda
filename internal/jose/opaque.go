package jose

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// An Opaque signs with a P-256 key that it keeps to itself: sealed, or in a key management system.
type Opaque interface {
	// Public is the public key.
	Public() *ecdsa.PublicKey
	// SignES256 returns the signature of the input as RFC 7518 section 3.4 has it: R and S, 32 bytes each.
	SignES256(ctx context.Context, input []byte) ([]byte, error)
}

// SignOpaque returns the claims, encoded as JSON, as a compact JWS with the given typ, signed with ES256.
func SignOpaque(ctx context.Context, o Opaque, keyID, typ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", keyID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: opaqueSigner{ctx: ctx, key: o, id: keyID}}, opts)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed.CompactSerialize()
}

// opaqueSigner is one signature: the context travels with it because go-jose has no place for it.
type opaqueSigner struct {
	ctx context.Context
	key Opaque
	id  string
}

func (s opaqueSigner) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: string(jose.ES256), Use: "sig"}
}

func (opaqueSigner) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{jose.ES256} }

func (s opaqueSigner) SignPayload(payload []byte, alg jose.SignatureAlgorithm) ([]byte, error) {
	if alg != jose.ES256 {
		return nil, fmt.Errorf("%w: %s", ErrAlgorithm, alg)
	}
	signature, err := s.key.SignES256(s.ctx, payload)
	if err != nil {
		return nil, err
	}
	if len(signature) != 64 {
		return nil, errors.New("signature does not have 64 bytes")
	}
	return signature, nil
}

// PublicKeyID is the RFC 7638 thumbprint of a P-256 key.
func PublicKeyID(key *ecdsa.PublicKey) (string, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return "", fmt.Errorf("%w: not a P-256 key", ErrKey)
	}
	thumb, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("key thumbprint: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(thumb), nil
}

// RenderKeySet renders P-256 keys, each under its RFC 7638 thumbprint, as a JWK set document for ES256.
func RenderKeySet(keys ...*ecdsa.PublicKey) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(keys))}
	for _, key := range keys {
		id, err := PublicKeyID(key)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(jose.ES256), Use: "sig"})
	}
	return json.Marshal(set)
}
