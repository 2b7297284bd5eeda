package shape

import (
	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// HoldsDefinition reports whether the table of a revision holds a definition of that name.
func (s *Set) HoldsDefinition(rev warder.Revision, name string) bool {
	_, ok := s.tables[rev].defs[name]
	return ok
}

// CheckDefinition judges a value against one definition.
func (s *Set) CheckDefinition(rev warder.Revision, name string, v wire.Value) (Violation, bool) {
	n := s.tables[rev].defs[name]
	c := cursor{b: v.Raw()}
	if c.match(n, 0) != none {
		return Violation{}, true
	}
	return c.explain(n, 0), false
}
