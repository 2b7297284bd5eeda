package sigs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// The algorithms (RFC 9421 sections 3.3.4 and 3.3.6).
const (
	AlgorithmEd25519 = "ed25519"
	AlgorithmP256    = "ecdsa-p256-sha256"
)

// ErrKey says that a key cannot be used here.
var ErrKey = errors.New("want an ed25519 or P-256 key in PEM")

// A Key verifies signatures of one peer.
type Key struct {
	ID        string
	Algorithm string
	public    crypto.PublicKey
}

// ParseKey reads a public key in PEM (PKIX).
func ParseKey(id string, text []byte) (Key, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 && containsBlock(rest) || id == "" {
		return Key{}, ErrKey
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return newKey(id, public)
}

func containsBlock(rest []byte) bool {
	block, _ := pem.Decode(rest)
	return block != nil
}

func newKey(id string, public crypto.PublicKey) (Key, error) {
	switch p := public.(type) {
	case ed25519.PublicKey:
		return Key{ID: id, Algorithm: AlgorithmEd25519, public: p}, nil
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return Key{ID: id, Algorithm: AlgorithmP256, public: p}, nil
		}
	}
	return Key{}, ErrKey
}

// verify reports whether the signature over the text is of this key.
func (k Key) verify(text, signature []byte) bool {
	const half = 32
	switch p := k.public.(type) {
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(p, text, signature)
	case *ecdsa.PublicKey:
		if len(signature) != 2*half {
			return false
		}
		sum := sha256.Sum256(text)
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		return ecdsa.Verify(p, sum[:], r, s)
	default:
		return false
	}
}

// A Signer signs with one private key. It is safe for concurrent use.
type Signer struct {
	id      string
	private crypto.Signer
	public  Key
}

// NewSigner reads a private key in PEM (PKCS #8, or SEC 1 for P-256).
func NewSigner(id string, text []byte) (*Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || id == "" {
		return nil, ErrKey
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil && block.Type == "EC PRIVATE KEY" {
		private, err = x509.ParseECPrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, ErrKey // the cause might quote the key
	}
	s, ok := private.(crypto.Signer)
	if !ok {
		return nil, ErrKey
	}
	return SignerOf(id, s)
}

// SignerOf makes a signer of a key in memory or in a module.
func SignerOf(id string, private crypto.Signer) (*Signer, error) {
	public, err := newKey(id, private.Public())
	if err != nil {
		return nil, err
	}
	return &Signer{id: id, private: private, public: public}, nil
}

// Key is the public half.
func (s *Signer) Key() Key { return s.public }

// sign returns the signature over the text.
func (s *Signer) sign(text []byte) ([]byte, error) {
	if s.public.Algorithm == AlgorithmEd25519 {
		return s.private.Sign(rand.Reader, text, crypto.Hash(0))
	}
	sum := sha256.Sum256(text)
	der, err := s.private.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return fixed(der)
}
