package jose

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
)

// Bounds of nonces.
const (
	nonceKey   = 32              // bytes of a key at least
	nonceStep  = time.Minute     // a new nonce every minute
	nonceSteps = 3               // a nonce is good for the minute it was made in and the next three
	nonceSize  = 8 + 16          // minute and tag
	nonceInfo  = "warder dpop 1" // separates these tags from other uses of the key
)

// Nonces makes and checks the nonces that DPoP proofs must carry (RFC 9449 sections 8 and 9). Nothing is
// stored: a nonce is the minute it was made in and a tag over it, so replicas that share the keys accept
// each other's nonces. It is safe for concurrent use.
type Nonces struct{ keys [][]byte }

// NewNonces takes keys of at least 32 bytes each. The first one makes nonces; the others are those of
// before, whose nonces are still good.
func NewNonces(keys ...[]byte) (*Nonces, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: nonces need a key", ErrKey)
	}
	n := &Nonces{}
	for _, k := range keys {
		if len(k) < nonceKey {
			return nil, fmt.Errorf("%w: a nonce key has %d bytes, want %d", ErrKey, len(k), nonceKey)
		}
		n.keys = append(n.keys, append([]byte(nil), k...))
	}
	return n, nil
}

// Make returns the nonce of this minute.
func (n *Nonces) Make(now time.Time) string {
	out := tag(n.keys[0], uint64(step(now)))
	return base64.RawURLEncoding.EncodeToString(out[:])
}

// Check reports an error wrapping [ErrProofNonce] unless the nonce is one of ours and recent. Clocks of
// replicas may differ by a minute.
func (n *Nonces) Check(nonce string, now time.Time) error {
	var got [nonceSize]byte
	if len(nonce) != base64.RawURLEncoding.EncodedLen(nonceSize) {
		return ErrProofNonce
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(got[:], []byte(nonce)); err != nil {
		return ErrProofNonce
	}
	made := binary.BigEndian.Uint64(got[:8])
	for _, key := range n.keys {
		want := tag(key, made)
		if hmac.Equal(want[:], got[:]) {
			if age := step(now) - int64(made); age < -1 || age > nonceSteps {
				return fmt.Errorf("%w: it is %d minutes old", ErrProofNonce, age)
			}
			return nil
		}
	}
	return ErrProofNonce
}

// Renew returns the nonce of this minute for whoever showed the given one, which was accepted: before its
// time is over, so that nobody has to be refused to learn the next (RFC 9449 section 8.2). It returns
// nothing to those who have the nonce of this minute.
func (n *Nonces) Renew(nonce string, now time.Time) string {
	var head [9]byte
	if len(nonce) >= 12 {
		if _, err := base64.RawURLEncoding.Decode(head[:], []byte(nonce[:12])); err == nil && int64(binary.BigEndian.Uint64(head[:8])) >= step(now) {
			return ""
		}
	}
	return n.Make(now)
}

func step(now time.Time) int64 { return now.Unix() / int64(nonceStep/time.Second) }

func tag(key []byte, minute uint64) [nonceSize]byte {
	var out [nonceSize]byte
	binary.BigEndian.PutUint64(out[:8], minute)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(nonceInfo))
	mac.Write(out[:8])
	copy(out[8:], mac.Sum(nil))
	return out
}
