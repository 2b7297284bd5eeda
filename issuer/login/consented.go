package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

// decision is an entry of the audit trail about consent, with the id of the control.
func (c *consents) decision(r *http.Request, u *issuer.User, outcome warder.Outcome, reason warder.Reason, detail string) warder.Event {
	e := c.event(r, u, outcome, reason, detail)
	e.Control = c.Control()
	return e
}

// errTooMany means that a person has answered for too many clients.
var errTooMany = errors.New("too many clients")

// keep writes an answer down: that the question was answered, for the request that waits, and, when the
// person agreed, for later. All of it or none.
func (c *consents) keep(r *http.Request, ss *session, q *issuer.Question, question string, yes bool) error {
	ctx, now := r.Context(), c.deps.Now()
	outcome, reason, word := warder.OutcomeRefused, warder.Reason("consent_refused"), "no"
	if yes {
		outcome, reason, word = warder.OutcomeAllowed, "consent_given", "yes"
	}
	docs := []state.Doc{{Kind: kindUsed, ID: hashed(question), NotAfter: now.Add(2 * answerLife), Body: []byte("{}")}}
	waiting := state.Doc{Kind: kindAnswer, ID: answerID(q), NotAfter: now.Add(answerLife), Body: []byte(word)}
	var err error
	if waiting.Version, err = c.version(ctx, kindAnswer, waiting.ID); err != nil {
		return err
	}
	docs = append(docs, waiting)
	if yes {
		stored, err := c.document(ctx, ss, q, now)
		if err != nil {
			return err
		}
		docs = append(docs, stored)
	}
	if _, err := c.deps.State.Get(ctx, kindUsed, docs[0].ID); !errors.Is(err, state.ErrNotFound) {
		return errors.Join(err, state.ErrConflict) // answered before, or nobody knows: then err says so
	}
	detail := fmt.Sprintf("client %s at %s for %s: %s", q.Client.ID, page.Host(q.RedirectURI), q.Resource, strings.Join(q.Scopes, " "))
	if err := c.deps.Record(ctx, c.decision(r, &ss.User, outcome, reason, detail)); err != nil {
		return fmt.Errorf("audit trail: %w", err)
	}
	_, err = c.deps.State.Put(ctx, docs...)
	return err
}

// version is that of a document, 0 if it is not there.
func (s *Service) version(ctx context.Context, kind, id string) (int64, error) {
	d, err := s.deps.State.Get(ctx, kind, id)
	if errors.Is(err, state.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", kind, err)
	}
	return d.Version, nil
}

// document makes the stored answer: it takes the place of an earlier one about the same client, redirect
// host and server, and says what was on the page.
func (c *consents) document(ctx context.Context, ss *session, q *issuer.Question, now time.Time) (state.Doc, error) {
	key := c.userKey(&ss.User)
	out := consented{
		Client: q.Client.ID, Name: cut(q.Client.Name, 256), Redirect: page.Host(q.RedirectURI), Resource: q.Resource, Server: q.Server,
		Scopes: q.Scopes, At: now.UTC(),
	}
	if len(q.Details) > 0 {
		out.Details = rar.Encode(q.Details)
	}
	body, err := json.Marshal(out)
	if err != nil {
		return state.Doc{}, fmt.Errorf("consent: %w", err)
	}
	d := state.Doc{
		Kind: kindConsent, ID: consentID(key, q), Owner: key, Topic: hashed(q.Client.ID), NotAfter: now.Add(c.cfg.Consent.Keep), Body: body,
	}
	if d.Version, err = c.version(ctx, kindConsent, d.ID); err != nil || d.Version > 0 {
		return d, err
	}
	all, err := c.deps.State.List(ctx, state.Query{Kind: kindConsent, Owner: key, Limit: maxConsents})
	if err == nil && len(all) >= maxConsents {
		err = errTooMany
	}
	return d, err
}

type consentRow struct {
	ID string
	consented
	Words []string // details in words
}

// list returns what a person agreed to, the latest first.
func (c *consents) list(ctx context.Context, user string) ([]consentRow, error) {
	docs, err := c.deps.State.List(ctx, state.Query{Kind: kindConsent, Owner: user, Limit: maxConsents})
	if err != nil {
		return nil, fmt.Errorf("list consents: %w", err)
	}
	var out []consentRow
	for _, d := range docs {
		have, err := decodeConsent(d)
		if err != nil {
			return nil, err
		}
		row := consentRow{ID: d.ID, consented: *have}
		if len(have.Details) > 0 {
			details, err := rar.Parse(have.Details)
			if err != nil {
				return nil, fmt.Errorf("consent: %w", err)
			}
			row.Words = describe(details)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b consentRow) int { return b.At.Compare(a.At) })
	return out, nil
}

// end takes an answer back, and ends what the client has got with it. The next request of the client asks
// again.
func (c *consents) end(r *http.Request, ss *session, id string) error {
	d, err := c.deps.State.Get(r.Context(), kindConsent, id)
	if err != nil {
		return err
	}
	if d.Owner != c.userKey(&ss.User) {
		return state.ErrNotFound
	}
	if err := c.deps.Record(r.Context(), c.decision(r, &ss.User, warder.OutcomeAllowed, "consent_ended", "consent "+d.ID)); err != nil {
		return fmt.Errorf("audit trail: %w", err)
	}
	have, err := decodeConsent(d)
	if err != nil {
		return err
	}
	err = c.deps.State.Delete(r.Context(), kindConsent, id, d.Version)
	if err == nil && c.deps.Withdraw != nil {
		err = c.deps.Withdraw(r.Context(), ss.User.Subject, have.Client)
	}
	return err
}

// describe says authorization details in words.
func describe(details []warder.Detail) []string {
	var out []string
	for _, d := range details {
		tools := "any tool"
		if len(d.Tools) > 0 {
			tools = "only " + strings.Join(d.Tools, ", ")
		}
		says := []string{tools + " of " + d.Server}
		for _, b := range d.Arguments {
			says = append(says, bound(b))
		}
		if d.MaxCalls > 0 {
			says = append(says, "at most "+strconv.Itoa(d.MaxCalls)+" calls")
		}
		if d.Purpose != "" {
			says = append(says, "for: "+d.Purpose)
		}
		out = append(out, strings.Join(says, "; "))
	}
	return out
}

// bound says one bound in words.
func bound(b warder.Bound) string {
	name := strings.TrimPrefix(b.Pointer, "/")
	switch {
	case b.Equals != nil:
		return name + " is " + string(b.Equals)
	case b.OneOf != nil:
		var values []string
		for _, v := range b.OneOf {
			values = append(values, string(v))
		}
		return name + " is one of " + strings.Join(values, ", ")
	case b.Min != nil && b.Max != nil:
		return fmt.Sprintf("%s is from %g to %g", name, *b.Min, *b.Max)
	case b.Min != nil:
		return fmt.Sprintf("%s is at least %g", name, *b.Min)
	case b.Max != nil:
		return fmt.Sprintf("%s is at most %g", name, *b.Max)
	default:
		return name + " begins with " + strconv.Quote(b.Prefix)
	}
}
