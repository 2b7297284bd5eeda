package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

const (
	// uncheckable is how long a login lives whose provider gave nothing to recheck it with.
	uncheckable = time.Hour
	// rechecks run at one time at one provider, so that one that hangs holds up nobody at the others.
	rechecks = 16
	// inUse is how long a session counts as in use after it was used: no token that was issued in it lives so
	// long. One that is not in use is rechecked when it is used again, before anything comes of it.
	inUse = 30 * time.Minute
)

// sealTokens keeps what the provider gave for rechecks and for logging out there.
func (s *Service) sealTokens(ss *session) error {
	t := ss.given
	ss.given = nil
	if t == nil {
		return nil
	}
	var err error
	if t.Refresh != "" {
		if ss.Refresh, err = s.keepSecret(purposeRefresh, ss.User.Session, t.Refresh, ss.Max); err != nil {
			return fmt.Errorf("keep refresh token: %w", err)
		}
	}
	if err := s.keepIdentity(ss, t); err != nil {
		return err
	}
	if ss.Refresh == "" { // nobody can be asked: it lasts no longer than a token of the provider might
		if end := ss.Created.Add(uncheckable); end.Before(ss.Max) {
			ss.Max = end
		}
	}
	return nil
}

// keepIdentity keeps the ID token that came, which is verified.
func (s *Service) keepIdentity(ss *session, t *tokens) error {
	if t.ID == "" {
		return nil
	}
	hint, err := s.keepSecret(purposeHint, ss.User.Session, t.ID, ss.Max)
	if err != nil {
		return fmt.Errorf("keep id token: %w", err)
	}
	ss.Hint, ss.HintEnd = hint, t.until
	return nil
}

// Run asks providers, again and again, whether the people who logged in through them still have access,
// until ctx ends. Every replica runs it; each session is asked about by one of them.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(min(s.cfg.Recheck/2, 15*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.Recheck(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "login sessions cannot be rechecked", attrError(err))
		}
	}
}

// Recheck asks once about every session in use that is due. Those of a provider are asked about a few at a
// time, whatever other providers do.
func (s *Service) Recheck(ctx context.Context) error {
	due := map[*provider][]*session{}
	err := s.each(ctx, func(ss *session) error {
		now := s.deps.Now()
		if p := s.checkable(ss); p != nil && s.used(ss, now) && now.Sub(ss.Tried) >= s.cfg.Recheck && now.Sub(ss.Checked) >= s.cfg.Recheck {
			due[p] = append(due[p], ss)
		}
		return ctx.Err()
	})
	var group sync.WaitGroup
	for p, list := range due {
		slices.SortFunc(list, func(a, b *session) int { return a.Checked.Compare(b.Checked) }) // who waits longest comes first
		next := make(chan *session, len(list))
		for _, ss := range list {
			next <- ss
		}
		close(next)
		for range min(rechecks, len(list)) {
			group.Go(func() { s.recheckAll(ctx, p, next) })
		}
	}
	group.Wait()
	return err
}

// recheckAll asks about one session after the other.
func (s *Service) recheckAll(ctx context.Context, p *provider, next <-chan *session) {
	for ss := range next {
		if ctx.Err() != nil {
			return
		}
		if err := s.recheck(ctx, p, ss, true); err != nil && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "a login session cannot be rechecked", attrProvider(p), attrError(err))
		}
	}
}

// checkable is the provider that can be asked about a session; nil if none can.
func (s *Service) checkable(ss *session) *provider {
	if ss.Refresh == "" {
		return nil
	}
	return s.provider(ss.Provider)
}

// used reports whether a session is in use.
func (s *Service) used(ss *session, now time.Time) bool {
	last := ss.Seen
	if ss.Issued.After(last) {
		last = ss.Issued
	}
	return now.Sub(last) < inUse
}

// back lets the provider vouch again for a person who comes back after their session was not in use. It
// returns nil without an error when the session has ended.
func (s *Service) back(ctx context.Context, ss *session) (*session, error) {
	now := s.deps.Now()
	p := s.checkable(ss)
	if p == nil || s.used(ss, now) || now.Sub(ss.Checked) < s.cfg.Recheck {
		return ss, nil
	}
	if err := s.recheck(ctx, p, ss, false); err != nil {
		return nil, fmt.Errorf("recheck: %w", err)
	}
	found, err := s.again(ctx, ss.doc.ID)
	if err != nil || found == nil {
		return nil, err
	}
	if now.Sub(found.Checked) >= s.cfg.Recheck { // another replica is asking
		return nil, errors.New("recheck: the provider has not answered yet")
	}
	return found, nil
}

// recheck asks about one session. Writing Tried first makes this replica the one that asks: a refresh token
// that rotates must not be used twice. regular says that the session is rechecked all the time, so that one
// whose provider cannot be asked for too long ends.
func (s *Service) recheck(ctx context.Context, p *provider, ss *session, regular bool) error {
	ss.Tried = s.deps.Now()
	if err := s.put(ctx, ss); errors.Is(err, state.ErrConflict) {
		return nil // another replica asks, or the session is in use: next time
	} else if err != nil {
		return err
	}
	t, err := p.renew(ctx, ss)
	switch {
	case errors.Is(err, errGone):
		s.tell(ctx, s.sessionEvent(ss, "provider_ended_login", err.Error()))
		return s.drop(ctx, ss, true, "the identity provider ended the login")
	case err != nil && regular && s.deps.Now().Sub(ss.Checked) > s.cfg.Grace:
		s.tell(ctx, s.sessionEvent(ss, "provider_unreachable", err.Error()))
		return s.drop(ctx, ss, true, "the identity provider could not be asked for too long")
	case err != nil:
		return err
	}
	ss.Checked = s.deps.Now()
	if t.Refresh != "" {
		if ss.Refresh, err = s.keepSecret(purposeRefresh, ss.User.Session, t.Refresh, ss.Max); err != nil {
			return err
		}
	}
	if err := s.keepIdentity(ss, t); err != nil {
		return err
	}
	return s.putRenewed(ctx, ss)
}

// putRenewed writes what a recheck learned. The session may have been used meanwhile; the token that
// rotated must not be lost, so it is written over that.
func (s *Service) putRenewed(ctx context.Context, ss *session) error {
	for range 4 {
		err := s.put(ctx, ss)
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
		now, err := s.again(ctx, ss.doc.ID)
		if err != nil {
			return err
		}
		if now == nil {
			return nil // it has ended
		}
		ss.Seen, ss.Issued, ss.doc = now.Seen, now.Issued, now.doc
	}
	return fmt.Errorf("write session: %w", state.ErrConflict)
}

// renew asks the provider for new tokens, and takes over what it now says of the person. The error is
// errGone when the person has no access any more.
func (p *provider) renew(ctx context.Context, ss *session) (*tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	refresh, err := p.s.openSecret(purposeRefresh, ss.User.Session, ss.Refresh)
	if err != nil {
		return nil, err
	}
	d, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	t, err := p.token(ctx, d, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
	if err != nil {
		return nil, err
	}
	if t.ID == "" {
		return t, p.userinfo(ctx, d, ss, t)
	}
	id, err := p.verify(ctx, d, t)
	if err != nil {
		return t, fmt.Errorf("%w: renewed id token: %w", errGone, err)
	}
	if id.Subject != ss.Remote {
		return t, fmt.Errorf("%w: the renewed id token is another person's", errGone)
	}
	u, err := p.user(id)
	if err != nil {
		return t, fmt.Errorf("%w: %w", errGone, err)
	}
	p.adopt(ss, u.Groups, u.Tenant)
	return t, nil
}

// adopt takes over groups, unless nothing was said of them, and tenant. Who the person is and how they
// logged in does not change.
func (p *provider) adopt(ss *session, groups []string, tenant string) {
	if p.cfg.Claims.Groups != "" && groups != nil {
		ss.User.Groups = groups
	}
	if p.cfg.Claims.Tenant != "" {
		ss.User.Tenant = tenant
	}
}

// userinfo asks for the person where a renewal brings no ID token (OpenID Connect Core 1.0 section 5.3).
func (p *provider) userinfo(ctx context.Context, d *discovered, ss *session, t *tokens) error {
	if d.UserInfo == "" {
		return nil // the renewal itself was the answer
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.UserInfo, http.NoBody)
	if err != nil {
		return err
	}
	(&oauth2.Token{AccessToken: t.Access, TokenType: "Bearer"}).SetAuthHeader(req)
	req.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("userinfo: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: userinfo answered %d", errGone, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("userinfo: status %d", resp.StatusCode)
	}
	c, err := decodeClaims(resp.Body)
	if err != nil {
		return fmt.Errorf("userinfo: %w", err)
	}
	if sub, _ := c["sub"].(string); sub != ss.Remote {
		return fmt.Errorf("%w: userinfo is about another person", errGone)
	}
	if raw, ok := c[p.cfg.Claims.Groups]; ok {
		p.adopt(ss, p.groups(list(raw)), ss.User.Tenant)
	}
	return nil
}

// sessionEvent is an entry of the audit trail about a session that nobody is at.
func (s *Service) sessionEvent(ss *session, reason warder.Reason, detail string) warder.Event {
	now := s.deps.Now().UTC()
	return warder.Event{
		ID: warder.NewID(now), Time: now, Type: warder.EventLogin, Outcome: warder.OutcomeRefused, Reason: reason, Detail: cut(detail, 512),
		Principal: &warder.EventPrincipal{Issuer: s.deps.URL, Subject: ss.User.Subject, Tenant: ss.User.Tenant},
	}
}
