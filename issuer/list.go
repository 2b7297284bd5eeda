package issuer

import (
	"context"
	"time"
)

// A KeyState is one signing key as operators see it.
type KeyState struct {
	ID        string
	Algorithm string
	State     string    // "next": published, does not sign yet; "active": signs; "verifying": its tokens are still good; "retired"
	Made      time.Time //
	From      time.Time // from when it signs
	End       time.Time // from when its tokens are refused; zero: not decided
	Why       string    // why it ended: "rotated" or "emergency"; empty if it did not
}

// List returns every key that is remembered, oldest first, as the store has them now. Errors are those of
// the store.
func (r *Rotation) List(ctx context.Context) ([]KeyState, error) {
	v, err := r.read(ctx, 0)
	if err != nil {
		return nil, err
	}
	now := r.now()
	signing := v.ring.signing(now)
	out := make([]KeyState, len(v.ring.Keys))
	for i := range v.ring.Keys {
		k := &v.ring.Keys[i]
		out[i] = KeyState{ID: k.ID, Algorithm: "ES256", State: "verifying", Made: k.Made, From: k.From, End: k.End, Why: k.Why}
		switch {
		case k.retired(now):
			out[i].State = "retired"
		case k == signing:
			out[i].State = "active"
		case now.Before(k.From):
			out[i].State = "next"
		}
	}
	return out, nil
}
