package safedial

import (
	"context"
	"errors"

	"github.com/warder-mcp/warder"
)

// A Refusal is one connection or request that was not made.
type Refusal struct {
	Reason warder.Reason // address_refused, host_refused, network_refused, redirect_refused or body_too_long
	Detail string        // for operators: what was to be reached, quoted and cut
}

// A guarded refusal is where control AUT-08 stands: every outgoing fetch of Warder goes through a
// [Dialer], and what it refuses is told here.
//
// Control AUT-08; RFC 6890, MCP 2026-07-28 "Security best practices" (server-side request forgery), OWASP
// SSRF prevention.
type egress struct {
	refused func(ctx context.Context, r Refusal)
}

// Control returns "AUT-08".
func (egress) Control() warder.ControlID { return "AUT-08" }

// tell passes on an error, and tells of it if it is a refusal.
func (g egress) tell(ctx context.Context, err error) error {
	if err == nil || g.refused == nil {
		return err
	}
	for _, known := range []struct {
		err    error
		reason warder.Reason
	}{
		{ErrForbiddenAddress, "address_refused"},
		{ErrForbiddenHost, "host_refused"},
		{ErrForbiddenNetwork, "network_refused"},
		{ErrRedirect, "redirect_refused"},
	} {
		if errors.Is(err, known.err) {
			g.refused(ctx, Refusal{Reason: known.reason, Detail: cut(err.Error())})
			break
		}
	}
	return err
}

func cut(s string) string {
	if len(s) > 256 {
		s = s[:256]
	}
	return s
}
