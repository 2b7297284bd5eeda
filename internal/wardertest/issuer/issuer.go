// Package issuer is an identity provider without a door, for tests: one ES256 key, and tokens with
// whatever claims a test wants.
package issuer

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
)

// Lifetimes of minted tokens.
const (
	DefaultTTL = time.Hour
	MaxTTL     = 24 * time.Hour
)

// keyFile is the name of the key inside the data folder.
const keyFile = "issuer.key"

// A Config says who the issuer is.
type Config struct {
	URL string           // issuer identifier: https, or http on loopback; its path is the base path of the handler
	Dir string           // folder that holds the key; created with mode 0700 if it does not exist
	Now func() time.Time // clock; nil for time.Now

	// Sign signs instead of a key in Dir, which is then not used; nil: the key in Dir signs.
	Sign func(typ string, claims any) (string, error)
}

// Claims are what one token says.
type Claims struct {
	Subject  string        // required
	Audience string        // required: canonical resource URI of one server
	Scopes   []string      // may be empty
	Groups   []string      // may be empty
	Client   string        // OAuth client id; default "warder-local"
	Agent    string        // acting agent; becomes the act claim (RFC 8693 section 4.1)
	TTL      time.Duration // zero for DefaultTTL; at most MaxTTL

	More map[string]any // further claims, such as authorization_details; they replace none of the above
}

// An Issuer mints tokens and serves its metadata. It is safe for concurrent use.
type Issuer struct {
	url  string
	sign func(typ string, claims any) (string, error)
	now  func() time.Time
	set  []byte // rendered key set
}

// New opens the issuer's key, creating it on first use.
func New(cfg Config) (*Issuer, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || !jose.SecureURL(u) || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(cfg.URL, "/") {
		return nil, fmt.Errorf("issuer url %q: want https, or http on loopback, without query, fragment or trailing slash", cfg.URL)
	}
	is := &Issuer{url: cfg.URL, sign: cfg.Sign, now: cfg.Now}
	if is.now == nil {
		is.now = time.Now
	}
	if is.sign != nil {
		return is, nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("issuer folder: %w", err)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("issuer folder: %w", err)
	}
	defer root.Close()
	signer, err := jose.OpenSigner(root, keyFile)
	if err != nil {
		return nil, fmt.Errorf("issuer key: %w", err)
	}
	is.sign = signer.Sign
	if is.set, err = signer.KeySet(); err != nil {
		return nil, fmt.Errorf("issuer key set: %w", err)
	}
	return is, nil
}

// URL is the issuer identifier.
func (is *Issuer) URL() string { return is.url }

// Keys is the issuer's key set for a verifier in the same process.
func (is *Issuer) Keys() (*jose.KeySet, error) { return jose.ParseKeySet(is.set) }

// accessToken is the claims set of RFC 9068 section 2.2.
type accessToken struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	Issued   int64    `json:"iat"`
	ID       string   `json:"jti"`
	Client   string   `json:"client_id"`
	Scope    string   `json:"scope,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	Actor    *actor   `json:"act,omitempty"`
}

type actor struct {
	Subject string `json:"sub"`
}

// Mint returns a signed access token.
func (is *Issuer) Mint(c Claims) (string, error) {
	if c.Subject == "" || c.Audience == "" {
		return "", errors.New("mint token: subject and audience are required")
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.TTL < 0 || c.TTL > MaxTTL {
		return "", fmt.Errorf("mint token: lifetime %v, want at most %v", c.TTL, MaxTTL)
	}
	for _, s := range c.Scopes {
		if s == "" || strings.ContainsAny(s, " \t\"\\") || s == "offline_access" {
			return "", fmt.Errorf("mint token: scope %q is not allowed", s)
		}
	}
	if c.Client == "" {
		c.Client = "warder-local"
	}
	now := is.now()
	t := accessToken{
		Issuer: is.url, Subject: c.Subject, Audience: c.Audience,
		Issued: now.Unix(), Expires: now.Add(c.TTL).Unix(), ID: rand.Text(),
		Client: c.Client, Scope: strings.Join(c.Scopes, " "), Groups: slices.Clone(c.Groups),
	}
	if c.Agent != "" {
		t.Actor = &actor{Subject: c.Agent}
	}
	if len(c.More) == 0 {
		return is.sign("at+jwt", t)
	}
	all := maps.Clone(c.More)
	own, err := json.Marshal(t)
	if err == nil {
		err = json.Unmarshal(own, &all)
	}
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	all["iat"], all["exp"] = t.Issued, t.Expires // integers, not the floats they were read as
	return is.sign("at+jwt", all)
}
