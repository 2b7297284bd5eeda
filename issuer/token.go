package issuer

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
)

// Grant types.
const (
	grantCode      = "authorization_code"
	grantRefresh   = "refresh_token"
	grantClient    = "client_credentials"
	grantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693
	grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523
	profileIDJAG   = "urn:ietf:params:oauth:grant-profile:id-jag"
)

// An award is what a grant gives: the claims of one access token for one server.
type award struct {
	resource Resource
	claims   Claims
	refresh  string           // refresh token; empty: none
	kind     string           // issued_token_type of RFC 8693; empty: not an exchange
	reason   warder.Reason    // for the record; empty: token_issued
	control  warder.ControlID // for the record; empty: none
	detail   string           // for the record
}

// tokenAnswer is the body of RFC 6749 section 5.1.
type tokenAnswer struct {
	Token   string          `json:"access_token"`
	Issued  string          `json:"issued_token_type,omitempty"`
	Type    string          `json:"token_type"`
	Expires int64           `json:"expires_in"`
	Scope   string          `json:"scope"`
	Refresh string          `json:"refresh_token,omitempty"`
	Details json.RawMessage `json:"authorization_details,omitempty"`
}

// token is the token endpoint. What it gives or refuses is recorded before the answer leaves.
func (is *Issuer) token(w http.ResponseWriter, r *http.Request) {
	grant, client, out, f := is.exchangeGrant(w, r)
	if f == nil {
		answer(w, http.StatusOK, out)
		return
	}
	f.detail = strings.TrimSpace("grant " + cut(grant, 80) + ": " + f.detail)
	if err := is.recordFault(r, client, f); err != nil {
		f = undecided(err)
	}
	is.fail(w, r, f)
}

// exchangeGrant turns a grant into a token.
func (is *Issuer) exchangeGrant(w http.ResponseWriter, r *http.Request) (grant, client string, out *tokenAnswer, f *fault) {
	p, f := form(r)
	if f != nil {
		return "", "", nil, f
	}
	grant, client = p["grant_type"], p["client_id"]
	if !slices.Contains(is.grants(), grant) {
		return grant, client, nil, refuse(errGrantType, "The grant type is not supported.")
	}
	who, f := is.grantee(r, p)
	if f != nil {
		return grant, client, nil, f
	}
	client = who.client.ID
	if f := is.prove(w, r, who); f != nil {
		return grant, client, nil, f
	}
	if !who.client.may(grant) {
		return grant, client, nil, refuse(errUnauthorized, "The client may not use this grant type.")
	}
	ctx := r.Context()
	// An emergency that another replica declared reaches this one here at the latest.
	if _, err := is.keys.read(ctx, time.Second); err != nil {
		return grant, client, nil, undecided(err)
	}
	var a *award
	switch grant {
	case grantCode:
		a, f = is.redeem(ctx, who, p)
	case grantRefresh:
		a, f = is.refresh(ctx, who, p)
	case grantClient:
		a, f = is.clientCredentials(who, p)
	case grantExchange:
		a, f = is.delegate(ctx, who, p)
	case grantJWTBearer:
		a, f = is.bearerAssertion(ctx, who, p)
	}
	if f != nil {
		return grant, client, nil, f
	}
	out, f = is.give(ctx, r, grant, a)
	return grant, client, out, f
}

// grantee authenticates the client of a token request. The assertion of a workload may stand for the
// client itself (RFC 7523 section 3.1).
func (is *Issuer) grantee(r *http.Request, p parameters) (*caller, *fault) {
	_, named := p["client_id"]
	_, asserted := p["client_assertion"]
	if p["grant_type"] != grantJWTBearer || named || asserted || r.Header.Get("Authorization") != "" {
		return is.authenticate(r, p)
	}
	id, f := is.asserted(p["assertion"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	if f != nil {
		return nil, f
	}
	c, f := is.registration.find(r.Context(), id, is.deps.Peer(r))
	if f != nil {
		return nil, f
	}
	if c.meta.config == nil || c.meta.config.Workload == (WorkloadConfig{}) {
		return nil, refuse(errClient, "The client must authenticate.").because("client_missing", "")
	}
	// bearerAssertion verifies the assertion again, for what it says; here it stands for the client.
	if f := is.workloadToken(r.Context(), c.meta.config, p["assertion"]); f != nil {
		return nil, f.as(errGrant)
	}
	who := &caller{client: c}
	return who, is.limit(who, is.deps.Peer(r))
}

// give signs the token of an award, records it, and renders the answer.
func (is *Issuer) give(ctx context.Context, r *http.Request, grant string, a *award) (*tokenAnswer, *fault) {
	raw, id, err := is.mint(ctx, a.claims)
	if err != nil {
		return nil, undecided(err)
	}
	reason := a.reason
	if reason == "" {
		reason = "token_issued"
	}
	e := is.event(reason, warder.OutcomeAllowed)
	agent := a.claims.Client
	if len(a.claims.Actors) > 0 {
		agent = a.claims.Actors[0]
	}
	e.Principal = &warder.EventPrincipal{
		Issuer: is.cfg.URL, Subject: a.claims.Subject, Tenant: a.claims.Tenant, Client: a.claims.Client, Agent: agent,
		TokenID: id, Groups: a.claims.Groups, Scopes: a.claims.Scopes,
	}
	e.Server, e.Peer, e.Control = a.resource.Server, is.deps.Peer(r), a.control
	e.Detail = cut("grant "+grant+" "+a.detail, 256)
	if err := is.deps.Record(ctx, e); err != nil {
		return nil, undecided(err)
	}
	out := &tokenAnswer{
		Token: raw, Issued: a.kind, Type: "Bearer", Expires: int64(a.claims.TTL / time.Second),
		Scope: strings.Join(a.claims.Scopes, " "), Refresh: a.refresh,
	}
	if a.claims.Binding != "" {
		out.Type = "DPoP"
	}
	if len(a.claims.Details) > 0 {
		out.Details = encodeDetails(a.claims.Details)
	}
	return out, nil
}

// clientCredentials is the grant of that name: a configured client acts for itself.
func (is *Issuer) clientCredentials(who *caller, p parameters) (*award, *fault) {
	if !who.client.confidential() || who.client.meta.config == nil {
		return nil, refuse(errUnauthorized, "The client may not use this grant type.").because("client_public", "")
	}
	return is.awardClient(who, p)
}

// awardClient is a token that a configured client gets for itself.
func (is *Issuer) awardClient(who *caller, p parameters) (*award, *fault) {
	k := who.client.meta.config
	resource, f := is.target(p["resource"])
	if f != nil {
		return nil, f
	}
	scopes, f := is.scopes(p["scope"], resource)
	if f != nil {
		return nil, f
	}
	if f := who.client.narrow(resource, scopes); f != nil {
		return nil, f
	}
	raw, f := details(p["authorization_details"], resource)
	if f != nil {
		return nil, f
	}
	list, err := parseDetails(raw)
	if err != nil {
		return nil, undecided(err)
	}
	if resource.Tenant != "" && resource.Tenant != k.Tenant {
		return nil, refuse(errTarget, "The resource is not known here.").because("tenant_mismatch", "")
	}
	now := is.deps.Now()
	if is.deps.Revoked(&warder.Principal{Issuer: is.cfg.URL, Subject: k.ID, Tenant: k.Tenant, Client: k.ID, Agent: k.ID, IssuedAt: now}) {
		return nil, refuse(errGrant, "The client was revoked.").because("revoked", "")
	}
	return &award{resource: resource, claims: Claims{
		Subject: k.ID, Audience: resource.URI, Scopes: scopes, Groups: k.Groups, Client: k.ID, Tenant: k.Tenant,
		TTL: is.cfg.Lifetimes.Access, Binding: who.key(), Cert: who.cert, Details: list, Purpose: purpose(list),
	}}, nil
}

// purpose is the one purpose that all details declare; empty when they differ.
func purpose(list []warder.Detail) string {
	if len(list) == 0 {
		return ""
	}
	for i := range list {
		if list[i].Purpose != list[0].Purpose {
			return ""
		}
	}
	return list[0].Purpose
}

// encodeDetails renders authorization details.
func encodeDetails(details []warder.Detail) json.RawMessage { return rar.Encode(details) }
