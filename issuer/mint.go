package issuer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// Lifetimes of tokens that an operator mints.
const (
	DefaultTTL = time.Hour
	MaxTTL     = time.Hour
)

// Claims are what one token says.
type Claims struct {
	Subject  string          // required
	Audience string          // required: canonical resource URI of one server
	Scopes   []string        // may be empty
	Groups   []string        // may be empty
	Client   string          // OAuth client id; default "warder-local"
	Agent    string          // acting agent; becomes the nearest act claim (RFC 8693 section 4.1)
	Actors   []string        // actor chain, nearest first; excludes Agent
	TTL      time.Duration   // zero for DefaultTTL; at most MaxTTL
	Tenant   string          // empty in single-tenant deployments
	ACR      string          // authentication context class
	AMR      []string        // authentication methods
	AuthTime time.Time       // zero if nobody logged in
	Session  string          // becomes sid
	Binding  string          // thumbprint of the key it is bound to (cnf.jkt, RFC 9449 section 6.1)
	Cert     string          // thumbprint of the certificate it is bound to (cnf.x5t#S256, RFC 8705 section 3.1)
	Purpose  string          // declared purpose
	Details  []warder.Detail // authorization details (RFC 9396); empty: not narrowed
	id       string          // jti; empty: a fresh one

	MayAct string // the one actor that may exchange the token (RFC 8693 section 4.4); empty: see exchange
}

// accessToken is the claims set of RFC 9068 section 2.2.
type accessToken struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience string          `json:"aud"`
	Expires  int64           `json:"exp"`
	Issued   int64           `json:"iat"`
	ID       string          `json:"jti"`
	Client   string          `json:"client_id"`
	Scope    string          `json:"scope,omitempty"`
	Groups   []string        `json:"groups,omitempty"`
	Tenant   string          `json:"tenant,omitempty"`
	ACR      string          `json:"acr,omitempty"`
	AMR      []string        `json:"amr,omitempty"`
	AuthTime int64           `json:"auth_time,omitempty"`
	Session  string          `json:"sid,omitempty"`
	Confirm  *confirmation   `json:"cnf,omitempty"`
	Actor    *actor          `json:"act,omitempty"`
	MayAct   *actor          `json:"may_act,omitempty"`
	Details  json.RawMessage `json:"authorization_details,omitempty"`
	Purpose  string          `json:"purpose,omitempty"`
}

type confirmation struct {
	Key  string `json:"jkt,omitempty"`
	Cert string `json:"x5t#S256,omitempty"`
}

type actor struct {
	Subject string `json:"sub"`
	Actor   *actor `json:"act,omitempty"`
}

// chain nests actors, nearest first.
func chain(actors []string) *actor {
	var a *actor
	for _, sub := range slices.Backward(actors) {
		a = &actor{Subject: sub, Actor: a}
	}
	return a
}

// Mint returns a signed access token that an operator asked for. It is for the quick start and for
// tests: whoever can call it can be anybody. It is not recorded; the caller does.
func (is *Issuer) Mint(ctx context.Context, c Claims) (string, error) {
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.Client == "" {
		c.Client = "warder-local"
	}
	raw, _, err := is.mint(ctx, c)
	return raw, err
}

// mint checks, completes and signs claims. It returns the token and its id.
func (is *Issuer) mint(ctx context.Context, c Claims) (raw, id string, err error) {
	if c.Subject == "" || c.Audience == "" || c.Client == "" {
		return "", "", errors.New("mint token: subject, audience and client are required")
	}
	if c.TTL <= 0 || c.TTL > MaxTTL {
		return "", "", fmt.Errorf("mint token: lifetime %v, want at most %v", c.TTL, MaxTTL)
	}
	for _, s := range c.Scopes {
		if !scopeToken(s) || s == "offline_access" {
			return "", "", fmt.Errorf("mint token: scope %q is not allowed", s)
		}
	}
	actors := c.Actors
	if c.Agent != "" {
		actors = append([]string{c.Agent}, actors...)
	}
	if len(actors) > maxActors {
		return "", "", fmt.Errorf("mint token: %d actors, want at most %d", len(actors), maxActors)
	}
	now := is.deps.Now()
	t := accessToken{
		Issuer: is.cfg.URL, Subject: c.Subject, Audience: c.Audience,
		Issued: now.Unix(), Expires: now.Add(c.TTL).Unix(), ID: cmp.Or(c.id, rand.Text()),
		Client: c.Client, Scope: strings.Join(c.Scopes, " "), Groups: slices.Clone(c.Groups),
		Tenant: c.Tenant, ACR: c.ACR, AMR: slices.Clone(c.AMR), Session: c.Session,
		Actor: chain(actors), Purpose: c.Purpose,
	}
	if !c.AuthTime.IsZero() {
		t.AuthTime = c.AuthTime.Unix()
	}
	if c.Binding != "" || c.Cert != "" {
		t.Confirm = &confirmation{Key: c.Binding, Cert: c.Cert}
	}
	if c.MayAct != "" {
		t.MayAct = &actor{Subject: c.MayAct}
	}
	if len(c.Details) > 0 {
		t.Details = encodeDetails(c.Details)
	}
	raw, err = is.keys.sign(ctx, "at+jwt", t)
	return raw, t.ID, err
}

// scopeToken reports whether the text is one scope (RFC 6749 section 3.3).
func scopeToken(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
