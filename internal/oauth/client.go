package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/internal/secret"
)

// A Prover makes DPoP proofs with one key (RFC 9449 section 4.2). It is safe for concurrent use.
type Prover interface {
	// Proof returns a proof for one request. uri has no query and no fragment; token is the access token
	// that the request carries, nonce the value the server asked for; both may be empty.
	Proof(method, uri, token, nonce string) (string, error)
	// Thumbprint is the RFC 7638 thumbprint of the key.
	Thumbprint() string
}

// A Signer signs client assertions (RFC 7523 section 2.2). *jose.Signer is one.
type Signer interface {
	Sign(typ string, claims any) (string, error)
}

// A Config sets up a client. HTTP is required.
type Config struct {
	HTTP *http.Client     // of package safedial: it decides what may be dialled
	Now  func() time.Time // nil for time.Now

	Name     string // client_name shown to people; default "Warder"
	URI      string // client_uri; may be empty
	Redirect string // redirect URI of authorization code flows
	Native   bool   // application_type is "native", not "web" (OpenID Connect Registration section 2)
	Document string // address of our client id metadata document; empty: there is none

	Registered    []Registration // pre-registered, at most one for each issuer
	Registrations Registrations  // where dynamic registrations are kept; nil: in memory, as long as the client lives
	Prover        Prover         // key of DPoP; nil: never used
	RequireDPoP   bool           // refuse tokens that are not bound to Prover's key

	Issuers  []string // the only authorization servers that may be used; empty: any that metadata names
	Loopback bool     // http to loopback is accepted
	Hosts    []string // hosts that the operator configured; see URLs.Hosts
	Refused  Refused  // told of refusals; may be nil
}

// A Client gets tokens from authorization servers. It is safe for concurrent use.
type Client struct {
	cfg     Config
	urls    *URLs
	issuers *Issuers
	nonces  *bounded.Cache[string, string] // origin → the nonce its next proof must carry
	now     func() time.Time
}

// New returns a client.
func New(cfg Config) (*Client, error) {
	if cfg.HTTP == nil {
		return nil, errors.New("oauth: no http client")
	}
	if cfg.RequireDPoP && cfg.Prover == nil {
		return nil, errors.New("oauth: bound tokens are required, but there is no key")
	}
	if cfg.Name == "" {
		cfg.Name = "Warder"
	}
	if cfg.Registrations == nil {
		cfg.Registrations = &memory{kept: bounded.New[string, Registration](64)}
	}
	c := &Client{
		cfg:     cfg,
		urls:    &URLs{Loopback: cfg.Loopback, Hosts: cfg.Hosts, Refused: cfg.Refused},
		issuers: &Issuers{Allowed: cfg.Issuers, Refused: cfg.Refused},
		nonces:  bounded.New[string, string](64),
		now:     cfg.Now,
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// URLs is the guard of URLs that this client uses.
func (c *Client) URLs() *URLs { return c.urls }

// Nonce remembers the nonce that a server wants in proofs (RFC 9449 section 8.2 and 9). It reports
// whether there was a new one.
func (c *Client) Nonce(u *url.URL, h http.Header) bool {
	n := h.Get("Dpop-Nonce")
	if n == "" || len(n) > 512 || !visible(n) {
		return false
	}
	key := origin(u)
	if old, ok := c.nonces.Get(key); ok && old == n {
		return false
	}
	c.nonces.Put(key, n)
	return true
}

// Proof returns a DPoP proof for a request to a resource with an access token.
func (c *Client) Proof(method string, u *url.URL, token string) (string, error) {
	if c.cfg.Prover == nil {
		return "", errors.New("oauth: there is no key for proofs")
	}
	nonce, _ := c.nonces.Get(origin(u))
	return c.cfg.Prover.Proof(method, u.Scheme+"://"+u.Host+u.EscapedPath(), token, nonce)
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// visible reports whether s holds visible ASCII only.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// Tokens are what an authorization server gave. The values print as "[redacted]".
type Tokens struct {
	Issuer   string       // who gave them
	Resource string       // what they are good for
	Client   string       // client id that got them
	Access   secret.Value // access token
	Refresh  secret.Value // empty if there is none
	Bound    bool         // the access token is bound to the key of DPoP: shown with the DPoP scheme
	Scopes   []string     // what they cover, as far as anybody said
	NotAfter time.Time    // end of the access token; zero if the server did not say
	Type     string       // issued_token_type of an exchange; empty otherwise
}

// memory keeps registrations for the life of a client.
type memory struct {
	kept *bounded.Cache[string, Registration]
}

// Load implements Registrations.
func (m *memory) Load(_ context.Context, issuer string) (*Registration, error) {
	r, ok := m.kept.Get(issuer)
	if !ok {
		return nil, ErrRegistration
	}
	return &r, nil
}

// Save implements Registrations.
func (m *memory) Save(_ context.Context, r *Registration) error {
	m.kept.Put(r.Issuer, *r)
	return nil
}
