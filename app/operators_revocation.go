package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/revocation"
)

// revocationAdmin is what is revoked as the admin plane knows it.
type revocationAdmin struct {
	set *revocation.Set
	now func() time.Time
}

var _ admin.Revocations = revocationAdmin{}

func revocationError(err error) error {
	switch {
	case errors.Is(err, revocation.ErrUnknownKind), errors.Is(err, revocation.ErrValue):
		return fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	case errors.Is(err, revocation.ErrNotRevoked):
		return fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	case errors.Is(err, revocation.ErrFull):
		return fmt.Errorf("%w: %w", admin.ErrRefused, err)
	default:
		return err
	}
}

func shownRevocation(e *revocation.Entry) admin.Revocation {
	return admin.Revocation{Kind: string(e.Kind), Value: e.Value, At: e.At, NotAfter: e.NotAfter, Reason: e.Reason, By: e.By}
}

// Revoke implements admin.Revocations. What is returned is what is in force, which may be more than was
// asked for: a revocation is never narrowed by a later one.
func (a revocationAdmin) Revoke(ctx context.Context, by *admin.Operator, r admin.RevocationRequest) (admin.Revocation, error) {
	e := revocation.Entry{Kind: revocation.Kind(r.Kind), Value: r.Value, Reason: r.Reason, By: by.Name()}
	if r.TTLSeconds > 0 {
		e.NotAfter = a.now().Add(lasting(r.TTLSeconds))
	}
	if err := a.set.Revoke(ctx, e); err != nil {
		return admin.Revocation{}, revocationError(err)
	}
	if found, ok := a.set.Find(e.Kind, e.Value); ok {
		e = found
	}
	return shownRevocation(&e), nil
}

// Lift implements admin.Revocations.
func (a revocationAdmin) Lift(ctx context.Context, by *admin.Operator, kind, value string) error {
	return revocationError(a.set.Lift(ctx, revocation.Kind(kind), value, by.Name()))
}

// List implements admin.Revocations.
func (a revocationAdmin) List(ctx context.Context, q admin.RevocationQuery) (admin.Page[admin.Revocation], error) {
	found, err := a.set.List(ctx)
	if err != nil {
		return admin.Page[admin.Revocation]{}, err
	}
	var all []admin.Revocation
	for i := range found {
		if q.Kind == "" || q.Kind == string(found[i].Kind) {
			all = append(all, shownRevocation(&found[i]))
		}
	}
	return admin.Cut(all, q.Paging, func(r *admin.Revocation) string { return r.Kind + " " + r.Value }), nil
}
