package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// newestLegacy is what sessions are opened with on behalf of clients without one.
const newestLegacy = warder.Revision20251125

// A spoken says whether a server speaks an era.
type spoken uint8

const (
	unknown spoken = iota
	yes
	no
)

// eras is what was learnt about a server. It is forgotten when the server fails.
type eras struct {
	modern, legacy         spoken
	modernHello, anyLegacy wire.Hello // of the last opening
	sse                    bool       // the legacy era is HTTP+SSE at the same URL
	refused                time.Time  // when an era was last refused
}

// refusalTime is how long an era that was refused is not asked for again.
const refusalTime = 5 * time.Minute

// errNotSpoken marks a server that answered, but not in the era it was asked in. Which error it
// chose to say so is of no interest: servers differ.
var errNotSpoken = errors.New("the server does not speak this era")

func (s *Server) known() eras {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := &s.eras; (e.modern == no || e.legacy == no) && s.opt.Now().Sub(e.refused) > refusalTime {
		if e.modern == no {
			e.modern = unknown
		}
		if e.legacy == no {
			e.legacy = unknown
		}
	}
	return s.eras
}

func (s *Server) learn(change func(*eras)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.eras)
}

// forgetEra makes the next link find out anew.
func (s *Server) forgetEra() { s.learn(func(e *eras) { *e = eras{} }) }

// Probe returns what the server says of itself, in the stateless era if it speaks it. The result is
// kept until the server fails. Only one caller asks at a time; those who waited share its failure.
func (s *Server) Probe(ctx context.Context) (wire.Hello, error) {
	if h, ok := s.probed(); ok {
		return h, nil
	}
	round := s.probeRound.Load()
	select {
	case s.probes <- struct{}{}:
	case <-ctx.Done():
		return wire.Hello{}, ended(ctx)
	}
	defer func() { <-s.probes }()
	if h, ok := s.probed(); ok {
		return h, nil
	}
	if s.probeRound.Load() != round && s.probeErr != nil {
		return wire.Hello{}, s.probeErr
	}
	l, err := s.openAny(ctx, Init{Revision: warder.Revision20260728}, true, nil)
	if s.probeErr = err; ctx.Err() != nil {
		s.probeErr = nil // this caller's own end
	}
	s.probeRound.Add(1)
	if err != nil {
		return wire.Hello{}, err
	}
	s.spawn(l.shut)
	return l.Hello(), nil
}

func (s *Server) probed() (wire.Hello, bool) {
	e := s.known()
	switch {
	case e.modern == yes:
		return e.modernHello, true
	case e.legacy == yes && (e.modern == no || s.cfg.Era == EraLegacy || s.sseURL != nil):
		return e.anyLegacy, true
	default:
		return wire.Hello{}, false
	}
}

// Link returns the conversation for a key, opening it if need be: in the era of the client if the
// server speaks it, else in the other. The error is a *warder.Error, or wraps that of ctx.
func (s *Server) Link(ctx context.Context, key Key, init Init) (Link, error) {
	modern := init.Revision.Modern()
	if s.cfg.Run != nil {
		return s.entryLink(ctx, s.childKey(key, modern), init)
	}
	e := s.known()
	if e.modern == yes && (modern || e.legacy == no) {
		return s.stateless(key.Session == "", e.modernHello, init.Credential), nil
	}
	if e.legacy == yes && (!modern || e.modern == no) {
		return s.entryLink(ctx, s.entryKey(key, false), init)
	}
	// Not known yet. The question whether requests need a session is asked once; a session is opened
	// in any case.
	if modern && e.modern == unknown && s.cfg.Era != EraLegacy && s.sseURL == nil {
		if err := s.tryModern(ctx, init.Credential); err != nil {
			return nil, err
		}
		if e = s.known(); e.modern == yes {
			return s.stateless(key.Session == "", e.modernHello, init.Credential), nil
		}
	}
	return s.entryLink(ctx, s.entryKey(key, false), init)
}

// tryModern finds out whether the server speaks the stateless era. An error means that it is of no
// use to ask on.
func (s *Server) tryModern(ctx context.Context, cred warder.Credential) error {
	select {
	case s.probes <- struct{}{}:
	case <-ctx.Done():
		return ended(ctx)
	}
	defer func() { <-s.probes }()
	if s.known().modern != unknown {
		return nil
	}
	if !s.breaker.allow() {
		return fail(ReasonOpen, nil)
	}
	_, err := s.openEra(ctx, Init{Credential: cred}, true, true)
	switch {
	case err == nil:
		s.report(nil)
	case countsAgainst(err):
		s.report(err)
		return err
	case ctx.Err() != nil:
		return ended(ctx)
	}
	return nil
}

// entryLink returns the link of an entry. The link may turn out to be of the other era.
func (s *Server) entryLink(ctx context.Context, k entryKey, init Init) (Link, error) {
	e, err := s.lookup(k)
	if err != nil {
		return nil, err
	}
	if s.cfg.Run != nil && s.cfg.Run.Instances == Shared {
		init.Capabilities = nil // nobody could tell whose client is asked
	}
	l, err := s.obtain(ctx, e, func(ctx context.Context) (liveLink, error) {
		return s.openAny(ctx, init, k.session == "", e)
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// childKey finds the child for a key. Where only one era is spoken, clients of both share children,
// and where requests carry the capabilities themselves, these do not tell children apart.
func (s *Server) childKey(key Key, modern bool) entryKey {
	k, e := s.entryKey(key, modern), s.known()
	if modern && e.modern == yes {
		k.capabilities = [32]byte{}
	}
	if e.modern != no && e.legacy != no {
		return k
	}
	other := k
	other.modern = !k.modern
	s.mu.Lock()
	defer s.mu.Unlock()
	if there := s.entries[other]; there != nil {
		if l := there.current(); l != nil && alive(l) {
			return other
		}
	}
	return k
}

// stateless returns the link to the stateless endpoint. There is nothing to open or to close, so
// one for each way of naming calls is enough, but for callers with credentials of their own.
func (s *Server) stateless(pooled bool, hello wire.Hello, cred warder.Credential) *httpLink {
	if cred.Header != nil {
		l := s.newHTTPLink(s.url, true, pooled, cred)
		l.hello = hello
		l.done, l.forever = s.gone, true
		return l
	}
	slot := &s.free[0]
	if pooled {
		slot = &s.free[1]
	}
	if l := slot.Load(); l != nil && l.hello.Raw == hello.Raw {
		return l
	}
	l := s.newHTTPLink(s.url, true, pooled, cred)
	l.hello = hello
	l.done, l.forever = s.gone, true
	slot.Store(l)
	return l
}

// openAny opens a conversation, in the era of the client first.
func (s *Server) openAny(ctx context.Context, init Init, pooled bool, e *entry) (liveLink, error) {
	if !s.breaker.allow() {
		return nil, fail(ReasonOpen, nil)
	}
	if s.cfg.Run != nil {
		l, err := s.openChild(ctx, init, e)
		s.report(err)
		return l, err
	}
	var errs []error
	for _, modern := range s.order(init.Revision.Modern()) {
		l, err := s.openEra(ctx, init, modern, pooled)
		if err == nil {
			s.report(nil)
			return l, nil
		}
		errs = append(errs, err)
		if !errors.Is(err, errNotSpoken) && (countsAgainst(err) || ctx.Err() != nil) {
			s.report(err)
			return nil, err
		}
	}
	last := errs[len(errs)-1]
	if !errors.Is(last, errNotSpoken) {
		s.report(last)
		return nil, last
	}
	s.forgetEra()
	return nil, fail(ReasonNotMCP, errors.Join(errs...))
}

// order lists the eras to try.
func (s *Server) order(modernFirst bool) []bool {
	switch {
	case s.cfg.Era == EraModern:
		return []bool{true}
	case s.cfg.Era == EraLegacy || s.sseURL != nil:
		return []bool{false}
	}
	e := s.known()
	switch {
	case e.modern == no && e.legacy != no:
		return []bool{false}
	case e.legacy == no && e.modern != no:
		return []bool{true}
	default:
		return []bool{modernFirst, !modernFirst}
	}
}

// openEra opens a conversation in one era and notes whether the server speaks it.
func (s *Server) openEra(ctx context.Context, init Init, modern, pooled bool) (l liveLink, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.ProbeTimeout, errIdle)
	defer cancel()
	if modern {
		l, err = s.openModern(ctx, pooled, init.Credential)
	} else {
		l, err = s.openLegacy(ctx, init, pooled)
	}
	s.noteEra(modern, l, err)
	return l, err
}

func (s *Server) noteEra(modern bool, l liveLink, err error) {
	if err != nil {
		s.log.LogAttrs(s.base, slog.LevelDebug, "era not opened", slog.Bool("modern", modern), slog.String("error", cut(err.Error(), 500)))
	}
	was := s.known()
	switch {
	case err == nil && modern:
		s.learn(func(e *eras) { e.modern, e.modernHello = yes, l.Hello() })
	case err == nil:
		s.learn(func(e *eras) { e.legacy, e.anyLegacy = yes, l.Hello() })
	case errors.Is(err, errNotSpoken) && modern:
		s.learn(func(e *eras) { e.modern, e.refused = no, s.opt.Now() })
	case errors.Is(err, errNotSpoken):
		s.learn(func(e *eras) { e.legacy, e.refused = no, s.opt.Now() })
	}
	if now := s.known(); now.modern != was.modern || now.legacy != was.legacy {
		s.lifecycle("era_found", slog.Bool("modern", now.modern == yes), slog.Bool("legacy", now.legacy == yes),
			slog.String("revision", cut(string(helloOf(l).Revision), 32)))
	}
}

func helloOf(l liveLink) wire.Hello {
	if l == nil {
		return wire.Hello{}
	}
	return l.Hello()
}

// openModern asks the URL for server/discover; once more if it refuses the revision and yet lists it
// among those it supports.
func (s *Server) openModern(ctx context.Context, pooled bool, cred warder.Credential) (liveLink, error) {
	l := s.newHTTPLink(s.url, true, pooled, cred)
	m, _, err := l.ask(ctx, s.discoverRequest())
	if err == nil && contradicts(m) {
		m, _, err = l.ask(ctx, s.discoverRequest())
	}
	if err != nil {
		return nil, notSpokenUnlessDown(err)
	}
	if l.hello, err = modernHello(m); err != nil {
		return nil, err
	}
	return l, nil
}

// contradicts reports a refusal of our revision that names it as supported.
func contradicts(m *warder.Message) bool {
	if m.Kind != warder.KindError {
		return false
	}
	code, _ := wire.ErrorCode(m)
	return code == warder.RPCUnsupported && slices.Contains(wire.SupportedVersions(m), string(warder.Revision20260728))
}

func (s *Server) discoverRequest() []byte {
	return wire.DiscoverRequest([]byte("1"), wire.ModernMeta{Version: warder.Revision20260728, ClientInfo: s.opt.ClientInfo})
}

// modernHello reads the answer to server/discover. Servers without the stateless era refuse in their
// own ways, or announce older revisions only.
func modernHello(m *warder.Message) (wire.Hello, error) {
	if m.Kind == warder.KindError {
		code, text := wire.ErrorCode(m)
		return wire.Hello{}, fmt.Errorf("%w: server/discover: %d %.100q", errNotSpoken, code, text)
	}
	h, err := wire.ParseDiscoverResult(m)
	if err != nil {
		return wire.Hello{}, fmt.Errorf("%w: %w", errNotSpoken, err)
	}
	if !h.Revision.Modern() {
		return wire.Hello{}, fmt.Errorf("%w: server/discover announces %.100q", errNotSpoken, h.ProtocolVersions)
	}
	return h, nil
}

// notSpokenUnlessDown reads a failed opening over HTTP: whatever the server answered, it does not
// speak the era, unless there was no answer at all.
func notSpokenUnlessDown(err error) error {
	var e *warder.Error
	if !errors.As(err, &e) || countsAgainst(err) {
		return err
	}
	switch e.Reason {
	case ReasonUnauthorized, ReasonLimited, ReasonTimeout, ReasonShutdown:
		return err
	default:
		return fmt.Errorf("%w: %w", errNotSpoken, err)
	}
}

// openLegacy opens a session: at the Streamable HTTP endpoint, or over HTTP+SSE if that is
// configured or the endpoint refuses (2025-03-26, backwards compatibility).
func (s *Server) openLegacy(ctx context.Context, init Init, pooled bool) (liveLink, error) {
	if s.sseURL != nil {
		return s.openSSE(ctx, s.sseURL, init)
	}
	if s.known().sse {
		return s.openSSE(ctx, s.legacyURL, init)
	}
	l, err := s.openSession(ctx, init, pooled)
	var st *statusError
	if err == nil || !errors.As(err, &st) || st.status != http.StatusBadRequest &&
		st.status != http.StatusNotFound && st.status != http.StatusMethodNotAllowed {
		return l, err
	}
	old, oldErr := s.openSSE(ctx, s.legacyURL, init)
	if oldErr != nil {
		return nil, errors.Join(err, oldErr)
	}
	s.learn(func(e *eras) { e.sse = true })
	return old, nil
}

// initRequest builds initialize for a client.
func (s *Server) initRequest(init Init) []byte {
	rev := init.Revision
	if !rev.Known() || rev.Modern() {
		rev = newestLegacy
	}
	info := init.ClientInfo
	if len(info) == 0 {
		info = s.opt.ClientInfo
	}
	return wire.InitializeRequest([]byte("1"), rev, info, init.Capabilities)
}

// legacyHello reads the answer to initialize.
func legacyHello(m *warder.Message) (wire.Hello, error) {
	if m.Kind == warder.KindError {
		code, text := wire.ErrorCode(m)
		return wire.Hello{}, fmt.Errorf("%w: %w", errNotSpoken, failf(ReasonInitialize, "initialize: %d %.200q", code, text))
	}
	h, err := wire.ParseInitializeResult(m)
	if err != nil {
		return wire.Hello{}, fmt.Errorf("%w: %w", errNotSpoken, err)
	}
	if !h.Revision.Known() || h.Revision.Modern() {
		return wire.Hello{}, fmt.Errorf("%w: %w", errNotSpoken, failf(ReasonVersion, "initialize chose revision %.40q", h.Revision))
	}
	return h, nil
}

// openSession opens a Streamable HTTP session.
func (s *Server) openSession(ctx context.Context, init Init, pooled bool) (liveLink, error) {
	l := s.newHTTPLink(s.legacyURL, false, pooled, init.Credential)
	m, hdr, err := l.ask(ctx, s.initRequest(init))
	if err != nil {
		return nil, notSpokenUnlessDown(err)
	}
	hello, err := legacyHello(m)
	if err != nil {
		return nil, err
	}
	l.hello = s.sameHello(hello)
	if hello.Revision >= warder.Revision20250618 {
		l.version = []string{string(hello.Revision)}
	}
	if id := hdr[hdrSession]; len(id) > 0 {
		if len(id) > 1 || !visibleASCII(id[0]) {
			return nil, fmt.Errorf("%w: session id is not visible ASCII", errNotSpoken)
		}
		l.session = id
	}
	note, err := wire.Decode(wire.Notification(wire.NotifyInitialized, nil), s.lim)
	if err != nil {
		return nil, err
	}
	p := whole(note.Raw)
	if err := l.post(ctx, note, &p); err != nil {
		return nil, err
	}
	l.life, l.endLife = context.WithCancel(s.base)
	if askable(init.Capabilities) {
		l.startHearing(ctx)
	}
	return l, nil
}

// sameHello returns what was said last time if it was the same, so that thousands of sessions share
// one copy.
func (s *Server) sameHello(h wire.Hello) wire.Hello {
	last := s.known().anyLegacy
	if last.Raw != nil && h.Raw != nil && string(last.Raw.Raw) == string(h.Raw.Raw) {
		return last
	}
	return h
}

const maxSessionID = 1024

// visibleASCII reports whether a session id is one (2025-03-26, session management).
func visibleASCII(s string) bool {
	if s == "" || len(s) > maxSessionID {
		return false
	}
	for _, c := range []byte(s) {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return true
}

// ask sends a request of Warder's own and returns the answer and the header of the response.
func (l *httpLink) ask(ctx context.Context, raw []byte) (answer *warder.Message, hdr http.Header, err error) {
	req, err := wire.Decode(raw, l.srv.lim)
	if err != nil {
		return nil, nil, err
	}
	hdr, err = l.exchange(ctx, req, nil, nil, func(m *warder.Message, _ error) bool {
		if m.IsAnswer() {
			answer = m
		}
		return true
	})
	if err != nil {
		return nil, hdr, err
	}
	return answer, hdr, nil
}
