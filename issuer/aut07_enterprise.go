package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

const (
	aut07     = "AUT-07"
	typeIDJAG = "oauth-id-jag+jwt" // typ of an identity assertion authorization grant
	maxJAGID  = 256                // bytes of jti
)

// Enterprise is control AUT-07: the identity provider of a company says which of its people may use
// which client for which server, with an Identity Assertion JWT Authorization Grant (ID-JAG,
// draft-ietf-oauth-identity-assertion-authz-grant; MCP enterprise-managed authorization), and nobody
// is asked in a browser. The assertion is signed by an issuer that the operator trusts for it, is for
// exactly this server and exactly the client that shows it, names a resource that is known, and is used
// once. It is safe for concurrent use.
type Enterprise struct{ is *Issuer }

// Control names the control.
func (*Enterprise) Control() warder.ControlID { return aut07 }

// jag is what an assertion says.
type jag struct {
	token    *jose.Token
	from     *foreign
	audience []string
	client   string
	resource string
	id       string
	subject  string
	scopes   []string
	shown    *shown
}

// redeem gives an access token for an assertion.
func (e *Enterprise) redeem(ctx context.Context, who *caller, p parameters) (*award, *fault) {
	a, f := e.award(ctx, who, p)
	if f != nil && f.ctrl == "" {
		f.ctrl = aut07
	}
	return a, f
}

func (e *Enterprise) award(ctx context.Context, who *caller, p parameters) (*award, *fault) {
	if !who.client.confidential() {
		return nil, refuse(errUnauthorized, "The client may not use this grant type.").because("client_public", "")
	}
	j, f := e.read(ctx, p["assertion"])
	if f != nil {
		return nil, f
	}
	if f := e.is.enforce(ctx, aut07, errGrant, j.id, func() warder.Decision { return e.judge(j, who, p) }); f != nil {
		return nil, f
	}
	if f := e.once(ctx, j); f != nil {
		return nil, f
	}
	uri := j.resource
	if uri == "" {
		uri = p["resource"]
	}
	resource, f := e.is.target(uri)
	if f == nil {
		f = resource.foreign()
	}
	if f != nil {
		return nil, f
	}
	if resource.Tenant != "" && resource.Tenant != j.from.Tenant {
		return nil, refuse(errTarget, "The resource is not known here.").because("tenant_mismatch", "")
	}
	return e.give(j, who, p, resource)
}

// read verifies who signed the assertion and that it is current.
func (e *Enterprise) read(ctx context.Context, raw string) (*jag, *fault) {
	issuer, err := jose.AssertionClient(raw) // iss, unverified: only to choose who verifies
	if err != nil {
		return nil, refuse(errGrant, "The assertion is not acceptable.").because("assertion_refused", err.Error())
	}
	from := e.is.foreign[issuer]
	if !from.used(UseIDJAG) {
		return nil, refuse(errGrant, "The assertion is of an issuer that is not trusted.").because("issuer_unknown", cut(issuer, 200))
	}
	token, f := from.verify(ctx, raw, e.is.deps.Now())
	if f != nil {
		return nil, f
	}
	j := &jag{token: token, from: from}
	var errs [7]error
	j.audience, errs[0] = token.Claims.List("aud")
	j.client, errs[1] = token.Claims.Text("client_id")
	j.resource, errs[2] = token.Claims.Text("resource")
	j.id, errs[3] = token.Claims.Text("jti")
	j.subject, errs[4] = token.Claims.Text("sub")
	j.scopes, errs[5] = token.Claims.Words("scope")
	j.shown, errs[6] = readShown(token.Claims)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, refuse(errGrant, "The assertion is not acceptable.").because("assertion_refused", err.Error())
	}
	return j, nil
}

// judge decides whether the assertion is meant for this server, this client and this request.
func (e *Enterprise) judge(j *jag, who *caller, p parameters) warder.Decision {
	no := func(reason warder.Reason, detail string) warder.Decision {
		return warder.Refuse(warder.CodeDenied, reason, detail).Tell("The assertion is not for this.")
	}
	asked, named := p["resource"]
	switch {
	case j.token.Header.Type != typeIDJAG:
		return no("jag_type", "typ is "+cut(j.token.Header.Type, 40))
	case !j.from.aimed(j.audience):
		return no("jag_audience", "aud is not this authorization server alone")
	case j.client != who.client.ID:
		return no("jag_client", "client_id is "+cut(j.client, 200))
	case j.id == "" || len(j.id) > maxJAGID:
		return no("jag_id", "jti is missing or too long")
	case named && j.resource != "" && asked != j.resource:
		return no("jag_resource", "resource is "+cut(j.resource, 200))
	default:
		return warder.Continue()
	}
}

// once refuses an assertion that was used before.
func (e *Enterprise) once(ctx context.Context, j *jag) *fault {
	if e.is.deps.Mode(aut07) == Off {
		return nil
	}
	end, err := j.token.Claims.Time("exp")
	if err != nil {
		return undecided(err)
	}
	fresh, err := e.is.deps.Replays.Add(ctx, "id-jag\x1f"+j.from.Issuer+"\x1f"+j.id, end.Add(time.Minute))
	if err != nil {
		return undecided(err)
	}
	return e.is.enforce(ctx, aut07, errGrant, j.id, func() warder.Decision {
		if !fresh {
			return warder.Refuse(warder.CodeDenied, "jag_replayed", "the assertion was used before").Tell("The assertion was used before.")
		}
		return warder.Continue()
	})
}

// give maps the claims. Scopes are those that the assertion, the operator, the server and the request
// all name; a request that names none asks for all. No refresh token: the company decides each time.
func (e *Enterprise) give(j *jag, who *caller, p parameters, resource Resource) (*award, *fault) {
	wanted, f := e.is.scopes(p["scope"], Resource{})
	if f != nil {
		return nil, f
	}
	var scopes []string
	for _, s := range j.scopes {
		if s == "openid" || s == "offline_access" || !scopeToken(s) || slices.Contains(scopes, s) ||
			len(wanted) > 0 && !slices.Contains(wanted, s) ||
			len(j.from.Scopes) > 0 && !slices.Contains(j.from.Scopes, s) ||
			len(resource.Scopes) > 0 && !slices.Contains(resource.Scopes, s) || who.client.narrow(resource, []string{s}) != nil {
			continue
		}
		scopes = append(scopes, s)
	}
	if f := who.client.narrow(resource, nil); f != nil {
		return nil, f
	}
	groups, err := j.from.groups(j.token.Claims)
	if err != nil {
		return nil, refuse(errGrant, "The assertion is not acceptable.").because("assertion_refused", err.Error())
	}
	list := j.shown.principal.Details
	for i := range list {
		if list[i].Server != resource.Server {
			return nil, refuse(errDetails, "The authorization details are about another server than the resource.").because("details_of_another", "")
		}
	}
	s := &j.shown.principal
	subject := j.from.subject(j.subject)
	ours := *s
	ours.Issuer, ours.Subject, ours.Tenant = e.is.cfg.URL, subject, j.from.Tenant
	if e.is.deps.Revoked(s) || e.is.deps.Revoked(&ours) {
		return nil, refuse(errGrant, "The user may not use this resource.").because("revoked", "")
	}
	return &award{
		resource: resource, control: aut07, detail: fmt.Sprintf("vouched for by %.120q", j.from.Issuer),
		claims: Claims{
			Subject: subject, Audience: resource.URI, Scopes: scopes, Groups: groups, Client: who.client.ID,
			TTL: e.is.cfg.Lifetimes.Access, Tenant: j.from.Tenant, ACR: s.ACR, AMR: s.AMR, AuthTime: s.AuthTime,
			Binding: who.key(), Cert: who.cert, Details: list, Purpose: purpose(list),
		},
	}, nil
}
