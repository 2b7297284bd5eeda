package wire

import (
	"slices"

	"github.com/warder-mcp/warder"
)

// An Edit replaces a range of bytes of a message. An edit whose At.Start equals At.End inserts.
type Edit struct {
	At  warder.Span
	New []byte

	// member says that New is a member to be added before the closing brace at At, and that a comma
	// belongs before it unless the object is empty by then.
	member bool
}

// Splice returns a new message with the edits applied, decoded again as strictly as any other. The
// edits must not overlap; those that insert at one place keep their order. The message m stays as it
// is. Errors are those of Decode, and CodeInternal with ReasonBadEdit.
func Splice(m *warder.Message, lim Limits, edits ...Edit) (*warder.Message, error) {
	out, err := splice(m.Raw, edits)
	if err != nil {
		return nil, err
	}
	return Decode(out, lim)
}

func splice(raw []byte, edits []Edit) ([]byte, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b Edit) int {
		if a.At.Start != b.At.Start {
			return a.At.Start - b.At.Start
		}
		return a.At.End - b.At.End
	})
	size := len(raw)
	for _, e := range edits {
		size += len(e.New) + 1
	}
	out, pos := make([]byte, 0, size), 0
	for _, e := range edits {
		if e.At.Start < pos || e.At.End < e.At.Start || e.At.End > len(raw) {
			return nil, warder.Fail(warder.CodeInternal, ReasonBadEdit, nil)
		}
		out = append(out, raw[pos:e.At.Start]...)
		if e.member && !endsInBrace(out) {
			out = append(out, ',')
		}
		out = append(out, e.New...)
		pos = e.At.End
	}
	return append(out, raw[pos:]...), nil
}

// endsInBrace reports whether the last byte that is not white space opens an object.
func endsInBrace(b []byte) bool {
	for _, c := range slices.Backward(b) {
		if !isSpace(c) {
			return c == '{'
		}
	}
	return false
}

// SetMember returns the edit that gives the member key of an object a new value, or adds it. Parent
// is the span of the object and obj its members; value is JSON. Several members of one object may be
// set and removed in one Splice.
func SetMember(_ *warder.Message, parent warder.Span, obj warder.Object, key string, value []byte) Edit {
	if at := obj.Get(key); at.Present() {
		return Edit{At: at, New: value}
	}
	add := append(append(AppendQuote(nil, key), ':'), value...)
	return Edit{At: warder.Span{Start: parent.End - 1, End: parent.End - 1}, New: add, member: true}
}

// RemoveMembers returns the edits that drop members of an object; absent keys are ignored. What one
// Splice drops from one object must come from one call, for each call minds the commas around it.
func RemoveMembers(_ *warder.Message, obj warder.Object, _ warder.Span, keys ...string) []Edit {
	var edits []Edit
	for i := 0; i < len(obj); i++ {
		if !slices.Contains(keys, obj[i].Key) {
			continue
		}
		first := i
		for i+1 < len(obj) && slices.Contains(keys, obj[i+1].Key) {
			i++
		}
		cut := warder.Span{Start: obj[first].Name.Start, End: obj[i].Value.End}
		switch {
		case first > 0:
			cut.Start = obj[first-1].Value.End // with the comma before
		case i+1 < len(obj):
			cut.End = obj[i+1].Name.Start // with the comma behind
		}
		edits = append(edits, Edit{At: cut})
	}
	return edits
}

// WithID returns the message with another id.
func WithID(m *warder.Message, id []byte, lim Limits) (*warder.Message, error) {
	return Splice(m, lim, SetMember(m, Whole(m), m.Envelope, "id", id))
}

// WithTarget returns the message with another target: its tool, prompt, resource or task name. A
// message without target is an error.
func WithTarget(m *warder.Message, target string, lim Limits) (*warder.Message, error) {
	at := TargetSpan(m)
	if !at.Present() {
		return nil, warder.Fail(warder.CodeInternal, ReasonBadEdit, nil)
	}
	return Splice(m, lim, Edit{At: at, New: Quote(target)})
}

// IDKey returns a map key for an id as written: ids that mean the same have the same key, however
// they are escaped, and the string "1" differs from the number 1.
func IDKey(id []byte) string {
	if text, ok := Parse(id).Text(); ok {
		return `"` + text
	}
	return string(id)
}
