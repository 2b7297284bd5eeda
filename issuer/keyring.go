package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/state"
)

// Where the ring is in the store. It is one document, so that replicas change it one after the other.
const (
	kindKey = "issuer.key"
	ringID  = "ring"
)

const (
	maxRetired = 32              // retired keys that are remembered, to say why their tokens are refused
	ringFresh  = 5 * time.Minute // a ring read longer ago than this decides nothing
	overlap    = MaxTTL + time.Minute
)

// A ring is all the keys of the issuer, oldest first.
type ring struct {
	Keys []ringKey `json:"keys"`
	// NotBefore is the last emergency: nothing that was issued before is good. Zero: never.
	NotBefore time.Time `json:"not_before,omitzero"`
}

// A ringKey is one signing key. It is published from Made, signs from From until Until, verifies until
// End, and is refused from then on.
type ringKey struct {
	ID     string    `json:"id"`
	Public []byte    `json:"public"`           // PKIX
	Sealed string    `json:"sealed,omitempty"` // PKCS #8, sealed; empty: the key is in the KMS
	Handle string    `json:"handle,omitempty"` // what the KMS calls it
	Made   time.Time `json:"made"`
	From   time.Time `json:"from"`
	Until  time.Time `json:"until,omitzero"` // zero: until there is another
	End    time.Time `json:"end,omitzero"`   // zero: not decided
	Why    string    `json:"why,omitempty"`  // "rotated" or "emergency"
}

func (k *ringKey) retired(now time.Time) bool { return !k.End.IsZero() && !now.Before(k.End) }

// signing returns the key that signs now: the youngest that has begun and is not retired.
func (r *ring) signing(now time.Time) *ringKey {
	for i := len(r.Keys) - 1; i >= 0; i-- {
		if k := &r.Keys[i]; !now.Before(k.From) && !k.retired(now) {
			return k
		}
	}
	return nil
}

// due reports whether the next key must be made now, so that it is published long enough before it signs.
func (r *ring) due(now time.Time, c KeysConfig) bool {
	if len(r.Keys) == 0 {
		return true
	}
	last := &r.Keys[len(r.Keys)-1]
	return last.retired(now) || !now.Before(last.From.Add(c.RotateEvery-c.Publish))
}

// add appends a key that takes over at from, and ends the reign of the one before.
func (r *ring) add(k ringKey, from time.Time) {
	k.From = from
	if n := len(r.Keys); n > 0 {
		if last := &r.Keys[n-1]; last.Until.IsZero() {
			last.Until, last.End, last.Why = from, from.Add(overlap), "rotated"
		}
	}
	r.Keys = append(r.Keys, k)
}

// sweep forgets the oldest retired keys beyond the number that is remembered, and all retired secrets.
func (r *ring) sweep(now time.Time) {
	retired := 0
	for i := range r.Keys {
		if r.Keys[i].retired(now) {
			r.Keys[i].Sealed = ""
			retired++
		}
	}
	drop := retired - maxRetired
	r.Keys = slices.DeleteFunc(r.Keys, func(k ringKey) bool {
		if drop > 0 && k.retired(now) {
			drop--
			return true
		}
		return false
	})
}

// A view is a ring as this replica knows it, ready for use. It is immutable.
type view struct {
	ring    ring
	version int64
	read    time.Time
	public  map[string]jose.Key // every key that is not retired, and every retired one
	set     []byte              // published keys, rendered
}

// publicKey decodes the public key.
func (k *ringKey) publicKey() (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", k.ID, err)
	}
	pub, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("signing key %s: not an EC key", k.ID)
	}
	return pub, nil
}

// newView renders a ring. Keys that are retired at now are known but not published.
func newView(r ring, version int64, now time.Time) (*view, error) {
	v := &view{ring: r, version: version, read: now, public: map[string]jose.Key{}}
	var all, published []*ecdsa.PublicKey
	for i := range r.Keys {
		pub, err := r.Keys[i].publicKey()
		if err != nil {
			return nil, err
		}
		all = append(all, pub)
		if !r.Keys[i].retired(now) {
			published = append(published, pub)
		}
	}
	if len(all) == 0 {
		return v, nil
	}
	rendered, err := jose.RenderKeySet(all...)
	if err != nil {
		return nil, err
	}
	set, err := jose.ParseKeySet(rendered)
	if err != nil {
		return nil, err
	}
	for i := range r.Keys {
		if key, ok := set.Key(r.Keys[i].ID); ok {
			v.public[r.Keys[i].ID] = key
		}
	}
	v.set, err = jose.RenderKeySet(published...)
	return v, err
}

// load reads the ring from the store. Without one it is empty, at version 0.
func loadRing(ctx context.Context, s state.Store) (ring, int64, error) {
	d, err := s.Get(ctx, kindKey, ringID)
	if errors.Is(err, state.ErrNotFound) {
		return ring{}, 0, nil
	}
	if err != nil {
		return ring{}, 0, fmt.Errorf("read signing keys: %w", err)
	}
	var r ring
	if err := json.Unmarshal(d.Body, &r); err != nil {
		return ring{}, 0, fmt.Errorf("read signing keys: %w", err)
	}
	return r, d.Version, nil
}

// saveRing writes the ring if nobody else has meanwhile.
func saveRing(ctx context.Context, s state.Store, r ring, version int64) (int64, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("encode signing keys: %w", err)
	}
	docs, err := s.Put(ctx, state.Doc{Kind: kindKey, ID: ringID, Body: body, Version: version})
	if err != nil {
		return 0, fmt.Errorf("write signing keys: %w", err)
	}
	return docs[0].Version, nil
}
