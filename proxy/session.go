package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A session is the state that revisions up to 2025-11-25 keep between requests of one client. It is
// bound to the principal that opened it: knowing its id is never authentication (PRT-06).
type session struct {
	id       string // secret of the client, 128 random bits
	digest   string // public name in audit records
	owner    string // principal key
	endpoint string
	revision warder.Revision
	client   warder.ClientInfo
	capsHash [32]byte
	lastUsed atomic.Int64  // Unix nanoseconds
	held     *atomic.Int64 // of Sessions

	mu         sync.Mutex
	closed     bool
	logLevel   string              // set by logging/setLevel towards stateless servers
	resources  map[string]struct{} // URIs subscribed to on stateless servers
	subscribed int                 // bytes of resources in a listen request
	relisten   map[string]func()   // by server: reopens its listen stream after resources changed
	lastAsk    uint64
	questions  map[string]question      // open questions to the client, by the id Warder gave them
	inflight   map[string]*inflight     // running requests, by the client's id
	streams    map[string]*replayStream // resumable streams, by stream id
	lastStream uint64
}

// A question is something a server asked the client and the client has not answered yet.
type question struct {
	asked  *warder.Message  // as the client saw it
	parent *warder.Exchange // the exchange during which it was asked
	// answer delivers the judged answer to whoever asked.
	answer func(ctx context.Context, m *warder.Message) error

	link     any    // the link on which a server with sessions asked; nil otherwise
	serverID []byte // the id that the link knows the question by
}

// An inflight request can be cancelled by the client.
type inflight struct {
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when the exchange has been recorded; nil but for streams outside calls
}

// ask remembers the question that q makes for the JSON-RPC id under which the client will answer it;
// false if too many are open.
func (s *session) ask(q func(id []byte) question) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.questions) >= maxQuestions {
		return false
	}
	s.lastAsk++
	id := strconv.AppendQuote(nil, "warder-"+strconv.FormatUint(s.lastAsk, 10))
	if s.questions == nil {
		s.questions = make(map[string]question)
	}
	s.questions[string(id)] = q(id)
	return true
}

// question returns the open question with this id.
func (s *session) question(id []byte) (question, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.questions[string(id)]
	return q, ok
}

// withdraw removes the question that a server put under its own id on a link, and returns the id under
// which the client knows it; nil if there is none.
func (s *session) withdraw(link any, serverID []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, q := range s.questions {
		if q.link == link && bytes.Equal(q.serverID, serverID) {
			delete(s.questions, id)
			return []byte(id)
		}
	}
	return nil
}

// take removes and returns the question with this id.
func (s *session) take(id []byte) (question, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.questions[string(id)]
	delete(s.questions, string(id))
	return q, ok
}

// unask forgets the questions that were asked during an exchange which has ended: nobody waits for
// their answers.
func (s *session) unask(x *warder.Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, q := range s.questions {
		if q.parent == x {
			delete(s.questions, id)
		}
	}
}

// begin registers a running request; ok is false if its id is already in flight.
func (s *session) begin(id []byte, f *inflight) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, dup := s.inflight[string(id)]; dup || s.closed {
		return false
	}
	if s.inflight == nil {
		s.inflight = make(map[string]*inflight)
	}
	s.inflight[string(id)] = f
	return true
}

// takeover bounds the wait for a stream that makes room for its successor.
const takeover = time.Second

// supersede registers the stream outside calls in place of the one that the session had, and waits until
// that has ended, so that the two never count together (PRT-10).
func (s *session) supersede(id []byte, f *inflight) {
	s.mu.Lock()
	old := s.inflight[string(id)]
	if s.inflight == nil {
		s.inflight = make(map[string]*inflight)
	}
	s.inflight[string(id)] = f
	closed := s.closed
	s.mu.Unlock()
	if old != nil {
		old.cancel(errCancelled)
		select {
		case <-old.over:
		case <-time.After(takeover):
		}
	}
	if closed {
		f.cancel(errSessionEnded)
	}
}

// end removes a request that has ended, unless another took its place.
func (s *session) end(id []byte, f *inflight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inflight[string(id)] == f {
		delete(s.inflight, string(id))
	}
}

// speaks returns the revision of the session, empty until it is open.
func (s *session) speaks() warder.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

// cancel ends the running request with this id, if there is one.
func (s *session) cancel(id []byte) {
	s.mu.Lock()
	f := s.inflight[string(id)]
	s.mu.Unlock()
	if f != nil {
		f.cancel(errCancelled)
	}
}

// level returns the log level the client asked for, empty if none.
func (s *session) level() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logLevel
}

// declared is the digest of the capabilities the client declared.
func (s *session) declared() [32]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.capsHash
}

// subscribe adds or removes a resource and reopens the listen stream. All subscriptions together must
// fit into one listen request, so they have room bytes.
func (s *session) subscribe(uri string, on bool, room int) (ok bool) {
	s.mu.Lock()
	_, known := s.resources[uri]
	size := len(wire.Quote(uri)) + 1
	switch {
	case on && !known && (len(s.resources) >= maxSubscriptions || s.subscribed+size > room):
		s.mu.Unlock()
		return false
	case on && !known:
		if s.resources == nil {
			s.resources = make(map[string]struct{})
		}
		s.resources[uri] = struct{}{}
		s.subscribed += size
	case !on && known:
		delete(s.resources, uri)
		s.subscribed -= size
	}
	again := slices.Collect(maps.Values(s.relisten))
	s.mu.Unlock()
	for _, reopen := range again {
		reopen()
	}
	return true
}

// onSubscribe names what reopens the listen stream of a server when the subscriptions change.
func (s *session) onSubscribe(server string, reopen func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relisten == nil {
		s.relisten = make(map[string]func())
	}
	s.relisten[server] = reopen
}

// subscriptions lists the resources the client subscribed to.
func (s *session) subscriptions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	uris := make([]string, 0, len(s.resources))
	for uri := range s.resources {
		uris = append(uris, uri)
	}
	return uris
}

// shut ends every running request of the session.
func (s *session) shut() {
	s.mu.Lock()
	s.closed = true
	running := make([]*inflight, 0, len(s.inflight))
	for _, f := range s.inflight {
		running = append(running, f)
	}
	s.questions = nil
	s.mu.Unlock()
	for _, f := range running {
		f.cancel(errSessionEnded)
	}
}

// Sessions holds the sessions of all endpoints. It outlives a reload of the configuration.
type Sessions struct {
	idle     time.Duration
	max      int
	perOwner int
	now      func() time.Time
	held     atomic.Int64 // bytes kept for clients that return to their streams

	mu     sync.RWMutex
	byName map[string]*session // keyed by a hash of the id, so a lookup does not leak it by timing
	owners map[string]int
	onEnd  func(*session)
}

// NewSessions builds an empty store with the limits of cfg.
func NewSessions(cfg SessionConfig, now func() time.Time) *Sessions {
	cfg = cfg.withDefaults()
	return &Sessions{
		idle: cfg.Idle, max: cfg.Max, perOwner: cfg.PerPrincipal, now: now,
		byName: make(map[string]*session), owners: make(map[string]int),
	}
}

// open creates a session for owner. It fails when a limit is reached.
func (st *Sessions) open(owner, endpoint string) (*session, *warder.Error) {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	id := hex.EncodeToString(raw[:])
	s := &session{id: id, digest: digestOf(id), owner: owner, endpoint: endpoint, held: &st.held}
	s.lastUsed.Store(st.now().UnixNano())
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.byName) >= st.max || st.owners[owner] >= st.perOwner {
		return nil, &warder.Error{Code: warder.CodeRateLimited, Reason: "too_many_sessions", Control: "PRT-06"}
	}
	st.byName[s.digest] = s
	st.owners[owner]++
	return s, nil
}

// adopt makes the one session of a pipe known by its public digest. It has no id, so nothing that comes
// through another door can find it, and it lives as long as its pipe.
func (st *Sessions) adopt(s *session) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if _, known := st.byName[s.digest]; !known {
		st.byName[s.digest] = s
		st.owners[s.owner]++
	}
}

// digestOf names a session without revealing its id.
func digestOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

// find returns the live session with this id on this endpoint, whoever asks.
func (st *Sessions) find(id, endpoint string) (*session, bool) {
	if id == "" || len(id) > 64 {
		return nil, false
	}
	st.mu.RLock()
	s := st.byName[digestOf(id)]
	st.mu.RUnlock()
	if s == nil || s.endpoint != endpoint || subtle.ConstantTimeCompare([]byte(s.id), []byte(id)) != 1 {
		return nil, false
	}
	s.lastUsed.Store(st.now().UnixNano())
	return s, true
}

// named returns the session with this public digest.
func (st *Sessions) named(digest string) *session {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.byName[digest]
}

// bind makes a gate the one that is told when a session ends: it closes the session's links.
func (st *Sessions) bind(g *Gate) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.onEnd = g.sessionEnded
}

// Owner returns the principal key that a session, named by its public digest, is bound to.
func (st *Sessions) Owner(digest string) (principalKey string, ok bool) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if s := st.byName[digest]; s != nil {
		return s.owner, true
	}
	return "", false
}

// Len returns the number of live sessions.
func (st *Sessions) Len() int {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return len(st.byName)
}

// close ends a session.
func (st *Sessions) close(s *session) {
	st.mu.Lock()
	_, live := st.byName[s.digest]
	if live {
		delete(st.byName, s.digest)
		if st.owners[s.owner]--; st.owners[s.owner] <= 0 {
			delete(st.owners, s.owner)
		}
	}
	onEnd := st.onEnd
	st.mu.Unlock()
	if live {
		s.shut()
		if onEnd != nil {
			onEnd(s)
		}
	}
}

// sweep ends sessions that were idle for too long and have nothing running, until ctx ends.
func (st *Sessions) sweep(ctx context.Context) {
	tick := time.NewTicker(max(st.idle/8, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limit := st.now().Add(-st.idle).UnixNano()
		var dead []*session
		st.mu.RLock()
		for _, s := range st.byName {
			if s.id != "" && s.lastUsed.Load() < limit && s.quiet() {
				dead = append(dead, s)
			}
		}
		st.mu.RUnlock()
		for _, s := range dead {
			st.close(s)
		}
	}
}

func (s *session) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.inflight) == 0
}
