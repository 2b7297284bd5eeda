package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/secret"
)

// Client authentication methods of token endpoints (RFC 7591 section 2).
const (
	MethodNone  = "none"
	MethodBasic = "client_secret_basic"
	MethodPost  = "client_secret_post"
	MethodKey   = "private_key_jwt"
)

// A Registration is who we are at one authorization server. It is never used at another (AUT-03).
type Registration struct {
	Issuer   string
	ClientID string
	Method   string       // one of the Method constants; empty: what the server supports best
	Secret   secret.Value // for MethodBasic and MethodPost
	NotAfter time.Time    // end of the secret; zero: none

	// Fetch returns the secret at the time of the call, instead of Secret; nil: Secret is used.
	Fetch func(ctx context.Context) (secret.Value, error)
	// Key signs assertions for MethodKey; it may be fetched too.
	Key func(ctx context.Context) (Signer, error)
}

// Registrations keeps dynamic registrations, by issuer. Load returns an error that wraps
// [ErrRegistration] when there is none.
type Registrations interface {
	Load(ctx context.Context, issuer string) (*Registration, error)
	Save(ctx context.Context, r *Registration) error
}

// Register returns who we are at the authorization server, in the order of MCP 2026-07-28 "Client
// registration": pre-registered, by our metadata document where the server takes those, by a kept or a
// fresh dynamic registration.
func (c *Client) Register(ctx context.Context, s *Server) (*Registration, error) {
	if r := c.configured(s.Issuer); r != nil {
		return r, nil
	}
	if s.Documents && c.cfg.Document != "" {
		return &Registration{Issuer: s.Issuer, ClientID: c.cfg.Document, Method: MethodNone}, nil
	}
	r, err := c.cfg.Registrations.Load(ctx, s.Issuer)
	switch {
	case err == nil && r.Issuer == s.Issuer && (r.NotAfter.IsZero() || c.now().Before(r.NotAfter)):
		return r, nil
	case err != nil && !errors.Is(err, ErrRegistration):
		return nil, fmt.Errorf("load registration: %w", err)
	}
	if s.Registration == "" {
		return nil, fmt.Errorf("%w: issuer %s takes neither documents nor registrations", ErrRegistration, quote(s.Issuer))
	}
	return c.registerDynamically(ctx, s)
}

// configured returns the pre-registration for the issuer.
func (c *Client) configured(issuer string) *Registration {
	i := slices.IndexFunc(c.cfg.Registered, func(r Registration) bool { return r.Issuer == issuer })
	if i < 0 {
		return nil
	}
	r := c.cfg.Registered[i]
	return &r
}

// Metadata is our client metadata (RFC 7591 section 2), as sent to registration endpoints and published
// as client id metadata document.
type Metadata struct {
	ClientID      string   `json:"client_id,omitempty"` // in the document only: its own address
	Name          string   `json:"client_name"`
	URI           string   `json:"client_uri,omitempty"`
	Redirects     []string `json:"redirect_uris"`
	Grants        []string `json:"grant_types"`
	ResponseTypes []string `json:"response_types"`
	Method        string   `json:"token_endpoint_auth_method"`
	Application   string   `json:"application_type"`
	Bound         bool     `json:"dpop_bound_access_tokens,omitempty"`
}

// Document is our client id metadata document.
func (c *Client) Document() Metadata {
	m := c.metadata(MethodNone)
	m.ClientID = c.cfg.Document
	return m
}

func (c *Client) metadata(method string) Metadata {
	application := "web"
	if c.cfg.Native {
		application = "native"
	}
	return Metadata{
		Name: c.cfg.Name, URI: c.cfg.URI, Redirects: []string{c.cfg.Redirect},
		Grants: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		Method: method, Application: application, Bound: c.cfg.RequireDPoP,
	}
}

// registerDynamically registers anew (RFC 7591 section 3) and keeps the answer.
func (c *Client) registerDynamically(ctx context.Context, s *Server) (*Registration, error) {
	method := chooseMethod(s.AuthMethods, MethodNone, MethodBasic, MethodPost)
	if method == "" {
		return nil, fmt.Errorf("%w: issuer %s takes none of our authentication methods", ErrRegistration, quote(s.Issuer))
	}
	body, err := json.Marshal(c.metadata(method))
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Registration, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	defer resp.Body.Close()
	doc, err := c.answer("registration", resp)
	if err != nil {
		return nil, err
	}
	r, err := readRegistration(doc, s.Issuer, method)
	if err != nil {
		return nil, err
	}
	if err := c.cfg.Registrations.Save(ctx, r); err != nil {
		return nil, fmt.Errorf("keep registration: %w", err)
	}
	return r, nil
}

func readRegistration(doc jose.Claims, issuer, method string) (*Registration, error) {
	id, err1 := doc.Text("client_id")
	secretText, err2 := doc.Text("client_secret")
	given, err3 := doc.Text("token_endpoint_auth_method")
	end, err4 := doc.Time("client_secret_expires_at")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("%w: registration: %w", ErrResponse, err)
	}
	if id == "" || len(id) > maxURL || !printable(id) || !printable(secretText) {
		return nil, fmt.Errorf("%w: registration: client_id or client_secret", ErrResponse)
	}
	switch {
	case given != "":
		method = given
	case secretText != "" && method == MethodNone:
		method = "" // it gave a secret that nobody asked for: decide when the token is asked for
	}
	if !slices.Contains([]string{"", MethodNone, MethodBasic, MethodPost}, method) || method != MethodNone && secretText == "" {
		return nil, fmt.Errorf("%w: registration: method %s without what it needs", ErrResponse, quote(method))
	}
	r := &Registration{Issuer: issuer, ClientID: id, Method: method, Secret: secret.New([]byte(secretText))}
	if end.Unix() > 0 {
		r.NotAfter = end
	}
	return r, nil
}

// printable reports whether s holds printable ASCII only (RFC 6749 appendix A.1).
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// chooseMethod returns the first of our methods that the server supports. A server that does not say
// supports client_secret_basic (RFC 8414 section 2), and no client authentication for public clients.
func chooseMethod(supported []string, ours ...string) string {
	if len(supported) == 0 {
		supported = []string{MethodBasic, MethodNone}
	}
	for _, m := range ours {
		if slices.Contains(supported, m) {
			return m
		}
	}
	return ""
}

// answer reads a JSON response; every status but 200 and 201 becomes an [Error].
func (c *Client) answer(endpoint string, resp *http.Response) (jose.Claims, error) {
	body, err := safedial.ReadAll(resp.Body, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("%s endpoint: %w", endpoint, err)
	}
	doc, parseErr := jose.ParseObject(body)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		text, _ := doc["error"].(string)
		return nil, &Error{Endpoint: endpoint, Status: resp.StatusCode, Code: code(text)}
	}
	if parseErr != nil {
		return nil, fmt.Errorf("%w: %s endpoint: %w", ErrResponse, endpoint, parseErr)
	}
	return doc, nil
}
