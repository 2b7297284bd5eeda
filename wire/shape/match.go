package shape

import (
	"bytes"
	"math/bits"
	"slices"
	"strconv"

	"github.com/warder-mcp/warder/wire/skip"
)

// none is what match returns for a value that does not fit.
const none = -1

// A cursor matches values against nodes in valid JSON.
type cursor struct {
	b      []byte
	closed bool
}

// match returns the offset after the value at i if it fits n, none if it does not.
func (c cursor) match(n *node, i int) int {
	if i >= len(c.b) {
		return none
	}
	k := kindOf(c.b[i])
	switch {
	case n.kinds&k == 0:
		return none
	case n.plain(k):
		return skip.Value(c.b, i)
	case n.cases != nil:
		return c.union(n, k, i)
	}
	switch k {
	case kindString:
		end := skip.String(c.b, i)
		if n.fitsString(c.b[i+1 : end-1]) {
			return end
		}
	case kindNumber:
		end := skip.Scalar(c.b, i)
		if n.fitsNumber(c.b[i:end]) {
			return end
		}
	case kindArray:
		return c.array(n, i)
	case kindObject:
		return c.object(n, i)
	default:
		return skip.Scalar(c.b, i)
	}
	return none
}

func (c cursor) array(n *node, i int) int {
	count := 0
	for i = skip.Space(c.b, i+1); i < len(c.b) && c.b[i] != ']'; count++ {
		if i = c.match(n.items, i); i == none {
			return none
		}
		i = next(c.b, i)
	}
	if n.most >= 0 && count > n.most {
		return none
	}
	return min(i+1, len(c.b))
}

func (c cursor) object(n *node, i int) int {
	var seen uint64
	for i = skip.Space(c.b, i+1); i < len(c.b) && c.b[i] != '}'; {
		nameEnd, value := memberAt(c.b, i)
		at, want := n.member(c.b[i+1:nameEnd-1], c.closed)
		if want == nil {
			return none
		}
		if at >= 0 {
			seen |= 1 << at
		}
		if i = c.match(want, value); i == none {
			return none
		}
		i = next(c.b, i)
	}
	if n.required&^seen != 0 {
		return none
	}
	return min(i+1, len(c.b))
}

// union tries what the value can be: the case its tag names, or every case of its type.
func (c cursor) union(n *node, k kind, i int) int {
	if k == kindObject && n.tag != "" {
		tagged := n.tagged(c.b, i)
		if tagged == nil {
			return none
		}
		return c.match(tagged, i)
	}
	for _, alternative := range n.cases {
		if alternative.kinds&k == 0 {
			continue
		}
		if end := c.match(alternative, i); end != none {
			return end
		}
	}
	return none
}

// tagged returns the case that the tag of the object at i names, nil if it names none.
func (n *node) tagged(b []byte, i int) *node {
	for i = skip.Space(b, i+1); i < len(b) && b[i] != '}'; {
		nameEnd, value := memberAt(b, i)
		end := skip.Value(b, value)
		if string(text(b[i+1:nameEnd-1])) != n.tag {
			i = next(b, end)
			continue
		}
		if b[value] != '"' {
			return nil
		}
		word := text(b[value+1 : end-1])
		for j, name := range n.tags {
			if string(word) == name {
				return n.tagCases[j]
			}
		}
		return nil
	}
	return nil
}

// member is described for a name as written, without its quotes.
func (n *node) member(inner []byte, closed bool) (int, *node) {
	if bytes.IndexByte(inner, '\\') >= 0 {
		inner = text(inner)
	}
	for i := range n.members {
		if m := &n.members[i]; string(inner) == m.name {
			return i, m.value
		}
	}
	return none, n.others(closed)
}

// described returns the place of a member in the node and what its value must be; nil if the member
// is not allowed. The place is none for a member the node does not describe.
func (n *node) described(name string, closed bool) (int, *node) {
	for i := range n.members {
		if m := &n.members[i]; name == m.name {
			return i, m.value
		}
	}
	return none, n.others(closed)
}

// others is what members must be that the node does not describe; nil if there may be none.
func (n *node) others(closed bool) *node {
	switch {
	case n.rest != nil:
		return n.rest
	case closed:
		return nil
	default:
		return n.any
	}
}

func (n *node) fitsString(inner []byte) bool {
	if n.words == nil {
		return n.format.fits(inner)
	}
	word := text(inner)
	return slices.ContainsFunc(n.words, func(w string) bool { return w == string(word) })
}

func (n *node) fitsNumber(number []byte) bool {
	if n.constant != "" {
		return string(number) == n.constant
	}
	if n.integer && !integral(number) {
		return false
	}
	if !n.hasLow && !n.hasHigh {
		return true
	}
	f, err := strconv.ParseFloat(string(number), 64)
	return err == nil && (!n.hasLow || f >= n.low) && (!n.hasHigh || f <= n.high)
}

// integral reports whether a number is written as an integer: no exponent, and no fraction but
// zeros.
func integral(number []byte) bool {
	whole, fraction, _ := bytes.Cut(number, []byte{'.'})
	for i, d := range whole {
		if (d < '0' || d > '9') && (i != 0 || d != '-') {
			return false
		}
	}
	return len(bytes.Trim(fraction, "0")) == 0
}

// missing names the first required member that was not seen.
func (n *node) missing(seen uint64) string {
	return n.members[bits.TrailingZeros64(n.required&^seen)].name
}
