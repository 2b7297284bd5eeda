package shape

import (
	"bytes"

	"github.com/warder-mcp/warder/wire"
	"github.com/warder-mcp/warder/wire/skip"
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

// next returns the offset of the next member or element after a value that ended at i, or that of
// the closing bracket.
func next(b []byte, i int) int {
	if i = skip.Space(b, i); i < len(b) && b[i] == ',' {
		return skip.Space(b, i+1)
	}
	return i
}

// memberAt returns the offset after the name at i and that of its value.
func memberAt(b []byte, i int) (nameEnd, value int) {
	nameEnd = skip.String(b, i)
	return nameEnd, skip.Space(b, skip.Space(b, nameEnd)+1)
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
