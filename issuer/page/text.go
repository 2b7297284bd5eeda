package page

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Piece is a run of text that can be seen, or the name of a character that cannot.
type Piece struct {
	Text   string
	Hidden bool
}

// Pieces cuts text that others wrote to a number of characters and takes it apart, so that characters
// that cannot be seen or that reorder what is seen (Unicode UTS #39, CVE-2021-42574) stand there by name.
// Line breaks and tabs are named too.
func Pieces(s string, most int) []Piece { return pieces(s, most, false) }

// Lines is Pieces for text in lines, such as pretty JSON: it leaves line breaks and spaces.
func Lines(s string, most int) []Piece { return pieces(s, most, true) }

func pieces(s string, most int, breaks bool) []Piece {
	var out []Piece
	var run strings.Builder
	flush := func() {
		if run.Len() > 0 {
			out = append(out, Piece{Text: run.String()})
			run.Reset()
		}
	}
	n, spaces := 0, 0
	for i, r := range s {
		if n == most {
			flush()
			return append(out, Piece{Text: fmt.Sprintf("… %d more characters", utf8.RuneCountInString(s[i:])), Hidden: true})
		}
		n++
		if r == ' ' {
			spaces++
		} else {
			spaces = 0
		}
		switch {
		case r == '\n' && breaks, Plain(r) && (breaks || spaces < 4):
			run.WriteRune(r)
		default:
			flush()
			out = append(out, Piece{Text: fmt.Sprintf("U+%04X", r), Hidden: true})
		}
	}
	flush()
	return out
}

// Plain reports whether a character is seen as itself: it is printable, takes space, does not change the
// direction of others and does not join or vary them.
func Plain(r rune) bool {
	switch {
	case r == ' ':
		return true
	case r == utf8.RuneError, !unicode.IsPrint(r):
		return false
	case unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r), unicode.Is(unicode.Bidi_Control, r):
		return false
	case r == '\u2800', r == '\u3164', r == '\uffa0', r == '\u115f', r == '\u1160': // blank, but printable
		return false
	case r >= 0xE000 && r <= 0xF8FF, r >= 0xF0000: // private use
		return false
	default:
		return true
	}
}
