package login

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/passkey"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

const (
	// maxLink is the longest life of a one-time link, and defaultLink the usual one.
	maxLink     = 15 * time.Minute
	defaultLink = 10 * time.Minute
	// maxKeys is how many passkeys one account has.
	maxKeys = 16
)

// Errors of local accounts.
var (
	// ErrDisabled means that local accounts are switched off.
	ErrDisabled = errors.New("local accounts are switched off")
	// ErrName means that a name is not one of an account.
	ErrName = errors.New("account name: want 1 to 64 letters, digits, dots, dashes, underscores or @")
)

// An Invite is what a one-time link gives.
type Invite struct {
	User   string        // account name; made if it is not there
	Groups []string      // groups of the account from now on; nil: as they are
	TTL    time.Duration // how long the link is good, at most 15m; 0 means 10m
	By     string        // who asked for it, for the audit trail
}

// An account is a local account.
type account struct {
	Name    string        `json:"name"`
	Handle  []byte        `json:"handle"`
	Groups  []string      `json:"groups"`
	Keys    []passkey.Key `json:"keys,omitempty"`
	Created time.Time     `json:"created"`

	doc state.Doc
}

// A link is what a one-time link stands for, by the hash of its secret.
type link struct {
	User   string   `json:"user"`
	Groups []string `json:"groups"`
	Set    bool     `json:"set"` // Groups are to be set
}

// Link returns the address of a page that logs in a local user, once. The secret in it is 260 random bits,
// of which only the hash is stored. Errors are ErrDisabled, ErrName, or those of the store and the trail.
func (s *Service) Link(ctx context.Context, in Invite) (string, error) {
	switch {
	case !s.cfg.Local.Enabled:
		return "", ErrDisabled
	case !accountName(in.User):
		return "", ErrName
	case in.TTL < 0 || in.TTL > maxLink:
		return "", fmt.Errorf("one-time link: good for at most %v", maxLink)
	case in.TTL == 0:
		in.TTL = defaultLink
	}
	body, err := json.Marshal(link{User: in.User, Groups: in.Groups, Set: in.Groups != nil})
	if err != nil {
		return "", fmt.Errorf("one-time link: %w", err)
	}
	now, secret := s.deps.Now().UTC(), newSecret()
	e := warder.Event{
		ID: warder.NewID(now), Time: now, Type: warder.EventLogin, Outcome: warder.OutcomeAllowed, Reason: "link_made",
		Principal: &warder.EventPrincipal{Issuer: s.deps.URL, Subject: localSubject(in.User), Groups: in.Groups}, Detail: cut("by "+in.By, 256),
	}
	if err := s.deps.Record(ctx, e); err != nil {
		return "", fmt.Errorf("one-time link: audit trail: %w", err)
	}
	_, err = s.deps.State.Put(ctx, state.Doc{
		Kind: kindLink, ID: hashed(secret), Owner: in.User, NotAfter: now.Add(in.TTL), Body: body,
	})
	if err != nil {
		return "", fmt.Errorf("one-time link: %w", err)
	}
	return s.origin + s.path + "/login/link/" + secret, nil
}

func accountName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`).MatchString(name)
}

// localSubject is the subject of a local account: no provider has the name "local".
func localSubject(name string) string { return localProvider + ":" + name }

// RemoveAccount deletes a local account and ends its sessions and their tokens.
func (s *Service) RemoveAccount(ctx context.Context, name, by string) error {
	now := s.deps.Now().UTC()
	e := warder.Event{
		ID: warder.NewID(now), Time: now, Type: warder.EventLogin, Outcome: warder.OutcomeAllowed, Reason: "account_removed",
		Principal: &warder.EventPrincipal{Issuer: s.deps.URL, Subject: localSubject(name)}, Detail: cut("by "+by, 256),
	}
	if err := s.deps.Record(ctx, e); err != nil {
		return fmt.Errorf("remove account: audit trail: %w", err)
	}
	if err := s.deps.State.Delete(ctx, kindAccount, name, 0); err != nil {
		return fmt.Errorf("remove account: %w", err)
	}
	all, err := s.sessionsOf(ctx, s.deps.URL+"|"+localSubject(name))
	if err != nil {
		return err
	}
	for _, ss := range all {
		if err := s.drop(ctx, ss, true, "the account was removed"); err != nil {
			return err
		}
	}
	return nil
}

// account reads an account; nil without an error if it is not there.
func (s *Service) account(ctx context.Context, name string) (*account, error) {
	d, err := s.deps.State.Get(ctx, kindAccount, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read account: %w", err)
	}
	return decodeAccount(d)
}

func decodeAccount(d state.Doc) (*account, error) {
	a := &account{doc: d}
	if err := json.Unmarshal(d.Body, a); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	return a, nil
}

// byHandle finds the account of a passkey.
func (s *Service) byHandle(ctx context.Context, handle []byte) (*account, error) {
	if len(handle) == 0 || len(handle) > 64 {
		return nil, nil
	}
	docs, err := s.deps.State.List(ctx, state.Query{Kind: kindAccount, Owner: base64.RawURLEncoding.EncodeToString(handle), Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("read account: %w", err)
	}
	if len(docs) == 0 {
		return nil, nil
	}
	return decodeAccount(docs[0])
}

func (s *Service) putAccount(ctx context.Context, a *account) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	docs, err := s.deps.State.Put(ctx, state.Doc{
		Kind: kindAccount, ID: a.Name, Owner: base64.RawURLEncoding.EncodeToString(a.Handle), Version: a.doc.Version, Body: body,
	})
	if err != nil {
		return fmt.Errorf("write account: %w", err)
	}
	a.doc = docs[0]
	return nil
}

// keys is the account as the ceremonies want it.
func (a *account) passkeys() passkey.Account {
	return passkey.Account{Handle: a.Handle, Name: a.Name, Keys: a.Keys}
}

// user is the person of an account, logged in by some method.
func (s *Service) localUser(a *account, acr string, amr ...string) issuer.User {
	return issuer.User{
		Issuer: s.deps.URL, Subject: localSubject(a.Name), Name: a.Name, Groups: append([]string{}, a.Groups...),
		ACR: acr, AMR: amr, AuthTime: s.deps.Now(),
	}
}

// getLink shows what a one-time link is. It changes nothing: programs that look at links before people do
// must not use them up.
func (s *Service) getLink(w http.ResponseWriter, r *http.Request) {
	secret := r.PathValue("secret")
	if !s.limits.attempt(s.deps.Peer(r)) {
		s.tooMany(w, r)
		return
	}
	d, err := s.deps.State.Get(r.Context(), kindLink, hashed(secret))
	if errors.Is(err, state.ErrNotFound) {
		s.linkGone(w, r)
		return
	}
	var l link
	if err == nil {
		err = json.Unmarshal(d.Body, &l)
	}
	if err != nil {
		s.broken(w, r, "one-time link", err)
		return
	}
	s.site.Show(w, http.StatusOK, page.View{Template: "link", Title: "Sign in to Warder", Data: struct {
		User, Secret, CSRF, Path string
		Left                     time.Duration
	}{l.User, secret, s.csrf(w, r, s.path+"/login/link"), s.path, d.NotAfter.Sub(s.deps.Now())}})
}

// linkGone answers for links that were used, have ended or never were, which look alike.
func (s *Service) linkGone(w http.ResponseWriter, r *http.Request) {
	s.refused(r, nil, "link_unknown", "one-time link is used, ended or unknown")
	s.problem(w, http.StatusNotFound, "link_unknown", "This link is not good any more",
		"It works once and for a few minutes. Ask for a new one: warder login link NAME.")
}

// postLink uses a one-time link up and logs its user in.
func (s *Service) postLink(w http.ResponseWriter, r *http.Request) {
	if !s.limits.attempt(s.deps.Peer(r)) {
		s.tooMany(w, r)
		return
	}
	d, err := s.deps.State.Take(r.Context(), kindLink, hashed(r.PostForm.Get("secret")))
	if errors.Is(err, state.ErrNotFound) || !s.cfg.Local.Enabled {
		s.linkGone(w, r)
		return
	}
	var l link
	if err == nil {
		err = json.Unmarshal(d.Body, &l)
	}
	var a *account
	if err == nil {
		a, err = s.invited(r.Context(), l)
	}
	if err == nil {
		err = s.welcome(w, r, &session{User: s.localUser(a, ACRLink, "otp"), Provider: localProvider}, "one-time link")
	}
	if err != nil {
		s.broken(w, r, "one-time link", err)
		return
	}
	s.site.Onward(w, s.path+"/account", "You are signed in")
}

// invited returns the account of a link, made or changed as the link says.
func (s *Service) invited(ctx context.Context, l link) (*account, error) {
	a, err := s.account(ctx, l.User)
	if err != nil {
		return nil, err
	}
	made := a == nil
	if made {
		a = &account{Name: l.User, Handle: []byte(rand.Text()), Created: s.deps.Now().UTC()}
	}
	if l.Set {
		a.Groups = l.Groups
	}
	if made || l.Set {
		err = s.putAccount(ctx, a)
	}
	return a, err
}

// tooMany answers whoever tries too often.
func (s *Service) tooMany(w http.ResponseWriter, r *http.Request) {
	s.refused(r, nil, "rate_limited", "too many login attempts")
	w.Header().Set("Retry-After", "60")
	s.problem(w, http.StatusTooManyRequests, "rate_limited", "Too many attempts", "Wait a minute and try again.")
}
