package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/state"
)

// Paths below the public address.
const (
	pathConnect  = "/oauth/connect/"
	pathCallback = "/oauth/callback"
	pathDocument = "/oauth/client.json"
)

// A Person is who is logged in at the browser, by every name that a principal of theirs may have.
type Person struct {
	Tenant string
	Names  []Name
}

// A Name is a subject of an issuer.
type Name struct{ Issuer, Subject string }

// is reports whether the person is this owner.
func (p *Person) is(tenant, issuer, subject string) bool {
	return p.Tenant == tenant && slices.Contains(p.Names, Name{issuer, subject})
}

// A Current returns the person at the browser; or it has answered the request itself, with a page or a
// redirect to the login that comes back to the request's URL, and returns false.
type Current func(w http.ResponseWriter, r *http.Request) (*Person, bool)

// Handler serves the pages at which a person authorizes Warder at a server, below BASE/oauth/: the link
// of a held call, the redirect URI, and Warder's client metadata document. Links work for the person they
// were made for alone (MCP 2025-11-25 "URL mode elicitation": the user who opens it is verified).
func (k *Keeper) Handler(current Current) http.Handler {
	p := pages{k: k, current: current}
	mux := http.NewServeMux()
	below := k.Path()
	mux.HandleFunc("GET "+below+pathConnect+"{server}", p.connect)
	mux.HandleFunc("GET "+below+pathCallback, p.callback)
	mux.HandleFunc("GET "+below+pathDocument, p.document)
	return mux
}

// Path is the path of the public address, below which the pages are: empty, or with a slash at its
// beginning only.
func (k *Keeper) Path() string {
	u, err := url.Parse(k.deps.Base)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

type pages struct {
	k       *Keeper
	current Current
}

// A kept flow is what is remembered between the link and the redirect.
type keptFlow struct {
	Flow  oauth.Flow `json:"flow"`
	For   askedFor   `json:"for"`
	Asked []string   `json:"asked,omitempty"`
	Ask   string     `json:"ask,omitempty"` // id of the question's document
}

// connect sends the person to the authorization server.
func (p pages) connect(w http.ResponseWriter, r *http.Request) {
	person, ok := p.current(w, r)
	if !ok {
		return
	}
	ctx := r.Context()
	s := p.k.servers[r.PathValue("server")]
	if s == nil || s.kind != kindOAuth {
		p.page(w, http.StatusNotFound, "Nothing to authorize", "There is no such server, or it needs no authorization of yours.")
		return
	}
	question, id, err := p.question(ctx, s, person, r.URL.Query().Get("hold"))
	if err != nil {
		p.refuse(ctx, w, s, person, err)
		return
	}
	address, err := p.begin(ctx, s, question, id)
	if err != nil {
		p.refuse(ctx, w, s, person, err)
		return
	}
	headers(w)
	w.Header().Set("Location", address)
	w.WriteHeader(http.StatusSeeOther)
}

var (
	errNotYours = errors.New("the link was made for somebody else")
	errGone     = errors.New("the link has ended")
)

// question returns what the link asks for, and checks that it is asked of the person at the browser.
// Without a link the person authorizes Warder on their own account.
func (p pages) question(ctx context.Context, s *server, person *Person, hold string) (askedFor, string, error) {
	if hold == "" {
		if len(person.Names) == 0 {
			return askedFor{}, "", errNotYours
		}
		n := person.Names[0]
		return askedFor{Server: s.name, Tenant: person.Tenant, Issuer: n.Issuer, Subject: n.Subject}, "", nil
	}
	doc, err := p.k.deps.State.Get(ctx, docAsk, hashed(hold))
	if errors.Is(err, state.ErrNotFound) {
		return askedFor{}, "", errGone
	}
	if err != nil {
		return askedFor{}, "", err
	}
	var q askedFor
	if err := json.Unmarshal(doc.Body, &q); err != nil {
		return askedFor{}, "", err
	}
	if q.Server != s.name || !person.is(q.Tenant, q.Issuer, q.Subject) {
		return askedFor{}, "", errNotYours
	}
	return q, doc.ID, nil
}

// begin starts the flow and keeps it under the digest of its state.
func (p pages) begin(ctx context.Context, s *server, q askedFor, ask string) (string, error) {
	t, reg, err := s.at(ctx)
	if err != nil {
		return "", err
	}
	e := s.people.of(owner{tenant: q.Tenant, issuer: q.Issuer, subject: q.Subject})
	var already []string
	if b, _, err := e.load(ctx); err == nil && b.Issuer == t.Server.Issuer {
		already = union(b.Asked, b.Scopes)
	}
	if len(q.Scopes) > 0 {
		at := *t
		at.Asked = q.Scopes
		t = &at
	}
	scopes := t.Wanted(already, s.creds.Authorization.Scopes)
	f, address, err := s.client.Begin(ctx, t, reg, scopes)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(keptFlow{Flow: *f, For: q, Asked: scopes, Ask: ask})
	if err != nil {
		return "", err
	}
	id := hashed(f.State)
	text, err := p.k.seal(docFlow, id, body)
	if err != nil {
		return "", err
	}
	_, err = p.k.deps.State.Put(ctx, state.Doc{Kind: docFlow, ID: id, Owner: e.owner.key(), Topic: s.name, NotAfter: p.k.now().Add(10 * time.Minute), Body: text})
	return address, err
}

// callback is where the authorization server sends the person back. A flow is good for one answer.
func (p pages) callback(w http.ResponseWriter, r *http.Request) {
	person, ok := p.current(w, r)
	if !ok {
		return
	}
	ctx := r.Context()
	query := r.URL.Query()
	id := hashed(query.Get("state"))
	doc, err := p.k.deps.State.Take(ctx, docFlow, id)
	if err != nil {
		if errors.Is(err, state.ErrNotFound) {
			err = errGone
		}
		p.refuse(ctx, w, nil, person, err)
		return
	}
	var f keptFlow
	if err := p.k.open1(docFlow, id, doc.Body, &f); err != nil {
		p.refuse(ctx, w, nil, person, err)
		return
	}
	s := p.k.servers[f.For.Server]
	if s == nil || s.kind != kindOAuth || !person.is(f.For.Tenant, f.For.Issuer, f.For.Subject) {
		p.refuse(ctx, w, s, person, errNotYours)
		return
	}
	if err := p.finish(ctx, s, &f, query); err != nil {
		p.refuse(ctx, w, s, person, err)
		return
	}
	p.page(w, http.StatusOK, "Done", "Warder may now use the server "+s.name+" for you. Go back to your client and send the call again.")
}

// finish gets the tokens and keeps them.
func (p pages) finish(ctx context.Context, s *server, f *keptFlow, query url.Values) error {
	t, reg, err := s.at(ctx)
	if err != nil {
		return err
	}
	if reg.ClientID != f.Flow.Client {
		return errGone // registered anew since
	}
	tokens, err := s.client.Finish(ctx, t, reg, &f.Flow, query)
	if err != nil {
		return err
	}
	e := s.people.of(owner{tenant: f.For.Tenant, issuer: f.For.Issuer, subject: f.For.Subject})
	doc, err := e.replace(ctx, keep(tokens, f.Asked, p.k.now()))
	if err != nil {
		return err
	}
	e.use(tokens, f.Asked, doc.Version)
	if f.Ask != "" {
		if err := p.k.deps.State.Delete(ctx, docAsk, f.Ask, 0); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	e.mu.Lock()
	e.ask, e.failed = askRef{}, nil
	e.mu.Unlock()
	p.k.tell(ctx, "AUT-04", s, e.owner, obtained, "", "issuer "+tokens.Issuer)
	return nil
}

// document serves our client metadata.
func (p pages) document(w http.ResponseWriter, _ *http.Request) {
	for _, s := range p.k.servers {
		if s.kind != kindOAuth {
			continue
		}
		body, err := json.Marshal(s.client.Document())
		if err != nil {
			break
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=300")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(body) // the client may be gone
		return
	}
	http.Error(w, "not found", http.StatusNotFound)
}

// refuse writes down what went wrong at whose browser and shows it: our own words and at most the error code
// of the authorization server. s is nil where nobody knows which server it was about.
func (p pages) refuse(ctx context.Context, w http.ResponseWriter, s *server, person *Person, err error) {
	reason, status, text := reasonOf(err), http.StatusBadGateway, "The authorization server of this server could not be used."
	switch {
	case errors.Is(err, errNotYours):
		reason, status, text = "link_of_another", http.StatusForbidden, "This link was made for somebody else. Nothing was authorized."
	case errors.Is(err, errGone):
		reason, status, text = "link_ended", http.StatusGone, "This link has ended or was used before. Send the call again to get a new one."
	}
	if s == nil {
		s = &server{kind: kindOAuth}
	}
	o := owner{tenant: person.Tenant}
	if len(person.Names) > 0 {
		o.issuer, o.subject = person.Names[0].Issuer, person.Names[0].Subject
	}
	p.k.tell(ctx, "AUT-04", s, o, refused, reason, err.Error())
	p.page(w, status, "Not authorized", text+" ("+string(reason)+")")
}

// headers are those of every page: nothing is stored, framed, loaded or told to the next site.
func headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
}

func (p pages) page(w http.ResponseWriter, status int, title, text string) {
	headers(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>" +
		template.HTMLEscapeString(title) + " - Warder</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}</style><h1>" +
		template.HTMLEscapeString(title) + "</h1><p>" + template.HTMLEscapeString(text) + "</p>")) // the browser may be gone
}
