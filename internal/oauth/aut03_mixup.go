package oauth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/url"
	"slices"

	"github.com/warder-mcp/warder"
)

// Issuers keeps authorization servers apart: metadata must be that of the issuer it was asked of, PKCE
// with S256 must be promised, the answer of a browser must come from the server that the flow began
// with, and what one issuer gave us is never shown to another. The zero value is the strict one. It is
// safe for concurrent use.
//
// Control AUT-03; RFC 8414 section 3.3, RFC 9207 section 2.4, RFC 9700 section 4.4, MCP 2026-07-28
// "Authorization" (authorization server binding, PKCE).
type Issuers struct {
	Allowed []string // the only issuers that may be used; empty: any that the server's metadata names
	Refused Refused  // may be nil
}

// Control returns "AUT-03".
func (*Issuers) Control() warder.ControlID { return "AUT-03" }

func (g *Issuers) refuse(ctx context.Context, sentinel error, reason warder.Reason, detail string) error {
	if g.Refused != nil {
		g.Refused(ctx, g.Control(), reason, detail)
	}
	return fmt.Errorf("%w: %s: %s", sentinel, reason, detail)
}

// Issuer judges an issuer before anything is fetched from it.
func (g *Issuers) Issuer(ctx context.Context, issuer string) error {
	if len(g.Allowed) > 0 && !slices.Contains(g.Allowed, issuer) {
		return g.refuse(ctx, ErrMixUp, "issuer_not_allowed", "issuer "+quote(issuer))
	}
	return nil
}

// Metadata judges what an authorization server says of itself: issuer must be the one that was asked,
// character by character (RFC 8414 section 3.3).
func (g *Issuers) Metadata(ctx context.Context, want string, s *Server) error {
	if s.Issuer != want {
		return g.refuse(ctx, ErrMixUp, "issuer_mismatch", "asked "+quote(want)+", document says "+quote(s.Issuer))
	}
	return nil
}

// Code judges whether an authorization code may be asked for there at all: PKCE with S256 must be
// promised in the metadata; silence is a no (MCP 2026-07-28 "Authorization code protection").
func (g *Issuers) Code(ctx context.Context, s *Server) error {
	if !slices.Contains(s.ChallengeMethods, "S256") {
		return g.refuse(ctx, ErrPKCE, "pkce_not_promised", "issuer "+quote(s.Issuer))
	}
	return nil
}

// Answer judges the query that came back to the redirect URI, error answers included: the state must be
// that of the flow, and iss that of the server the flow began with, compared as plain strings. iss may be
// absent only where the server does not announce it (RFC 9207 section 2.4).
func (g *Issuers) Answer(ctx context.Context, f *Flow, query url.Values) error {
	for name, values := range query {
		if len(values) != 1 { // RFC 6749 section 3.1: parameters must not be repeated
			return g.refuse(ctx, ErrResponse, "parameter_repeated", "parameter "+quote(name))
		}
	}
	if f.State == "" || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(f.State)) != 1 {
		return g.refuse(ctx, ErrState, "state_mismatch", "issuer "+quote(f.Issuer))
	}
	iss, sent := query.Get("iss"), query.Has("iss")
	switch {
	case !sent && f.IssRequired:
		return g.refuse(ctx, ErrMixUp, "iss_missing", "issuer "+quote(f.Issuer))
	case sent && iss != f.Issuer:
		return g.refuse(ctx, ErrMixUp, "iss_mismatch", "began with "+quote(f.Issuer)+", answered "+quote(iss))
	}
	return nil
}

// Bound judges whether something that is kept for one issuer is about to be used at another: a client
// registration, a flow, a refresh token.
func (g *Issuers) Bound(ctx context.Context, kept, used string) error {
	if kept == "" || kept != used {
		return g.refuse(ctx, ErrMixUp, "credential_of_another_issuer", "kept for "+quote(kept)+", asked for "+quote(used))
	}
	return nil
}
