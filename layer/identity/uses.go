package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/state"
)

// Uses counts how often something was used, over all replicas. It is safe for concurrent use.
type Uses interface {
	// Spend takes one of limit uses of id, which is remembered until then, and returns how many are left.
	// A negative number says that none was left. An error means that nobody knows, and the caller must
	// refuse.
	Spend(ctx context.Context, id string, limit int, until time.Time) (left int, err error)
}

// NewUseLimit builds the layer "uses": it takes one call off a credential that is good for a number of
// them (max_calls). It belongs behind policy, so that a call that is refused or held costs nothing.
func NewUseLimit(uses Uses) warder.Layer {
	return warder.Layer{Name: "uses", Request: []warder.Interceptor{&useLimit{uses: uses}}}
}

// useLimit counts the calls of a credential. Control IAM-04, second part; phase Request, last.
type useLimit struct{ uses Uses }

var _ warder.Interceptor = (*useLimit)(nil)

// Control returns IAM-04.
func (*useLimit) Control() warder.ControlID { return "IAM-04" }

// Intercept spends one call of the detail that covers the exchange, if it counts them.
func (u *useLimit) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil || !slices.ContainsFunc(p.Details, func(d warder.Detail) bool { return d.MaxCalls > 0 }) || x.Request.IsAnswer() {
		return warder.Continue(), nil
	}
	purpose, refusal := purposeOf(x)
	if refusal != "" {
		return warder.Refuse(warder.CodeDenied, refusal, ""), nil
	}
	for _, i := range candidates(p.Details, x, purpose) {
		d := &p.Details[i]
		if d.MaxCalls == 0 {
			return warder.Continue(), nil
		}
		if u.uses == nil {
			return warder.Decision{}, errors.New("nothing counts the calls of credentials")
		}
		left, err := u.uses.Spend(ctx, useID(p, d), d.MaxCalls, p.NotAfter)
		if err != nil {
			return warder.Decision{}, fmt.Errorf("count the call: %w", err) // the runner denies
		}
		if left >= 0 {
			return warder.Continue(), nil
		}
	}
	if kind, _ := actsOn(x.Request); kind == onNothing {
		return warder.Continue(), nil
	}
	return warder.Refuse(warder.CodeDenied, "detail_calls_used_up", "every call the credential was good for was made").
		Tell("The credential was good for a number of calls, and all of them were made."), nil
}

// candidates are the details that cover the exchange, one without a count first.
func candidates(list []warder.Detail, x *warder.Exchange, purpose string) []int {
	var fit []int
	for i := range list {
		if j, v := covering(list[i:i+1], x, purpose); v == nil && j == 0 {
			fit = append(fit, i)
		}
	}
	slices.SortStableFunc(fit, func(a, b int) int { return min(list[a].MaxCalls, 1) - min(list[b].MaxCalls, 1) })
	return fit
}

// useID names one detail of one credential.
func useID(p *warder.Principal, d *warder.Detail) string {
	h := sha256.New()
	for _, part := range [...][]byte{[]byte(p.Issuer), []byte(p.TokenID), rar.Encode([]warder.Detail{*d})} {
		h.Write(strconv.AppendInt(nil, int64(len(part)), 10))
		h.Write([]byte{':'})
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// kindUses is the kind of the documents of a [StoredUses].
const kindUses = "identity.uses"

// maxSpendTries bounds how often a count that others change at the same time is tried again.
const maxSpendTries = 64

// A StoredUses counts in a store. It is safe for concurrent use.
type StoredUses struct{ store state.Store }

var _ Uses = (*StoredUses)(nil)

// NewUses counts in a store, by compare-and-swap.
func NewUses(store state.Store) *StoredUses { return &StoredUses{store: store} }

// Spend implements [Uses].
func (s *StoredUses) Spend(ctx context.Context, id string, limit int, until time.Time) (int, error) {
	if limit <= 0 {
		return -1, nil
	}
	for range maxSpendTries {
		used := 0
		doc, err := s.store.Get(ctx, kindUses, id)
		switch {
		case errors.Is(err, state.ErrNotFound):
			doc = state.Doc{Kind: kindUses, ID: id, NotAfter: until}
		case err != nil:
			return 0, err
		default:
			if used, err = strconv.Atoi(string(doc.Body)); err != nil || used < 0 {
				return 0, errors.New("count of uses is damaged")
			}
		}
		if used >= limit {
			return -1, nil
		}
		doc.Body = strconv.AppendInt(nil, int64(used+1), 10)
		_, err = s.store.Put(ctx, doc)
		if err == nil {
			return limit - used - 1, nil
		}
		if !errors.Is(err, state.ErrConflict) {
			return 0, err
		}
	}
	return 0, state.ErrConflict
}
