// Package seal mints and opens opaque tokens that only this gateway can read: continuation state,
// task handles, approval tickets. A token is encrypted and authenticated, and bound to what it is
// for, to whom it was given, to the request it belongs to, and to a time.
//
//	box, err := seal.New(current, previous)
//	token, err := box.Seal(seal.Claims{
//		Purpose: "request_state", Principal: p.Key(), Digest: wire.RequestDigest(m), NotAfter: now.Add(time.Minute),
//	}, payload)
//	payload, id, err := box.Open(token, now, seal.Claims{
//		Purpose: "request_state", Principal: p.Key(), Digest: wire.RequestDigest(retry),
//	})
//
// Each token has a key of its own, derived by HKDF-SHA-256 (RFC 5869) from a key of the ring and 32
// random bytes, and is encrypted with AES-256-GCM (NIST SP 800-38D) under a random nonce, so no
// number of tokens wears a key out. Single use is the caller's: the id that Open returns is unique.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of Open. Each names the first thing found wrong; none says more about the token.
var (
	ErrMalformed  = errors.New("sealed token: malformed")
	ErrUnknownKey = errors.New("sealed token: unknown key")
	ErrTampered   = errors.New("sealed token: tampered with")
	ErrPurpose    = errors.New("sealed token: minted for another purpose")
	ErrExpired    = errors.New("sealed token: expired")
	ErrPrincipal  = errors.New("sealed token: minted for another principal")
	ErrDigest     = errors.New("sealed token: minted for another request")
)

// Errors of New and Seal.
var (
	ErrKey    = errors.New("seal: keys must be 32 bytes, distinct, and at least one")
	ErrClaims = errors.New("seal: purpose, principal and end must be set")
	ErrTooBig = errors.New("seal: payload too large")
)

const (
	// KeySize is the length of a key in bytes.
	KeySize = 32
	// MaxPayload is the largest payload in bytes.
	MaxPayload = 32 << 10

	prefix     = "w1."
	info       = "warder sealed token 1"
	keyIDSize  = 8
	saltSize   = 32
	headerSize = keyIDSize + saltSize
	overhead   = 12 + 16 // nonce and tag of AES-GCM
	maxID      = 64
	claimsSize = 3*sha256.Size + 8 + 1 // with an empty id
	maxToken   = len(prefix) + (headerSize+overhead+claimsSize+maxID+MaxPayload)*4/3 + 2
)

// Claims binds a token.
type Claims struct {
	Purpose   string    // what it is for; not empty
	Principal string    // key of the principal it was given to; not empty
	Digest    [32]byte  // of the request it belongs to; zero if it belongs to none
	NotAfter  time.Time // first moment it is not good any more, to the second; ignored by Open
	ID        string    // unique name, at most 64 bytes; empty: Seal makes one. Ignored by Open
}

// A Box seals with its first key and opens with any. It is safe for concurrent use.
type Box struct {
	keys []key
}

type key struct {
	id     [keyIDSize]byte
	secret []byte
}

// New builds a box from keys of 32 bytes. The first seals; the others are those of before, which
// still open. The error is ErrKey.
func New(keys ...[]byte) (*Box, error) {
	if len(keys) == 0 {
		return nil, ErrKey
	}
	b := &Box{}
	for _, secret := range keys {
		if len(secret) != KeySize {
			return nil, ErrKey
		}
		sum := sha256.Sum256(append([]byte("warder sealed token key id\x00"), secret...))
		k := key{id: [keyIDSize]byte(sum[:]), secret: append([]byte(nil), secret...)}
		if _, known := b.find(k.id[:]); known {
			return nil, ErrKey
		}
		b.keys = append(b.keys, k)
	}
	return b, nil
}

// NewKey returns a fresh random key.
func NewKey() []byte {
	k := make([]byte, KeySize)
	_, _ = rand.Read(k) // never fails: crypto/rand ends the process instead
	return k
}

// Seal mints a token. Errors are ErrClaims and ErrTooBig.
func (b *Box) Seal(c Claims, payload []byte) (string, error) {
	if c.Purpose == "" || c.Principal == "" || c.NotAfter.IsZero() || len(c.ID) > maxID || strings.Contains(c.ID, "\x00") {
		return "", ErrClaims
	}
	if len(payload) > MaxPayload {
		return "", ErrTooBig
	}
	if c.ID == "" {
		c.ID = rand.Text()
	}
	k := b.keys[0]
	out := make([]byte, headerSize, headerSize+overhead+claimsSize+len(c.ID)+len(payload))
	copy(out, k.id[:])
	_, _ = rand.Read(out[keyIDSize:]) // never fails: crypto/rand ends the process instead
	aead, err := k.aead(out[keyIDSize:])
	if err != nil {
		return "", err
	}
	sealed := aead.Seal(out, nil, c.plain(payload), additional(out))
	return prefix + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Open returns the payload and id of a token that was minted for the purpose, principal and digest
// of want and is good at now. It opens nothing for an empty purpose or principal.
func (b *Box) Open(token string, now time.Time, want Claims) (payload []byte, id string, err error) {
	raw, err := decode(token)
	if err != nil {
		return nil, "", err
	}
	k, ok := b.find(raw[:keyIDSize])
	if !ok {
		return nil, "", ErrUnknownKey
	}
	aead, err := k.aead(raw[keyIDSize:headerSize])
	if err != nil {
		return nil, "", err
	}
	plain, err := aead.Open(nil, nil, raw[headerSize:], additional(raw[:headerSize]))
	if err != nil {
		return nil, "", ErrTampered
	}
	return check(plain, now, want)
}

// decode reads the outer form. Each token has one spelling.
func decode(token string) ([]byte, error) {
	body, ok := strings.CutPrefix(token, prefix)
	if !ok || len(token) > maxToken || strings.ContainsAny(body, "\r\n") { // base64 would skip line breaks
		return nil, ErrMalformed
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) < headerSize+overhead+claimsSize {
		return nil, ErrMalformed
	}
	return raw, nil
}

// find returns the key with an id. Ids are public.
func (b *Box) find(id []byte) (key, bool) {
	for _, k := range b.keys {
		if string(k.id[:]) == string(id) {
			return k, true
		}
	}
	return key{}, false
}

// aead derives the token's own key.
func (k key) aead(salt []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, k.secret, salt, info, KeySize)
	if err != nil {
		return nil, fmt.Errorf("seal: derive key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead, nil
}

// additional is the authenticated but unencrypted part.
func additional(header []byte) []byte { return append([]byte(prefix), header...) }

// plain writes claims and payload.
func (c Claims) plain(payload []byte) []byte {
	purpose, principal := c.hashes()
	b := make([]byte, 0, claimsSize+len(c.ID)+len(payload))
	b = append(b, purpose[:]...)
	b = append(b, principal[:]...)
	b = append(b, c.Digest[:]...)
	b = append(b, make([]byte, 8)...)
	_, _ = binary.Encode(b[3*sha256.Size:], binary.BigEndian, c.NotAfter.Unix()) // eight bytes are there
	b = append(append(b, c.ID...), 0)
	return append(b, payload...)
}

func (c Claims) hashes() (purpose, principal [sha256.Size]byte) {
	return sha256.Sum256([]byte(c.Purpose)), sha256.Sum256([]byte(c.Principal))
}

// check judges decrypted claims.
func check(plain []byte, now time.Time, want Claims) (payload []byte, id string, err error) {
	if len(plain) < claimsSize {
		return nil, "", ErrTampered
	}
	name, payload, ok := bytes.Cut(plain[claimsSize-1:], []byte{0})
	var end int64
	if _, err := binary.Decode(plain[3*sha256.Size:], binary.BigEndian, &end); err != nil || !ok {
		return nil, "", ErrTampered
	}
	purpose, principal := want.hashes()
	switch {
	case want.Purpose == "" || !equal(plain[:sha256.Size], purpose[:]):
		return nil, "", ErrPurpose
	case !now.Before(time.Unix(end, 0)):
		return nil, "", ErrExpired
	case want.Principal == "" || !equal(plain[sha256.Size:2*sha256.Size], principal[:]):
		return nil, "", ErrPrincipal
	case !equal(plain[2*sha256.Size:3*sha256.Size], want.Digest[:]):
		return nil, "", ErrDigest
	}
	return payload, string(name), nil
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
