package shape

import (
	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A Part is the part of a message that is judged.
type Part uint8

// The parts.
const (
	Params Part = iota // of a request or notification
	Result             // of the answer to a request
)

// A Query names the rules to apply.
type Query struct {
	Revision warder.Revision
	From     warder.Direction // who sends the request or notification; its result comes from the other
	Method   string
	Part     Part
	Closed   bool // refuse members that the schema does not describe, unless it says others are welcome
}

// A Violation says where a value breaks its rules and what was expected. It never repeats the value.
type Violation struct {
	Pointer string // RFC 6901 pointer from the value that was checked
	Keyword string // JSON Schema keyword: type, required, enum, const, format, minimum, maximum, maxItems, anyOf, additionalProperties
	Want    string // what was expected, in words
}

// String returns the violation as one phrase.
func (v Violation) String() string {
	pointer := v.Pointer
	if pointer == "" {
		pointer = "/"
	}
	return pointer + ": " + v.Keyword + ": " + v.Want
}

// A Form is how a method is sent.
type Form uint8

// The forms. The zero Form means that the method does not exist there.
const (
	Unknown Form = iota
	Request
	Notification
)

// Lookup tells how a method is sent in a revision by a side.
func (s *Set) Lookup(rev warder.Revision, from warder.Direction, method string) Form {
	t, ok := s.tables[rev]
	if !ok {
		return Unknown
	}
	m, ok := t.side(from)[method]
	switch {
	case !ok:
		return Unknown
	case m.request:
		return Request
	default:
		return Notification
	}
}

func (t *table) side(from warder.Direction) map[string]*message {
	if from == warder.FromServer {
		return t.server
	}
	return t.client
}

// rules returns the node for a query, and whether the part must be there; nil if there is none.
func (s *Set) rules(q Query) (n *node, demands bool) {
	t, ok := s.tables[q.Revision]
	if !ok {
		return nil, false
	}
	m, ok := t.side(q.From)[q.Method]
	if !ok && q.From == warder.FromServer {
		m, ok = t.input[q.Method]
	}
	if !ok {
		return nil, false
	}
	if q.Part == Result {
		return m.result, true
	}
	return m.params, m.paramsDemands
}

// Check judges a value that wire.Decode accepted. ok is false if it breaks the rules; a method that
// does not exist has no rules and breaks them all.
func (s *Set) Check(q Query, v wire.Value) (violation Violation, ok bool) {
	n, demands := s.rules(q)
	if n == nil {
		return Violation{Keyword: "const", Want: "a method of this revision and direction"}, false
	}
	if !v.Exists() {
		if demands {
			return Violation{Keyword: "required", Want: "an object"}, false
		}
		return Violation{}, true
	}
	c := cursor{v.Raw(), q.Closed}
	if c.match(n, 0) != none {
		return Violation{}, true
	}
	return c.explain(n, 0), false
}

// CheckError judges the error member of a message.
func (s *Set) CheckError(rev warder.Revision, v wire.Value) (violation Violation, ok bool) {
	t, known := s.tables[rev]
	if !known || !v.Exists() {
		return Violation{Keyword: "required", Want: "an error object"}, false
	}
	c := cursor{b: v.Raw()}
	if c.match(t.failure, 0) != none {
		return Violation{}, true
	}
	return c.explain(t.failure, 0), false
}

// CheckMessage judges params of a request or notification, or the result or error of an answer. It
// is Check, and faster where Decode has found the members already: values that need no more than
// their type, such as the arguments of tools/call, are not read.
func (s *Set) CheckMessage(q Query, m *warder.Message) (violation Violation, ok bool) {
	switch m.Kind {
	case warder.KindError:
		if violation := errorID(q.Revision, m); violation.Keyword != "" {
			return violation, false
		}
		violation, ok = s.CheckError(q.Revision, wire.At(m, m.ErrorSpan))
		return violation.under("/error"), ok
	case warder.KindResult:
		q.Part = Result
		if n, _ := s.rules(q); n != nil && fast(m, n, m.Result, q.Closed) {
			return Violation{}, true
		}
		violation, ok = s.Check(q, wire.At(m, m.ResultSpan))
		return violation.under("/result"), ok
	default:
		q.Part = Params
		if n, _ := s.rules(q); n != nil && fast(m, n, m.Params, q.Closed) {
			return Violation{}, true
		}
		violation, ok = s.Check(q, wire.At(m, m.ParamsSpan))
		return violation.under("/params"), ok
	}
}

// errorID demands the id of an error: never null, and optional only since 2025-11-25. JSON-RPC 2.0
// section 5 has null for requests whose id could not be read; MCP does not.
func errorID(rev warder.Revision, m *warder.Message) Violation {
	id := m.At(m.Envelope.Get("id"))
	if string(id) == "null" {
		return Violation{Pointer: "/id", Keyword: "type", Want: "string or integer"}
	}
	if id == nil && rev < warder.Revision20251125 {
		return Violation{Pointer: "/id", Keyword: "required", Want: "this member"}
	}
	return Violation{}
}

func (v Violation) under(prefix string) Violation {
	if v.Keyword != "" {
		v.Pointer = prefix + v.Pointer
	}
	return v
}

// fast judges an object by the members that Decode found. False means that the slow way decides.
func fast(m *warder.Message, n *node, members warder.Object, closed bool) bool {
	if members == nil || n.cases != nil || n.kinds != kindObject {
		return false
	}
	var seen uint64
	for i := range members {
		at, want := n.described(members[i].Key, closed)
		if want == nil {
			return false
		}
		if at >= 0 {
			seen |= 1 << at
		}
		c := cursor{m.At(members[i].Value), closed}
		k := kindOf(c.b[0])
		if want.kinds&k == 0 || !want.plain(k) && c.match(want, 0) == none {
			return false
		}
	}
	return n.required&^seen == 0
}

// BadElements returns the positions of the elements of a list in a result that break their rules,
// so that one bad definition costs one definition. ok is false if the result has no such list.
func (s *Set) BadElements(q Query, m *warder.Message, list string) (bad []int, ok bool) {
	q.Part = Result
	n, _ := s.rules(q)
	if n == nil {
		return nil, false
	}
	_, want := n.described(list, true)
	if want == nil || want.items == nil {
		return nil, false
	}
	elements := wire.At(m, m.Result.Get(list))
	if elements.Kind() != '[' {
		return nil, false
	}
	for i, element := range elements.Elements() {
		c := cursor{element.Raw(), q.Closed}
		if c.match(want.items, 0) == none {
			bad = append(bad, i)
		}
	}
	return bad, true
}
