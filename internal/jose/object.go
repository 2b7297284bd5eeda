package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// ParseObject reads one JSON object as strictly as claims are read: valid UTF-8, no repeated name at any
// depth, nothing after it, bounded depth and number of values. Metadata and token responses of
// authorization servers are read with it. Errors wrap [ErrMalformed] or [ErrDuplicate].
func ParseObject(data []byte) (Claims, error) {
	m, err := decodeStrict(data)
	return m, err
}

// ParseSigner reads a signer from a PKCS #8 private key in PEM (RFC 5958): exactly one P-256 key. The
// caller may overwrite the text afterwards. The error is [ErrKeyFileShape].
func ParseSigner(text []byte) (*Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("%w: no PKCS #8 block in PEM", ErrKeyFileShape)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	clear(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: not PKCS #8", ErrKeyFileShape)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: not a P-256 key", ErrKeyFileShape)
	}
	return newSigner(key)
}
