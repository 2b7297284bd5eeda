package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// introspection is the answer of RFC 7662 section 2.2.
type introspection struct {
	Active   bool            `json:"active"`
	Issuer   string          `json:"iss,omitempty"`
	Subject  string          `json:"sub,omitempty"`
	Audience string          `json:"aud,omitempty"`
	Client   string          `json:"client_id,omitempty"`
	Scope    string          `json:"scope,omitempty"`
	Type     string          `json:"token_type,omitempty"`
	Expires  int64           `json:"exp,omitempty"`
	Issued   int64           `json:"iat,omitempty"`
	ID       string          `json:"jti,omitempty"`
	Groups   []string        `json:"groups,omitempty"`
	Tenant   string          `json:"tenant,omitempty"`
	ACR      string          `json:"acr,omitempty"`
	AMR      []string        `json:"amr,omitempty"`
	AuthTime int64           `json:"auth_time,omitempty"`
	Session  string          `json:"sid,omitempty"`
	Confirm  *confirmation   `json:"cnf,omitempty"`
	Actor    *actor          `json:"act,omitempty"`
	Details  json.RawMessage `json:"authorization_details,omitempty"`
	Purpose  string          `json:"purpose,omitempty"`
}

// introspect is the introspection endpoint. A client learns about its own tokens; about those of others
// only when the operator says so. Every other token is simply not active.
func (is *Issuer) introspect(w http.ResponseWriter, r *http.Request) {
	p, f := form(r)
	var who *caller
	if f == nil {
		who, f = is.authenticate(r, p)
	}
	if f == nil && !who.client.confidential() {
		f = refuse(errClient, "The client must authenticate.").because("client_public", "")
	}
	if f != nil {
		if err := is.recordFault(r, p["client_id"], f); err != nil {
			f = undecided(err)
		}
		is.fail(w, r, f)
		return
	}
	s, f := is.verify(r.Context(), p["token"])
	if f != nil && f.err != nil {
		is.fail(w, r, f)
		return
	}
	all := who.client.meta.config != nil && who.client.meta.config.Introspect
	if f != nil || s.principal.Client != who.client.ID && !all {
		answer(w, http.StatusOK, introspection{})
		return
	}
	answer(w, http.StatusOK, s.introspection())
}

// introspection renders a token that is good.
func (s *shown) introspection() introspection {
	o := &s.principal
	out := introspection{
		Active: true, Issuer: o.Issuer, Subject: o.Subject, Audience: strings.Join(s.audience, " "), Client: o.Client,
		Scope: strings.Join(o.Scopes, " "), Type: "Bearer", Expires: o.NotAfter.Unix(), Issued: o.IssuedAt.Unix(), ID: o.TokenID,
		Groups: o.Groups, Tenant: o.Tenant, ACR: o.ACR, AMR: o.AMR, Session: o.Session, Actor: chain(o.Actors), Purpose: o.Purpose,
	}
	if s.key != "" || s.cert != "" {
		out.Confirm = &confirmation{Key: s.key, Cert: s.cert}
	}
	if s.key != "" {
		out.Type = "DPoP"
	}
	if !o.AuthTime.IsZero() {
		out.AuthTime = o.AuthTime.Unix()
	}
	if len(o.Details) > 0 {
		out.Details = encodeDetails(o.Details)
	}
	return out
}

// revoke is the revocation endpoint (RFC 7009): a refresh token takes its family with it, an access
// token is revoked everywhere. A token that is unknown, or of another client, is no error.
func (is *Issuer) revoke(w http.ResponseWriter, r *http.Request) {
	p, f := form(r)
	var who *caller
	if f == nil {
		who, f = is.authenticate(r, p)
	}
	var e warder.Event
	if f == nil {
		e, f = is.revokeShown(r.Context(), who, p["token"])
	}
	if f != nil {
		if err := is.recordFault(r, p["client_id"], f); err != nil {
			f = undecided(err)
		}
		is.fail(w, r, f)
		return
	}
	e.Peer = is.deps.Peer(r)
	if err := is.deps.Record(r.Context(), e); err != nil {
		is.unavailable(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

// revokeShown ends a token of the caller's.
func (is *Issuer) revokeShown(ctx context.Context, who *caller, raw string) (warder.Event, *fault) {
	e := is.event("revocation_ignored", warder.OutcomeAllowed)
	e.Principal = &warder.EventPrincipal{Issuer: is.cfg.URL, Client: who.client.ID}
	if rest, ok := strings.CutPrefix(raw, refreshPrefix); ok {
		id, _, _ := strings.Cut(rest, ".")
		m, _, err := is.getFamily(ctx, id)
		switch {
		case errors.Is(err, state.ErrNotFound), err == nil && m.Client != who.client.ID:
			return e, nil
		case err != nil:
			return e, undecided(err)
		}
		if err := is.killFamily(ctx, id, "revoked_by_client"); err != nil {
			return e, undecided(err)
		}
		e.Reason, e.Principal.Subject = "refresh_revoked", m.User.Subject
		return e, nil
	}
	s, f := is.verify(ctx, raw)
	if f != nil {
		if f.err != nil {
			return e, f
		}
		return e, nil
	}
	if s.principal.Client != who.client.ID {
		return e, nil
	}
	if err := is.revokeTokens(ctx, []issued{{ID: s.principal.TokenID, Until: s.principal.NotAfter}}, "revoked_by_client"); err != nil {
		return e, undecided(err)
	}
	e.Reason, e.Principal.Subject, e.Principal.TokenID = "token_revoked", s.principal.Subject, s.principal.TokenID
	return e, nil
}
