package oauth

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/warder-mcp/warder/internal/secret"
)

// Grant and token types.
const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	grantAssert   = "urn:ietf:params:oauth:grant-type:jwt-bearer"

	TypeAccess = "urn:ietf:params:oauth:token-type:access_token" // RFC 8693 section 3
	TypeJWT    = "urn:ietf:params:oauth:token-type:jwt"
	TypeID     = "urn:ietf:params:oauth:token-type:id_token"
	TypeIDJAG  = "urn:ietf:params:oauth:token-type:id-jag" // draft-ietf-oauth-identity-assertion-authz-grant
)

// ClientCredentials gets a token for Warder itself (RFC 6749 section 4.4, SEP-1046).
func (c *Client) ClientCredentials(ctx context.Context, t *Target, reg *Registration, scopes []string) (*Tokens, error) {
	return c.token(ctx, tokenRequest{target: t, reg: reg, scopes: scopes, form: withScopes(url.Values{
		"grant_type": {"client_credentials"},
	}, scopes)})
}

// A Subject is on whose behalf a token is exchanged. It is never a token that a client of Warder sent.
type Subject struct {
	Token secret.Value
	Type  string // one of the Type constants
	Actor secret.Value
	// ActorType is the type of Actor; empty without one.
	ActorType string
}

// Exchange gets a token for the target on behalf of the subject (RFC 8693 section 2.1). audience may be
// empty; requested is the wanted token type, empty for the server's choice.
func (c *Client) Exchange(ctx context.Context, t *Target, reg *Registration, sub Subject, audience, requested string, scopes []string) (*Tokens, error) {
	form := withScopes(url.Values{
		"grant_type":    {grantExchange},
		"subject_token": {string(sub.Token.Bytes())}, "subject_token_type": {sub.Type},
	}, scopes)
	if audience != "" {
		form.Set("audience", audience)
	}
	if requested != "" {
		form.Set("requested_token_type", requested)
	}
	if len(sub.Actor.Bytes()) > 0 {
		form.Set("actor_token", string(sub.Actor.Bytes()))
		form.Set("actor_token_type", sub.ActorType)
	}
	tokens, err := c.token(ctx, tokenRequest{target: t, reg: reg, scopes: scopes, form: form, plain: requested == TypeIDJAG})
	if err != nil {
		return nil, err
	}
	if tokens.Type == "" || requested != "" && tokens.Type != requested {
		return nil, fmt.Errorf("%w: issued_token_type %s", ErrResponse, quote(tokens.Type))
	}
	return tokens, nil
}

// Assert gets a token for a JWT that somebody signed whom the authorization server trusts (RFC 7523
// section 2.1): a workload identity (SEP-1933) or an ID-JAG. reg may have no secret.
func (c *Client) Assert(ctx context.Context, t *Target, reg *Registration, assertion secret.Value, scopes []string) (*Tokens, error) {
	return c.token(ctx, tokenRequest{target: t, reg: reg, scopes: scopes, form: withScopes(url.Values{
		"grant_type": {grantAssert}, "assertion": {string(assertion.Bytes())},
	}, scopes)})
}

// profileIDJAG is what an authorization server announces that takes ID-JAGs.
const profileIDJAG = "urn:ietf:params:oauth:grant-profile:id-jag"

// An IdentityProvider is who turns the identity of a person into a grant for another authorization
// server (enterprise-managed authorization, SEP-990).
type IdentityProvider struct {
	Server *Server
	Reg    *Registration // who we are there
}

// IdentityGrant runs both steps of enterprise-managed authorization: the identity provider exchanges the
// person's identity for an ID-JAG, whose audience is the issuer of the target, and the target's
// authorization server takes that as a grant.
func (c *Client) IdentityGrant(ctx context.Context, idp IdentityProvider, t *Target, reg *Registration, identity Subject, scopes []string) (*Tokens, error) {
	if p := t.Server.GrantProfiles; len(p) > 0 && !slices.Contains(p, profileIDJAG) {
		return nil, fmt.Errorf("%w: issuer %s takes no ID-JAG", ErrMetadata, quote(t.Server.Issuer))
	}
	at := &Target{Server: idp.Server, Resource: t.Resource}
	grant, err := c.Exchange(ctx, at, idp.Reg, identity, t.Server.Issuer, TypeIDJAG, scopes)
	if err != nil {
		return nil, fmt.Errorf("identity provider: %w", err)
	}
	return c.Assert(ctx, t, reg, grant.Access, scopes)
}

func withScopes(form url.Values, scopes []string) url.Values {
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	return form
}
