package signals

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/revocation"
)

// An Inbox takes signals of all configured transmitters. It is safe for concurrent use.
type Inbox struct {
	deps         Deps
	transmitters map[string]*transmitter
	slots        chan struct{}
	noted        atomic.Int64 // when a refusal was last recorded, Unix nanoseconds
}

// NewInbox prepares the transmitters.
func NewInbox(ctx context.Context, transmitters []Transmitter, deps Deps) (*Inbox, error) {
	if deps.Revocations == nil || deps.State == nil || deps.Record == nil {
		return nil, errors.New("signals: revocations, store or trail are missing")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	r := &Inbox{deps: deps, transmitters: map[string]*transmitter{}, slots: make(chan struct{}, atOnce)}
	for i := range transmitters {
		t, err := transmitters[i].prepare(ctx, &deps)
		if err == nil && r.transmitters[t.Issuer] != nil {
			err = errors.New("the issuer is configured twice")
		}
		if err != nil {
			return nil, fmt.Errorf("signals: transmitter %q: %w", transmitters[i].Issuer, err)
		}
		r.transmitters[t.Issuer] = t
	}
	return r, nil
}

// Handler serves POST /events for security event tokens (RFC 8935) and POST /logout for logout tokens
// (OpenID Connect Back-Channel Logout 1.0 section 2.5).
func (r *Inbox) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", r.guarded("application/secevent+jwt", r.events))
	mux.HandleFunc("POST /logout", r.guarded("application/x-www-form-urlencoded", r.logout))
	return mux
}

// guarded reads a token of the right form, bounds how many are judged at once, and answers.
func (r *Inbox) guarded(kind string, judge func(*http.Request, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		given, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
		if err != nil || given != kind {
			answer(w, req, refuse(invalidRequest, "content type is not %s", kind))
			return
		}
		body, err := safedial.ReadAll(req.Body, maxBody)
		if err != nil {
			answer(w, req, refuse(invalidRequest, "%w", err))
			return
		}
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if err = judge(req, string(body)); err != nil {
			err = errors.Join(err, r.refused(req.Context(), err))
		}
		answer(w, req, err)
	}
}

// refused records that a token was refused, at most one a second: anybody can send one.
func (r *Inbox) refused(ctx context.Context, err error) error {
	now, last := r.deps.Now().UnixNano(), r.noted.Load()
	if now-last < int64(time.Second) || !r.noted.CompareAndSwap(last, now) {
		return nil
	}
	text := "signal refused: " + err.Error()
	if len(text) > maxNote {
		text = strings.ToValidUTF8(text[:maxNote], "")
	}
	return r.deps.Record(ctx, warder.Event{Type: warder.EventRevocation, Control: "JIT-04", Outcome: warder.OutcomeRefused, Detail: text})
}

// maxNote bounds what the trail keeps of an error or a note, in bytes.
const maxNote = 256

// answer tells the transmitter what came of its token: 202 or 200 for what was done, 400 for what it
// must not send again, 503 for what it should.
func answer(w http.ResponseWriter, req *http.Request, err error) {
	no, refused := errors.AsType[*refusalError](err)
	switch {
	case err == nil && strings.HasSuffix(req.URL.Path, "/logout"):
		w.WriteHeader(http.StatusOK)
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case refused:
		status := http.StatusBadRequest
		if no.code == authFailed {
			status = http.StatusUnauthorized
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Language", "en")
		w.WriteHeader(status)
		name := "err" // RFC 8935 section 2.3
		if strings.HasSuffix(req.URL.Path, "/logout") {
			name = "error" // Back-Channel Logout section 2.8
		}
		_ = json.NewEncoder(w).Encode(map[string]string{name: no.code, "description": "the token was refused"}) // the sender may have gone
	default:
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// events judges a pushed security event token.
func (r *Inbox) events(req *http.Request, body string) error {
	t, s, err := r.verify(req.Context(), body, []string{"secevent+jwt"}, func(t *transmitter) string { return t.Audience })
	if err != nil {
		return err
	}
	if err := t.authenticate(req); err != nil {
		return err
	}
	return r.once(req.Context(), t, s, func(ctx context.Context) error {
		for uri, event := range s.events {
			if err := r.act(ctx, t, s, uri, event); err != nil {
				return fmt.Errorf("event %.80q: %w", uri, err)
			}
		}
		return nil
	})
}

// authenticate checks the bearer token that a transmitter may be asked for (RFC 8935 section 3).
func (t *transmitter) authenticate(req *http.Request) error {
	if len(t.token) == 0 {
		return nil
	}
	given, bearer := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	want, got := sha256.Sum256(t.token), sha256.Sum256([]byte(given))
	if !bearer || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return refuse(authFailed, "the transmitter's bearer token is wrong")
	}
	return nil
}

// once does what a token asks for unless that was done before. The token is remembered afterwards, not
// before: one that could not be dealt with may come again, and dealing with one twice at the same time
// does no harm.
func (r *Inbox) once(ctx context.Context, t *transmitter, s *set, do func(context.Context) error) error {
	sum := sha256.Sum256([]byte(t.Issuer + "\x00" + s.id))
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	_, err := r.deps.State.Get(ctx, seenKind, id)
	if err == nil {
		return nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return err
	}
	if err := do(ctx); err != nil {
		if f, ok := errors.AsType[*failureError](err); ok {
			return f
		}
		return refuse(invalidRequest, "%w", err)
	}
	_, err = r.deps.State.Put(ctx, state.Doc{Kind: seenKind, ID: id, NotAfter: s.issued.Add(maxAge + 2*leeway)})
	if errors.Is(err, state.ErrConflict) {
		return nil // the same token, at the same time
	}
	return err
}

// logout judges a logout token.
func (r *Inbox) logout(req *http.Request, body string) error {
	form, err := url.ParseQuery(body)
	if err != nil || len(form["logout_token"]) != 1 {
		return refuse(invalidRequest, "want one logout_token")
	}
	// Section 2.4 recommends the type and does not require it; without it, events and the missing nonce
	// keep an ID token from being taken for a logout token (section 2.6).
	t, s, err := r.verify(req.Context(), form.Get("logout_token"), []string{"logout+jwt", "jwt", ""}, func(t *transmitter) string { return t.Client })
	if err != nil {
		return err
	}
	sid, sub, err := s.loggedOut()
	if err != nil {
		return refuse(invalidRequest, "logout token: %w", err)
	}
	return r.once(req.Context(), t, s, func(ctx context.Context) error {
		what := &subject{}
		if sid != "" {
			what.session = t.Issuer + "|" + sid
		} else if err := r.person(ctx, what, t.Issuer, sub); err != nil {
			return err
		}
		return r.apply(ctx, t, session, what, s.issued, logout)
	})
}

// loggedOut returns the session, or the person all of whose sessions are over (section 2.6).
func (s *set) loggedOut() (sid, sub string, err error) {
	if _, nonce := s.claims["nonce"]; nonce {
		return "", "", errors.New("it has a nonce")
	}
	if _, expires := s.claims["exp"]; !expires {
		return "", "", errors.New("exp is missing")
	}
	event, ok := s.events[logout]
	if !ok || len(s.events) != 1 || len(event) != 0 {
		return "", "", errors.New("it is not about a logout alone")
	}
	for name, to := range map[string]*string{"sid": &sid, "sub": &sub} {
		if *to, err = s.claims.Text(name); err != nil {
			return "", "", err
		}
		if len(*to) > 1024 {
			return "", "", fmt.Errorf("%s is too long", name)
		}
	}
	if sid == "" && sub == "" {
		return "", "", errors.New("neither sid nor sub")
	}
	return sid, sub, nil
}

var _ Revocations = (*revocation.Set)(nil)
