package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/state"
)

const iam07 = "IAM-07"

// Rotation is control IAM-07 at the signing keys: they change on schedule without a failed request,
// and at once in an emergency, and a key that is retired verifies nothing. All replicas share one ring
// in the state store. It is safe for concurrent use.
//
// A new key is published longer before it signs than anybody may cache the key set, and an old one
// stays published until the last token it signed has ended.
type Rotation struct {
	cfg    KeysConfig
	url    string
	store  state.Store
	keeper Keeper
	now    func() time.Time
	mode   func(warder.ControlID) Mode
	record func(context.Context, warder.Event) error
	revoke func(context.Context, Revocation) error
	log    *slog.Logger

	current atomic.Pointer[view]
	signers *bounded.Cache[string, Signer]
	noted   *bounded.Cache[string, time.Time] // retired keys whose use was recorded lately
	mu      sync.Mutex                        // one reader of the store at a time
	asked   time.Time                         // last time the store was asked because of an unknown key
}

// Control names the control.
func (*Rotation) Control() warder.ControlID { return iam07 }

// Key finds the key a token names, for a verifier in this process. The error is [jose.ErrUnknownKey]
// for a key that is not ours or is retired, and [jose.ErrKeysUnavail] when the ring could not be read.
func (r *Rotation) Key(ctx context.Context, id string) (jose.Key, error) {
	now := r.now()
	v := r.current.Load()
	if v == nil || now.Sub(v.read) > ringFresh {
		var err error
		if v, err = r.read(ctx, 0); err != nil {
			return jose.Key{}, errors.Join(jose.ErrKeysUnavail, err)
		}
	}
	key, known := v.public[id]
	if !known {
		var err error
		if v, err = r.read(ctx, time.Second); err != nil { // another replica may have rotated
			return jose.Key{}, errors.Join(jose.ErrKeysUnavail, err)
		}
		if key, known = v.public[id]; !known {
			return jose.Key{}, jose.ErrUnknownKey
		}
	}
	d := r.judge(v, id, now)
	if d.Verdict == warder.Pass {
		return key, nil
	}
	mode := r.mode(iam07)
	if mode == Off {
		return key, nil
	}
	if err := r.note(ctx, id, d, mode, now); err != nil {
		return jose.Key{}, errors.Join(jose.ErrKeysUnavail, err)
	}
	if mode == Monitor {
		return key, nil
	}
	return jose.Key{}, fmt.Errorf("%w: %s", jose.ErrUnknownKey, d.Reason)
}

// note records the use of a key whose time is over, once a minute for each: whoever sends such tokens
// must not fill the trail.
func (r *Rotation) note(ctx context.Context, id string, d warder.Decision, mode Mode, now time.Time) error {
	if last, ok := r.noted.Get(id); ok && now.Sub(last) < time.Minute {
		return nil
	}
	e := r.event("used", id, "a token", now)
	e.Reason, e.Outcome = d.Reason, warder.OutcomeRefused
	if mode == Monitor {
		e.Outcome = warder.OutcomeAllowed
	}
	if err := r.record(ctx, e); err != nil {
		return fmt.Errorf("record retired key: %w", err)
	}
	r.noted.Put(id, now)
	return nil
}

// judge refuses keys whose time is over. A key that does not sign yet has signed nothing.
func (r *Rotation) judge(v *view, id string, now time.Time) warder.Decision {
	i := slices.IndexFunc(v.ring.Keys, func(k ringKey) bool { return k.ID == id })
	switch {
	case i < 0:
		return warder.Refuse(warder.CodeUnauthenticated, "key_unknown", "no such key in the ring")
	case v.ring.Keys[i].retired(now):
		return warder.Refuse(warder.CodeUnauthenticated, "key_retired", "the signing key was retired: "+v.ring.Keys[i].Why)
	case now.Before(v.ring.Keys[i].From):
		return warder.Refuse(warder.CodeUnauthenticated, "key_not_begun", "the signing key does not sign yet")
	default:
		return warder.Continue()
	}
}

// read renews the view from the store, unless that happened within pause.
func (r *Rotation) read(ctx context.Context, pause time.Duration) (*view, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	v := r.current.Load()
	if pause > 0 {
		if v != nil && now.Sub(r.asked) < pause {
			return v, nil
		}
		r.asked = now
	}
	fresh, version, err := loadRing(ctx, r.store)
	if err != nil {
		return nil, err
	}
	return r.adopt(fresh, version, now)
}

// adopt makes a ring the current view. The caller holds mu.
func (r *Rotation) adopt(fresh ring, version int64, now time.Time) (*view, error) {
	v, err := newView(fresh, version, now)
	if err != nil {
		return nil, err
	}
	r.current.Store(v)
	return v, nil
}

// maintain reads the ring and makes the next key when it is due.
func (r *Rotation) maintain(ctx context.Context) error {
	v, err := r.read(ctx, 0)
	if err != nil {
		return err
	}
	if v.ring.due(r.now(), r.cfg) {
		return r.Rotate(ctx, "schedule")
	}
	return nil
}

// Rotate makes the next key: it is published now and signs once everybody can know it. by says who
// asked for it. When another replica was faster, its key is the next.
func (r *Rotation) Rotate(ctx context.Context, by string) error {
	return r.change(ctx, func(rg *ring, k ringKey, now time.Time) string {
		n := len(rg.Keys)
		pending := n > 0 && now.Before(rg.Keys[n-1].From)
		if by == "schedule" && !rg.due(now, r.cfg) || pending {
			return ""
		}
		from := now.Add(r.cfg.Publish)
		if n == 0 || rg.signing(now) == nil {
			from = now // nobody has cached anything, and nothing else can sign
		}
		rg.add(k, from)
		return "rotated"
	}, by)
}

// Emergency retires every key at once and signs with a fresh one: every token issued so far is dead,
// here immediately and on other replicas when the ring reaches them, and the revocation says so to
// whoever has verified one before. Refresh tokens die with them. reason and by go into the record.
func (r *Rotation) Emergency(ctx context.Context, reason, by string) error {
	now := r.now()
	err := r.change(ctx, func(rg *ring, k ringKey, now time.Time) string {
		for i := range rg.Keys {
			if old := &rg.Keys[i]; !old.retired(now) {
				old.Until, old.End, old.Why = now, now, "emergency"
			}
		}
		rg.NotBefore = now
		rg.add(k, now)
		return "emergency"
	}, by)
	if err != nil {
		return err
	}
	// iat counts whole seconds. Tokens of this very second that the old keys signed are dead by their key;
	// those that the new key signs in it must live.
	return r.revoke(ctx, Revocation{
		Kind: "issuer", Value: r.url, At: now, Before: now.Truncate(time.Second).Add(-time.Second), Renewed: true,
		NotAfter: now.Add(overlap), Reason: reason, By: by,
	})
}

// change edits the ring with a fresh key, again and again until no other replica interferes. edit
// returns what it did, or nothing when there is nothing to do.
func (r *Rotation) change(ctx context.Context, edit func(rg *ring, k ringKey, now time.Time) string, by string) error {
	const tries = 8
	r.mu.Lock()
	defer r.mu.Unlock()
	k, signer, err := r.make(ctx)
	if err != nil {
		return err
	}
	for range tries {
		now := r.now()
		rg, version, err := loadRing(ctx, r.store)
		if err != nil {
			return err
		}
		did := edit(&rg, k, now)
		if did == "" {
			_, err = r.adopt(rg, version, now)
			return err
		}
		rg.sweep(now)
		// The record comes first: a key that nobody recorded signs nothing.
		if err := r.record(ctx, r.event(did, k.ID, by, now)); err != nil {
			return fmt.Errorf("record rotation: %w", err)
		}
		version, err = saveRing(ctx, r.store, rg, version)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		r.signers.Put(k.ID, signer)
		_, err = r.adopt(rg, version, now)
		return err
	}
	return errors.New("rotate signing keys: other replicas change them all the time")
}

func (r *Rotation) event(did, id, by string, now time.Time) warder.Event {
	return warder.Event{
		ID: warder.NewID(now), Time: now.UTC(), Type: warder.EventKey, Control: iam07, Outcome: warder.OutcomeAllowed,
		Reason: warder.Reason("key_" + did), Target: id, Detail: "by " + cut(by, 128),
	}
}

// make has the keeper make a key.
func (r *Rotation) make(ctx context.Context) (ringKey, Signer, error) {
	signer, sealed, handle, err := r.keeper.Make(ctx)
	if err != nil {
		return ringKey{}, nil, err
	}
	id, err := jose.PublicKeyID(signer.Public())
	if err != nil {
		return ringKey{}, nil, err
	}
	pub, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return ringKey{}, nil, fmt.Errorf("make signing key: %w", err)
	}
	return ringKey{ID: id, Public: pub, Sealed: sealed, Handle: handle, Made: r.now()}, signer, nil
}

// sign signs claims with the key whose turn it is.
func (r *Rotation) sign(ctx context.Context, typ string, claims any) (string, error) {
	now := r.now()
	v := r.current.Load()
	if v == nil || now.Sub(v.read) > ringFresh {
		var err error
		if v, err = r.read(ctx, 0); err != nil {
			return "", err
		}
	}
	k := v.ring.signing(now)
	if k == nil {
		return "", errors.New("no signing key is in use")
	}
	signer, ok := r.signers.Get(k.ID)
	if !ok {
		pub, err := k.publicKey()
		if err != nil {
			return "", err
		}
		if signer, err = r.keeper.Open(ctx, pub, k.Sealed, k.Handle); err != nil {
			return "", err
		}
		r.signers.Put(k.ID, signer)
	}
	return jose.SignOpaque(ctx, signer, k.ID, typ, claims)
}

// published renders the keys that are not retired.
func (r *Rotation) published(ctx context.Context) ([]byte, error) {
	now := r.now()
	v := r.current.Load()
	if v == nil || now.Sub(v.read) > ringFresh {
		var err error
		if v, err = r.read(ctx, 0); err != nil {
			return nil, err
		}
	}
	return v.set, nil
}

// notBefore is the time of the last emergency: what was issued before is not good any more.
func (r *Rotation) notBefore() time.Time {
	if v := r.current.Load(); v != nil {
		return v.ring.NotBefore
	}
	return time.Time{}
}

// run keeps the ring current until ctx ends: other replicas' changes at once, the schedule in time.
func (r *Rotation) run(ctx context.Context) error {
	const every = 15 * time.Second
	hints := r.store.Watch(ctx)
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-hints:
		}
		err := r.maintain(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			r.log.LogAttrs(ctx, slog.LevelError, "signing keys cannot be maintained", slog.String("error", err.Error()))
		}
		failing = err != nil
	}
}
