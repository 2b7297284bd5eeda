package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/rar"
)

// Token types of RFC 8693 section 3.
const (
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
)

// A shown is a token that somebody shows to this server, verified.
type shown struct {
	principal warder.Principal // as our tokens would name it
	audience  []string
	own       bool // we issued it
	key, cert string
	mayAct    string
	via       *foreign // who issued it otherwise
}

// verify checks an access token of our own: signature by a key that is not retired, type, time, and that
// nothing revoked it.
func (is *Issuer) verify(ctx context.Context, raw string) (*shown, *fault) {
	bad := func(err error) *fault {
		return refuse(errGrant, "The token is not acceptable.").because("token_refused", err.Error())
	}
	token, err := jose.Parse(raw)
	if err != nil {
		return nil, bad(err)
	}
	key, err := is.keys.Key(ctx, token.Header.KeyID)
	switch {
	case errors.Is(err, jose.ErrUnknownKey):
		return nil, bad(err)
	case err != nil:
		return nil, undecided(err)
	}
	issuer, err := token.Claims.Text("iss")
	if err == nil && issuer != is.cfg.URL {
		err = errors.New("iss is another issuer")
	}
	err = errors.Join(err, token.Verify(key, []string{"ES256"}), token.CheckType([]string{"at+jwt"}),
		token.Claims.CheckTimes(is.deps.Now(), jose.Times{MaxLifetime: MaxTTL}))
	if err != nil {
		return nil, bad(err)
	}
	s, err := readShown(token.Claims)
	if err != nil {
		return nil, bad(err)
	}
	s.own = true
	if is.deps.Revoked(&s.principal) {
		return nil, refuse(errGrant, "The token is not acceptable.").because("token_revoked", "")
	}
	return s, nil
}

// readShown reads the claims of an access token (RFC 9068 section 2.2).
func readShown(c jose.Claims) (*shown, error) {
	s := &shown{}
	p := &s.principal
	var errs []error
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"iss", &p.Issuer},
		{"sub", &p.Subject},
		{"tenant", &p.Tenant},
		{"client_id", &p.Client},
		{"acr", &p.ACR},
		{"sid", &p.Session},
		{"jti", &p.TokenID},
		{"purpose", &p.Purpose},
	} {
		text, err := c.Text(f.name)
		*f.to = text
		errs = append(errs, err)
	}
	for _, f := range []struct {
		name string
		to   *[]string
		read func(string) ([]string, error)
	}{{"scope", &p.Scopes, c.Words}, {"groups", &p.Groups, c.List}, {"amr", &p.AMR, c.List}, {"aud", &s.audience, c.List}} {
		list, err := f.read(f.name)
		*f.to = list
		errs = append(errs, err)
	}
	for _, f := range []struct {
		name string
		to   *time.Time
	}{{"auth_time", &p.AuthTime}, {"iat", &p.IssuedAt}, {"exp", &p.NotAfter}} {
		t, err := c.Time(f.name)
		*f.to = t
		errs = append(errs, err)
	}
	errs = append(errs, s.readObjects(c))
	if p.Agent = p.Client; len(p.Actors) > 0 {
		p.Agent = p.Actors[0]
	}
	if p.Subject == "" {
		errs = append(errs, fmt.Errorf("%w: sub is missing", jose.ErrClaim))
	}
	return s, errors.Join(errs...)
}

// readObjects reads cnf, act, may_act and authorization_details.
func (s *shown) readObjects(c jose.Claims) error {
	cnf, err1 := c.Object("cnf")
	key, err2 := cnf.Text("jkt")
	cert, err3 := cnf.Text("x5t#S256")
	mayAct, err4 := c.Object("may_act")
	actor, err5 := mayAct.Text("sub")
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	s.key, s.cert, s.mayAct = key, cert, actor
	if mayAct != nil && actor == "" {
		return fmt.Errorf("%w: may_act names nobody", jose.ErrClaim)
	}
	at := c
	for range maxActors + 1 {
		act, err := at.Object("act")
		if err != nil {
			return err
		}
		if act == nil {
			return s.readDetails(c)
		}
		sub, err := act.Text("sub")
		if err != nil || sub == "" {
			return fmt.Errorf("%w: act without sub", jose.ErrClaim)
		}
		s.principal.Actors = append(s.principal.Actors, sub)
		at = act
	}
	return fmt.Errorf("%w: more than %d actors", jose.ErrClaim, maxActors)
}

func (s *shown) readDetails(c jose.Claims) error {
	raw, given, err := rawClaim(c, "authorization_details")
	if err != nil || !given {
		return err
	}
	s.principal.Details, err = rar.Parse(raw)
	return err
}

// delegate is the token exchange grant (RFC 8693): a client gets a token for the same server, to act
// itself for the subject of another token, with no more rights and no longer than that.
func (is *Issuer) delegate(ctx context.Context, who *caller, p parameters) (*award, *fault) {
	if !who.client.confidential() || who.client.meta.config == nil {
		return nil, refuse(errUnauthorized, "The client may not exchange tokens.").because("client_public", "")
	}
	if t := p["requested_token_type"]; t != "" && t != typeAccessToken && t != typeJWT {
		return nil, refuse(errRequest, "Only access tokens are issued.")
	}
	subject, f := is.subject(ctx, p)
	if f != nil {
		return nil, f
	}
	actor, f := is.actor(ctx, who, p)
	if f != nil {
		return nil, f
	}
	if f := mayDelegate(who, subject, actor); f != nil {
		return nil, f
	}
	resource, f := is.sameTarget(p, subject)
	if f != nil {
		return nil, f
	}
	claims, f := is.lesser(who, subject, p, resource)
	if f != nil {
		return nil, f
	}
	claims.Actors = subject.principal.Actors
	itself := subject.own && subject.principal.Client == who.client.ID && actor == who.client.ID
	if !itself && (len(claims.Actors) == 0 || claims.Actors[0] != actor) {
		claims.Actors = append([]string{actor}, claims.Actors...)
	}
	if len(claims.Actors) > is.cfg.MaxActors {
		return nil, refuse(errGrant, "The chain of actors is too long.").because("actors_too_many", "")
	}
	return &award{
		resource: resource, claims: *claims, kind: typeAccessToken, reason: "token_exchanged",
		detail: fmt.Sprintf("token %.40q of client %.80q", subject.principal.TokenID, subject.principal.Client),
	}, nil
}

// subject verifies the subject token: one of ours, or of an issuer that is trusted for exchange.
func (is *Issuer) subject(ctx context.Context, p parameters) (*shown, *fault) {
	raw := p["subject_token"]
	switch p["subject_token_type"] {
	case typeAccessToken, typeJWT, typeIDToken:
	default:
		return nil, refuse(errRequest, "The subject_token_type is not supported.")
	}
	issuer, err := jose.AssertionClient(raw) // iss, unverified: only to choose who verifies
	if err != nil {
		return nil, refuse(errGrant, "The subject token is not acceptable.").because("token_refused", err.Error())
	}
	if issuer == is.cfg.URL {
		return is.verify(ctx, raw)
	}
	t := is.foreign[issuer]
	if !t.used(UseExchange) {
		return nil, refuse(errGrant, "The subject token is of an issuer that is not trusted.").because("issuer_unknown", cut(issuer, 200))
	}
	token, f := t.verify(ctx, raw, is.deps.Now())
	if f != nil {
		return nil, f
	}
	s, err := readShown(token.Claims)
	if err == nil {
		s.principal.Groups, err = t.groups(token.Claims)
	}
	switch {
	case err != nil:
		return nil, refuse(errGrant, "The subject token is not acceptable.").because("token_refused", err.Error())
	case !t.aimed(s.audience):
		return nil, refuse(errGrant, "The subject token is for another audience.").because("audience_mismatch", "")
	case is.deps.Revoked(&s.principal):
		return nil, refuse(errGrant, "The subject token is not acceptable.").because("token_revoked", "")
	}
	s.via = t
	s.principal.Subject, s.principal.Tenant, s.principal.Client = t.subject(s.principal.Subject), t.Tenant, ""
	if len(t.Scopes) > 0 {
		s.principal.Scopes = slices.DeleteFunc(s.principal.Scopes, func(w string) bool { return !slices.Contains(t.Scopes, w) })
	}
	return s, nil
}

// actor is who will act: the client itself, or what its actor token says it is.
func (is *Issuer) actor(ctx context.Context, who *caller, p parameters) (string, *fault) {
	raw, given := p["actor_token"]
	if !given {
		if p["actor_token_type"] != "" {
			return "", refuse(errRequest, "An actor_token_type without actor_token.")
		}
		return who.client.ID, nil
	}
	if t := p["actor_token_type"]; t != typeAccessToken && t != typeJWT {
		return "", refuse(errRequest, "The actor_token_type is not supported.")
	}
	if k := who.client.meta.config; k.Workload != (WorkloadConfig{}) {
		if issuer, err := jose.AssertionClient(raw); err == nil && issuer == k.Workload.Issuer {
			f := is.workloadToken(ctx, k, raw)
			return who.client.ID, f.as(errGrant)
		}
	}
	s, f := is.verify(ctx, raw)
	switch {
	case f != nil:
		return "", f
	case s.principal.Client != who.client.ID:
		return "", refuse(errGrant, "The actor token is of another client.").because("actor_of_another", "")
	case s.key != "" && s.key != who.key(), s.cert != "" && s.cert != who.cert:
		return "", refuse(errProof, "The actor token is bound to another key.").because("key_mismatch", "")
	}
	return s.principal.Subject, nil
}

// mayDelegate decides whether this client may have a token from this one. A token that is bound to a key
// is worth nothing without it, here as anywhere: exchange must not wash the binding off.
func mayDelegate(who *caller, s *shown, actor string) *fault {
	switch {
	case s.key != "" && s.key != who.key(), s.cert != "" && s.cert != who.cert:
		return refuse(errProof, "The subject token is bound to another key.").because("key_mismatch", "")
	case s.mayAct != "" && s.mayAct != actor && s.mayAct != who.client.ID:
		return refuse(errGrant, "The subject token names another actor.").because("may_act_mismatch", "")
	case s.mayAct != "", s.own && s.principal.Client == who.client.ID:
		return nil
	}
	from := who.client.meta.config.ExchangeFrom
	if slices.Contains(from, "*") || s.own && slices.Contains(from, s.principal.Client) || s.via != nil && slices.Contains(from, s.via.Issuer) {
		return nil
	}
	return refuse(errUnauthorized, "The client may not exchange tokens of this client.").because("exchange_not_allowed", cut(s.principal.Client, 200))
}

// sameTarget is the server of the new token: that of the old one. Only a token of another issuer, which
// is for this server and no other, may name any.
func (is *Issuer) sameTarget(p parameters, s *shown) (Resource, *fault) {
	uri := p["resource"]
	if uri == "" {
		uri = p["audience"] // RFC 8693 section 2.1: a logical name; ours are the same URIs
	}
	if s.own {
		if len(s.audience) != 1 || uri != "" && uri != s.audience[0] {
			return Resource{}, refuse(errTarget, "A token for one server cannot be exchanged for another.").because("resource_mismatch", cut(uri, 200))
		}
		uri = s.audience[0]
	}
	resource, f := is.target(uri)
	if f == nil && !s.own {
		f = resource.foreign()
	}
	if f == nil && resource.Tenant != "" && resource.Tenant != s.principal.Tenant {
		return resource, refuse(errTarget, "The resource is not known here.").because("tenant_mismatch", "")
	}
	return resource, f
}

// lesser are the claims of the new token: what was asked for, within what the old one has.
func (is *Issuer) lesser(who *caller, s *shown, p parameters, resource Resource) (*Claims, *fault) {
	o := &s.principal
	scopes, f := is.narrowed(p["scope"], o.Scopes, resource)
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
	list := o.Details
	if raw != nil {
		want, err := parseDetails(raw)
		if err != nil {
			return nil, undecided(err)
		}
		if !rar.Narrower(o.Details, want) {
			return nil, refuse(errDetails, "The authorization details are wider than the subject token's.").because("details_wider", "")
		}
		list = want
	}
	ttl := min(is.cfg.Lifetimes.Access, o.NotAfter.Sub(is.deps.Now()).Truncate(time.Second))
	if ttl <= 0 {
		return nil, refuse(errGrant, "The subject token is about to end.").because("token_expired", "")
	}
	return &Claims{
		Subject: o.Subject, Audience: resource.URI, Scopes: scopes, Groups: o.Groups, Client: who.client.ID, TTL: ttl, Tenant: o.Tenant,
		ACR: o.ACR, AMR: o.AMR, AuthTime: o.AuthTime, Session: o.Session, Binding: who.key(), Cert: who.cert,
		Purpose: strings.TrimSpace(o.Purpose), Details: list,
	}, nil
}
