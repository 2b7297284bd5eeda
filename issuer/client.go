package issuer

import (
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

	auth         string // how it authenticates
	config       *ClientConfig
	keys         jose.Keyring // for private_key_jwt; nil: it has none
	secretSum    []byte       // SHA-256 of the secret; nil: it has none
	redirectURIs []string
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
