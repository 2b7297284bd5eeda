package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
)

// maxDocument bounds a metadata document and a response of an authorization server.
const maxDocument = 256 << 10

// A Target is where to get a credential for one MCP server, and what to ask for. It is immutable.
type Target struct {
	Server   *Server  // the authorization server
	Resource string   // exactly as the metadata publishes it; the resource parameter of every request
	Scopes   []string // scopes_supported of the resource; nil if it does not say
	Asked    []string // scopes of the challenge that led here; nil if there were none
	DPoP     bool     // the resource challenges for DPoP or says that it takes bound tokens only

	// ACR and MaxAge ask for a stronger or fresher login (RFC 9470 section 4). Nil: any.
	ACR    []string
	MaxAge *time.Duration
}

// A Server is an authorization server as its metadata describes it (RFC 8414 section 2). It is
// immutable.
type Server struct {
	Issuer           string
	Authorization    string // endpoint; empty if there is none
	Token            string // endpoint
	Registration     string // endpoint; empty if there is none
	PAR              string // endpoint; empty if there is none
	Revocation       string // endpoint; empty if there is none
	Scopes           []string
	AuthMethods      []string // token_endpoint_auth_methods_supported; empty: client_secret_basic
	Grants           []string // grant_types_supported; empty: authorization_code and implicit
	GrantProfiles    []string // authorization_grant_profiles_supported
	ChallengeMethods []string // code_challenge_methods_supported
	DPoP             []string // dpop_signing_alg_values_supported
	Iss              bool     // authorization_response_iss_parameter_supported
	Documents        bool     // client_id_metadata_document_supported
	RequirePAR       bool     // require_pushed_authorization_requests
}

// Discover finds the authorization server of an MCP server: first where its challenge points, then at
// the well-known places of its URL, path first (RFC 9728 section 3.1). A server without such metadata is
// one of the 2025-03-26 revision, whose authorization server is its own origin. Of several authorization
// servers the first that is allowed is taken.
func (c *Client) Discover(ctx context.Context, server string, challenges []Challenge) (*Target, error) {
	u, err := c.urls.Check(ctx, "server", server)
	if err != nil {
		return nil, err
	}
	t := &Target{Resource: server}
	pointed := ""
	for _, ch := range challenges {
		t.DPoP = t.DPoP || ch.Scheme == "dpop"
		if t.Asked == nil {
			t.Asked = ch.Scopes
		}
		if pointed == "" {
			pointed = ch.ResourceMetadata
		}
	}
	issuer, err := c.resource(ctx, u, pointed, t)
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", Show(u), err)
	}
	if t.Server, err = c.Issuer(ctx, issuer); err != nil {
		return nil, fmt.Errorf("discover %s: %w", Show(u), err)
	}
	return t, nil
}

// resource reads the metadata of the protected resource into t and returns the issuer to use.
func (c *Client) resource(ctx context.Context, server *url.URL, pointed string, t *Target) (string, error) {
	places := []string{pointed}
	if pointed == "" {
		places = resourcePlaces(server)
	}
	for _, place := range places {
		doc, err := c.document(ctx, "resource metadata", place)
		if errors.Is(err, ErrNoMetadata) && pointed == "" {
			continue
		}
		if err != nil {
			return "", err
		}
		return c.readResource(ctx, server, doc, t)
	}
	// MCP 2025-03-26 "Authorization" section 2.3: the authorization base URL is the server's origin.
	return server.Scheme + "://" + server.Host, nil
}

// resourcePlaces are the well-known places for a server, in order.
func resourcePlaces(u *url.URL) []string {
	const known = "/.well-known/oauth-protected-resource"
	origin := u.Scheme + "://" + u.Host
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if path == "" {
		return []string{origin + known}
	}
	return []string{origin + known + path, origin + known}
}

func (c *Client) readResource(ctx context.Context, server *url.URL, doc jose.Claims, t *Target) (string, error) {
	resource, err := doc.Text("resource")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if !covers(resource, server) {
		return "", fmt.Errorf("%w: document is about %s", ErrResource, quote(resource))
	}
	t.Resource = resource
	scopes, err := doc.List("scopes_supported")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if scopes != nil {
		t.Scopes = ParseScopes(strings.Join(scopes, " "))
	}
	bound, _ := doc["dpop_bound_access_tokens_required"].(bool)
	t.DPoP = t.DPoP || bound
	issuers, err := doc.List("authorization_servers")
	if err != nil || len(issuers) == 0 || len(issuers) > 16 {
		return "", fmt.Errorf("%w: want 1 to 16 authorization_servers", ErrMetadata)
	}
	var refused error
	for _, issuer := range issuers {
		if refused = c.issuers.Issuer(ctx, issuer); refused == nil {
			return issuer, nil
		}
	}
	return "", refused
}

// covers reports whether a resource identifier stands for the server: the same origin, and the same
// path or one above it (RFC 9728 section 3.3, MCP "Canonical server URI").
func covers(resource string, server *url.URL) bool {
	u, err := url.Parse(resource)
	if err != nil || len(resource) > maxURL || u.Fragment != "" || u.User != nil || u.RawQuery != server.RawQuery && u.RawQuery != "" {
		return false
	}
	if !strings.EqualFold(u.Scheme, server.Scheme) || !strings.EqualFold(hostPort(u), hostPort(server)) {
		return false
	}
	above := strings.TrimSuffix(u.EscapedPath(), "/")
	path := strings.TrimSuffix(server.EscapedPath(), "/")
	return path == above || strings.HasPrefix(path, above+"/")
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Hostname() + ":" + u.Port()
	}
	if u.Scheme == "http" {
		return u.Hostname() + ":80"
	}
	return u.Hostname() + ":443"
}

// Issuer fetches and judges the metadata of an authorization server, from the places of RFC 8414 section
// 3.1 and OpenID Connect Discovery section 4.
func (c *Client) Issuer(ctx context.Context, issuer string) (*Server, error) {
	if err := c.issuers.Issuer(ctx, issuer); err != nil {
		return nil, err
	}
	u, err := c.urls.Check(ctx, "issuer", issuer)
	if err != nil {
		return nil, err
	}
	if u.RawQuery != "" {
		return nil, fmt.Errorf("%w: issuer %s has a query", ErrMetadata, quote(issuer))
	}
	for _, place := range issuerPlaces(u) {
		doc, err := c.document(ctx, "authorization server metadata", place)
		if errors.Is(err, ErrNoMetadata) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s, err := c.readServer(ctx, doc)
		if err != nil {
			return nil, err
		}
		return s, c.issuers.Metadata(ctx, issuer, s)
	}
	return nil, fmt.Errorf("%w: issuer %s publishes none", ErrNoMetadata, quote(issuer))
}

func issuerPlaces(u *url.URL) []string {
	const as, oidc = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	origin := u.Scheme + "://" + u.Host
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if path == "" {
		return []string{origin + as, origin + oidc}
	}
	return []string{origin + as + path, origin + oidc + path, origin + path + oidc}
}

// readServer reads what this package uses of a metadata document, and judges every endpoint.
func (c *Client) readServer(ctx context.Context, doc jose.Claims) (*Server, error) {
	s := &Server{}
	var err error
	for _, f := range []struct {
		name string
		to   *string
		url  bool
	}{
		{"issuer", &s.Issuer, false},
		{"authorization_endpoint", &s.Authorization, true},
		{"token_endpoint", &s.Token, true},
		{"registration_endpoint", &s.Registration, true},
		{"pushed_authorization_request_endpoint", &s.PAR, true},
		{"revocation_endpoint", &s.Revocation, true},
	} {
		if *f.to, err = doc.Text(f.name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
		if *f.to == "" || !f.url {
			continue
		}
		if _, err := c.urls.Check(ctx, f.name, *f.to); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		name string
		to   *[]string
	}{
		{"scopes_supported", &s.Scopes},
		{"token_endpoint_auth_methods_supported", &s.AuthMethods},
		{"grant_types_supported", &s.Grants},
		{"authorization_grant_profiles_supported", &s.GrantProfiles},
		{"code_challenge_methods_supported", &s.ChallengeMethods},
		{"dpop_signing_alg_values_supported", &s.DPoP},
	} {
		if *f.to, err = doc.List(f.name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
	}
	s.Iss, _ = doc["authorization_response_iss_parameter_supported"].(bool)
	s.Documents, _ = doc["client_id_metadata_document_supported"].(bool)
	s.RequirePAR, _ = doc["require_pushed_authorization_requests"].(bool)
	if s.Token == "" {
		return nil, fmt.Errorf("%w: no token_endpoint", ErrMetadata)
	}
	return s, nil
}

// document fetches one JSON object. [ErrNoMetadata] means that there is none at this place.
func (c *Client) document(ctx context.Context, what, place string) (jose.Claims, error) {
	u, err := c.urls.Check(ctx, what, place)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 && resp.StatusCode < 500 {
		return nil, fmt.Errorf("%w: %s: status %d at %s", ErrNoMetadata, what, resp.StatusCode, Show(u))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s: status %d at %s", ErrMetadata, what, resp.StatusCode, Show(u))
	}
	body, err := safedial.ReadAll(resp.Body, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	doc, err := jose.ParseObject(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMetadata, what, err)
	}
	return doc, nil
}
