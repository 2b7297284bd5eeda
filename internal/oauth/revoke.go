package oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/warder-mcp/warder/internal/secret"
)

// ErrNoRevocation means that an authorization server has no endpoint for revocations.
var ErrNoRevocation = errors.New("the authorization server takes no revocations")

// maxIgnored is how much of an answer that says nothing is read, so that the connection can be used again.
const maxIgnored = 4 << 10

// Revoke ends a token at the authorization server that issued it (RFC 7009 section 2.1). hint is
// "refresh_token" or "access_token". It is no error if the server does not know the token. The error wraps
// [ErrNoRevocation] if the server has no endpoint for that.
func (c *Client) Revoke(ctx context.Context, s *Server, reg *Registration, token secret.Value, hint string) error {
	if s.Revocation == "" {
		return ErrNoRevocation
	}
	if err := c.issuers.Bound(ctx, reg.Issuer, s.Issuer); err != nil {
		return err
	}
	u, err := c.urls.Check(ctx, "revocation_endpoint", s.Revocation)
	if err != nil {
		return err
	}
	form := url.Values{"token": {string(token.Bytes())}, "token_type_hint": {hint}}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if err := c.authenticate(ctx, tokenRequest{target: &Target{Server: s}, reg: reg, form: form}, form, header); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("revocation request: %w", err)
	}
	req.Header = header
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("revocation request: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK { // section 2.2: the body is ignored
		_, _ = io.CopyN(io.Discard, resp.Body, maxIgnored) // shorter as a rule
		return nil
	}
	_, err = c.answer("revocation", resp)
	if err == nil {
		err = &Error{Endpoint: "revocation", Status: resp.StatusCode}
	}
	return err
}
