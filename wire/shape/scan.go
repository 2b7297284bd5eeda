package shape

import (
	"bytes"

	"github.com/warder-mcp/warder/wire"
)

// A kind is a set of JSON types.
type kind uint8

const (
	kindObject kind = 1 << iota
	kindArray
	kindString
	kindNumber
	kindBoolean
	kindNull

	kindAny = kindObject | kindArray | kindString | kindNumber | kindBoolean | kindNull
)

// kindOf tells the type of a value by its first byte.
func kindOf(c byte) kind {
	switch c {
	case '{':
		return kindObject
	case '[':
		return kindArray
	case '"':
		return kindString
	case 't', 'f':
		return kindBoolean
	case 'n':
		return kindNull
	default:
		return kindNumber
	}
}

func (k kind) String() string {
	names := [...]string{"object", "array", "string", "number", "boolean", "null"}
	text := ""
	for i, name := range names {
		if k&(1<<i) != 0 {
			if text != "" {
				text += " or "
			}
			text += name
		}
	}
	return text
}

// skipSpace returns the offset of the first byte at or after i that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

// skipString returns the offset after the string at i. It reads every byte at most twice: once to
// find a quote, and backwards over the escapes in front of it.
func skipString(b []byte, i int) int {
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

// skipValue returns the offset after the value at i.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return len(b)
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i)
	default:
		return skipScalar(b, i)
	}
}

// skipScalar returns the offset after the number or literal at i.
func skipScalar(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
		i++
	}
	return i
}

// skipNested returns the offset after the object or array at i.
func skipNested(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return len(b)
}

// next returns the offset of the next member or element after a value that ended at i, or that of
// the closing bracket.
func next(b []byte, i int) int {
	if i = skipSpace(b, i); i < len(b) && b[i] == ',' {
		return skipSpace(b, i+1)
	}
	return i
}

// memberAt returns the offset after the name at i and that of its value.
func memberAt(b []byte, i int) (nameEnd, value int) {
	nameEnd = skipString(b, i)
	return nameEnd, skipSpace(b, skipSpace(b, nameEnd)+1)
}

// text returns what the string between its quotes means. It allocates only if there are escapes.
func text(inner []byte) []byte {
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	quoted := make([]byte, 0, len(inner)+2)
	quoted = append(append(append(quoted, '"'), inner...), '"')
	s, ok := wire.Parse(quoted).Text()
	if !ok {
		return nil
	}
	return []byte(s)
}
