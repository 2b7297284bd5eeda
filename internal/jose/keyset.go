package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of a key set.
const (
	maxKeySet  = 256 << 10 // bytes
	maxKeys    = 64
	minRSABits = 2048 // RFC 7518 section 3.3
)

// A Key is one public key of an issuer. The zero key verifies nothing.
type Key struct {
	jwk  jose.JSONWebKey
	algs []string // algorithms this key may verify
}

func (k Key) signs(alg string) bool { return slices.Contains(k.algs, alg) }

// A KeySet is an immutable JWK set (RFC 7517 section 5), safe for concurrent use.
type KeySet struct {
	byID map[string]Key
	only *Key // the key of a set that has exactly one
}

// EncodeKeySet renders public keys that came by another way as a JWK set document, by key id.
func EncodeKeySet(keys map[string]crypto.PublicKey) ([]byte, error) {
	set := jose.JSONWebKeySet{}
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		jwk := jose.JSONWebKey{Key: keys[id], KeyID: id, Use: "sig"}
		if !jwk.IsPublic() {
			return nil, fmt.Errorf("%w: key %.80q is not public", ErrKey, id)
		}
		set.Keys = append(set.Keys, jwk)
	}
	return json.Marshal(set)
}

// ParseKeySet reads a JWK set. Keys that cannot verify signatures (symmetric, encryption, unknown
// type, weak) are left out; a private key, a repeated key id, or a set without any usable key is an error.
func ParseKeySet(data []byte) (*KeySet, error) {
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("%w: key set is larger than %d bytes", ErrKey, maxKeySet)
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w: parse key set: %w", ErrKey, err)
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("%w: key set has more than %d keys", ErrKey, maxKeys)
	}
	set := &KeySet{byID: make(map[string]Key, len(doc.Keys))}
	var usable []Key
	for i, raw := range doc.Keys {
		key, ok, err := parseKey(raw)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if !ok {
			continue
		}
		if _, seen := set.byID[key.jwk.KeyID]; seen {
			return nil, fmt.Errorf("%w: key id %.80q is used twice", ErrKey, key.jwk.KeyID)
		}
		set.byID[key.jwk.KeyID] = key
		usable = append(usable, key)
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("%w: key set holds no signature key", ErrKey)
	}
	if len(usable) == 1 {
		set.only = &usable[0]
	}
	return set, nil
}

// Key finds a key by id. Without an id the set must hold exactly one key.
func (s *KeySet) Key(id string) (Key, bool) {
	if id == "" {
		if s.only == nil {
			return Key{}, false
		}
		return *s.only, true
	}
	k, ok := s.byID[id]
	return k, ok
}

// parseKey reports ok == false for keys of types and uses that are simply not ours.
func parseKey(raw json.RawMessage) (key Key, ok bool, err error) {
	members, err := decodeStrict(raw)
	if err != nil {
		return Key{}, false, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if _, private := members["d"]; private {
		return Key{}, false, fmt.Errorf("%w: key set holds a private key", ErrKey)
	}
	if kty := members["kty"]; kty != "RSA" && kty != "EC" && kty != "OKP" {
		return Key{}, false, nil
	}
	if use, given := members["use"]; given && use != "sig" {
		return Key{}, false, nil
	}
	var jwk jose.JSONWebKey
	if known := jwk.UnmarshalJSON(raw) == nil; !known || !jwk.Valid() || !jwk.IsPublic() {
		return Key{}, false, nil // a curve or size we do not know; other keys of the set still serve
	}
	algs := algorithmsOf(jwk)
	return Key{jwk: jwk, algs: algs}, len(algs) > 0, nil
}

// algorithmsOf lists what a key may verify by its type and size, narrowed by its own "alg".
func algorithmsOf(k jose.JSONWebKey) []string {
	var algs []string
	switch pub := k.Key.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			algs = []string{"ES256"}
		case elliptic.P384():
			algs = []string{"ES384"}
		case elliptic.P521():
			algs = []string{"ES512"}
		}
	case ed25519.PublicKey:
		algs = []string{"EdDSA"}
	case *rsa.PublicKey:
		if pub.N.BitLen() >= minRSABits && pub.E >= 3 {
			algs = []string{"PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
		}
	}
	if k.Algorithm == "" {
		return algs
	}
	if !slices.Contains(algs, k.Algorithm) {
		return nil
	}
	return []string{k.Algorithm}
}
