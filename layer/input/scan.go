package input

import "github.com/warder-mcp/warder/wire/skip"

// A scan reads validated JSON once from left to right and tells what it meets. It keeps no path:
// places are found again by offset when there is something to refuse.
type scan struct {
	b     []byte
	depth int // open objects and arrays
	stack [maxFrames]frame
}

// maxFrames is how deep a scan can follow; what package wire accepts by default is not deeper.
const maxFrames = 64

// A frame is one open object or array.
type frame struct {
	start int
	n     int32 // members or elements begun
	array bool
}

// top returns the innermost open object or array.
func (s *scan) top() *frame { return &s.stack[(s.depth-1)%maxFrames] }

// A token is what begins at an offset.
type token uint8

const (
	tokenName token = iota
	tokenString
	tokenNumber
	tokenLiteral
	tokenOpen
	tokenClose
)

// run calls yield for every token with its bounds; it stops when yield returns false. At a
// tokenClose the frame that ends is still on the stack. It returns false if the value nests deeper
// than it can follow.
func (s *scan) run(yield func(t token, start, end int) bool) bool {
	name := false // a member name comes next
	for i := 0; i < len(s.b); {
		start := i
		t := tokenLiteral
		switch c := s.b[i]; c {
		case ' ', '\t', '\r', '\n', ':':
			i++
			continue
		case ',':
			name = !s.top().array
			i++
			continue
		case '{', '[':
			s.begin()
			if s.depth == maxFrames {
				return false
			}
			s.depth++
			*s.top() = frame{start: i, array: c == '['}
			name = c == '{'
			t, i = tokenOpen, i+1
		case '}', ']':
			t, i = tokenClose, i+1
			name = false
		case '"':
			i = skip.String(s.b, i)
			if t = tokenString; name {
				t = tokenName
			}
			s.count(t)
			name = false
		case 't', 'f', 'n':
			i = skip.Scalar(s.b, i)
			s.begin()
		default:
			t, i = tokenNumber, skip.Scalar(s.b, i)
			s.begin()
		}
		if !yield(t, start, i) {
			return true
		}
		if t == tokenClose {
			s.depth--
		}
	}
	return true
}

// begin counts an element that begins.
func (s *scan) begin() {
	if s.depth > 0 && s.top().array {
		s.top().n++
	}
}

// count counts a string: a member by its name, an element by itself.
func (s *scan) count(t token) {
	if t == tokenName {
		s.top().n++
		return
	}
	s.begin()
}
