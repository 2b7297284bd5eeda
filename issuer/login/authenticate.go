package login

import (
	"net/http"
	"slices"

	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

// Authenticate implements issuer.Login: it returns who is logged in if that login is what is needed, and
// shows the login page if it is not.
func (s *Service) Authenticate(w http.ResponseWriter, r *http.Request, ask issuer.Need) (*issuer.User, bool) {
	ss, err := s.session(r)
	if err != nil {
		if ask.Prompt != "none" {
			s.broken(w, r, "session", err)
			return nil, false
		}
		return nil, true
	}
	n := s.needOf(ask)
	lack := s.lacks(ss, &n)
	if lack == "" {
		return &ss.User, true
	}
	if ask.Prompt == "none" {
		return nil, true
	}
	s.showLogin(w, r, n, ss, lack)
	return nil, false
}

// Words for what a login lacks.
const (
	lackLogin  = "login"  // nobody is logged in
	lackFresh  = "fresh"  // the login is too old
	lackStrong = "strong" // the login is of another class
)

// lacks says what a session lacks for a need; empty if nothing.
func (s *Service) lacks(ss *session, n *need) string {
	if ss == nil {
		return lackLogin
	}
	since, age := s.deps.Now().Sub(ss.Created), s.deps.Now().Sub(ss.User.AuthTime)
	made := ss.For == hashed(n.Back) // this login was made for exactly this request
	switch {
	case len(n.ACR) > 0 && !slices.Contains(n.ACR, ss.User.ACR):
		return lackStrong
	case n.MaxAge != nil && age > *n.MaxAge && (!made || since > justMade):
		return lackFresh
	case (n.Prompt == "login" || n.Prompt == "select_account") && (!made || since > madeFor):
		return lackFresh
	default:
		return ""
	}
}

// A loginPage is what the template "login" shows.
type loginPage struct {
	Need      string // sealed
	CSRF      string // of the provider form
	Keys      string // token for the script that asks for a passkey; empty: no passkeys
	Lack      string
	User      string // who is logged in, but not well enough
	Add       bool   // and could add a passkey to the account
	Providers []Provider
	Local     bool
	Path      string // of the issuer
}

// showLogin writes the login page.
func (s *Service) showLogin(w http.ResponseWriter, r *http.Request, n need, ss *session, lack string) {
	token, err := s.sealNeed(w, r, n)
	if err != nil {
		s.broken(w, r, "login page", err)
		return
	}
	p := loginPage{
		Need: token, CSRF: s.csrf(w, r, s.path+"/login/provider"), Lack: lack,
		Providers: s.cfg.Providers, Local: s.cfg.Local.Enabled, Path: s.path,
	}
	v := page.View{Template: "login", Title: "Sign in", Data: &p}
	if s.party != nil {
		p.Keys = s.csrf(w, r, s.path+"/login/passkey")
		v.Script = s.path + "/login/passkey.js"
	}
	if ss != nil {
		p.User, p.Add = ss.User.Subject, ss.Provider == localProvider && ss.User.ACR != ACRPasskey
		v.Title = "Confirm that it is you"
	}
	status := http.StatusOK
	if !s.cfg.Enabled() {
		status = http.StatusServiceUnavailable
	}
	s.site.Show(w, status, v)
}

// entered goes on after a login: back to what it was for, or to an explanation of what is still missing.
// It returns the path.
func (s *Service) entered(ss *session, n *need) (path, lack string) {
	return n.Back, s.lacks(ss, n)
}

// unmet explains that the login worked and does not suffice.
func (s *Service) unmet(w http.ResponseWriter, lack string) {
	title, text := "You are signed in, but that is not enough here", "What you wanted to do asks for a stronger way of signing in, such as a passkey."
	if lack == lackFresh {
		text = "What you wanted to do asks that you prove again who you are, and your identity provider did not ask you."
	}
	s.problem(w, http.StatusForbidden, "login_insufficient", title, text)
}

// Require lets only people in who are logged in; others see the login page. Handlers ask [Service.Current]
// who it is.
func (s *Service) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.Authenticate(w, r, issuer.Need{Back: r.URL.RequestURI()}); ok {
			next.ServeHTTP(w, r)
		}
	})
}
