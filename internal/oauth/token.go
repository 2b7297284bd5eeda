package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
)

// maxToken bounds an access or refresh token.
const maxToken = 32 << 10

// assertionType is that of private_key_jwt (RFC 7523 section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// A tokenRequest is one request to a token endpoint.
type tokenRequest struct {
	target *Target
	reg    *Registration
	form   url.Values
	scopes []string // asked for: what the token covers when the answer does not say
	plain  bool     // the answer is no access token for the resource: no DPoP, any token_type
}

// token asks for a token. Besides the form it sends the resource, the client authentication, and a proof
// where DPoP is in use; a server that wants a nonce in the proof is asked once more.
func (c *Client) token(ctx context.Context, r tokenRequest) (*Tokens, error) {
	s := r.target.Server
	if r.reg != nil {
		if err := c.issuers.Bound(ctx, r.reg.Issuer, s.Issuer); err != nil {
			return nil, err
		}
	}
	if r.target.Resource != "" {
		r.form.Set("resource", r.target.Resource) // RFC 8707 section 2.2
	}
	u, err := c.urls.Check(ctx, "token_endpoint", s.Token)
	if err != nil {
		return nil, err
	}
	proof := !r.plain && c.proves(r.target)
	for try := 0; ; try++ {
		doc, nonce, err := c.postToken(ctx, u, r, proof)
		if refusal, ok := errors.AsType[*Error](err); ok && refusal.Code == "use_dpop_nonce" && proof && nonce && try == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return c.readTokens(doc, r, proof)
	}
}

// proves reports whether tokens for the target are asked for with a proof.
func (c *Client) proves(t *Target) bool {
	return c.cfg.Prover != nil && (c.cfg.RequireDPoP || t.DPoP || slices.Contains(t.Server.DPoP, "ES256"))
}

func (c *Client) postToken(ctx context.Context, u *url.URL, r tokenRequest, proof bool) (doc jose.Claims, nonce bool, err error) {
	form := maps.Clone(r.form)
	if form == nil {
		form = url.Values{}
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if err := c.authenticate(ctx, r, form, header); err != nil {
		return nil, false, err
	}
	if proof {
		p, err := c.Proof(http.MethodPost, u, "")
		if err != nil {
			return nil, false, fmt.Errorf("token request: %w", err)
		}
		header.Set("Dpop", p)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, false, fmt.Errorf("token request: %w", err)
	}
	req.Header = header
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, false, fmt.Errorf("token request: %w", err)
	}
	defer resp.Body.Close()
	nonce = c.Nonce(u, resp.Header)
	doc, err = c.answer("token", resp)
	return doc, nonce, err
}

// authenticate adds the client authentication (RFC 6749 section 2.3, RFC 7523 section 2.2).
func (c *Client) authenticate(ctx context.Context, r tokenRequest, form url.Values, header http.Header) error {
	if r.reg == nil {
		return nil
	}
	method, err := methodFor(r.reg, r.target.Server)
	if err != nil {
		return err
	}
	switch method {
	case MethodNone:
		form.Set("client_id", r.reg.ClientID)
		return nil
	case MethodKey:
		return c.signAssertion(ctx, r, form)
	}
	value := r.reg.Secret
	if r.reg.Fetch != nil {
		if value, err = r.reg.Fetch(ctx); err != nil {
			return fmt.Errorf("client secret: %w", err)
		}
	}
	if method == MethodPost {
		form.Set("client_id", r.reg.ClientID)
		form.Set("client_secret", string(value.Bytes()))
		return nil
	}
	// RFC 6749 section 2.3.1: both are form-encoded before they are joined.
	req := http.Request{Header: header}
	req.SetBasicAuth(url.QueryEscape(r.reg.ClientID), url.QueryEscape(string(value.Bytes())))
	return nil
}

// methodFor settles how the client authenticates itself.
func methodFor(reg *Registration, s *Server) (string, error) {
	hasSecret := len(reg.Secret.Bytes()) > 0 || reg.Fetch != nil
	method := reg.Method
	if method == "" {
		var ours []string
		if reg.Key != nil {
			ours = append(ours, MethodKey)
		}
		if hasSecret {
			ours = append(ours, MethodBasic, MethodPost)
		}
		if reg.Key == nil && reg.Fetch == nil { // of a registration that is configured with a secret, nobody is asked without
			ours = append(ours, MethodNone)
		}
		method = chooseMethod(s.AuthMethods, ours...)
	}
	switch {
	case method == "", (method == MethodBasic || method == MethodPost) && !hasSecret, method == MethodKey && reg.Key == nil:
		return "", fmt.Errorf("%w: issuer %s wants %v", ErrRegistration, quote(s.Issuer), s.AuthMethods)
	}
	return method, nil
}

// signAssertion adds a fresh client assertion. Its audience is the issuer alone, so that it is good
// nowhere else (draft-ietf-oauth-rfc7523bis).
func (c *Client) signAssertion(ctx context.Context, r tokenRequest, form url.Values) error {
	key, err := r.reg.Key(ctx)
	if err != nil {
		return fmt.Errorf("client key: %w", err)
	}
	now := c.now()
	assertion, err := key.Sign("JWT", map[string]any{
		"iss": r.reg.ClientID, "sub": r.reg.ClientID, "aud": r.target.Server.Issuer,
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": rand.Text(),
	})
	if err != nil {
		return fmt.Errorf("client assertion: %w", err)
	}
	form.Set("client_id", r.reg.ClientID)
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return nil
}

// readTokens judges a token response (RFC 6749 section 5.1).
func (c *Client) readTokens(doc jose.Claims, r tokenRequest, proof bool) (*Tokens, error) {
	access, err1 := doc.Text("access_token")
	refresh, err2 := doc.Text("refresh_token")
	kind, err3 := doc.Text("token_type")
	scope, err4 := doc.Text("scope")
	issued, err5 := doc.Text("issued_token_type")
	life, err6 := lifetime(doc["expires_in"])
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, fmt.Errorf("%w: token endpoint: %w", ErrResponse, err)
	}
	t := &Tokens{Issuer: r.target.Server.Issuer, Resource: r.target.Resource, Type: issued, Scopes: r.scopes}
	if r.reg != nil {
		t.Client = r.reg.ClientID
	}
	if access == "" || len(access) > maxToken || len(refresh) > maxToken || !visible(access) || !visible(refresh) {
		return nil, fmt.Errorf("%w: token endpoint: access_token or refresh_token", ErrResponse)
	}
	switch {
	case strings.EqualFold(kind, "DPoP") && proof:
		t.Bound = true
	case r.plain && (strings.EqualFold(kind, "N_A") || strings.EqualFold(kind, "Bearer")):
	case !strings.EqualFold(kind, "Bearer"):
		return nil, fmt.Errorf("%w: token_type %s", ErrResponse, quote(kind))
	case c.cfg.RequireDPoP || proof && r.target.DPoP:
		return nil, fmt.Errorf("%w: issuer %s", ErrUnbound, quote(r.target.Server.Issuer))
	}
	if _, said := doc["scope"]; said {
		t.Scopes = ParseScopes(scope)
	}
	if life > 0 {
		t.NotAfter = c.now().Add(life)
	}
	t.Access, t.Refresh = secret.New([]byte(access)), secret.New([]byte(refresh))
	return t, nil
}

// lifetime reads expires_in, which some servers send as a string.
func lifetime(v any) (time.Duration, error) {
	if v == nil {
		return 0, nil
	}
	text := fmt.Sprint(v)
	if _, isText := v.(string); !isText {
		if _, isNumber := v.(interface{ Int64() (int64, error) }); !isNumber {
			return 0, errors.New("expires_in is not a number")
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n != n {
		return 0, errors.New("expires_in is not a number of seconds")
	}
	const most = 30 * 24 * time.Hour
	if n > most.Seconds() {
		return most, nil
	}
	return time.Duration(n * float64(time.Second)), nil
}
