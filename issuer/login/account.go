package login

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/warder-mcp/warder/internal/passkey"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

// person returns the session of a form's sender; without one it answers with the login page's address.
func (s *Service) person(w http.ResponseWriter, r *http.Request) *session {
	ss, err := s.session(r)
	if err != nil {
		s.broken(w, r, "session", err)
		return nil
	}
	if ss == nil {
		s.problem(w, http.StatusForbidden, "login_needed", "You are not signed in", "Sign in and try again.")
		return nil
	}
	return ss
}

// view is a page of a person who is logged in.
func (s *Service) view(w http.ResponseWriter, r *http.Request, ss *session, template, title string, data any) page.View {
	return page.View{Template: template, Title: title, User: named(&ss.User), CSRF: s.csrf(w, r, s.path+"/logout"), Data: data}
}

// named is what a person is called.
func named(u *issuer.User) string {
	if u.Name != "" {
		return u.Name
	}
	return u.Subject
}

// An accountPage is what the template "account" shows.
type accountPage struct {
	User     *issuer.User
	Provider string // title of the provider; empty for a local account
	Path     string

	Keys       []keyRow
	KeysCSRF   string // for the script; empty: no passkeys can be added here
	KeysOld    bool   // the login is too old to change passkeys
	RemoveCSRF string

	Sessions    []sessionRow
	SessionCSRF string
	Consents    []consentRow
	ConsentCSRF string
}

type keyRow struct {
	Name, Label   string
	Created, Used time.Time
}

type sessionRow struct {
	ID, Agent, Peer string
	Created, Seen   time.Time
	This            bool
}

// getAccount shows a person their passkeys, sessions and consents.
func (s *Service) getAccount(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.Authenticate(w, r, issuer.Need{Back: s.path + "/account"}); !ok {
		return
	}
	ss := s.person(w, r)
	if ss == nil {
		return
	}
	p := accountPage{
		User: &ss.User, Path: s.path, SessionCSRF: s.csrf(w, r, s.path+"/account/session"),
		ConsentCSRF: s.csrf(w, r, s.path+"/account/consent"), RemoveCSRF: s.csrf(w, r, s.path+"/account/passkey/remove"),
	}
	if err := s.fillAccount(r, ss, &p); err != nil {
		s.broken(w, r, "account", err)
		return
	}
	v := s.view(w, r, ss, "account", "Your account", &p)
	if s.party != nil && ss.Provider == localProvider {
		p.KeysOld = s.deps.Now().Sub(ss.User.AuthTime) > keyFresh
		p.KeysCSRF = s.csrf(w, r, s.path+"/account/passkey")
		v.Script = s.path + "/login/passkey.js"
	}
	s.site.Show(w, http.StatusOK, v)
}

func (s *Service) fillAccount(r *http.Request, ss *session, p *accountPage) error {
	if provider := s.provider(ss.Provider); provider != nil {
		p.Provider = provider.cfg.Title
	}
	if ss.Provider == localProvider {
		a, err := s.account(r.Context(), ss.User.Name)
		if err != nil {
			return err
		}
		if a != nil {
			for _, k := range a.Keys {
				p.Keys = append(p.Keys, keyRow{Name: keyName(k), Label: k.Label, Created: k.Created, Used: k.Used})
			}
		}
	}
	all, err := s.sessionsOf(r.Context(), s.userKey(&ss.User))
	if err != nil {
		return err
	}
	for _, other := range all {
		p.Sessions = append(p.Sessions, sessionRow{
			ID: other.User.Session, Agent: other.Agent, Peer: other.Peer, Created: other.Created, Seen: other.Seen,
			This: other.User.Session == ss.User.Session,
		})
	}
	p.Consents, err = s.consent.list(r.Context(), s.userKey(&ss.User))
	return err
}

// postSession ends a session of the person.
func (s *Service) postSession(w http.ResponseWriter, r *http.Request) {
	ss := s.person(w, r)
	if ss == nil {
		return
	}
	other, err := s.bySID(r.Context(), r.PostForm.Get("id"))
	if err != nil {
		s.broken(w, r, "session", err)
		return
	}
	if other == nil || s.userKey(&other.User) != s.userKey(&ss.User) { // "not there" and "not yours" are one answer
		s.problem(w, http.StatusNotFound, "session_unknown", "There is no such session", "It may have ended already.")
		return
	}
	if err := s.allowed(r, &ss.User, "session_ended", "by its person"); err != nil {
		s.broken(w, r, "audit trail", err)
		return
	}
	if err := s.drop(r.Context(), other, true, "ended by its person"); err != nil {
		s.broken(w, r, "session", err)
		return
	}
	s.site.Onward(w, s.path+"/account", "The session has ended")
}

// postKeyRemove removes a passkey of the person.
func (s *Service) postKeyRemove(w http.ResponseWriter, r *http.Request) {
	a, ss, err := s.keyOwner(r)
	if err != nil {
		s.broken(w, r, "account", err)
		return
	}
	if a == nil {
		s.problem(w, http.StatusForbidden, "login_insufficient", "Sign in again first", "Passkeys are changed within a few minutes of signing in.")
		return
	}
	kept := a.Keys[:0:0]
	for _, k := range a.Keys {
		if keyName(k) != r.PostForm.Get("id") {
			kept = append(kept, k)
		}
	}
	if len(kept) == len(a.Keys) {
		s.problem(w, http.StatusNotFound, "passkey_unknown", "There is no such passkey", "It may have been removed already.")
		return
	}
	a.Keys = kept
	if err := s.allowed(r, &ss.User, "passkey_removed", ""); err != nil {
		s.broken(w, r, "audit trail", err)
		return
	}
	if err := s.putAccount(r.Context(), a); err != nil {
		s.broken(w, r, "account", err)
		return
	}
	s.site.Onward(w, s.path+"/account", "The passkey is removed")
}

// keyName names a passkey in a form.
func keyName(k passkey.Key) string { return hashed(string(k.ID)) }

// getLogout asks whether to sign out: a link must not do it.
func (s *Service) getLogout(w http.ResponseWriter, r *http.Request) {
	ss := s.person(w, r)
	if ss == nil {
		return
	}
	s.site.Show(w, http.StatusOK, s.view(w, r, ss, "logout", "Sign out?", struct{ CSRF, Path string }{s.csrf(w, r, s.path+"/logout"), s.path}))
}

// postLogout ends the session and its tokens, and goes on to log out at the provider where it can be done
// (OpenID Connect RP-Initiated Logout 1.0).
func (s *Service) postLogout(w http.ResponseWriter, r *http.Request) {
	ss, err := s.session(r)
	if err != nil {
		s.broken(w, r, "session", err)
		return
	}
	s.cookies.clear(w, s.cookies.session)
	s.cookies.clear(w, s.cookies.browser)
	if ss == nil {
		s.signedOut(w)
		return
	}
	remote := s.logoutURL(r, ss)
	err = errors.Join(s.allowed(r, &ss.User, "logout", ""), s.drop(r.Context(), ss, true, "signed out"))
	if err != nil {
		s.broken(w, r, "sign out", err)
		return
	}
	if remote != "" {
		s.site.Onward(w, remote, "Signing out at your identity provider")
		return
	}
	s.signedOut(w)
}

func (s *Service) signedOut(w http.ResponseWriter) {
	s.site.Show(w, http.StatusOK, page.View{Template: "message", Title: "You are signed out", Data: struct{ Text, Back string }{
		"What was allowed in this session has ended with it.", "",
	}})
}

// logoutURL is where the provider ends its own session; empty if it does not say.
func (s *Service) logoutURL(r *http.Request, ss *session) string {
	p := s.provider(ss.Provider)
	if p == nil || ss.Hint == "" {
		return ""
	}
	d, err := p.discover(r.Context())
	if err != nil || d.EndSession == "" {
		return ""
	}
	hint, err := s.openSecret(purposeHint, ss.User.Session, ss.Hint)
	u, parseErr := url.Parse(d.EndSession)
	if err != nil || parseErr != nil || !secure(u) {
		return ""
	}
	q := u.Query()
	q.Set("id_token_hint", hint)
	q.Set("client_id", p.cfg.ClientID)
	u.RawQuery = q.Encode()
	return u.String()
}

// postConsentEnd takes back what the person agreed to.
func (s *Service) postConsentEnd(w http.ResponseWriter, r *http.Request) {
	ss := s.person(w, r)
	if ss == nil {
		return
	}
	switch err := s.consent.end(r, ss, r.PostForm.Get("id")); {
	case errors.Is(err, state.ErrNotFound):
		s.problem(w, http.StatusNotFound, "consent_unknown", "There is no such permission", "It may have been taken back already.")
	case err != nil:
		s.broken(w, r, "consent", err)
	default:
		s.site.Onward(w, s.path+"/account", "The permission is taken back")
	}
}
