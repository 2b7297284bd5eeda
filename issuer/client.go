package issuer

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/warder-mcp/warder/internal/jose"
)

// clientMeta is what only this package reads of a registration.
type clientMeta struct {
	registration

	config    *ClientConfig
	keys      jose.Keyring // for private_key_jwt; nil: it has none
	secretSum []byte       // SHA-256 of the secret; nil: it has none
	native    bool         // runs on the user's computer: the port of a loopback redirect may differ
}

// A registration is client metadata as RFC 7591 section 2 names it; metadata documents use the same
// names. Other members are not looked at.
type registration struct {
	ID           string          `json:"client_id,omitempty"`
	Name         string          `json:"client_name,omitempty"`
	URI          string          `json:"client_uri,omitempty"`
	RedirectURIs []string        `json:"redirect_uris,omitempty"`
	Auth         string          `json:"token_endpoint_auth_method,omitempty"`
	Grants       []string        `json:"grant_types,omitempty"`
	Responses    []string        `json:"response_types,omitempty"`
	Scope        string          `json:"scope,omitempty"`
	Application  string          `json:"application_type,omitempty"`
	KeySet       json.RawMessage `json:"jwks,omitempty"`
	KeySetURI    string          `json:"jwks_uri,omitempty"`
	BoundTokens  bool            `json:"dpop_bound_access_tokens,omitempty"`
	Secret       string          `json:"client_secret,omitempty"`
}

// registration is what the operator wrote, in the form of all others.
func (k ClientConfig) registration() (registration, error) {
	r := registration{
		ID: k.ID, Name: k.Name, URI: k.URI, RedirectURIs: k.RedirectURIs, Grants: k.Grants,
		Scope: strings.Join(k.Scopes, " "), KeySetURI: k.JWKSURI,
	}
	if k.Native {
		r.Application = "native"
	}
	if k.JWKS != "" {
		r.KeySet = json.RawMessage(k.JWKS)
	}
	ways := 0
	for _, way := range []struct {
		set  bool
		auth string
	}{
		{k.JWKS != "" || k.JWKSURI != "" || k.Workload != (WorkloadConfig{}), authPrivateKey},
		{k.TLS.SubjectDN != "" || k.TLS.SANDNS != "" || k.TLS.SANURI != "", authTLS},
		{k.TLS.Thumbprint != "", authSelfSigned},
		{!k.Secret.IsZero(), authBasic},
	} {
		if way.set {
			r.Auth = way.auth
			ways++
		}
	}
	if ways > 1 {
		return r, errors.New("set at most one of jwks, jwks_uri or workload; tls; secret")
	}
	if ways == 0 {
		r.Auth = authNone
	}
	return r, r.check()
}

// check judges the members that every registration must have right.
func (r *registration) check() error {
	if len(r.Grants) == 0 {
		r.Grants = []string{grantCode, grantRefresh}
	}
	if len(r.RedirectURIs) == 0 && slices.Contains(r.Grants, grantCode) {
		return errors.New("redirect_uris: empty")
	}
	if len(r.RedirectURIs) > 32 {
		return errors.New("redirect_uris: more than 32")
	}
	for _, u := range r.RedirectURIs {
		if err := checkRedirect(u, r.Application == "native"); err != nil {
			return fmt.Errorf("redirect_uris: %w", err)
		}
	}
	for s := range strings.FieldsSeq(r.Scope) {
		if !scopeToken(s) {
			return fmt.Errorf("scope: %.80q is not a scope", s)
		}
	}
	switch r.Application {
	case "", "web", "native":
	default:
		return fmt.Errorf("application_type: %.40q is neither web nor native", r.Application)
	}
	if len(r.KeySet) > 0 && r.KeySetURI != "" {
		return errors.New("set at most one of jwks and jwks_uri")
	}
	if len(r.Name) > 200 || len(r.URI) > 2048 {
		return errors.New("client_name or client_uri is too long")
	}
	return nil
}

// checkRedirect judges a redirect URI: https, or http on loopback, or for native clients a private-use
// scheme with a dot (RFC 8252 section 7.1). Never a fragment, never a scheme that runs something.
func checkRedirect(text string, native bool) error {
	u, err := url.Parse(text)
	if err != nil || len(text) > 2048 || strings.ContainsAny(text, " \t\r\n\\") {
		return fmt.Errorf("%.80q is not a URI", text)
	}
	switch {
	case u.Fragment != "" || strings.Contains(text, "#"):
		return fmt.Errorf("%.80q has a fragment", text)
	case u.User != nil:
		return fmt.Errorf("%.80q has user information", text)
	case u.Scheme == "https" && u.Host != "", u.Scheme == "http" && u.Host != "" && jose.SecureURL(u):
		return nil
	case native && strings.Contains(u.Scheme, ".") && u.Host == "":
		return nil
	default:
		return fmt.Errorf("%.80q is neither https nor http on loopback", text)
	}
}

// newClient makes a client of checked metadata.
func (is *Issuer) newClient(r registration, from Source) (*Client, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	loopback := len(r.RedirectURIs) > 0
	for _, u := range r.RedirectURIs {
		loopback = loopback && strings.HasPrefix(u, "http://")
	}
	c := &Client{
		ID: r.ID, Name: r.Name, URI: r.URI, Source: from, Loopback: loopback && from != SourceConfig,
		meta: clientMeta{native: r.Application == "native" || r.Application == "" && loopback},
	}
	if r.Secret != "" {
		sum := sha256.Sum256([]byte(r.Secret))
		c.meta.secretSum, r.Secret = sum[:], ""
	}
	c.meta.registration = r
	switch {
	case len(r.KeySet) > 0:
		set, err := jose.ParseKeySet(r.KeySet)
		if err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		c.meta.keys = jose.Static(set)
	case r.KeySetURI != "":
		if is.deps.HTTP == nil {
			return nil, errors.New("jwks_uri: key sets cannot be fetched here")
		}
		fetch, err := jose.FromURL(is.deps.HTTP, r.KeySetURI)
		if err != nil {
			return nil, fmt.Errorf("jwks_uri: %w", err)
		}
		c.meta.keys = jose.NewSource(fetch, jose.Refresh{}, is.deps.Now)
	}
	return c, nil
}

// redirect reports whether the client registered the redirect URI: exactly, or for native clients on
// loopback with any port (RFC 8252 section 7.3).
func (c *Client) redirect(text string) bool {
	if slices.Contains(c.meta.RedirectURIs, text) {
		return true
	}
	if !c.meta.native {
		return false
	}
	asked, ok := withoutPort(text)
	return ok && slices.ContainsFunc(c.meta.RedirectURIs, func(have string) bool {
		registered, ok := withoutPort(have)
		return ok && registered == asked
	})
}

// knows reports whether a browser may be sent to a redirect URI of the client without asking: the
// operator registered it, or it stays on the person's own computer.
func (c *Client) knows(redirect string) bool {
	u, err := url.Parse(redirect)
	return c.Source == SourceConfig || err == nil && u.Scheme == "http" && jose.SecureURL(u)
}

// withoutPort is a loopback http URI without its port; false for any other URI.
func withoutPort(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, "http://")
	if !ok || checkRedirect(text, true) != nil {
		return "", false
	}
	authority, path, slash := strings.Cut(rest, "/")
	u, err := url.Parse("http://" + authority)
	if err != nil || !slash || !jose.SecureURL(u) || u.Host != authority {
		return "", false
	}
	return u.Hostname() + "/" + path, true
}

// confidential reports whether the client proves who it is.
func (c *Client) confidential() bool { return c.meta.Auth != authNone }

// may reports whether the client may use a grant type.
func (c *Client) may(grant string) bool { return slices.Contains(c.meta.Grants, grant) }

// narrow refuses what the operator does not let a configured client have. What other clients get is
// for the person who consents, and for policy.
func (c *Client) narrow(r Resource, scopes []string) *fault {
	if k := c.meta.config; k != nil && len(k.Servers) > 0 && !slices.Contains(k.Servers, r.Server) {
		return refuse(errTarget, "The client may not ask for this resource.").because("server_not_allowed", r.Server)
	}
	if k := c.meta.config; k != nil && len(k.Scopes) > 0 {
		for _, s := range scopes {
			if !slices.Contains(k.Scopes, s) {
				return refuse(errScope, "The client may not ask for this scope.").because("scope_not_allowed", cut(s, 80))
			}
		}
	}
	return nil
}
