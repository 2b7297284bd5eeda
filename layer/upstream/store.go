package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
)

// sealFor is how long a sealed body can be opened; documents end by their own NotAfter.
const sealFor = 10 * 365 * 24 * time.Hour

// keepToken is how long a person's token is kept without being renewed.
const keepToken = 90 * 24 * time.Hour

// seal encrypts the body of a document and binds it to kind and id.
func (k *Keeper) seal(kind, id string, body []byte) ([]byte, error) {
	defer clear(body)
	text, err := k.deps.Box.Seal(seal.Claims{Purpose: kind, Principal: id, NotAfter: k.now().Add(sealFor)}, body)
	return []byte(text), err
}

func (k *Keeper) unseal(kind, id string, text []byte) ([]byte, error) {
	body, _, err := k.deps.Box.Open(string(text), k.now(), seal.Claims{Purpose: kind, Principal: id})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", kind, err)
	}
	return body, nil
}

// A kept is a person's tokens as they are stored.
type kept struct {
	Issuer   string    `json:"issuer"`
	Resource string    `json:"resource"`
	Client   string    `json:"client"`
	Access   string    `json:"access"`
	Refresh  string    `json:"refresh,omitempty"`
	Bound    bool      `json:"bound,omitempty"`
	Scopes   []string  `json:"scopes,omitempty"` // granted
	Asked    []string  `json:"asked,omitempty"`  // asked for
	NotAfter time.Time `json:"not_after,omitzero"`
	Got      time.Time `json:"got,omitzero"`
	Busy     time.Time `json:"busy,omitzero"` // a replica is renewing until then
}

func keep(t *oauth.Tokens, asked []string, now time.Time) kept {
	return kept{
		Issuer: t.Issuer, Resource: t.Resource, Client: t.Client, Access: string(t.Access.Bytes()), Refresh: string(t.Refresh.Bytes()),
		Bound: t.Bound, Scopes: t.Scopes, Asked: asked, NotAfter: t.NotAfter, Got: now,
	}
}

// end is when the access token is not shown any more; zero if that is not known.
func (b kept) end() time.Time {
	if b.NotAfter.IsZero() {
		return time.Time{}
	}
	return b.NotAfter.Add(-min(early, b.NotAfter.Sub(b.Got)/4))
}

func (b kept) tokens() *oauth.Tokens {
	return &oauth.Tokens{
		Issuer: b.Issuer, Resource: b.Resource, Client: b.Client, Access: secret.New([]byte(b.Access)),
		Refresh: secret.New([]byte(b.Refresh)), Bound: b.Bound, Scopes: b.Scopes, NotAfter: b.NotAfter,
	}
}

// load reads the owner's tokens. The error wraps state.ErrNotFound when there are none.
func (e *entry) load(ctx context.Context) (kept, state.Doc, error) {
	doc, err := e.s.k.deps.State.Get(ctx, docToken, e.id)
	if err != nil {
		return kept{}, state.Doc{}, err
	}
	var b kept
	err = e.s.k.open1(docToken, e.id, doc.Body, &b)
	return b, doc, err
}

// open1 opens a sealed JSON body.
func (k *Keeper) open1(kind, id string, text []byte, to any) error {
	body, err := k.unseal(kind, id, text)
	if err != nil {
		return err
	}
	defer clear(body)
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("read %s: %w", kind, err)
	}
	return nil
}

// store writes the owner's tokens over a version of them.
func (e *entry) store(ctx context.Context, b kept, version int64) (state.Doc, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return state.Doc{}, fmt.Errorf("encode tokens: %w", err)
	}
	k := e.s.k
	text, err := k.seal(docToken, e.id, body)
	if err != nil {
		return state.Doc{}, fmt.Errorf("seal tokens: %w", err)
	}
	docs, err := k.deps.State.Put(ctx, state.Doc{
		Kind: docToken, ID: e.id, Owner: e.owner.key(), Topic: e.s.name, NotAfter: k.now().Add(keepToken), Body: text, Version: version,
	})
	if err != nil {
		return state.Doc{}, err
	}
	return docs[0], nil
}

// replace writes new tokens whatever is there.
func (e *entry) replace(ctx context.Context, b kept) (state.Doc, error) {
	for range 5 {
		version := int64(0)
		doc, err := e.s.k.deps.State.Get(ctx, docToken, e.id)
		switch {
		case err == nil:
			version = doc.Version
		case !errors.Is(err, state.ErrNotFound):
			return state.Doc{}, err
		}
		if doc, err = e.store(ctx, b, version); !errors.Is(err, state.ErrConflict) {
			return doc, err
		}
	}
	return state.Doc{}, state.ErrConflict
}

// registrations keeps dynamic registrations: one for each authorization server and redirect URI, shared
// by the servers behind it.
type registrations struct{ s *server }

// keptRegistration is a registration as it is stored.
type keptRegistration struct {
	Issuer     string    `json:"issuer"`
	ClientID   string    `json:"client_id"`
	Method     string    `json:"method,omitempty"`
	Credential string    `json:"credential,omitempty"` // client secret
	NotAfter   time.Time `json:"not_after,omitzero"`
}

func (r registrations) id(issuer string) string {
	sum := sha256.Sum256([]byte(issuer + "\x1f" + r.s.k.deps.Base))
	return hex.EncodeToString(sum[:])
}

// Load implements oauth.Registrations.
func (r registrations) Load(ctx context.Context, issuer string) (*oauth.Registration, error) {
	id := r.id(issuer)
	doc, err := r.s.k.deps.State.Get(ctx, docRegistration, id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, oauth.ErrRegistration
	}
	if err != nil {
		return nil, err
	}
	var b keptRegistration
	if err := r.s.k.open1(docRegistration, id, doc.Body, &b); err != nil {
		return nil, err
	}
	return &oauth.Registration{Issuer: b.Issuer, ClientID: b.ClientID, Method: b.Method, Secret: secret.New([]byte(b.Credential)), NotAfter: b.NotAfter}, nil
}

// Save implements oauth.Registrations.
func (r registrations) Save(ctx context.Context, reg *oauth.Registration) error {
	body, err := json.Marshal(keptRegistration{reg.Issuer, reg.ClientID, reg.Method, string(reg.Secret.Bytes()), reg.NotAfter})
	if err != nil {
		return fmt.Errorf("encode registration: %w", err)
	}
	id := r.id(reg.Issuer)
	text, err := r.s.k.seal(docRegistration, id, body)
	if err != nil {
		return err
	}
	version := int64(0)
	if doc, err := r.s.k.deps.State.Get(ctx, docRegistration, id); err == nil {
		version = doc.Version
	}
	_, err = r.s.k.deps.State.Put(ctx, state.Doc{Kind: docRegistration, ID: id, Topic: reg.Issuer, NotAfter: reg.NotAfter, Body: text, Version: version})
	r.s.k.tell(ctx, "AUT-03", r.s, owner{}, obtained, "registered", "issuer "+reg.Issuer)
	return err
}
