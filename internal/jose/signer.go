package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/go-jose/go-jose/v4"
)

// A Signer signs tokens with one ES256 key. It is safe for concurrent use and cannot be printed:
// the key is not exported.
type Signer struct {
	key   *ecdsa.PrivateKey
	keyID string
}

// NewSigner generates a fresh key.
func NewSigner() (*Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return newSigner(key)
}

func newSigner(key *ecdsa.PrivateKey) (*Signer, error) {
	jwk := jose.JSONWebKey{Key: key.Public()}
	thumb, err := jwk.Thumbprint(crypto.SHA256) // RFC 7638: the same key always has the same id
	if err != nil {
		return nil, fmt.Errorf("key thumbprint: %w", err)
	}
	return &Signer{key: key, keyID: base64.RawURLEncoding.EncodeToString(thumb)}, nil
}

// KeyID is the RFC 7638 thumbprint of the key.
func (s *Signer) KeyID() string { return s.keyID }

// Sign returns the claims, encoded as JSON, as a compact JWS with the given typ.
func (s *Signer) Sign(typ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", s.keyID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.key}, opts)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed.CompactSerialize()
}

// KeySet renders the public key as a JWK set document.
func (s *Signer) KeySet() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: s.key.Public(), KeyID: s.keyID, Algorithm: string(jose.ES256), Use: "sig",
	}}})
}

const pemType = "PRIVATE KEY" // PKCS #8, RFC 5958

// OpenSigner reads the key from a file inside root, or creates it there with mode 0600 if it does not
// exist. A key file that others can read is refused.
func OpenSigner(root *os.Root, name string) (*Signer, error) {
	s, err := readSigner(root, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if s, err = NewSigner(); err != nil {
		return nil, err
	}
	err = s.write(root, name)
	if errors.Is(err, fs.ErrExist) { // another process was faster; its key is the key
		return readSigner(root, name)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func readSigner(root *os.Root, name string) (*Signer, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %v, want 0600", ErrKeyFileMode, name, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, 8<<10))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemType || len(rest) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrKeyFileShape, name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrKeyFileShape, name)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: %s", ErrKeyFileShape, name)
	}
	return newSigner(key)
}

// write stores the key completely or not at all: it is written beside and linked into place, which
// fails if the name exists.
func (s *Signer) write(root *os.Root, name string) error {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	tmp := name + ".new-" + s.keyID
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	defer func() { _ = root.Remove(tmp) }() // a leftover holds nothing that is in use
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := root.Link(tmp, name); err != nil {
		return fmt.Errorf("place key: %w", err)
	}
	return nil
}
