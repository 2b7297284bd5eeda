package login

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

// consents asks each person, for each client, before anything is issued to it or forwarded for it, and
// keeps the answers.
//
// The attack it stops (MCP security best practices, "Confused deputy problem"): a client that anybody can
// register sends a person who has logged in before to the authorization endpoint. Nothing would ask, and
// the code would go to the attacker's address. Here the person sees which host asks, for what, and where
// the answer goes; the answer counts for this person, this client, this redirect host, this server, and for
// no more than what was shown; the form is bound to browser, session and question, cannot be framed and
// is used once.
// Control AUT-05.
type consents struct{ *Service }

// Control returns AUT-05.
func (*consents) Control() warder.ControlID { return "AUT-05" }

const (
	// answerLife is how long a person's answer waits for the request that asked.
	answerLife = 10 * time.Minute
	// maxConsents is how many answers one person has; further ones are refused.
	maxConsents = 500

	purposeConsent = "login.consent"
)

// A consented is one stored answer.
type consented struct {
	Client   string          `json:"client"`
	Name     string          `json:"name,omitempty"`
	Redirect string          `json:"redirect"` // host the answers go to
	Resource string          `json:"resource"`
	Server   string          `json:"server,omitempty"`
	Scopes   []string        `json:"scopes,omitempty"`
	Details  json.RawMessage `json:"details,omitempty"` // as internal/rar encodes them; absent: not narrowed
	At       time.Time       `json:"at"`

	doc state.Doc
}

// consentID names the answer of a person about a client at one redirect host for one server.
func consentID(user string, q *issuer.Question) string {
	sum := sha256.New()
	for _, part := range []string{user, q.Client.ID, page.Host(q.RedirectURI), q.Resource} {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Ask implements issuer.Consent.
func (s *Service) Ask(w http.ResponseWriter, r *http.Request, q issuer.Question) (granted, answered bool) {
	return s.consent.ask(w, r, &q)
}

func (c *consents) ask(w http.ResponseWriter, r *http.Request, q *issuer.Question) (granted, answered bool) {
	mode := c.deps.Mode(c.Control())
	if mode == issuer.Off || q.User != nil && c.trusted(&q.Client) {
		return q.User != nil, false
	}
	ok, refused, err := c.known(r, q)
	switch {
	case err != nil && q.Prompt == "none":
		return false, false
	case err != nil:
		c.broken(w, r, "consent", err)
		return false, true
	case ok:
		return true, false
	case refused || q.Prompt == "none":
		return false, false
	case mode == issuer.Monitor:
		e := c.decision(r, q.User, warder.OutcomeAllowed, "consent_missing", q.Client.ID)
		return c.deps.Record(r.Context(), e) == nil, false
	}
	if err := c.show(w, r, q); err != nil {
		c.broken(w, r, "consent", err)
	}
	return false, true
}

// trusted reports whether the operator has decided for everybody.
func (c *consents) trusted(client *issuer.Client) bool {
	return client.Source == issuer.SourceConfig && slices.Contains(c.cfg.Consent.Trusted, client.ID)
}

// known reports whether the person has agreed to all of it, or has just refused it.
func (c *consents) known(r *http.Request, q *issuer.Question) (granted, refused bool, err error) {
	if q.User == nil || q.User.Session == "" {
		return false, false, errors.New("nobody is logged in")
	}
	ctx := r.Context()
	answer, err := c.deps.State.Take(ctx, kindAnswer, answerID(q))
	if err == nil {
		return string(answer.Body) == "yes", string(answer.Body) != "yes", nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return false, false, fmt.Errorf("read answer: %w", err)
	}
	if q.Prompt == "consent" || q.Client.Loopback {
		return false, false, nil // RFC 8252 section 8.6: any program on the computer can pass for this client
	}
	doc, err := c.deps.State.Get(ctx, kindConsent, consentID(c.userKey(q.User), q))
	if errors.Is(err, state.ErrNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("read consent: %w", err)
	}
	have, err := decodeConsent(doc)
	if err != nil {
		return false, false, err
	}
	covers, err := have.covers(q)
	return covers, false, err
}

// answerID names the answer to exactly this question in this session.
func answerID(q *issuer.Question) string {
	b, err := json.Marshal(struct {
		Session, Client, Redirect, Resource, Back string
		Scopes                                    []string
		Details                                   []warder.Detail
	}{q.User.Session, q.Client.ID, q.RedirectURI, q.Resource, q.Back, q.Scopes, q.Details})
	if err != nil {
		return "unanswerable"
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func decodeConsent(d state.Doc) (*consented, error) {
	out := &consented{doc: d}
	if err := json.Unmarshal(d.Body, out); err != nil {
		return nil, fmt.Errorf("consent: %w", err)
	}
	return out, nil
}

// covers reports whether an answer covers a question: every scope was shown, and what is asked is no wider
// in any detail.
func (h *consented) covers(q *issuer.Question) (bool, error) {
	for _, scope := range q.Scopes {
		if !slices.Contains(h.Scopes, scope) {
			return false, nil
		}
	}
	if len(h.Details) == 0 {
		return true, nil // it was shown without narrowing
	}
	if len(q.Details) == 0 {
		return false, nil
	}
	have, err := rar.Parse(h.Details)
	if err != nil {
		return false, fmt.Errorf("consent: %w", err)
	}
	return rar.Narrower(have, q.Details), nil
}

// A consentPage is what the template "consent" shows.
type consentPage struct {
	issuer.Question
	Host    string // of the client id, when that is a URL: the one thing about a client that is checked
	Details []string
	CSRF    string
	Sealed  string // the question
	Path    string
}

// show writes the page. The question travels in it, sealed for this session.
func (c *consents) show(w http.ResponseWriter, r *http.Request, q *issuer.Question) error {
	ss, err := c.session(r)
	if err != nil {
		return err
	}
	if ss == nil || ss.User.Session != q.User.Session {
		return errors.New("the session is not the one of the question")
	}
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("question: %w", err)
	}
	csrf := c.csrf(w, r, c.path+"/consent")
	sealed, err := c.deps.Box.Seal(seal.Claims{Purpose: purposeConsent, Principal: c.holder(r), NotAfter: c.deps.Now().Add(answerLife)}, body)
	if err != nil {
		return fmt.Errorf("question: %w", err)
	}
	p := consentPage{
		Question: *q, Details: describe(q.Details), CSRF: csrf, Sealed: sealed, Path: c.path,
	}
	if strings.HasPrefix(q.Client.ID, "https://") {
		p.Host = page.Host(q.Client.ID)
	}
	c.site.Show(w, http.StatusOK, c.view(w, r, ss, "consent", "Allow access?", &p))
	return nil
}

// post takes the answer.
func (c *consents) post(w http.ResponseWriter, r *http.Request) {
	ss := c.person(w, r)
	if ss == nil {
		return
	}
	body, id, err := c.deps.Box.Open(r.PostForm.Get("question"), c.deps.Now(), seal.Claims{Purpose: purposeConsent, Principal: c.holder(r)})
	var q issuer.Question
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil || q.User == nil || q.User.Session != ss.User.Session {
		c.tell(r.Context(), c.decision(r, &ss.User, warder.OutcomeRefused, "consent_forged", "the question is not one of this session"))
		c.problem(w, http.StatusForbidden, "consent_forged", "This page is too old", "Go back to what you wanted to do and start again.")
		return
	}
	yes := r.PostForm.Get("decision") == "allow"
	if !yes && r.PostForm.Get("decision") != "refuse" {
		c.problem(w, http.StatusBadRequest, "form_malformed", "That form cannot be read", "Choose one of the buttons of the page.")
		return
	}
	err = c.keep(r, ss, &q, id, yes)
	switch {
	case errors.Is(err, state.ErrConflict):
		c.tell(r.Context(), c.decision(r, &ss.User, warder.OutcomeRefused, "consent_replayed", q.Client.ID))
		c.problem(w, http.StatusConflict, "consent_replayed", "This page was answered already", "Go back to what you wanted to do and start again.")
	case err != nil:
		c.broken(w, r, "consent", err)
	default:
		c.site.Onward(w, q.Back, "Thank you")
	}
}
