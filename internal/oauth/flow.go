package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Flow is an authorization code flow that began and has not ended. Whoever keeps it between the two
// seals it: the verifier is a secret.
type Flow struct {
	State       string    `json:"state"`
	Verifier    string    `json:"verifier"` // RFC 7636
	Issuer      string    `json:"issuer"`   // the expected issuer
	Client      string    `json:"client"`
	Resource    string    `json:"resource"`
	Redirect    string    `json:"redirect"`
	Scopes      []string  `json:"scopes,omitempty"`
	IssRequired bool      `json:"iss_required,omitempty"` // the server announced RFC 9207
	Began       time.Time `json:"began"`
}

// maxFlow is how long a person may take.
const maxFlow = 10 * time.Minute

// Wanted returns the scopes to ask for: those of the challenge, else those the resource supports, and
// with them every scope there already was, so that a step up loses nothing (MCP 2026-07-28 "Scope
// selection strategy", SEP-2350). offline_access is added where the server offers it (SEP-2207). Nil
// means that no scope is to be named.
func (t *Target) Wanted(already, configured []string) []string {
	var out []string
	add := func(list []string) {
		for _, s := range list {
			if ValidScope(s) && len(out) < maxScopes && !contains(out, s) {
				out = append(out, s)
			}
		}
	}
	switch {
	case len(t.Asked) > 0:
		add(t.Asked)
	case len(configured) == 0:
		add(t.Scopes)
	}
	add(configured)
	add(already)
	if len(out) > 0 && slices.Contains(t.Server.Scopes, "offline_access") {
		add([]string{"offline_access"})
	}
	return out
}

// Begin starts an authorization code flow with PKCE. The caller sends the person's browser to the
// address and keeps the flow for [Client.Finish].
func (c *Client) Begin(ctx context.Context, t *Target, reg *Registration, scopes []string) (f *Flow, address string, err error) {
	s := t.Server
	if err := c.issuers.Code(ctx, s); err != nil {
		return nil, "", err
	}
	if err := c.issuers.Bound(ctx, reg.Issuer, s.Issuer); err != nil {
		return nil, "", err
	}
	u, err := c.urls.Check(ctx, "authorization_endpoint", s.Authorization)
	if err != nil {
		return nil, "", err
	}
	f = &Flow{
		State: rand.Text(), Verifier: rand.Text() + rand.Text(), Issuer: s.Issuer, Client: reg.ClientID,
		Resource: t.Resource, Redirect: c.cfg.Redirect, Scopes: scopes, IssRequired: s.Iss, Began: c.now(),
	}
	sum := sha256.Sum256([]byte(f.Verifier))
	params := url.Values{
		"response_type": {"code"}, "client_id": {reg.ClientID}, "redirect_uri": {f.Redirect}, "state": {f.State},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"resource": {t.Resource},
	}
	if len(scopes) > 0 {
		params.Set("scope", strings.Join(scopes, " "))
	}
	if slices.Contains(scopes, "offline_access") && slices.Contains(scopes, "openid") {
		params.Set("prompt", "consent") // OpenID Connect Core section 11
	}
	if len(t.ACR) > 0 {
		params.Set("acr_values", strings.Join(t.ACR, " "))
	}
	if t.MaxAge != nil {
		params.Set("max_age", strconv.FormatInt(int64(*t.MaxAge/time.Second), 10))
	}
	if c.proves(t) {
		params.Set("dpop_jkt", c.cfg.Prover.Thumbprint()) // RFC 9449 section 10: the code is bound too
	}
	if s.PAR != "" {
		if params, err = c.push(ctx, t, reg, params); err != nil {
			return nil, "", err
		}
	} else if s.RequirePAR {
		return nil, "", fmt.Errorf("%w: pushed requests are required but there is no endpoint", ErrMetadata)
	}
	query := u.Query()
	maps.Copy(query, params)
	u.RawQuery = query.Encode()
	return f, u.String(), nil
}

// push sends the parameters beforehand (RFC 9126 section 2) and returns those that the browser carries.
func (c *Client) push(ctx context.Context, t *Target, reg *Registration, params url.Values) (url.Values, error) {
	u, err := c.urls.Check(ctx, "pushed_authorization_request_endpoint", t.Server.PAR)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if err := c.authenticate(ctx, tokenRequest{target: t, reg: reg}, params, header); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(params.Encode()))
	if err != nil {
		return nil, fmt.Errorf("push request: %w", err)
	}
	req.Header = header
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("push request: %w", err)
	}
	defer resp.Body.Close()
	doc, err := c.answer("par", resp)
	if err != nil {
		return nil, err
	}
	uri, err := doc.Text("request_uri")
	if err != nil || uri == "" || len(uri) > 1024 || !visible(uri) {
		return nil, fmt.Errorf("%w: par endpoint: request_uri", ErrResponse)
	}
	return url.Values{"client_id": {reg.ClientID}, "request_uri": {uri}}, nil
}

// Finish ends a flow with the query that came back to the redirect URI. A flow is good for one call,
// whatever comes of it; the caller has already forgotten it.
func (c *Client) Finish(ctx context.Context, t *Target, reg *Registration, f *Flow, query url.Values) (*Tokens, error) {
	if err := c.issuers.Answer(ctx, f, query); err != nil {
		return nil, err
	}
	if err := errors.Join(c.issuers.Bound(ctx, f.Issuer, t.Server.Issuer), c.issuers.Bound(ctx, f.Issuer, reg.Issuer)); err != nil {
		return nil, err
	}
	if c.now().Sub(f.Began) > maxFlow {
		return nil, fmt.Errorf("%w: it began over %v ago", ErrState, maxFlow)
	}
	if query.Has("error") {
		return nil, &Error{Endpoint: "authorization", Code: code(query.Get("error"))}
	}
	authCode := query.Get("code")
	if authCode == "" || len(authCode) > maxURL || !printable(authCode) {
		return nil, fmt.Errorf("%w: authorization endpoint: code", ErrResponse)
	}
	at := *t
	at.Resource = f.Resource
	return c.token(ctx, tokenRequest{target: &at, reg: reg, scopes: f.Scopes, form: url.Values{
		"grant_type": {"authorization_code"}, "code": {authCode}, "redirect_uri": {f.Redirect}, "code_verifier": {f.Verifier},
	}})
}

// Refresh gets new tokens for old ones (RFC 6749 section 6). The new refresh token takes the place of the
// old one; without a new one the old one stays.
func (c *Client) Refresh(ctx context.Context, t *Target, reg *Registration, old *Tokens) (*Tokens, error) {
	if len(old.Refresh.Bytes()) == 0 {
		return nil, ErrNoRefresh
	}
	if err := c.issuers.Bound(ctx, old.Issuer, t.Server.Issuer); err != nil {
		return nil, err
	}
	if old.Client != reg.ClientID {
		return nil, fmt.Errorf("%w: the refresh token is that of another registration", ErrNoRefresh)
	}
	at := *t
	at.Resource = old.Resource
	fresh, err := c.token(ctx, tokenRequest{target: &at, reg: reg, scopes: old.Scopes, form: url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {string(old.Refresh.Bytes())},
	}})
	if err != nil {
		return nil, err
	}
	if len(fresh.Refresh.Bytes()) == 0 {
		fresh.Refresh = old.Refresh
	}
	return fresh, nil
}
