package login

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
)

// Kinds of documents.
const (
	kindSession  = "login.session"  // by the hash of the cookie; owner: the user, topic: the sid
	kindFlow     = "login.flow"     // a federated login that began, by the hash of its state
	kindCeremony = "login.ceremony" // a passkey ceremony that began
	kindAccount  = "login.account"  // a local account, by name; owner: its WebAuthn handle
	kindLink     = "login.link"     // a one-time link, by the hash of its secret
	kindConsent  = "login.consent"  // what a person agreed to; owner: the user, topic: the hash of the client id
	kindAnswer   = "login.answer"   // what a person just answered, for the request that asked
	kindUsed     = "login.used"     // a question that was answered, so that it is not answered twice
)

const (
	// maxSessions is how many sessions one user has; a further login ends the oldest.
	maxSessions = 32
	// seenEvery is how often the use of a session is written down.
	seenEvery = time.Minute
	// tokensEnd is when nothing that was issued in a session can be alive any more: a session lasts 30 days
	// at most, and so does what is renewed in it.
	tokensEnd = 31 * day
	// madeFor is how long a login counts as made for the request that asked for it.
	madeFor = 10 * time.Minute
	// justMade is how long it counts as made now, for requests that allow no age at all.
	justMade = time.Minute
)

// A session is one login of one person in one browser.
type session struct {
	User     issuer.User `json:"user"`
	Provider string      `json:"provider"` // name of the provider, or "local"
	Created  time.Time   `json:"created"`
	Seen     time.Time   `json:"seen"`
	Max      time.Time   `json:"max"`             // it ends then in any case
	Issued   time.Time   `json:"issued,omitzero"` // when tokens were last issued in it
	Agent    string      `json:"agent,omitempty"` // the browser's own word, cut
	Peer     string      `json:"peer,omitempty"`
	For      string      `json:"for,omitempty"` // hash of the request that this login was made for

	// Of a federated login.
	Refresh  string    `json:"refresh,omitempty"`   // sealed refresh token
	Hint     string    `json:"hint,omitempty"`      // sealed ID token, for logout at the provider, and to vouch for the person elsewhere
	HintEnd  time.Time `json:"hint_end,omitzero"`   // exp of the ID token
	Remote   string    `json:"remote,omitempty"`    // sub at the provider
	RemoteID string    `json:"remote_id,omitempty"` // sid at the provider
	Checked  time.Time `json:"checked,omitzero"`    // when the provider last said yes
	Tried    time.Time `json:"tried,omitzero"`      // when it was last asked

	given *tokens // what the provider just gave, to be sealed
	doc   state.Doc
}

// userKey is what documents of a user are found by: the subject is unique for this issuer.
func (s *Service) userKey(u *issuer.User) string { return s.deps.URL + "|" + u.Subject }

// decodeSession reads a document.
func decodeSession(d state.Doc) (*session, error) {
	ss := &session{doc: d}
	if err := json.Unmarshal(d.Body, ss); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return ss, nil
}

// put writes the session, unless another did in between.
func (s *Service) put(ctx context.Context, ss *session) error {
	body, err := json.Marshal(ss)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	end := ss.Seen.Add(s.cfg.Session.Idle)
	if ss.Max.Before(end) {
		end = ss.Max
	}
	d := state.Doc{
		Kind: kindSession, ID: ss.doc.ID, Version: ss.doc.Version, Body: body, NotAfter: end,
		Owner: s.userKey(&ss.User), Topic: ss.User.Session,
	}
	docs, err := s.deps.State.Put(ctx, d)
	if err != nil {
		return fmt.Errorf("write session: %w", err)
	}
	ss.doc = docs[0]
	return nil
}

// session returns the session of a request; nil without an error when there is none.
func (s *Service) session(r *http.Request) (*session, error) {
	value := s.cookies.get(r, s.cookies.session)
	if value == "" {
		return nil, nil
	}
	d, err := s.deps.State.Get(r.Context(), kindSession, hashed(value))
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	ss, err := decodeSession(d)
	if err != nil {
		return nil, err
	}
	now := s.deps.Now()
	if !s.lasts(ss, now) {
		return nil, nil
	}
	if ss, err = s.back(r.Context(), ss); err != nil || ss == nil {
		return nil, err
	}
	if now.Sub(ss.Seen) > seenEvery {
		ss.Seen = now
		if err := s.put(r.Context(), ss); errors.Is(err, state.ErrConflict) { // a recheck wrote it, or it has ended
			return s.again(r.Context(), d.ID)
		} else if err != nil {
			return nil, err
		}
	}
	return ss, nil
}

// lasts reports whether a session has not ended and the configuration still knows where it came from.
func (s *Service) lasts(ss *session, now time.Time) bool {
	known := s.provider(ss.Provider) != nil
	if ss.Provider == localProvider {
		known = s.cfg.Local.Enabled
	}
	return known && now.Before(ss.Max) && now.Sub(ss.Seen) < s.cfg.Session.Idle
}

// again reads a session once more.
func (s *Service) again(ctx context.Context, id string) (*session, error) {
	d, err := s.deps.State.Get(ctx, kindSession, id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	return decodeSession(d)
}

// Current returns who is logged in; false when nobody is or nobody knows.
func (s *Service) Current(r *http.Request) (*issuer.User, bool) {
	ss, err := s.session(r)
	if err != nil || ss == nil {
		return nil, false
	}
	return &ss.User, true
}

// User returns the person of a login session as the provider, or the local account, now describes them, by
// the session's id; nil when the session has ended. The issuer asks before it renews tokens.
func (s *Service) User(ctx context.Context, sid string) (*issuer.User, error) {
	ss, err := s.issuing(ctx, sid)
	if err != nil || ss == nil {
		return nil, err
	}
	if ss.Provider == localProvider {
		a, err := s.account(ctx, ss.User.Name)
		if err != nil || a == nil {
			return nil, err
		}
		ss.User.Groups = append([]string{}, a.Groups...)
	}
	return &ss.User, nil
}

// issuing returns a session in which tokens are about to be issued, and writes that down for the recheck; nil
// when it has ended.
func (s *Service) issuing(ctx context.Context, sid string) (*session, error) {
	for range 4 {
		ss, err := s.bySID(ctx, sid)
		if err != nil || ss == nil {
			return nil, err
		}
		if ss, err = s.back(ctx, ss); err != nil || ss == nil {
			return nil, err
		}
		now := s.deps.Now()
		if s.checkable(ss) == nil || now.Sub(ss.Issued) <= seenEvery {
			return ss, nil
		}
		ss.Issued = now
		if err := s.put(ctx, ss); !errors.Is(err, state.ErrConflict) { // a recheck wrote it, or it has ended
			return ss, err
		}
	}
	return nil, fmt.Errorf("write session: %w", state.ErrConflict)
}

func (s *Service) bySID(ctx context.Context, sid string) (*session, error) {
	if sid == "" {
		return nil, nil
	}
	docs, err := s.deps.State.List(ctx, state.Query{Kind: kindSession, Topic: sid, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	if len(docs) == 0 {
		return nil, nil
	}
	ss, err := decodeSession(docs[0])
	if err != nil || !s.lasts(ss, s.deps.Now()) {
		return nil, err
	}
	return ss, nil
}

// sessionsOf lists the sessions of a user, oldest first.
func (s *Service) sessionsOf(ctx context.Context, key string) ([]*session, error) {
	docs, err := s.deps.State.List(ctx, state.Query{Kind: kindSession, Owner: key})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var out []*session
	for _, d := range docs {
		ss, err := decodeSession(d)
		if err != nil {
			return nil, err
		}
		out = append(out, ss)
	}
	slices.SortFunc(out, func(a, b *session) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.doc.ID, b.doc.ID)) })
	return out, nil
}

// enter begins a session for a person who has just proved who they are, under a new id: an id that was
// there before, planted or honest, is worth nothing afterwards. The session that this browser had ends;
// its tokens end too when it was another person's.
func (s *Service) enter(w http.ResponseWriter, r *http.Request, ss *session) error {
	ctx, now := r.Context(), s.deps.Now()
	before, err := s.session(r)
	if err != nil {
		return err
	}
	key := s.userKey(&ss.User)
	ss.User.Session = rand.Text()
	if before != nil && s.userKey(&before.User) == key {
		ss.User.Session = before.User.Session // a fresh login of the same person: tokens live on
	}
	ss.Created, ss.Seen, ss.Max = now, now, now.Add(s.cfg.Session.Max)
	ss.Agent, ss.Peer = cut(r.UserAgent(), 160), s.deps.Peer(r)
	if before != nil {
		if err := s.drop(ctx, before, ss.User.Session != before.User.Session, "another login in this browser"); err != nil {
			return err
		}
	}
	if err := s.makeRoom(ctx, key); err != nil {
		return err
	}
	if err := s.sealTokens(ss); err != nil {
		return err
	}
	value := newSecret()
	ss.doc = state.Doc{ID: hashed(value)}
	if err := s.put(ctx, ss); err != nil {
		return err
	}
	s.cookies.set(w, s.cookies.session, value)
	s.cookies.set(w, s.cookies.browser, newSecret())
	return nil
}

// makeRoom ends the oldest sessions of a user who has too many.
func (s *Service) makeRoom(ctx context.Context, key string) error {
	all, err := s.sessionsOf(ctx, key)
	if err != nil {
		return err
	}
	for len(all) >= maxSessions {
		if err := s.drop(ctx, all[0], true, "too many sessions"); err != nil {
			return err
		}
		all = all[1:]
	}
	return nil
}

// drop ends a session: revoked first, when its tokens must end too, so that nothing is left in between.
func (s *Service) drop(ctx context.Context, ss *session, revoke bool, why string) error {
	if revoke {
		now := s.deps.Now()
		err := s.deps.Revoke(ctx, issuer.Revocation{
			Kind: "session", Value: s.deps.URL + "|" + ss.User.Session, At: now, NotAfter: now.Add(tokensEnd), Reason: why, By: "login",
		})
		if err != nil {
			return fmt.Errorf("revoke session: %w", err)
		}
	}
	err := s.deps.State.Delete(ctx, kindSession, ss.doc.ID, 0)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// EndSession ends a login session by its id, and every token that was issued in it. It is no error when
// there is none.
func (s *Service) EndSession(ctx context.Context, sid, why string) error {
	ss, err := s.bySID(ctx, sid)
	if err != nil || ss == nil {
		return err
	}
	return s.drop(ctx, ss, true, why)
}

// EndRemote ends the sessions that came from a provider, named by its issuer: those of one session there
// if sid is set, else all of one subject. It is what a back-channel logout (OpenID Connect Back-Channel
// Logout 1.0 section 2.6) or a security event that was verified elsewhere asks for.
func (s *Service) EndRemote(ctx context.Context, providerIssuer, subject, sid, why string) error {
	if subject == "" && sid == "" {
		return errors.New("end sessions: no subject and no session named")
	}
	return s.each(ctx, func(ss *session) error {
		p := s.provider(ss.Provider)
		if p == nil || p.cfg.Issuer != providerIssuer || subject != "" && ss.Remote != subject || sid != "" && ss.RemoteID != sid {
			return nil
		}
		return s.drop(ctx, ss, true, why)
	})
}

// each calls f for every session.
func (s *Service) each(ctx context.Context, f func(*session) error) error {
	for d, err := range state.All(ctx, s.deps.State, state.Query{Kind: kindSession}) {
		if err != nil {
			return fmt.Errorf("list sessions: %w", err)
		}
		ss, err := decodeSession(*d)
		if err != nil {
			return err
		}
		if err := f(ss); err != nil {
			return err
		}
	}
	return nil
}

// keepSecret seals what a provider gave us, for one session.
func (s *Service) keepSecret(purpose, sid, value string, until time.Time) (string, error) {
	if value == "" {
		return "", nil
	}
	return s.deps.Box.Seal(seal.Claims{Purpose: purpose, Principal: sid, NotAfter: until.Add(time.Second)}, []byte(value))
}

// openSecret is the inverse of keepSecret.
func (s *Service) openSecret(purpose, sid, sealed string) (string, error) {
	if sealed == "" {
		return "", nil
	}
	b, _, err := s.deps.Box.Open(sealed, s.deps.Now(), seal.Claims{Purpose: purpose, Principal: sid})
	return string(b), err
}
