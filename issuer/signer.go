package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/seal"
)

// A Signer signs with one ES256 key that it does not hand out. It is safe for concurrent use.
type Signer = jose.Opaque

// A Keeper makes signing keys and opens them again: sealed in the state store, or in a key management
// system. It is safe for concurrent use.
type Keeper interface {
	// Make makes a key. sealed is what the store keeps of it, handle what the keeper calls it.
	Make(ctx context.Context) (s Signer, sealed, handle string, err error)
	// Open returns the signer of a key that Make made, on any replica.
	Open(ctx context.Context, pub *ecdsa.PublicKey, sealed, handle string) (Signer, error)
}

// sealPurpose and sealEnd bind sealed keys: to their purpose, and to no practical end; the ring ends them.
const sealPurpose = "issuer signing key"

func sealEnd() time.Time { return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }

// A sealedKeeper keeps private keys in the state store, sealed with the gateway's key.
type sealedKeeper struct {
	box *seal.Box
	url string // issuer, so that a key of another issuer is not taken for ours
	now func() time.Time
}

var _ Keeper = sealedKeeper{}

// Make implements Keeper.
func (k sealedKeeper) Make(context.Context) (Signer, string, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", "", fmt.Errorf("make signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", "", fmt.Errorf("make signing key: %w", err)
	}
	sealed, err := k.box.Seal(seal.Claims{Purpose: sealPurpose, Principal: k.url, NotAfter: sealEnd()}, der)
	if err != nil {
		return nil, "", "", fmt.Errorf("seal signing key: %w", err)
	}
	return localSigner{key}, sealed, "", nil
}

// Open implements Keeper.
func (k sealedKeeper) Open(_ context.Context, pub *ecdsa.PublicKey, sealed, _ string) (Signer, error) {
	der, _, err := k.box.Open(sealed, k.now(), seal.Claims{Purpose: sealPurpose, Principal: k.url})
	if err != nil {
		return nil, fmt.Errorf("open signing key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("open signing key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(pub) {
		return nil, fmt.Errorf("open signing key: %w", jose.ErrKey)
	}
	return localSigner{key}, nil
}

// A localSigner signs in this process.
type localSigner struct{ key *ecdsa.PrivateKey }

// Public implements Signer.
func (s localSigner) Public() *ecdsa.PublicKey { return &s.key.PublicKey }

// SignES256 implements Signer.
func (s localSigner) SignES256(_ context.Context, input []byte) ([]byte, error) {
	sum := sha256.Sum256(input)
	r, t, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return joinES256(r, t), nil
}

// joinES256 writes R and S as RFC 7518 section 3.4 has them.
func joinES256(r, s *big.Int) []byte {
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}
