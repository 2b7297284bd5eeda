package broker

import (
	"log/slog"
	"maps"
	"slices"

	"github.com/warder-mcp/warder/internal/state"
)

// read decodes one grant; false if it cannot be read.
func (g *Grants) read(d *state.Doc) (*grantState, holder, bool) {
	r, err := decodeGrant(d)
	h, exact, herr := holderOf(r.Principal)
	if err != nil || herr != nil { // written by a newer version: it allows nothing here
		g.b.deps.Log.Error("a grant cannot be read", slog.String("grant", d.ID))
		return nil, h, false
	}
	s := &grantState{rec: r, exact: exact, seq: d.Seq}
	if exact {
		s.parts, _ = keyParts(r.Principal)
	}
	return s, h, true
}

// replace makes the snapshot anew of all grants there are; the index is built once.
func (g *Grants) replace(docs []state.Doc) {
	byID := make(map[string]*grantEntry, len(docs))
	ix := &grantIndex{entries: make(map[grantKey][]*grantEntry, len(docs)), groups: map[string]int{}}
	for i := range docs {
		s, h, ok := g.read(&docs[i])
		if !ok {
			continue
		}
		e := &grantEntry{}
		e.now.Store(s)
		byID[docs[i].ID] = e
		if s.rec.Status == GrantActive {
			for _, k := range s.keys(h) {
				ix.entries[k] = append(ix.entries[k], e)
			}
			ix.count(h)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byID = byID
	g.index.Store(ix)
}

// apply puts one grant into the snapshot.
func (g *Grants) apply(d *state.Doc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.byID[d.ID]
	if e != nil && e.now.Load().seq >= d.Seq {
		return
	}
	if d.Deleted {
		if e != nil {
			g.unlist(e)
			delete(g.byID, d.ID)
		}
		return
	}
	s, h, ok := g.read(d)
	if !ok {
		return
	}
	if e == nil {
		e = &grantEntry{}
		g.byID[d.ID] = e
	}
	was := e.now.Swap(s)
	listed := was != nil && was.rec.Status == GrantActive
	switch active := s.rec.Status == GrantActive; {
	case active && !listed:
		g.list(e, h)
	case !active && listed:
		g.unlist(e)
	}
}

// list adds an active grant to a new index.
func (g *Grants) list(e *grantEntry, h holder) {
	ix := g.index.Load().clone()
	for _, k := range e.now.Load().keys(h) {
		ix.entries[k] = append(slices.Clip(ix.entries[k]), e)
	}
	ix.count(h)
	g.index.Store(ix)
}

func (ix *grantIndex) count(h holder) {
	if h.group != "" {
		ix.groups[h.group]++
	}
}

// unlist removes a grant from the index.
func (g *Grants) unlist(e *grantEntry) {
	s := e.now.Load()
	h, _, err := holderOf(s.rec.Principal)
	if err != nil {
		return
	}
	ix := g.index.Load().clone()
	found := false
	for _, k := range s.keys(h) {
		rest := slices.DeleteFunc(slices.Clone(ix.entries[k]), func(o *grantEntry) bool { return o == e })
		found = found || len(rest) < len(ix.entries[k])
		if ix.entries[k] = rest; len(rest) == 0 {
			delete(ix.entries, k)
		}
	}
	if !found {
		return
	}
	if h.group != "" {
		if ix.groups[h.group]--; ix.groups[h.group] <= 0 {
			delete(ix.groups, h.group)
		}
	}
	g.index.Store(ix)
}

func (s *grantState) keys(h holder) []grantKey {
	if len(s.rec.Tools) == 0 {
		return []grantKey{{h, s.rec.Server, ""}}
	}
	tools := slices.Compact(slices.Sorted(slices.Values(s.rec.Tools)))
	out := make([]grantKey, len(tools))
	for i, t := range tools {
		out[i] = grantKey{h, s.rec.Server, t}
	}
	return out
}

func (ix *grantIndex) clone() *grantIndex {
	return &grantIndex{entries: maps.Clone(ix.entries), groups: maps.Clone(ix.groups)}
}

// sweep forgets what ended long ago.
func (g *Grants) sweep() {
	now := g.b.deps.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, e := range g.byID {
		if s := e.now.Load(); !now.Before(s.rec.NotAfter) {
			g.unlist(e)
			if !now.Before(s.rec.NotAfter.Add(keepEnded)) {
				delete(g.byID, id)
			}
		}
	}
}
