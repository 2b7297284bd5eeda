package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/state"
)

// An entry is the token of one owner for one server.
type entry struct {
	s      *server
	owner  owner
	id     string // of its document
	attach warder.Credential

	cur       atomic.Pointer[token]
	principal atomic.Pointer[warder.Principal] // of the latest call that needed a token; for assertions
	turn      chan struct{}                    // one request for a token at a time

	mu       sync.Mutex // guards what follows
	failed   error
	failedAt time.Time
	scopes   []string // what a server challenged us for; asked for with the next token
	ask      askRef
}

// A token is what requests are shown. It is immutable.
type token struct {
	*oauth.Tokens
	access  string
	header  []string // value of Authorization
	got     time.Time
	renewAt time.Time
	end     time.Time // zero: unknown
	asked   []string
	version int64 // of its document
}

// errConsent means that the person must authorize Warder at the server.
var errConsent = errors.New("the person has not authorized Warder at the server")

const (
	early        = 30 * time.Second // a token is not used in its last seconds: the request takes time
	failurePause = 3 * time.Second  // between attempts after a failure
	busyFor      = 30 * time.Second // how long one replica may take to renew
	callerKeep   = 10 * time.Minute // a token that speaks for a caller is asked for again after so long: groups and roles change
	tooSoon      = 2 * time.Second  // a token that is refused so soon after it came will not be better next time
)

func newEntry(s *server, o owner) *entry {
	e := &entry{s: s, owner: o, id: docID(s.name, o), turn: make(chan struct{}, 1)}
	e.attach = warder.Credential{Kind: s.kind, Header: e.header, Denied: e.denied}
	if o != (owner{}) {
		e.attach.Owner = o.key()
	}
	return e
}

// entryOf returns the entry for a caller.
func (s *server) entryOf(p *warder.Principal) *entry {
	if s.own != nil {
		return s.own
	}
	return s.people.of(ownerOf(p, s.kind != kindOAuth))
}

// ready returns the token if it can be shown now.
func (e *entry) ready(now time.Time) *token {
	if t := e.cur.Load(); t != nil && (t.end.IsZero() || now.Before(t.end)) {
		return t
	}
	return nil
}

func (e *entry) use(t *oauth.Tokens, asked []string, version int64) {
	now := e.s.k.now()
	tok := &token{Tokens: t, access: string(t.Access.Bytes()), got: now, asked: asked, version: version}
	scheme := "Bearer "
	if t.Bound {
		scheme = "DPoP "
	}
	tok.header = []string{scheme + tok.access}
	tok.renewAt = now.Add(24 * time.Hour)
	if !t.NotAfter.IsZero() {
		life := t.NotAfter.Sub(now)
		tok.end = t.NotAfter.Add(-min(early, life/4))
		tok.renewAt = now.Add(life * 3 / 4)
	}
	e.cur.Store(tok)
}

// obtain makes the entry ready. bad is a token that the server refused, nil if none.
func (e *entry) obtain(ctx context.Context, bad *token) error {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for a token: %w", ctx.Err())
	}
	now := e.s.k.now()
	if t := e.ready(now); t != nil && t != bad && now.Before(t.renewAt) {
		return nil // got while we waited
	}
	if err := e.recent(now); err != nil {
		return err
	}
	// One caller's leaving must not spoil the token of the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grantTimeout)
	defer cancel()
	err := e.get(ctx, bad)
	e.note(now, err)
	return err
}

func (e *entry) get(ctx context.Context, bad *token) error {
	if e.s.issued == nil {
		return e.restore(ctx, bad)
	}
	e.mu.Lock()
	scopes := slices.Clone(e.scopes)
	e.mu.Unlock()
	tokens, err := e.s.issued(ctx, e, scopes)
	effect := obtained
	if bad != nil || e.cur.Load() != nil {
		effect = renewed
	}
	if err != nil {
		e.s.k.tell(ctx, "AUT-04", e.s, e.owner, refused, reasonOf(err), err.Error())
		return err
	}
	if most := e.s.k.now().Add(callerKeep); e.s.people != nil && (tokens.NotAfter.IsZero() || tokens.NotAfter.After(most)) {
		tokens.NotAfter = most
	}
	e.use(tokens, scopes, 0)
	e.s.k.tell(ctx, "AUT-04", e.s, e.owner, effect, "", "issuer "+tokens.Issuer)
	return nil
}

// recent returns the failure of an attempt just now: a server that cannot be asked is not asked by every
// call.
func (e *entry) recent(now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil && now.Sub(e.failedAt) < failurePause {
		return e.failed
	}
	return nil
}

func (e *entry) note(now time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed, e.failedAt = err, now
	if errors.Is(err, errConsent) {
		e.failed = nil // the person may come back any moment
	}
}

// restore takes a person's tokens from the store, and renews them where that is due.
func (e *entry) restore(ctx context.Context, bad *token) error {
	k := e.s.k
	for {
		b, doc, err := e.load(ctx)
		switch {
		case errors.Is(err, state.ErrNotFound):
			return errConsent
		case err != nil:
			return err
		}
		now := k.now()
		good := b.end().IsZero() || now.Before(b.end())
		if bad != nil && b.Access == bad.access {
			good = false
		}
		cur := e.cur.Load()
		due := cur != nil && cur.access == b.Access && !now.Before(cur.renewAt)
		switch {
		case good && (!due || b.Refresh == ""):
			e.use(b.tokens(), b.Asked, doc.Version)
			return nil
		case b.Refresh == "":
			return e.remove(ctx, "token_ended")
		case now.Before(b.Busy):
			if err := sleep(ctx, 200*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		b.Busy = now.Add(busyFor)
		doc, err = e.store(ctx, b, doc.Version)
		if errors.Is(err, state.ErrConflict) {
			continue // another replica was faster; see what it did
		}
		if err != nil {
			return err
		}
		return e.renew(ctx, b, doc)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// renew uses the refresh token. This replica alone does so: it has marked the document.
func (e *entry) renew(ctx context.Context, b kept, doc state.Doc) error {
	k := e.s.k
	t, reg, err := e.s.at(ctx)
	var tokens *oauth.Tokens
	if err == nil {
		tokens, err = e.s.client.Refresh(ctx, t, reg, b.tokens())
	}
	if err != nil {
		refusal, ok := errors.AsType[*oauth.Error](err)
		if ok && refusal.Final() || errors.Is(err, oauth.ErrMixUp) || errors.Is(err, oauth.ErrNoRefresh) {
			return e.remove(ctx, reasonOf(err))
		}
		b.Busy = time.Time{}
		_, err2 := e.store(ctx, b, doc.Version)
		k.tell(ctx, "AUT-04", e.s, e.owner, refused, reasonOf(err), err.Error())
		return errors.Join(err, err2)
	}
	doc, err = e.store(ctx, keep(tokens, b.Asked, k.now()), doc.Version)
	if err != nil {
		return fmt.Errorf("keep renewed tokens: %w", err)
	}
	e.use(tokens, b.Asked, doc.Version)
	k.tell(ctx, "AUT-04", e.s, e.owner, renewed, "", "issuer "+tokens.Issuer)
	return nil
}

// remove forgets tokens that are good for nothing any more.
func (e *entry) remove(ctx context.Context, reason warder.Reason) error {
	e.cur.Store(nil)
	err := e.s.k.deps.State.Delete(ctx, docToken, e.id, 0)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	e.s.k.tell(ctx, "AUT-04", e.s, e.owner, removed, reason, "")
	return errConsent
}

// renewBeside renews a token that still is good, beside the call.
func (e *entry) renewBeside() {
	if len(e.turn) > 0 {
		return // under way
	}
	e.s.k.beside(func(ctx context.Context) {
		_ = e.obtain(ctx, nil) // the old token serves until its end; the failure is in the trail
	})
}

// reasonOf is the stable word for a failure.
func reasonOf(err error) warder.Reason {
	if r, ok := errors.AsType[*oauth.Error](err); ok {
		return warder.Reason("as_" + r.Code)
	}
	for _, known := range []struct {
		err    error
		reason warder.Reason
	}{
		{errConsent, "authorization_needed"},
		{oauth.ErrMixUp, "issuer_mixed_up"},
		{oauth.ErrPKCE, "pkce_not_promised"},
		{oauth.ErrURL, "url_refused"},
		{oauth.ErrResource, "resource_mismatch"},
		{oauth.ErrNoMetadata, "no_metadata"},
		{oauth.ErrMetadata, "metadata_malformed"},
		{oauth.ErrRegistration, "no_registration"},
		{oauth.ErrUnbound, "token_not_bound"},
		{oauth.ErrResponse, "response_malformed"},
		{oauth.ErrState, "state_mismatch"},
		{context.DeadlineExceeded, "authorization_server_slow"},
	} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return "credential_unavailable"
}
