package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/warder-mcp/warder/internal/state"
)

// Withdraw ends what a client may do for a person: its refresh tokens, and the access tokens that came
// with them. The person has taken their consent back.
func (is *Issuer) Withdraw(ctx context.Context, subject, client string) error {
	for d, err := range state.All(ctx, is.deps.State, state.Query{Kind: kindRefresh, Topic: subject}) {
		if err == nil {
			err = is.withdraw(ctx, *d, client)
		}
		if err != nil {
			return fmt.Errorf("withdraw: %w", err)
		}
	}
	return nil
}

// withdraw ends one family if it is the client's.
func (is *Issuer) withdraw(ctx context.Context, d state.Doc, client string) error {
	const tries, why = 8, "consent_withdrawn"
	for range tries {
		m := &family{}
		if err := json.Unmarshal(d.Body, m); err != nil {
			return err
		}
		if d.Owner != is.cfg.URL || m.Client != client {
			return nil
		}
		if m.Dead != "" {
			return is.revokeTokens(ctx, m.Tokens, why)
		}
		m.Dead, m.Turn = why, nil
		body, err := json.Marshal(m)
		if err != nil {
			return err
		}
		d.Body = body
		_, err = is.deps.State.Put(ctx, d)
		if err == nil {
			return is.revokeTokens(ctx, m.Tokens, why)
		}
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
		d, err = is.deps.State.Get(ctx, kindRefresh, d.ID)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("others change the refresh tokens all the time")
}
