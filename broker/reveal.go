package broker

import (
	"bytes"
	"context"
	"fmt"

	"github.com/warder-mcp/warder/internal/seal"
)

// Reveal returns a hold with the parameters of its call. It asks nobody who wants to know: it is for
// pages that judge that themselves.
func (h *Holds) Reveal(ctx context.Context, id string) (Hold, error) {
	b, err := h.get(ctx, id)
	if err != nil {
		return Hold{}, err
	}
	return h.reveal(&b)
}

// reveal opens the sealed parameters.
func (h *Holds) reveal(b *holdBody) (Hold, error) {
	key, ok := b.key()
	if !ok {
		return Hold{}, fmt.Errorf("hold %q: %w: no digest", b.ID, ErrInvalid)
	}
	now := h.b.deps.Now()
	hold := b.at(now)
	parameters, _, err := h.b.deps.Box.Open(b.Sealed, now, seal.Claims{Purpose: "hold", Principal: b.Principal, Digest: key.digest})
	if err != nil {
		return Hold{}, fmt.Errorf("hold %q: parameters: %w", b.ID, err)
	}
	hold.Parameters = bytes.Clone(parameters)
	return hold, nil
}
