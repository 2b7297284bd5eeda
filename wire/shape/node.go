package shape

import (
	"errors"
	"fmt"
	"slices"
)

// A node says what a value must be. Nodes are immutable after parsing and shared.
type node struct {
	kinds kind

	words            []string // string constants; nil: any string
	format           format
	constant         string // number constant as written
	integer          bool
	low, high        float64
	hasLow, hasHigh  bool
	items            *node // nil unless arrays are constrained
	most             int   // elements at most; -1: any number
	members          []member
	required         uint64 // bit i: members[i] must be there
	rest             *node  // other members; nil: the schema is silent
	any              *node  // the node that admits everything
	constrainsObject bool

	cases    []*node  // any of these
	tag      string   // member that names the case of an object
	tags     []string // its values
	tagCases []*node

	alias *node // this node is only another name
	done  bool
}

// A member is one described member of an object.
type member struct {
	name  string
	value *node
}

// plain reports whether a value of type k needs no more than its type.
func (n *node) plain(k kind) bool {
	if n.cases != nil {
		return false
	}
	switch k {
	case kindObject:
		return !n.constrainsObject
	case kindArray:
		return (n.items == nil || n.items == n.any) && n.most < 0
	case kindString:
		return n.words == nil && n.format == formatNone
	case kindNumber:
		return n.constant == "" && !n.integer && !n.hasLow && !n.hasHigh
	default:
		return true
	}
}

// finish resolves names, computes the types of unions and finds their tags.
func (n *node) finish() error {
	if n.done {
		return nil
	}
	n.done = true
	for i := range n.members {
		if err := resolve(&n.members[i].value); err != nil {
			return fmt.Errorf("%s: %w", n.members[i].name, err)
		}
	}
	for _, child := range []**node{&n.items, &n.rest} {
		if err := resolve(child); err != nil {
			return err
		}
	}
	for i := range n.cases {
		if err := resolve(&n.cases[i]); err != nil {
			return err
		}
	}
	return nil
}

// resolve replaces a name by what it stands for and finishes that.
func resolve(at **node) error {
	if *at == nil {
		return nil
	}
	for hops := 0; (*at).alias != nil; hops++ {
		if hops > 16 {
			return errors.New("a name stands for itself")
		}
		*at = (*at).alias
	}
	return (*at).finish()
}

// settle computes what depends on finished children: the types and the tag of a union. Nested
// unions are flattened, so that a tag can be found among all of their cases.
func (n *node) settle() {
	if n.cases == nil {
		return
	}
	n.cases = n.flat(nil)
	n.kinds = 0
	var objects []*node
	for _, c := range n.cases {
		n.kinds |= c.kinds
		if c.kinds&kindObject != 0 {
			objects = append(objects, c)
		}
	}
	if len(objects) < 2 {
		return
	}
	for _, m := range objects[0].members {
		if tags, ok := distinct(objects, m.name); ok {
			n.tag, n.tags, n.tagCases = m.name, tags, objects
			return
		}
	}
}

func (n *node) flat(into []*node) []*node {
	for _, c := range n.cases {
		switch {
		case c.cases != nil:
			into = c.flat(into)
		case !slices.Contains(into, c):
			into = append(into, c)
		}
	}
	return into
}

// distinct returns the constant that each object demands in a member, if each demands another one.
func distinct(objects []*node, name string) ([]string, bool) {
	var tags []string
	for _, o := range objects {
		i := slices.IndexFunc(o.members, func(m member) bool { return m.name == name })
		if i < 0 || o.required&(1<<i) == 0 {
			return nil, false
		}
		words := o.members[i].value.words
		if len(words) != 1 || slices.Contains(tags, words[0]) {
			return nil, false
		}
		tags = append(tags, words[0])
	}
	return tags, true
}
