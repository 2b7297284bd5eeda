package revocation

import (
	"maps"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// A snapshot is the set at one moment. It does not change.
type snapshot struct {
	generation uint64
	changed    chan struct{} // closed when there is a newer one
	size       int
	all        *Entry
	tokens     map[pair]*Entry
	sessions   map[pair]*Entry
	principals map[pair]*Entry
	clients    map[pair]*Entry // without an issuer: the client id at any
	tools      map[pair]*Entry
	agents     map[string]*Entry
	grants     map[string]*Entry
	servers    map[string]*Entry
	tenants    map[string]*Entry
	issuers    map[string]*Entry
}

// A pair is a value of two parts. It is a key that needs no allocation to look up.
type pair struct{ first, second string }

func split(value, at string) pair {
	a, b, two := strings.Cut(value, at)
	if !two {
		return pair{"", value}
	}
	return pair{a, b}
}

// build makes a snapshot of entries.
func build(docs map[string]*remembered, generation uint64) *snapshot {
	s := &snapshot{generation: generation, changed: make(chan struct{})}
	for r := range maps.Values(docs) {
		s.add(&r.entry)
	}
	return s
}

func (s *snapshot) add(e *Entry) {
	s.size++
	switch e.Kind {
	case KindAll:
		s.all = e
	case KindToken:
		put(&s.tokens, split(e.Value, "|"), e)
	case KindSession:
		put(&s.sessions, split(e.Value, "|"), e)
	case KindPrincipal:
		put(&s.principals, split(e.Value, "|"), e)
	case KindClient:
		put(&s.clients, split(e.Value, "|"), e)
	case KindTool:
		put(&s.tools, split(e.Value, "/"), e)
	case KindAgent:
		put(&s.agents, e.Value, e)
	case KindGrant:
		put(&s.grants, e.Value, e)
	case KindServer:
		put(&s.servers, e.Value, e)
	case KindTenant:
		put(&s.tenants, e.Value, e)
	case KindIssuer:
		put(&s.issuers, e.Value, e)
	default: // load refuses it
	}
}

func put[K comparable](m *map[K]*Entry, key K, e *Entry) {
	if *m == nil {
		*m = map[K]*Entry{}
	}
	(*m)[key] = e
}

// Check reports whether something about a call is revoked, and returns the entry that says so: its
// principal p, the server and the tool it is for, and the grant g that allows it. Any may be missing.
func (s *Set) Check(p *warder.Principal, server, tool string, g *warder.Grant) (Entry, bool) {
	cur := s.current.Load()
	if cur.size == 0 {
		return Entry{}, false
	}
	e := cur.find(p, server, tool, g, s.deps.Now())
	if e == nil {
		return Entry{}, false
	}
	return *e, true
}

func (s *snapshot) find(p *warder.Principal, server, tool string, g *warder.Grant, now time.Time) *Entry {
	if s.all.applies(p, now) {
		return s.all
	}
	if e := get(s.servers, server); server != "" && e.applies(p, now) {
		return e
	}
	if e := get(s.tools, pair{server, tool}); tool != "" && e.applies(p, now) {
		return e
	}
	if g != nil {
		if e := get(s.grants, g.ID); e.applies(p, now) {
			return e
		}
	}
	if p == nil {
		return nil
	}
	return s.findPrincipal(p, now)
}

// findPrincipal looks for what is revoked about the caller itself.
func (s *snapshot) findPrincipal(p *warder.Principal, now time.Time) *Entry {
	if e := get(s.tokens, pair{p.Issuer, p.TokenID}); e.applies(p, now) {
		return e
	}
	if e := get(s.sessions, pair{p.Issuer, p.Session}); e.applies(p, now) {
		return e
	}
	if e := get(s.principals, pair{p.Issuer, p.Subject}); e.applies(p, now) {
		return e
	}
	if e := get(s.clients, pair{p.Issuer, p.Client}); e.applies(p, now) {
		return e
	}
	if e := get(s.clients, pair{"", p.Client}); e.applies(p, now) {
		return e
	}
	if e := get(s.tenants, p.Tenant); e.applies(p, now) {
		return e
	}
	if e := get(s.issuers, p.Issuer); e.applies(p, now) {
		return e
	}
	if len(s.agents) == 0 {
		return nil
	}
	if p.Registered != nil {
		if e := s.agents[p.Registered.Name]; e.applies(p, now) {
			return e
		}
	}
	if e := s.agents[p.Agent]; e.applies(p, now) {
		return e
	}
	for _, actor := range p.Actors {
		if e := s.agents[actor]; e.applies(p, now) {
			return e
		}
	}
	return nil
}

func get[K comparable](m map[K]*Entry, key K) *Entry {
	if len(m) == 0 {
		return nil
	}
	return m[key]
}

// applies reports whether the entry, which may be nil, has not ended and covers the credential. The
// times in credentials are whole seconds.
func (e *Entry) applies(p *warder.Principal, now time.Time) bool {
	if e == nil || e.ended(now) {
		return false
	}
	if e.Before.IsZero() || p == nil {
		return true
	}
	begun := p.AuthTime
	if begun.IsZero() || e.Renewed {
		begun = p.IssuedAt
	}
	return begun.IsZero() || !begun.After(e.Before)
}

func (e *Entry) ended(now time.Time) bool { return !e.NotAfter.IsZero() && !now.Before(e.NotAfter) }
