package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

// A clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A lossy store is a memory that can be made to fail.
type lossy struct {
	*state.Memory
	mu     sync.Mutex
	broken error
}

func (l *lossy) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
}

func (l *lossy) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

func (l *lossy) Get(ctx context.Context, kind, id string) (state.Doc, error) {
	if err := l.err(); err != nil {
		return state.Doc{}, err
	}
	return l.Memory.Get(ctx, kind, id)
}

func (l *lossy) Put(ctx context.Context, docs ...state.Doc) ([]state.Doc, error) {
	if err := l.err(); err != nil {
		return nil, err
	}
	return l.Memory.Put(ctx, docs...)
}

func (l *lossy) Take(ctx context.Context, kind, id string) (state.Doc, error) {
	if err := l.err(); err != nil {
		return state.Doc{}, err
	}
	return l.Memory.Take(ctx, kind, id)
}

func (l *lossy) List(ctx context.Context, q state.Query) ([]state.Doc, error) {
	if err := l.err(); err != nil {
		return nil, err
	}
	return l.Memory.List(ctx, q)
}

// A site is the service behind a server, with a small authorization endpoint before it, and everything it
// told others.
type site struct {
	*Service
	t      *testing.T
	server *httptest.Server
	url    string // of the issuer
	clock  *clock
	store  *lossy
	calls  *approvals

	endpoints  http.Handler // of the authorization server; nil: authorize, below
	withdrawTo func(subject, client string) error

	mu        sync.Mutex
	events    []warder.Event
	revoked   []string // session ids
	withdrawn []string // subject and client
	trail     error    // what the trail answers
	modes     map[warder.ControlID]issuer.Mode
	ask       issuer.Question
	need      issuer.Need
	issued    []string // "subject client" of every code that the endpoint issued
}

type option func(*Config, *site)

// https serves the site as https://example.com.
const secureHost = "example.com"

func newSite(t *testing.T, secure bool, options ...option) *site {
	t.Helper()
	s := &site{t: t, clock: &clock{now: time.Now()}, modes: map[warder.ControlID]issuer.Mode{}}
	s.store = &lossy{Memory: state.NewMemory(s.clock.Now)}
	s.calls = &approvals{all: map[string]Pending{}}
	mux := http.NewServeMux()
	if secure {
		s.server = httptest.NewTLSServer(mux)
		s.url = "https://" + secureHost + "/oauth"
	} else {
		s.server = httptest.NewServer(mux)
		s.url = strings.Replace(s.server.URL, "127.0.0.1", "localhost", 1) + "/oauth"
	}
	t.Cleanup(s.server.Close)
	var cfg Config
	for _, o := range options {
		o(&cfg, s)
	}
	box, err := seal.New(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	s.Service, err = New(cfg, Deps{
		State: s.store, Box: box, HTTP: safedial.New(safedial.Config{Allow: cfg.Allow()}).Client(5 * time.Second),
		Record: s.record, Revoke: s.revoke, Withdraw: s.withdraw, Approvals: s.calls, Mode: s.mode, Now: s.clock.Now,
		Log: slog.New(slog.DiscardHandler), URL: s.url,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/oauth/", s.Handler())
	if s.endpoints == nil {
		s.endpoints = http.HandlerFunc(s.authorize)
	}
	mux.Handle("/oauth/authorize", s.endpoints)
	mux.Handle("/oauth/token", s.endpoints)
	return s
}

func local(cfg *Config, _ *site) { cfg.Local.Enabled = true }

func (s *site) record(_ context.Context, e warder.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trail != nil {
		return s.trail
	}
	s.events = append(s.events, e)
	return nil
}

func (s *site) revoke(_ context.Context, e issuer.Revocation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok := strings.CutPrefix(e.Value, s.url+"|")
	if !ok || e.Kind != "session" {
		return fmt.Errorf("revoked %+v", e)
	}
	s.revoked = append(s.revoked, session)
	return nil
}

func (s *site) withdraw(_ context.Context, subject, client string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withdrawn = append(s.withdrawn, subject+" "+client)
	if s.withdrawTo != nil {
		return s.withdrawTo(subject, client)
	}
	return nil
}

func (s *site) mode(id warder.ControlID) issuer.Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.modes[id]
}

// reasons are those of every event so far.
func (s *site) reasons() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.events {
		out = append(out, string(e.Reason))
	}
	return out
}

func (s *site) wantReason(t *testing.T, want string) {
	t.Helper()
	if got := s.reasons(); !slices.Contains(got, want) {
		t.Errorf("the trail has the reasons %q, want %q among them", got, want)
	}
}

// authorize is as much of an authorization endpoint as these tests need: log in, ask, issue a code.
func (s *site) authorize(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	q, n := s.ask, s.need
	s.mu.Unlock()
	n.Back = r.URL.RequestURI()
	u, ok := s.Authenticate(w, r, n)
	if !ok {
		return
	}
	if q.Client.ID != "" {
		q.User, q.Back = u, r.URL.RequestURI()
		granted, answered := s.Ask(w, r, q)
		if answered {
			return
		}
		if !granted {
			http.Redirect(w, r, q.RedirectURI+"?error=access_denied", http.StatusFound)
			return
		}
	}
	s.mu.Lock()
	s.issued = append(s.issued, u.Subject+" "+q.Client.ID)
	s.mu.Unlock()
	http.Redirect(w, r, "https://client.example/callback?code=1", http.StatusFound)
}

func (s *site) codes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.issued)
}

// approvals is a broker of calls that wait.
type approvals struct {
	mu      sync.Mutex
	all     map[string]Pending
	decided []string // id, digest, subject, yes or no
	err     error
}

func (a *approvals) Get(_ context.Context, id string) (Pending, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.all[id]
	if !ok {
		return p, errors.Join(a.err, ErrNoHold)
	}
	return p, a.err
}

func (a *approvals) Waiting(context.Context) ([]Pending, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Pending
	for _, p := range a.all {
		out = append(out, p)
	}
	return out, a.err
}

func (a *approvals) Decide(_ context.Context, id, digest string, by *issuer.User, approve bool, note string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.all[id]
	if !p.Open {
		return ErrDecided
	}
	p.Open = false
	a.all[id] = p
	a.decided = append(a.decided, fmt.Sprintf("%s %s %s %t %s", id, digest, by.Subject, approve, note))
	return nil
}

// A browser keeps cookies and says where its requests come from, as browsers do.
type browser struct {
	t      *testing.T
	s      *site
	jar    *cookiejar.Jar
	client *http.Client
}

func (s *site) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := s.server.Client().Transport.(*http.Transport).Clone()
	listener := s.server.Listener.Addr().String()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, secureHost+":") || strings.HasPrefix(address, "localhost:") {
			address = listener
		}
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t: t, s: s, jar: jar, client: &http.Client{
		Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A view is what a browser shows.
type view struct {
	t      *testing.T
	status int
	header http.Header
	text   string
	root   *html.Node
	url    *url.URL
}

func (b *browser) do(r *http.Request) *view {
	b.t.Helper()
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	return &view{t: b.t, status: resp.StatusCode, header: resp.Header, text: string(text), root: root, url: resp.Request.URL}
}

// absolute resolves a path of the site.
func (b *browser) absolute(path string) string {
	if strings.Contains(path, "://") {
		return path
	}
	u, err := url.Parse(b.s.url)
	if err != nil {
		b.t.Fatal(err)
	}
	return u.Scheme + "://" + u.Host + path
}

func (b *browser) get(path string) *view {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.absolute(path), http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "none")
	return b.do(r)
}

// post sends a form as the pages of the site send it: the referrer policy makes the origin opaque.
func (b *browser) post(path string, form url.Values, change ...func(*http.Request)) *view {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.absolute(path), strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "null")
	for _, f := range change {
		f(r)
	}
	return b.do(r)
}

// call sends what the script sends.
func (b *browser) call(path string, in keyRequest, change ...func(*http.Request)) (int, keyAnswer) {
	b.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.absolute(path), bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, f := range change {
		f(r)
	}
	v := b.do(r)
	var out keyAnswer
	if err := json.Unmarshal([]byte(v.text), &out); err != nil {
		b.t.Fatalf("answer %q: %v", v.text, err)
	}
	return v.status, out
}

// find returns the first element that fits.
func find(n *html.Node, fits func(*html.Node) bool) *html.Node {
	if n.Type == html.ElementNode && fits(n) {
		return n
	}
	for c := range n.ChildNodes() {
		if f := find(c, fits); f != nil {
			return f
		}
	}
	return nil
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func byID(id string) func(*html.Node) bool {
	return func(n *html.Node) bool { return attr(n, "id") == id }
}

// content is the text inside an element.
func content(n *html.Node) string {
	if n == nil {
		return ""
	}
	if n.Type == html.TextNode {
		return n.Data
	}
	var b strings.Builder
	for c := range n.ChildNodes() {
		b.WriteString(content(c))
	}
	return b.String()
}

// shown is the text of the element with an id.
func (v *view) shown(id string) string { return strings.TrimSpace(content(find(v.root, byID(id)))) }

// form returns the path and the hidden fields of the form that holds a button.
func (v *view) form(button string) (string, url.Values) {
	v.t.Helper()
	form := find(v.root, func(n *html.Node) bool { return n.Data == "form" && find(n, byID(button)) != nil })
	if form == nil {
		v.t.Fatalf("no form with the button %q in a page with status %d:\n%s", button, v.status, v.main())
	}
	values := url.Values{}
	find(form, func(n *html.Node) bool {
		if n.Data == "input" && attr(n, "type") == "hidden" {
			values.Set(attr(n, "name"), attr(n, "value"))
		}
		if n.Data == "button" && attr(n, "id") == button && attr(n, "name") != "" {
			values.Set(attr(n, "name"), attr(n, "value"))
		}
		return false
	})
	return attr(form, "action"), values
}

func (v *view) main() string {
	main := find(v.root, func(n *html.Node) bool { return n.Data == "main" })
	return strings.Join(strings.Fields(content(main)), " ")
}

// code is the stable code of an error page.
func (v *view) code() string { return v.shown("code") }

// onward is where an intermediate page leads.
func (v *view) onward() string {
	v.t.Helper()
	a := find(v.root, byID("onward"))
	if a == nil {
		v.t.Fatalf("the page does not lead on; status %d:\n%s", v.status, v.main())
	}
	return attr(a, "href")
}

// press sends the form that holds a button.
func (b *browser) press(v *view, button string) *view {
	b.t.Helper()
	path, form := v.form(button)
	return b.post(path, form)
}

// data reads a data attribute of a button.
func (v *view) data(id, name string) string {
	n := find(v.root, byID(id))
	if n == nil {
		v.t.Fatalf("no element %q in a page with status %d:\n%s", id, v.status, v.main())
	}
	return attr(n, "data-"+name)
}

func (v *view) wantCode(t *testing.T, status int, code string) {
	t.Helper()
	if v.status != status || v.code() != code {
		t.Errorf("got status %d, code %q (%.200s), want %d, %q", v.status, v.code(), v.main(), status, code)
	}
}

// link logs a local user in with a one-time link.
func (b *browser) link(user string, groups ...string) {
	b.t.Helper()
	address, err := b.s.Link(b.t.Context(), Invite{User: user, Groups: groups, By: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	if v := b.press(b.get(address), "link-login"); v.onward() != "/oauth/account" {
		b.t.Fatalf("the link leads to %q", v.onward())
	}
}

type htmlNode = html.Node

// atURL returns the dependencies of the site for another address.
func (s *site) atURL(address string) Deps {
	d := s.deps
	d.URL = address
	return d
}
