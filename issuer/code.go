package issuer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/warder-mcp/warder/internal/state"
)

// kindCode holds authorization codes, by their hash.
const kindCode = "issuer.code"

// spentCodes are remembered this long after they were made, longer than any access token lives, so that
// using one again can end what it gave.
const spentCodes = time.Hour

// digest is what the store knows of a random secret (SHA-256, hex).
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// A codeDoc is one authorization code. A code that was redeemed stays, marked, with what it gave.
type codeDoc struct {
	Request request   `json:"request"`
	User    User      `json:"user"`
	Expires time.Time `json:"expires"`
	Family  string    `json:"family"` // id of the refresh tokens it will give
	Spent   bool      `json:"spent,omitempty"`
	Token   *issued   `json:"token,omitempty"` // the access token it gave
}

// issued is an access token that was given out.
type issued struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
}

// newCode makes a code: good once, for at most a minute.
func (is *Issuer) newCode(ctx context.Context, q *request, user *User) (string, error) {
	code, now := rand.Text(), is.deps.Now()
	kept := *user
	kept.Name, kept.Email = "", "" // no token says them
	body, err := json.Marshal(codeDoc{Request: *q, User: kept, Expires: now.Add(is.cfg.Lifetimes.Code), Family: rand.Text()})
	if err != nil {
		return "", err
	}
	_, err = is.deps.State.Put(ctx, state.Doc{
		Kind: kindCode, ID: digest(code), Owner: is.cfg.URL, Topic: user.Subject, NotAfter: now.Add(spentCodes), Body: body,
	})
	return code, err
}

// redeem is the authorization_code grant (OAuth 2.1 section 4.1.3).
func (is *Issuer) redeem(ctx context.Context, who *caller, p parameters) (*award, *fault) {
	code := p["code"]
	d, err := is.deps.State.Get(ctx, kindCode, digest(code))
	if errors.Is(err, state.ErrNotFound) || code == "" || err == nil && d.Owner != is.cfg.URL {
		return nil, refuse(errGrant, "The code is not known.").because("code_unknown", "")
	}
	if err != nil {
		return nil, undecided(err)
	}
	var doc codeDoc
	if err := json.Unmarshal(d.Body, &doc); err != nil {
		return nil, undecided(err)
	}
	if doc.Spent {
		return nil, is.reused(ctx, &doc)
	}
	if doc.Request.Client != who.client.ID {
		return nil, refuse(errGrant, "The code is not known.").because("code_of_another", "issued to "+cut(doc.Request.Client, 200))
	}
	// From here on the code is used up, whatever comes of it: of many who present it, one gets through.
	now := is.deps.Now()
	doc.Spent = true
	doc.Token = &issued{ID: rand.Text(), Until: now.Add(is.cfg.Lifetimes.Access)}
	if d.Body, err = json.Marshal(doc); err != nil {
		return nil, undecided(err)
	}
	if _, err := is.deps.State.Put(ctx, d); errors.Is(err, state.ErrConflict) {
		return nil, is.reused(ctx, &doc)
	} else if err != nil {
		return nil, undecided(err)
	}
	if f := is.fits(&doc, who, p, now); f != nil {
		return nil, f
	}
	return is.awardUser(ctx, &doc, who, p, now)
}

// fits checks what the code is bound to: time, redirect URI, PKCE, key, resource.
func (is *Issuer) fits(doc *codeDoc, who *caller, p parameters, now time.Time) *fault {
	q := &doc.Request
	sum := sha256.Sum256([]byte(p["code_verifier"]))
	verifier := base64.RawURLEncoding.EncodeToString(sum[:])
	uri, named := p["redirect_uri"] // OAuth 2.1 does not send it any more; when sent it must be the one
	switch {
	case !now.Before(doc.Expires):
		return refuse(errGrant, "The code has expired.").because("code_expired", "")
	case !doc.Expires.Add(-is.cfg.Lifetimes.Code).After(is.keys.notBefore()):
		return refuse(errGrant, "The code has expired.").because("before_emergency", "")
	case named && uri != q.Redirect:
		return refuse(errGrant, "The redirect_uri is another than the code's.").because("redirect_mismatch", "")
	case len(p["code_verifier"]) < 43 || len(p["code_verifier"]) > 128:
		return refuse(errGrant, "The code_verifier does not fit.").because("pkce_mismatch", "length")
	case subtle.ConstantTimeCompare([]byte(verifier), []byte(q.Challenge)) != 1:
		return refuse(errGrant, "The code_verifier does not fit.").because("pkce_mismatch", "")
	case q.Key != "" && q.Key != who.key():
		return refuse(errProof, "The code is bound to another key.").because("key_mismatch", "")
	}
	if uri, given := p["resource"]; given && uri != q.Resource {
		return refuse(errTarget, "The resource is another than the code's.").because("resource_mismatch", cut(uri, 200))
	}
	return nil
}

// awardUser is what the code gives: an access token, and a family of refresh tokens if the client may
// have one.
func (is *Issuer) awardUser(ctx context.Context, doc *codeDoc, who *caller, p parameters, now time.Time) (*award, *fault) {
	if f := is.alive(ctx, &doc.User); f != nil {
		return nil, f
	}
	resource, f := is.permitted(&doc.User, &doc.Request)
	if f != nil {
		return nil, f.as(errGrant)
	}
	m := &family{
		Client: who.client.ID, User: doc.User, Resource: resource.URI, Scopes: doc.Request.Scopes, Details: doc.Request.Details,
		Key: who.key(), Cert: who.cert, Began: now, Max: now.Add(is.cfg.Lifetimes.Refresh),
	}
	a, f := is.awardFamily(m, resource, p)
	if f != nil {
		return nil, f
	}
	a.claims.id = doc.Token.ID
	if !who.client.may(grantRefresh) {
		return a, nil
	}
	secret := m.turn(*doc.Token, now)
	if err := is.putFamily(ctx, doc.Family, m, 0, now); errors.Is(err, state.ErrConflict) {
		return nil, is.reused(ctx, doc) // the code was used again meanwhile
	} else if err != nil {
		return nil, undecided(err)
	}
	a.refresh = refreshPrefix + doc.Family + "." + secret
	return a, nil
}

// reused ends everything a code gave that is used again: somebody else has it (OAuth 2.1 section 4.1.3).
func (is *Issuer) reused(ctx context.Context, doc *codeDoc) *fault {
	f := refuse(errGrant, "The code was used before.").because("code_reused", "everything it gave is revoked")
	if doc.Token != nil {
		if err := is.revokeTokens(ctx, []issued{*doc.Token}, "code_reused"); err != nil {
			return undecided(err)
		}
	}
	// The family may be about to be made by whoever used the code first: a dead one keeps its place.
	now := is.deps.Now()
	dead := &family{Client: doc.Request.Client, User: doc.User, Dead: "code_reused", Began: now, Max: now.Add(spentCodes)}
	err := is.putFamily(ctx, doc.Family, dead, 0, now)
	if errors.Is(err, state.ErrConflict) {
		err = is.killFamily(ctx, doc.Family, "code_reused")
	}
	if err != nil {
		return undecided(err)
	}
	return f
}
