package registry

import (
	"fmt"
	"strings"
	"unicode"
)

// Visible writes every character that a reader cannot see, or cannot tell from a space, as \u{XXXX},
// so that what a person approves is what a model will read. Line breaks and tabs become \n, \r, \t.
func Visible(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case hidden(r):
			fmt.Fprintf(&b, `\u{%04X}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden reports whether a character leaves no mark of its own: controls, formatting characters with
// the tag characters among them, every space but the common one, variation selectors, fillers, and
// what is not assigned or replaces what was not text.
func hidden(r rune) bool {
	switch {
	case r == ' ':
		return false
	case r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.IsSpace(r):
		return true
	case r >= 0xFE00 && r <= 0xFE0F || r >= 0xE0100 && r <= 0xE01EF || r >= 0x180B && r <= 0x180F:
		return true // variation selectors
	case r == 0x115F || r == 0x1160 || r == 0x3164 || r == 0xFFA0 || r == 0x2800 || r == 0x034F || r == 0x17B4 || r == 0x17B5:
		return true // fillers and blanks
	default:
		return unicode.Is(unicode.Zs, r)
	}
}
