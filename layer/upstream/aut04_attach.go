package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/oauth"
)

// attach gives the server a token that was issued to Warder for it: never the caller's. When there is
// none and only the person can get one, the call is held.
// Control AUT-04; MCP 2026-07-28 "Security best practices" (token passthrough), RFC 8693, RFC 8707.
type attach struct{ *Keeper }

var _ warder.Interceptor = attach{}

// Control returns "AUT-04".
func (attach) Control() warder.ControlID { return "AUT-04" }

// Intercept sets the credential of the exchange.
func (a attach) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	s := a.serverOf(x)
	if s == nil || s.kind == kindSecret {
		return warder.Continue(), nil
	}
	if x.Principal == nil {
		return warder.Decision{}, errors.New("nobody is calling")
	}
	e := s.entryOf(x.Principal)
	now := a.now()
	t := e.ready(now)
	if t == nil {
		e.principal.Store(x.Principal)
		if err := e.obtain(ctx, nil); err != nil {
			return a.refusal(ctx, e, err)
		}
	} else if !now.Before(t.renewAt) {
		e.principal.Store(x.Principal)
		e.renewBeside()
	}
	x.Attach = e.attach
	return warder.Continue(), nil
}

// refusal is the decision when there is no token. Nothing of what an authorization server said leaves
// but its error code.
func (a attach) refusal(ctx context.Context, e *entry, err error) (warder.Decision, error) {
	if errors.Is(err, errConsent) {
		ask, err := e.askPerson(ctx, nil)
		if err != nil {
			return warder.Decision{}, err
		}
		return warder.Decision{Verdict: warder.Hold, Code: warder.CodeHeld, Reason: "authorization_needed", Ask: ask, Public: ask.Message}, nil
	}
	if ctx.Err() != nil {
		return warder.Decision{}, ctx.Err()
	}
	return warder.Refuse(warder.CodeUpstreamFailed, reasonOf(err), err.Error()).Tell("Warder could not obtain a credential for the server."), nil
}

// header shows the token to one request of the server. With a bound token the request carries a fresh
// proof (RFC 9449 section 7.1).
func (e *entry) header(ctx context.Context, r *http.Request) error {
	t := e.ready(e.s.k.now())
	if t == nil { // it ended while the call or the stream lasted
		if err := e.obtain(ctx, nil); err != nil {
			return e.failure(ctx, err, nil)
		}
		if t = e.ready(e.s.k.now()); t == nil {
			return e.failure(ctx, errors.New("the token has ended"), nil)
		}
	}
	if t.Bound {
		proof, err := e.s.client.Proof(r.Method, r.URL, t.access)
		if err != nil {
			return e.failure(ctx, err, nil)
		}
		r.Header["Dpop"] = []string{proof}
	}
	r.Header["Authorization"] = t.header
	return nil
}

// failure is an error that the proxy can show: held when the person can do something about it.
func (e *entry) failure(ctx context.Context, err error, scopes []string) error {
	if errors.Is(err, errConsent) {
		ask, err := e.askPerson(ctx, scopes)
		if err != nil {
			return &warder.Error{Code: warder.CodeUnavailable, Control: "AUT-04", Reason: "ask_not_kept", Err: err}
		}
		return &warder.Error{Code: warder.CodeHeld, Control: "AUT-04", Reason: "authorization_needed", Ask: ask, Public: ask.Message}
	}
	return &warder.Error{
		Code: warder.CodeUpstreamFailed, Control: "AUT-04", Reason: reasonOf(err), Err: err,
		Public: "Warder could not obtain a credential for the server.",
	}
}

// denied is told that the server answered 401 or 403. It returns nil when a better credential, or a proof
// with the server's nonce, is there now.
func (e *entry) denied(ctx context.Context, r *http.Response) error {
	cur := e.cur.Load()
	challenges := oauth.ParseChallenges(r.Header)
	if e.s.client.Nonce(e.s.url, r.Header) && cur != nil && cur.Bound && r.StatusCode == http.StatusUnauthorized {
		return nil // RFC 9449 section 9
	}
	if used := shownIn(r); used != "" && cur != nil && used != cur.header[0] {
		return nil // another request had it renewed already
	}
	if r.StatusCode == http.StatusForbidden {
		return e.more(ctx, cur, challenges)
	}
	return e.another(ctx, cur, challenges)
}

// shownIn is the credential that the refused request carried, if it is known.
func shownIn(r *http.Response) string {
	if r.Request == nil {
		return ""
	}
	return r.Request.Header.Get("Authorization")
}

// another gets a token in place of one that the server does not take. Its metadata may have changed with
// it: what another authorization server gave is then forgotten (SEP-2352).
func (e *entry) another(ctx context.Context, cur *token, challenges []oauth.Challenge) error {
	if cur == nil {
		return e.failure(ctx, errConsentIf(e.s.kind == kindOAuth), nil)
	}
	if challenges == nil {
		challenges = []oauth.Challenge{}
	}
	t, err := e.s.discover(ctx, challenges)
	if err != nil {
		return e.failure(ctx, err, nil)
	}
	switch soon := e.s.k.now().Sub(cur.got) < tooSoon; {
	case t.Server.Issuer != cur.Issuer && e.s.kind == kindOAuth:
		return e.failure(ctx, e.remove(ctx, "authorization_server_changed"), t.Asked)
	case soon && t.Server.Issuer == cur.Issuer && e.s.kind == kindOAuth:
		return e.failure(ctx, e.remove(ctx, "token_refused"), t.Asked)
	case soon && t.Server.Issuer == cur.Issuer:
		return e.failure(ctx, errors.New("the server refuses a fresh token"), nil)
	}
	if err := e.obtain(ctx, cur); err != nil {
		return e.failure(ctx, err, t.Asked)
	}
	return nil
}

func errConsentIf(person bool) error {
	if person {
		return errConsent
	}
	return errors.New("the token has ended")
}

// more gets a token with the scopes that the server asks for, in addition to those it had (SEP-2350).
// Scopes that were asked for before and are still missing were not granted: asking again is a loop.
func (e *entry) more(ctx context.Context, cur *token, challenges []oauth.Challenge) error {
	var scopes []string
	for _, c := range challenges {
		if c.Error == "insufficient_scope" {
			scopes = c.Scopes
		}
	}
	if cur == nil || len(scopes) == 0 {
		return &warder.Error{
			Code: warder.CodeUpstreamFailed, Control: "AUT-04", Reason: "server_denied",
			Public: "The server behind the gateway does not allow this call.",
		}
	}
	fresh := slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(cur.asked, s) })
	if !fresh {
		e.s.k.tell(ctx, "AUT-04", e.s, e.owner, refused, "scope_not_granted", "")
		return &warder.Error{
			Code: warder.CodeUpstreamFailed, Control: "AUT-04", Reason: "scope_not_granted",
			Public: "The authorization server does not grant what the server asks for.",
		}
	}
	if e.s.issued == nil {
		return e.failure(ctx, errConsent, scopes)
	}
	e.mu.Lock()
	e.scopes = union(cur.asked, scopes)
	e.mu.Unlock()
	if err := e.obtain(ctx, cur); err != nil {
		return e.failure(ctx, err, nil)
	}
	return nil
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
