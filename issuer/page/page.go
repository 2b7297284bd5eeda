// Package page gives every page that Warder shows to people one look and one set of protections: HTML
// from contextual templates, one style sheet inside the page whose hash the Content-Security-Policy
// names, no other resource except at most one script of ours, no frame around it, no cache behind it.
//
//	site, err := page.New(page.Config{Templates: files, Origin: "https://gate.example.com"})
//	site.Show(w, http.StatusOK, page.View{Template: "login", Title: "Sign in", Data: data})
//	site.Problem(w, page.Problem{Status: 403, Code: "csrf", Title: "…", Text: "…"})
//
// Names of clients, servers, tools and values of parameters are written by others. Templates show them
// with the template "text", which cuts them, isolates their direction and writes characters that cannot
// be seen as U+202E, so that what a person reads is what is there:
//
//	{{template "text" pieces .ClientName 80}}
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed templates/*.html templates/style.css
var files embed.FS

// A Config sets up a site.
type Config struct {
	Templates fs.FS  // further templates: NAME.html, each of which defines "main"; nil: none
	Origin    string // scheme, host and port of the site; a page's script must come from there
	Home      string // path of the page that the word mark links to; empty: no link
	Account   string // path of the account page for the navigation; empty: none
	Approvals string // path of the list of approvals; empty: none
	Logout    string // path that the sign-out form posts to; empty: none
}

// A Site renders pages. It is safe for concurrent use.
type Site struct {
	cfg    Config
	pages  map[string]*template.Template
	policy string // Content-Security-Policy without script
}

// A View is one page.
type View struct {
	Template string // name of the template
	Title    string // of the window and of the page
	User     string // who is signed in; empty: nobody
	CSRF     string // token for the sign-out form in the navigation
	Script   string // path of the page's script on this origin; empty: none
	Wide     bool   // for tables and parameters
	Data     any    // for the template
}

// A Problem is a page that says what went wrong, with a code that stays the same between releases.
type Problem struct {
	Status int    // HTTP status
	Code   string // snake_case
	Title  string // what happened
	Text   string // what to do
	Back   string // path to try again; empty: none
}

// New parses the templates.
func New(cfg Config) (*Site, error) {
	style, err := files.ReadFile("templates/style.css")
	if err != nil {
		return nil, fmt.Errorf("style sheet: %w", err)
	}
	sum := sha256.Sum256(style)
	s := &Site{cfg: cfg, pages: map[string]*template.Template{}}
	s.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	layout, err := files.ReadFile("templates/layout.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	base, err := template.New("layout").Funcs(template.FuncMap{
		"pieces": Pieces, "lines": Lines, "host": Host, "when": when, "until": until,
	}).Parse(strings.Replace(string(layout), "STYLE", string(style), 1))
	if err == nil {
		base, err = base.ParseFS(files, "templates/text.html")
	}
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	for _, set := range []fs.FS{files, cfg.Templates} {
		if set == nil {
			continue
		}
		if err := s.parse(base, set); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Site) parse(base *template.Template, set fs.FS) error {
	names, err := fs.Glob(set, "templates/*.html")
	if err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	for _, name := range names {
		word := strings.TrimSuffix(strings.TrimPrefix(name, "templates/"), ".html")
		if word == "layout" || word == "text" {
			continue
		}
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(set, name)
		}
		if err != nil {
			return fmt.Errorf("template %s: %w", name, err)
		}
		if t.Lookup("main") == nil {
			return fmt.Errorf("template %s: does not define main", name)
		}
		s.pages[word] = t
	}
	return nil
}

// Protect sets the headers of every answer: it is not stored, not framed, not sniffed, not opened by
// others' scripts, and says nothing to where its links lead. script is the URL of the only script it may
// run; empty: none.
func (s *Site) Protect(h http.Header, script string) {
	policy := s.policy
	if script != "" {
		policy += "; script-src " + script + "; connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), "+
		"accelerometer=(), camera=(), clipboard-read=(), display-capture=(), geolocation=(), gyroscope=(), "+
		"hid=(), microphone=(), midi=(), payment=(), serial=(), usb=()")
	h.Set("Cache-Control", "no-store")
}

// Show writes a page. What cannot be rendered is answered with status 500 and no details.
func (s *Site) Show(w http.ResponseWriter, status int, v View) {
	script := ""
	if v.Script != "" {
		script = s.cfg.Origin + v.Script
	}
	s.Protect(w.Header(), script)
	t, ok := s.pages[v.Template]
	var b bytes.Buffer
	err := errors.New("no such template")
	if ok {
		err = t.ExecuteTemplate(&b, "layout", struct {
			View
			Site Config
		}{v, s.cfg})
	}
	if err != nil {
		http.Error(w, "internal error (code: page_failed)", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser went away
}

// Problem writes an error page.
func (s *Site) Problem(w http.ResponseWriter, p Problem) {
	s.Show(w, p.Status, View{Template: "problem", Title: p.Title, Data: p})
}

// Onward sends the browser on with a page instead of a redirect, so that the chain that began with a form
// ends here: browsers hold every redirect after a form against the form-action of its page. to is a path
// of this site or the URL of an identity provider, never a value of a request.
func (s *Site) Onward(w http.ResponseWriter, to, title string) {
	s.Show(w, http.StatusOK, View{Template: "onward", Title: title, Data: to})
}

// Host is the part of a URL that says who gets what is sent there: the host with its port, or the whole
// scheme of a URL of an app.
func Host(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "unreadable address"
	case u.Host != "":
		return u.Host
	default:
		return u.Scheme + ":"
	}
}

// when writes a moment for people, in UTC.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2 January 2006, 15:04:05 UTC")
}

// until writes a span of time for people.
func until(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " minutes"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " hours"
	default:
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	}
}
