package login

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

const (
	// formLife is how long a form that was shown can be sent.
	formLife = time.Hour
	// maxForm bounds the body of a form, in bytes.
	maxForm = 128 << 10

	purposeForm = "login.form"
	purposeNeed = "login.need"
)

// errForm is a form that this browser, in this session, was not given.
var errForm = errors.New("form was not made for this browser and session")

// browser returns the id of the browser, and gives it one if it has none.
func (s *Service) browser(w http.ResponseWriter, r *http.Request) string {
	if id := s.cookies.get(r, s.cookies.browser); id != "" {
		return id
	}
	id := newSecret()
	s.cookies.set(w, s.cookies.browser, id)
	r.AddCookie(s.cookies.make(s.cookies.browser, id, 0)) // for the rest of this request
	return id
}

// holder is what forms are bound to: this browser, in this session.
func (s *Service) holder(r *http.Request) string {
	browser := s.cookies.get(r, s.cookies.browser)
	if browser == "" {
		return ""
	}
	return hashed(browser) + "." + hashed(s.cookies.get(r, s.cookies.session))
}

// csrf makes the token of a form that is sent to a path of the site.
func (s *Service) csrf(w http.ResponseWriter, r *http.Request, path string) string {
	s.browser(w, r)
	token, err := s.deps.Box.Seal(seal.Claims{
		Purpose: purposeForm, Principal: s.holder(r), Digest: sha256.Sum256([]byte(path)), NotAfter: s.deps.Now().Add(formLife),
	}, nil)
	if err != nil {
		return "" // no token opens as none: the form will be refused
	}
	return token
}

// checkForm refuses what another site sent, and what does not carry the token of a form of this path.
func (s *Service) checkForm(r *http.Request, path, token string) error {
	if err := s.guard.Check(r); err != nil {
		return fmt.Errorf("%w: %w", errForm, err)
	}
	holder := s.holder(r)
	if holder == "" {
		return fmt.Errorf("%w: no browser cookie", errForm)
	}
	_, _, err := s.deps.Box.Open(token, s.deps.Now(), seal.Claims{Purpose: purposeForm, Principal: holder, Digest: sha256.Sum256([]byte(path))})
	if err != nil {
		return fmt.Errorf("%w: %w", errForm, err)
	}
	return nil
}

// form wraps a handler of a form: it is sent by POST, urlencoded, bounded, from this site, with its token.
func (s *Service) form(path string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/x-www-form-urlencoded" {
			s.problem(w, http.StatusUnsupportedMediaType, "form_type", "That form cannot be read", "Send it from the page it is on.")
			return
		}
		if err := r.ParseForm(); err != nil {
			s.problem(w, http.StatusBadRequest, "form_malformed", "That form cannot be read", "Send it from the page it is on.")
			return
		}
		if err := s.checkForm(r, path, r.PostForm.Get("csrf")); err != nil {
			s.refused(r, nil, "form_forged", err.Error())
			s.problem(w, http.StatusForbidden, "form_forged", "That form is not valid any more",
				"It was not sent from a page of this site, or you have logged in or out since it was shown. Open the page again.")
			return
		}
		next(w, r)
	}
}

// problem writes an error page.
func (s *Service) problem(w http.ResponseWriter, status int, code, title, text string) {
	s.site.Problem(w, page.Problem{Status: status, Code: code, Title: title, Text: text})
}

// Page writes a page of the authorization server that says why a request cannot go on.
func (s *Service) Page(w http.ResponseWriter, status int, title, sentence string) {
	s.problem(w, status, "authorization_refused", title, sentence)
}

// broken answers when Warder itself cannot go on; the cause is for operators.
func (s *Service) broken(w http.ResponseWriter, r *http.Request, what string, err error) {
	s.deps.Log.ErrorContext(r.Context(), "a page cannot be served", slog.String("what", what), slog.Any("error", err))
	s.problem(w, http.StatusServiceUnavailable, "unavailable", "This does not work right now", "Nothing was changed. Try again in a moment.")
}

// A need is what a login is for, while the person is on the way.
type need struct {
	ACR     []string       `json:"acr,omitempty"`
	MaxAge  *time.Duration `json:"max_age,omitempty"`
	Back    string         `json:"back"`
	Prompt  string         `json:"prompt,omitempty"`
	Asked   time.Time      `json:"asked"`
	Browser string         `json:"browser"` // hash of the browser's id
}

// needOf takes over what the issuer asks. A path that leads away from this host leads to the account page.
func (s *Service) needOf(n issuer.Need) need {
	out := need{ACR: n.ACR, MaxAge: n.MaxAge, Back: n.Back, Prompt: n.Prompt, Asked: s.deps.Now()}
	if !ownPath(n.Back) {
		out.Back = s.path + "/account"
	}
	return out
}

// ownPath reports whether a text is a path with query on this host and nothing else: browsers read "//",
// "/\" and control characters as the beginning of another host.
func ownPath(p string) bool {
	if len(p) == 0 || len(p) > 8<<10 || p[0] != '/' || len(p) > 1 && (p[1] == '/' || p[1] == '\\') {
		return false
	}
	for i := range len(p) {
		if p[i] <= ' ' || p[i] == '\\' || p[i] >= 0x7f {
			return false
		}
	}
	u, err := url.Parse(p)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && u.Opaque == ""
}

// sealNeed writes a need into a form. It is good for this browser.
func (s *Service) sealNeed(w http.ResponseWriter, r *http.Request, n need) (string, error) {
	n.Browser = hashed(s.browser(w, r))
	b, err := json.Marshal(n)
	if err != nil {
		return "", fmt.Errorf("need: %w", err)
	}
	return s.deps.Box.Seal(seal.Claims{Purpose: purposeNeed, Principal: n.Browser, NotAfter: s.deps.Now().Add(formLife)}, b)
}

// openNeed reads it back.
func (s *Service) openNeed(r *http.Request, token string) (need, error) {
	b, _, err := s.deps.Box.Open(token, s.deps.Now(), seal.Claims{Purpose: purposeNeed, Principal: hashed(s.cookies.get(r, s.cookies.browser))})
	if err != nil {
		return need{}, err
	}
	var n need
	if err := json.Unmarshal(b, &n); err != nil {
		return need{}, fmt.Errorf("need: %w", err)
	}
	return n, nil
}

// peer is the address of the browser without its port.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// cut shortens text of others to a number of bytes, at a character.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
