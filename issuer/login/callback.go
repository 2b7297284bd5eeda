package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

const (
	// flowLife is how long a login at a provider may take.
	flowLife = 10 * time.Minute
	// fresh is the clock skew tolerated in auth_time.
	fresh = 30 * time.Second

	purposeFlow    = "login.flow"
	purposeRefresh = "login.refresh"
	purposeHint    = "login.hint"
)

// A flow is a federated login that began. Its document is sealed, since the verifier is a secret.
type flow struct {
	Provider string `json:"provider"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
	Browser  string `json:"browser"` // hash of the browser that began it
	Need     need   `json:"need"`
}

// postProvider begins a login at a provider. The person has chosen it, with a form of this site; only now
// is a state stored.
func (s *Service) postProvider(w http.ResponseWriter, r *http.Request) {
	n, err := s.openNeed(r, r.PostForm.Get("need"))
	p := s.provider(r.PostForm.Get("provider"))
	if err != nil || p == nil {
		s.problem(w, http.StatusBadRequest, "login_expired", "This sign-in page is too old", "Go back to what you wanted to do and start again.")
		return
	}
	if !s.limits.attempt(s.deps.Peer(r)) {
		s.tooMany(w, r)
		return
	}
	d, err := p.discover(r.Context())
	if err != nil {
		s.deps.Log.WarnContext(r.Context(), "an identity provider cannot be asked", attrProvider(p), attrError(err))
		s.problem(w, http.StatusBadGateway, "provider_unreachable", "Your identity provider does not answer", "Nothing was changed. Try again in a moment.")
		return
	}
	f := flow{Provider: p.cfg.Name, Nonce: newSecret(), Verifier: oauth2.GenerateVerifier(), Browser: hashed(s.browser(w, r)), Need: n}
	value, err := s.putFlow(r.Context(), &f)
	if err != nil {
		s.broken(w, r, "begin login", err)
		return
	}
	s.site.Onward(w, p.authorization(d, &f, value), "Going to your identity provider")
}

// putFlow stores a flow under a new state.
func (s *Service) putFlow(ctx context.Context, f *flow) (value string, err error) {
	value = newSecret()
	b, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("flow: %w", err)
	}
	end := s.deps.Now().Add(flowLife)
	sealed, err := s.deps.Box.Seal(seal.Claims{Purpose: purposeFlow, Principal: hashed(value), NotAfter: end}, b)
	if err != nil {
		return "", fmt.Errorf("flow: %w", err)
	}
	_, err = s.deps.State.Put(ctx, state.Doc{Kind: kindFlow, ID: hashed(value), NotAfter: end, Body: []byte(sealed)})
	if err != nil {
		return "", fmt.Errorf("flow: %w", err)
	}
	return value, nil
}

// takeFlow returns a flow, once.
func (s *Service) takeFlow(ctx context.Context, value string) (*flow, error) {
	if len(value) != secretLength {
		return nil, state.ErrNotFound
	}
	doc, err := s.deps.State.Take(ctx, kindFlow, hashed(value))
	if err != nil {
		return nil, err
	}
	b, _, err := s.deps.Box.Open(string(doc.Body), s.deps.Now(), seal.Claims{Purpose: purposeFlow, Principal: hashed(value)})
	if err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	var f flow
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	return &f, nil
}

// A failure is why a login at a provider was refused.
type failure struct {
	reason string // stable code
	err    error  // for operators
}

// getCallback ends a login at a provider.
func (s *Service) getCallback(w http.ResponseWriter, r *http.Request) {
	if !s.limits.attempt(s.deps.Peer(r)) {
		s.tooMany(w, r)
		return
	}
	q := r.URL.Query()
	p := s.provider(r.PathValue("provider"))
	if p == nil || len(r.URL.RawQuery) > 16<<10 {
		s.notFound(w, r)
		return
	}
	f, err := s.takeFlow(r.Context(), one(q, "state"))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		s.broken(w, r, "callback", err)
		return
	}
	if errors.Is(err, state.ErrNotFound) {
		s.loginFailed(w, r, failure{"state_unknown", errors.New("no login that began here waits for this answer")})
		return
	}
	ss, fail := p.finish(r, f, q)
	if fail != nil {
		s.loginFailed(w, r, *fail)
		return
	}
	ss.For = hashed(f.Need.Back)
	if err := s.welcome(w, r, ss, "federated login at "+p.cfg.Name); err != nil {
		s.broken(w, r, "login", err)
		return
	}
	back, lack := s.entered(ss, &f.Need)
	if lack != "" {
		s.unmet(w, lack)
		return
	}
	s.site.Onward(w, back, "You are signed in")
}

// welcome begins the session and writes it down. A login that cannot be recorded does not happen.
func (s *Service) welcome(w http.ResponseWriter, r *http.Request, ss *session, detail string) error {
	if err := s.allowed(r, &ss.User, "login", detail); err != nil {
		return fmt.Errorf("audit trail: %w", err)
	}
	return s.enter(w, r, ss)
}

// one is the only value of a parameter; empty when it is absent or repeated.
func one(q url.Values, name string) string {
	if v := q[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// loginFailed answers a login that a provider or this site refused.
func (s *Service) loginFailed(w http.ResponseWriter, r *http.Request, fail failure) {
	s.refused(r, nil, reasonOf(fail.reason), fail.err.Error())
	text := "Nothing was changed. Go back to what you wanted to do and start again."
	switch fail.reason {
	case "not_allowed":
		text = "Your account is not one of those that may use this site. Ask whoever runs it."
	case "provider_refused":
		text = "Your identity provider did not sign you in."
	case "login_insufficient":
		text = "Your identity provider did not sign you in the way that was asked for."
	}
	s.problem(w, http.StatusForbidden, fail.reason, "You are not signed in", text)
}

// finish checks the answer of a provider from the outside in, and makes a session of it.
func (p *provider) finish(r *http.Request, f *flow, q url.Values) (*session, *failure) {
	ctx := r.Context()
	if f.Browser != hashed(p.s.cookies.get(r, p.s.cookies.browser)) {
		return nil, &failure{"browser_mismatch", errors.New("the login was begun in another browser")}
	}
	if f.Provider != p.cfg.Name {
		return nil, &failure{"provider_mixup", fmt.Errorf("the login was begun at %s, the answer came for %s", f.Provider, p.cfg.Name)}
	}
	d, err := p.discover(ctx)
	if err != nil {
		return nil, &failure{"provider_unreachable", err}
	}
	// RFC 9207 section 2.4: before anything else of the answer is used, errors included.
	if iss := one(q, "iss"); q.Has("iss") && iss != p.cfg.Issuer || !q.Has("iss") && d.Iss {
		return nil, &failure{"provider_mixup", fmt.Errorf("the answer names the issuer %.200q", iss)}
	}
	if e := one(q, "error"); e != "" || q.Has("error") {
		return nil, &failure{"provider_refused", fmt.Errorf("the provider answered %.64q", e)}
	}
	code := one(q, "code")
	if code == "" {
		return nil, &failure{"provider_refused", errors.New("the answer has no code")}
	}
	t, err := p.token(ctx, d, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.redirectURI()}, "code_verifier": {f.Verifier},
	})
	if err != nil {
		return nil, &failure{"code_refused", err}
	}
	id, err := p.verify(ctx, d, t)
	if err != nil {
		return nil, &failure{"id_token_refused", err}
	}
	if id.Nonce == "" || id.Nonce != f.Nonce {
		return nil, &failure{"id_token_refused", errors.New("the nonce is not the one of this login")}
	}
	u, why := p.user(id)
	if why != nil {
		return nil, &failure{"not_allowed", why}
	}
	if err := p.meets(u, &f.Need); err != nil {
		return nil, &failure{"login_insufficient", err}
	}
	return p.session(u, id, t)
}

// verify checks an ID token (OpenID Connect Core 1.0 section 3.1.3.7).
func (p *provider) verify(ctx context.Context, d *discovered, t *tokens) (*oidc.IDToken, error) {
	if t.ID == "" {
		return nil, errors.New("no id token")
	}
	id, err := d.verifier.Verify(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	t.until = id.Expiry
	var c struct {
		AZP string `json:"azp"`
	}
	if err := id.Claims(&c); err != nil {
		return nil, err
	}
	switch {
	case id.Subject == "" || len(id.Subject) > 255:
		return nil, errors.New("id token: sub is missing or too long")
	case len(id.Audience) > 1 && c.AZP != p.cfg.ClientID, c.AZP != "" && c.AZP != p.cfg.ClientID:
		return nil, fmt.Errorf("id token: azp %.100q is not this client", c.AZP)
	case id.IssuedAt.After(p.s.deps.Now().Add(fresh)):
		return nil, errors.New("id token: iat is in the future")
	case id.AccessTokenHash != "":
		if err := id.VerifyAccessToken(t.Access); err != nil {
			return nil, fmt.Errorf("id token: %w", err)
		}
	}
	return id, nil
}

// meets checks that the provider did what the login was for (RFC 9470 section 5).
func (p *provider) meets(u *issuer.User, n *need) error {
	if len(n.ACR) > 0 && !slices.Contains(n.ACR, u.ACR) {
		return fmt.Errorf("acr %.100q is none of those asked for", u.ACR)
	}
	if n.MaxAge == nil && n.Prompt != "login" {
		return nil
	}
	var age time.Duration
	if n.MaxAge != nil {
		age = *n.MaxAge
	}
	if least := n.Asked.Add(-age - fresh); u.AuthTime.IsZero() || u.AuthTime.Before(least) {
		return fmt.Errorf("auth_time %v is before %v", u.AuthTime, least)
	}
	if n.Prompt == "login" && u.AuthTime.Before(n.Asked) { // by less than the skew of its clock
		u.AuthTime = n.Asked
	}
	return nil
}

// user makes the user of the claims of an ID token.
func (p *provider) user(id *oidc.IDToken) (*issuer.User, error) {
	c := map[string]any{}
	if err := id.Claims(&c); err != nil {
		return nil, err
	}
	text := func(name string) string {
		v, _ := c[name].(string) // another type is none
		return cut(v, 256)
	}
	names := p.cfg.Claims
	sub := text(names.Subject)
	if sub == "" || !clean(sub) || !clean(text(names.Tenant)) { // both are parts of keys
		return nil, fmt.Errorf("claim %s is missing, or it or the tenant holds control characters", names.Subject)
	}
	u := &issuer.User{
		Issuer: p.cfg.Issuer, Subject: p.cfg.Name + ":" + sub, Name: text(names.Name), Tenant: text(names.Tenant),
		ACR: text("acr"), AMR: list(c["amr"]),
	}
	if raw, ok := c[names.Groups]; ok {
		u.Groups = p.groups(list(raw))
	}
	if verified, _ := c["email_verified"].(bool); verified {
		u.Email = text(names.Email)
	}
	if at, ok := c["auth_time"].(float64); ok && at > 0 && at < 1<<40 {
		u.AuthTime = time.Unix(int64(at), 0).UTC()
	}
	if len(p.cfg.Tenants) > 0 && !slices.Contains(p.cfg.Tenants, u.Tenant) {
		return nil, fmt.Errorf("tenant %.100q may not log in", u.Tenant)
	}
	_, domain, _ := strings.Cut(u.Email, "@")
	if len(p.cfg.Domains) > 0 && !slices.ContainsFunc(p.cfg.Domains, func(d string) bool { return domain != "" && strings.EqualFold(d, domain) }) {
		return nil, fmt.Errorf("domain %.100q may not log in, or the address is not verified", domain)
	}
	return u, nil
}

// clean reports whether text has no control characters.
func clean(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

// groups maps the groups of the provider to those of Warder. It never returns nil.
func (p *provider) groups(from []string) []string {
	out := []string{}
	for _, g := range from {
		if len(p.cfg.Roles) > 0 {
			role, ok := p.cfg.Roles[g]
			if !ok {
				continue
			}
			g = role
		}
		if g = p.cfg.GroupPrefix + g; !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out
}

// list reads an array of strings, or one string; anything else is empty.
func list(v any) []string {
	const most = 500
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v[:min(len(v), most)] {
			if s, ok := e.(string); ok && s != "" && len(s) <= 256 && clean(s) {
				out = append(out, s)
			}
		}
		return out
	default:
		return nil
	}
}

// session makes the session of a federated login.
func (p *provider) session(u *issuer.User, id *oidc.IDToken, t *tokens) (*session, *failure) {
	var c struct {
		SID string `json:"sid"`
	}
	if err := id.Claims(&c); err != nil {
		return nil, &failure{"id_token_refused", err}
	}
	ss := &session{User: *u, Provider: p.cfg.Name, Remote: id.Subject, RemoteID: cut(c.SID, 255), Checked: p.s.deps.Now()}
	ss.given = t
	return ss, nil
}
