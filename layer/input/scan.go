package input

import "bytes"

// A scan reads validated JSON once from left to right and tells what it meets. It keeps no path:
// places are found again by offset when there is something to refuse.
type scan struct {
	b     []byte
	stack []frame // open objects and arrays
}

// A frame is one open object or array.
type frame struct {
	start int
	n     int // members or elements begun
	array bool
}

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

// run calls yield for every token with its bounds; it stops when yield returns false. After a
// tokenClose the frame that ended is still on the stack.
func (s *scan) run(yield func(t token, start, end int) bool) {
	name := false // a member name comes next
	for i := 0; i < len(s.b); {
		start := i
		t := tokenLiteral
		switch c := s.b[i]; c {
		case ' ', '\t', '\r', '\n', ':':
			i++
			continue
		case ',':
			name = !s.stack[len(s.stack)-1].array
			i++
			continue
		case '{', '[':
			s.begin()
			s.stack = append(s.stack, frame{start: i, array: c == '['})
			name = c == '{'
			t, i = tokenOpen, i+1
		case '}', ']':
			t, i = tokenClose, i+1
			name = false
		case '"':
			i = stringEnd(s.b, i)
			if t = tokenString; name {
				t = tokenName
			}
			s.count(t)
			name = false
		case 't', 'f', 'n':
			i = scalarEnd(s.b, i)
			s.begin()
		default:
			t, i = tokenNumber, scalarEnd(s.b, i)
			s.begin()
		}
		if !yield(t, start, i) {
			return
		}
		if t == tokenClose {
			s.stack = s.stack[:len(s.stack)-1]
		}
	}
}

// begin counts an element that begins.
func (s *scan) begin() {
	if top := len(s.stack) - 1; top >= 0 && s.stack[top].array {
		s.stack[top].n++
	}
}

// count counts a string: a member by its name, an element by itself.
func (s *scan) count(t token) {
	if t == tokenName {
		s.stack[len(s.stack)-1].n++
		return
	}
	s.begin()
}

// stringEnd returns the offset after the string at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
	return len(b)
}

// scalarEnd returns the offset after the number or literal at i.
func scalarEnd(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
		i++
	}
	return i
}
