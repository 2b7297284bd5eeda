package issuer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/state"
)

// Refresh tokens: "wr_" + id of the family + "." + secret of this turn.
const (
	kindRefresh   = "issuer.refresh"
	refreshPrefix = "wr_"
	maxLive       = 64 // access tokens of one family that live at once
)

// A family is all refresh tokens that follow from one login, of which only the youngest is good. The
// store knows the hash of its secret.
type family struct {
	Client   string          `json:"client"`
	User     User            `json:"user"`
	Resource string          `json:"resource"`
	Scopes   []string        `json:"scopes,omitempty"`
	Details  json.RawMessage `json:"details,omitempty"`
	Key      string          `json:"key,omitempty"`  // thumbprint of the key it is bound to
	Cert     string          `json:"cert,omitempty"` // or of the certificate
	Turn     []byte          `json:"turn"`           // SHA-256 of the youngest
	Began    time.Time       `json:"began"`
	Max      time.Time       `json:"max"`              // absolute end
	Tokens   []issued        `json:"tokens,omitempty"` // access tokens that may still live
	Dead     string          `json:"dead,omitempty"`   // why it ended; empty: it lives
}

// turn makes the next secret and remembers the access token that goes with it.
func (m *family) turn(token issued, now time.Time) string {
	secret := rand.Text()
	sum := sha256.Sum256([]byte(secret))
	m.Turn = sum[:]
	m.Tokens = append(slices.DeleteFunc(m.Tokens, func(t issued) bool { return !now.Before(t.Until) }), token)
	return secret
}

// putFamily writes a family. It ends when it is not used for a while, and at its absolute end; a dead one
// is remembered until then, so that its tokens are known for what they are.
func (is *Issuer) putFamily(ctx context.Context, id string, m *family, version int64, now time.Time) error {
	end := now.Add(is.cfg.Lifetimes.RefreshIdle)
	if end.After(m.Max) {
		end = m.Max
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = is.deps.State.Put(ctx, state.Doc{
		Kind: kindRefresh, ID: digest(id), Owner: is.cfg.URL, Topic: m.User.Subject, NotAfter: end, Body: body, Version: version,
	})
	return err
}

// getFamily reads a family of this issuer.
func (is *Issuer) getFamily(ctx context.Context, id string) (*family, int64, error) {
	d, err := is.deps.State.Get(ctx, kindRefresh, digest(id))
	if err == nil && d.Owner != is.cfg.URL {
		err = state.ErrNotFound
	}
	if err != nil {
		return nil, 0, err
	}
	m := &family{}
	return m, d.Version, json.Unmarshal(d.Body, m)
}

// refresh is the refresh_token grant: each use gives the next one, and using an old one ends the family
// (OAuth 2.1 section 4.3.1).
func (is *Issuer) refresh(ctx context.Context, who *caller, p parameters) (*award, *fault) {
	rest, ok := strings.CutPrefix(p["refresh_token"], refreshPrefix)
	id, secret, dot := strings.Cut(rest, ".")
	none := refuse(errGrant, "The refresh token is not known.").because("refresh_unknown", "")
	if !ok || !dot {
		return nil, none
	}
	m, version, err := is.getFamily(ctx, id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, none
	}
	if err != nil {
		return nil, undecided(err)
	}
	if f := is.usable(ctx, id, secret, m, who); f != nil {
		return nil, f
	}
	now := is.deps.Now()
	if f := is.alive(ctx, &m.User); f != nil {
		return nil, f
	}
	resource, f := is.permitted(&m.User, &request{Client: m.Client, Resource: m.Resource})
	if f != nil {
		return nil, f.as(errGrant)
	}
	a, f := is.awardFamily(m, resource, p)
	if f != nil {
		return nil, f
	}
	a.claims.id = rand.Text()
	next := m.turn(issued{ID: a.claims.id, Until: now.Add(a.claims.TTL)}, now)
	if len(m.Tokens) > maxLive {
		return nil, refuse(errGrant, "Too many access tokens are alive.").because("too_many_tokens", "")
	}
	if err := is.putFamily(ctx, id, m, version, now); errors.Is(err, state.ErrConflict) {
		return nil, is.endFamily(ctx, id, "refresh_reused") // another used the same token at the same moment
	} else if err != nil {
		return nil, undecided(err)
	}
	a.refresh = refreshPrefix + id + "." + next
	return a, nil
}

// usable refuses a refresh token that is not the youngest of a living family, or not this caller's.
func (is *Issuer) usable(ctx context.Context, id, secret string, m *family, who *caller) *fault {
	sum := sha256.Sum256([]byte(secret))
	switch {
	case m.Dead != "":
		return refuse(errGrant, "The refresh token is not good any more.").because("refresh_dead", m.Dead)
	case m.Client != who.client.ID:
		return is.endFamily(ctx, id, "refresh_of_another")
	case subtle.ConstantTimeCompare(sum[:], m.Turn) != 1:
		return is.endFamily(ctx, id, "refresh_reused")
	case !m.Began.After(is.keys.notBefore()):
		return is.endFamily(ctx, id, "before_emergency")
	case m.Key != "" && m.Key != who.key(), m.Cert != "" && m.Cert != who.cert:
		return refuse(errProof, "The refresh token is bound to another key.").because("key_mismatch", "")
	default:
		return nil
	}
}

// awardFamily is one access token of a family, for all it was granted or less.
func (is *Issuer) awardFamily(m *family, resource Resource, p parameters) (*award, *fault) {
	if uri, given := p["resource"]; given && uri != m.Resource {
		return nil, refuse(errTarget, "The resource is another than was granted.").because("resource_mismatch", cut(uri, 200))
	}
	scopes, f := is.narrowed(p["scope"], m.Scopes, resource)
	if f != nil {
		return nil, f
	}
	list, err := parseDetails(m.Details)
	if err != nil {
		return nil, undecided(err)
	}
	raw, f := details(p["authorization_details"], resource)
	if f != nil {
		return nil, f
	}
	if raw != nil {
		want, err := parseDetails(raw)
		if err != nil {
			return nil, undecided(err)
		}
		if !rar.Narrower(list, want) {
			return nil, refuse(errDetails, "The authorization details are wider than was granted.").because("details_wider", "")
		}
		list = want
	}
	u := &m.User
	return &award{resource: resource, claims: Claims{
		Subject: u.Subject, Audience: resource.URI, Scopes: scopes, Groups: u.Groups, Client: m.Client, TTL: is.cfg.Lifetimes.Access,
		Tenant: u.Tenant, ACR: u.ACR, AMR: u.AMR, AuthTime: u.AuthTime, Session: u.Session, Binding: m.Key, Cert: m.Cert,
		Purpose: purpose(list), Details: list,
	}}, nil
}

// narrowed reads a scope parameter that may ask for less than was granted; nothing asks for all.
func (is *Issuer) narrowed(text string, granted []string, r Resource) ([]string, *fault) {
	if text == "" {
		return granted, nil
	}
	want, f := is.scopes(text, r)
	if f != nil {
		return nil, f
	}
	for _, s := range want {
		if !slices.Contains(granted, s) {
			return nil, refuse(errScope, "A scope was not granted.").because("scope_wider", cut(s, 80))
		}
	}
	return want, nil
}

// alive refuses when the login session has ended, and takes over what has changed about the person.
func (is *Issuer) alive(ctx context.Context, u *User) *fault {
	if is.deps.Session == nil || u.Session == "" {
		return nil
	}
	fresh, err := is.deps.Session(ctx, u.Session)
	if err != nil {
		return undecided(err)
	}
	if fresh == nil || fresh.Subject != u.Subject {
		return refuse(errGrant, "The login has ended.").because("session_ended", "")
	}
	u.Groups, u.Tenant = fresh.Groups, fresh.Tenant
	return nil
}

// endFamily kills a family and says why.
func (is *Issuer) endFamily(ctx context.Context, id, why string) *fault {
	if err := is.killFamily(ctx, id, why); err != nil {
		return undecided(err)
	}
	return refuse(errGrant, "The refresh token is not good any more.").because("refresh_dead", why)
}

// killFamily ends a family and the access tokens it gave. A family that is not there is dead already.
func (is *Issuer) killFamily(ctx context.Context, id, why string) error {
	const tries = 8
	for range tries {
		m, version, err := is.getFamily(ctx, id)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Dead == "" {
			m.Dead, m.Turn = why, nil
			err = is.putFamily(ctx, id, m, version, is.deps.Now())
			if errors.Is(err, state.ErrConflict) {
				continue
			}
			if err != nil {
				return err
			}
		}
		return is.revokeTokens(ctx, m.Tokens, why)
	}
	return errors.New("end refresh tokens: others change them all the time")
}

// revokeTokens ends access tokens before their time.
func (is *Issuer) revokeTokens(ctx context.Context, tokens []issued, why string) error {
	now := is.deps.Now()
	for _, t := range tokens {
		if !now.Before(t.Until) {
			continue
		}
		err := is.deps.Revoke(ctx, Revocation{
			Kind: "token", Value: is.cfg.URL + "|" + t.ID, At: now, NotAfter: t.Until.Add(time.Minute), Reason: why, By: "issuer",
		})
		if err != nil {
			return err
		}
	}
	return nil
}
