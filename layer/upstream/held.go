package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
)

// revokeTimeout bounds all that is done at the authorization server when a credential is removed.
const revokeTimeout = 8 * time.Second

// ErrNotHeld means that no credential has this id.
var ErrNotHeld = errors.New("no such credential")

// A Held is a credential that a person granted Warder at a server, without its value.
type Held struct {
	ID       string
	Server   string
	Owner    string // key of the person
	Issuer   string // authorization server
	Scopes   []string
	NotAfter time.Time // when Warder forgets it unless it is renewed
}

// List returns the credentials that are kept, in order of their ids: for one server if it is named, after
// an id, at most limit of them; 0 means as many as the store returns at once.
func (k *Keeper) List(ctx context.Context, server, after string, limit int) ([]Held, error) {
	docs, err := k.deps.State.List(ctx, state.Query{Kind: docToken, Topic: server, After: after, Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	out := make([]Held, 0, len(docs))
	for _, d := range docs {
		h := Held{ID: d.ID, Server: d.Topic, Owner: d.Owner, NotAfter: d.NotAfter}
		var b kept
		if err := k.open1(docToken, d.ID, d.Body, &b); err == nil { // else it can be removed all the same
			h.Issuer, h.Scopes = b.Issuer, b.Scopes
		}
		out = append(out, h)
	}
	return out, nil
}

// Remove forgets a credential, on every replica, and then tells the authorization server that issued it, if
// that takes revocations (RFC 7009); whether it did is in the trail, which names by whom. The error wraps
// [ErrNotHeld] if there is none, and is about forgetting only.
func (k *Keeper) Remove(ctx context.Context, id, by string) error {
	doc, err := k.deps.State.Take(ctx, docToken, id)
	if errors.Is(err, state.ErrNotFound) {
		return ErrNotHeld
	}
	if err != nil {
		return fmt.Errorf("remove credential: %w", err)
	}
	s := k.servers[doc.Topic]
	o := ownerOfKey(doc.Owner)
	if s == nil || s.people == nil {
		k.tell(ctx, "AUT-04", &server{k: k, name: doc.Topic, kind: kindOAuth}, o, removed, "removed_by_operator", by+"; the server is not configured, so nobody was told")
		return nil
	}
	if e := s.people.byDoc(id); e != nil {
		e.cur.Store(nil)
	}
	told := "revoked at the authorization server"
	if err := s.revoke(ctx, id, doc.Body); err != nil {
		told = "not revoked at the authorization server: " + err.Error()
	}
	k.tell(ctx, "AUT-04", s, o, removed, "removed_by_operator", by+"; "+told)
	return nil
}

// revoke ends tokens at the server that issued them: the refresh token, with which the others end as a rule,
// and then the access token.
func (s *server) revoke(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	var b kept
	if err := s.k.open1(docToken, id, body, &b); err != nil {
		return err
	}
	t, reg, err := s.at(ctx)
	if err != nil {
		return err
	}
	if t.Server.Issuer != b.Issuer || reg.ClientID != b.Client {
		return errors.New("it was issued by another authorization server, or to another client")
	}
	var errs []error
	for _, token := range []struct{ value, hint string }{{b.Refresh, "refresh_token"}, {b.Access, "access_token"}} {
		if token.value == "" {
			continue
		}
		err := s.client.Revoke(ctx, t.Server, reg, secret.New([]byte(token.value)), token.hint)
		if refusal, ok := errors.AsType[*oauth.Error](err); ok && refusal.Code == "unsupported_token_type" && token.hint == "access_token" && b.Refresh != "" {
			err = nil // RFC 7009 section 2.2.1: it ends by itself
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ownerOfKey is the inverse of owner.key.
func ownerOfKey(key string) owner {
	const parts = 5
	p := strings.Split(key, "\x1f")
	if len(p) != parts {
		return owner{}
	}
	return owner{p[0], p[1], p[2], p[3], p[4]}
}
