package issuer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// kindPending holds authorization requests that wait for a person, by their hash.
const kindPending = "issuer.pending"

// authorize is the authorization endpoint (OAuth 2.1 section 4.1.1). Until the client and its redirect
// URI are known to be right, errors are shown to the person and never redirected.
func (is *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // the mux takes HEAD for GET, and a look must not log anybody in
		w.Header().Set("Allow", http.MethodGet)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	p, f := query(r)
	if f != nil {
		is.stop(w, r, "", f)
		return
	}
	if id, resumed := p["continue"]; resumed {
		q, f := is.pending(r.Context(), id)
		if f != nil {
			is.stop(w, r, "", f)
			return
		}
		is.proceed(w, r, id, q)
		return
	}
	c, f := is.registration.find(r.Context(), p["client_id"], is.deps.Peer(r))
	if f != nil {
		is.stop(w, r, p["client_id"], f)
		return
	}
	q, redirectable, f := is.requested(r.Context(), p, c)
	if f != nil && !redirectable {
		is.stop(w, r, c.ID, f)
		return
	}
	q.known = c.knows(q.Redirect)
	if f != nil {
		is.refuseTo(w, r, q, f)
		return
	}
	id := rand.Text()
	if err := is.keep(r.Context(), kindPending, id, q, is.cfg.Lifetimes.Request); err != nil {
		is.refuseTo(w, r, q, undecided(err))
		return
	}
	is.proceed(w, r, id, q)
}

// requested reads the request from its parameters, or takes the one that was pushed. redirectable
// reports whether the client may be told about a fault.
func (is *Issuer) requested(ctx context.Context, p parameters, c *Client) (q *request, redirectable bool, f *fault) {
	if uri, pushed := p["request_uri"]; pushed {
		q, f = is.pushed(ctx, uri, c)
		return q, false, f
	}
	if is.cfg.RequirePAR {
		return nil, false, refuse(errRequest, "Authorization requests must be pushed (RFC 9126).").because("par_required", "")
	}
	redirect, f := c.redirectOf(p)
	if f != nil {
		return nil, false, f
	}
	q, f = is.read(p, c, redirect)
	return q, true, f
}

// keep stores a request under the hash of its id.
func (is *Issuer) keep(ctx context.Context, kind, id string, q *request, ttl time.Duration) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	_, err = is.deps.State.Put(ctx, state.Doc{Kind: kind, ID: digest(id), Owner: is.cfg.URL, NotAfter: is.deps.Now().Add(ttl), Body: body})
	return err
}

// pending returns a request that waits for a person.
func (is *Issuer) pending(ctx context.Context, id string) (*request, *fault) {
	d, err := is.deps.State.Get(ctx, kindPending, digest(id))
	return is.revive(d, err, "The login took too long, or is finished already. Please start again.")
}

// revive decodes a stored request of this issuer.
func (is *Issuer) revive(d state.Doc, err error, gone string) (*request, *fault) {
	if errors.Is(err, state.ErrNotFound) || err == nil && d.Owner != is.cfg.URL {
		return nil, refuse(errRequestURI, gone).because("request_unknown", "")
	}
	if err != nil {
		return nil, undecided(err)
	}
	q := &request{}
	if err := json.Unmarshal(d.Body, q); err != nil {
		return nil, undecided(err)
	}
	return q, nil
}

// proceed goes on with a request as far as the person lets it: login, consent, code. It runs again, from
// the start, each time the person comes back.
func (is *Issuer) proceed(w http.ResponseWriter, r *http.Request, id string, q *request) {
	c, f := is.registration.find(r.Context(), q.Client, is.deps.Peer(r))
	if f == nil && !c.redirect(q.Redirect) {
		f = refuse(errRequest, "The redirect_uri is not registered for this client.").because("redirect_mismatch", "changed meanwhile")
	}
	if f != nil {
		is.stop(w, r, q.Client, f)
		return
	}
	q.known = c.knows(q.Redirect)
	back := is.base + "/authorize?continue=" + url.QueryEscape(id)
	user, done := is.login(w, r, q, back)
	if done {
		return
	}
	resource, f := is.permitted(user, q)
	if f != nil {
		is.refuseTo(w, r, q, f)
		return
	}
	granted, answered := is.ask(w, r, c, q, user, resource, back)
	if answered {
		return
	}
	if !slices.Contains(q.Prompts, "none") || granted {
		q.known = true // the person has seen where the answer goes
	}
	if _, err := is.deps.State.Take(r.Context(), kindPending, digest(id)); err != nil {
		if !errors.Is(err, state.ErrNotFound) {
			is.refuseTo(w, r, q, undecided(err))
			return
		}
		is.stop(w, r, q.Client, refuse(errRequestURI, "This login is finished already.").because("request_unknown", ""))
		return
	}
	switch {
	case !granted && slices.Contains(q.Prompts, "none"):
		is.refuseTo(w, r, q, refuse(errConsent, "The user has not consented yet."))
	case !granted:
		is.refuseTo(w, r, q, refuse(errDenied, "The user refused."))
	default:
		is.grantCode(w, r, q, user, resource)
	}
}

// login has the person authenticated as the request needs it. done means that the response is written.
func (is *Issuer) login(w http.ResponseWriter, r *http.Request, q *request, back string) (user *User, done bool) {
	now := is.deps.Now()
	need := Need{ACR: q.ACR, Back: back}
	// Whoever logged in after the request began has logged in for it, so coming back ends the asking.
	since := now.Sub(q.Started)
	if since >= time.Second {
		since += time.Second // times of logins may be whole seconds
	}
	switch {
	case slices.Contains(q.Prompts, "login"), slices.Contains(q.Prompts, "select_account"):
		need.MaxAge = new(since)
	case q.MaxAge != nil:
		need.MaxAge = new(time.Duration(*q.MaxAge)*time.Second + since)
	}
	if len(q.Prompts) > 0 {
		need.Prompt = q.Prompts[0]
	}
	user, ok := is.deps.Login.Authenticate(w, r, need)
	if !ok {
		return nil, true
	}
	var f *fault
	switch {
	case user == nil || user.Subject == "":
		f = refuse(errLogin, "The user must log in.")
	case need.MaxAge != nil && user.AuthTime.Before(now.Add(-*need.MaxAge).Truncate(time.Second)):
		f = refuse(errLogin, "The user must log in again.").because("login_too_old", "")
	case len(q.ACR) > 0 && !slices.Contains(q.ACR, user.ACR):
		f = refuse(errUnmet, "The login does not reach the required authentication context class.").because("acr_unmet", cut(user.ACR, 80))
	}
	if f != nil {
		is.refuseTo(w, r, q, f)
		return nil, true
	}
	return user, false
}

// permitted finds the resource again and refuses people it is not for, and people who were revoked.
func (is *Issuer) permitted(user *User, q *request) (Resource, *fault) {
	resource, f := is.target(q.Resource)
	if f != nil {
		return resource, f
	}
	if resource.Tenant != "" && resource.Tenant != user.Tenant {
		return resource, refuse(errDenied, "The user may not use this resource.").because("tenant_mismatch", "")
	}
	if is.deps.Revoked(is.principal(user, q.Client)) {
		return resource, refuse(errDenied, "The user may not use this resource.").because("revoked", "")
	}
	return resource, nil
}

// principal is a user as revocations know people. It is as of now: only what still holds revokes it.
func (is *Issuer) principal(user *User, client string) *warder.Principal {
	return &warder.Principal{
		Issuer: is.cfg.URL, Subject: user.Subject, Tenant: user.Tenant, Client: client, Agent: client, Groups: user.Groups,
		ACR: user.ACR, AMR: user.AMR, AuthTime: user.AuthTime, Session: user.Session, IssuedAt: is.deps.Now(),
	}
}

// ask has the person decide on the client.
func (is *Issuer) ask(w http.ResponseWriter, r *http.Request, c *Client, q *request, user *User, resource Resource, back string) (granted, answered bool) {
	list, err := parseDetails(q.Details)
	if err != nil {
		is.refuseTo(w, r, q, undecided(err))
		return false, true
	}
	shown := *c
	shown.Redirect = q.Redirect
	question := Question{
		User: user, Client: shown, Resource: resource.URI, Server: resource.Server, Scopes: q.Scopes, Details: list,
		RedirectURI: q.Redirect, Back: back, Since: q.Started,
	}
	for _, word := range []string{"consent", "none"} {
		if slices.Contains(q.Prompts, word) {
			question.Prompt = word
		}
	}
	return is.deps.Consent.Ask(w, r, question)
}

// grantCode issues an authorization code and sends it to the client, together with who issued it (RFC
// 9207 section 2).
func (is *Issuer) grantCode(w http.ResponseWriter, r *http.Request, q *request, user *User, resource Resource) {
	code, err := is.newCode(r.Context(), q, user)
	if err != nil {
		is.refuseTo(w, r, q, undecided(err))
		return
	}
	e := is.event("code_issued", warder.OutcomeAllowed)
	e.Principal, e.Server, e.Peer = eventUser(is.cfg.URL, user, q.Client, q.Scopes), resource.Server, is.deps.Peer(r)
	if err := is.deps.Record(r.Context(), e); err != nil {
		is.refuseTo(w, r, q, undecided(err))
		return
	}
	is.send(w, r, q, url.Values{"code": {code}})
}

// refuseTo records a refusal and tells the client at its redirect URI. Clients that anybody can publish
// must not make an open redirector of this server: what they do wrong is shown to the person until the
// person has agreed to them (RFC 9700 section 4.11.2).
func (is *Issuer) refuseTo(w http.ResponseWriter, r *http.Request, q *request, f *fault) {
	if !q.known {
		is.stop(w, r, q.Client, f)
		return
	}
	if err := is.recordFault(r, q.Client, f); err != nil {
		f = undecided(err)
	}
	is.send(w, r, q, url.Values{"error": {f.code}, "error_description": {f.public}})
}

// send redirects the browser to the client. 303 keeps a POST from being repeated there (RFC 9700 section
// 4.12).
func (is *Issuer) send(w http.ResponseWriter, r *http.Request, q *request, values url.Values) {
	u, err := url.Parse(q.Redirect)
	if err != nil {
		is.unavailable(w, r, err)
		return
	}
	all := u.Query()
	for name := range values {
		all[name] = values[name]
	}
	if q.State != "" {
		all.Set("state", q.State)
	}
	all.Set("iss", is.cfg.URL)
	u.RawQuery = all.Encode()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", u.String())
	w.WriteHeader(http.StatusSeeOther)
}

// stop records a refusal and shows it to the person: nobody is redirected anywhere.
func (is *Issuer) stop(w http.ResponseWriter, r *http.Request, client string, f *fault) {
	status := f.status
	if status == 0 {
		status = http.StatusBadRequest
	}
	if err := is.recordFault(r, client, f); err != nil {
		status = http.StatusServiceUnavailable
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Frame-Options", "DENY")
	is.deps.Page(w, status, "This login cannot go on", f.public)
}

// recordFault records a refusal.
func (is *Issuer) recordFault(r *http.Request, client string, f *fault) error {
	e := is.event(f.why(), warder.OutcomeRefused)
	if f.err != nil {
		e.Outcome = warder.OutcomeFailed
	}
	e.Control, e.Peer, e.Method, e.Detail = f.ctrl, is.deps.Peer(r), r.URL.Path, cut(f.Error(), 256)
	if client != "" {
		e.Principal = &warder.EventPrincipal{Client: cut(client, 256)}
	}
	return is.deps.Record(r.Context(), e)
}

// eventUser is the part of a user that the trail keeps.
func eventUser(issuer string, user *User, client string, scopes []string) *warder.EventPrincipal {
	return &warder.EventPrincipal{
		Issuer: issuer, Subject: user.Subject, Tenant: user.Tenant, Client: client, Groups: user.Groups, Scopes: scopes,
	}
}
