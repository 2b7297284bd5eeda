package schema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A pattern is a regular expression of ECMA-262, which JSON Schema means, as far as RE2 can say the
// same in linear time. Look-aheads are understood where they begin an anchored pattern, as in
//
//	^(?!\.)(?!.*\.\.)[a-z.]+@example$
//
// which is how Zod 4 writes every e-mail address: each is an expression of its own, matched at the
// start of the text.
type pattern struct {
	source string
	main   *regexp.Regexp
	ahead  []lookahead
	size   int // steps it may need for one byte of text
}

type lookahead struct {
	*regexp.Regexp
	want bool
}

var _ jsonschema.Regexp = (*pattern)(nil)

// String returns the pattern as the schema has it.
func (p *pattern) String() string { return p.source }

// MatchString reports whether the text contains a match.
func (p *pattern) MatchString(text string) bool {
	for i := range p.ahead {
		if p.ahead[i].MatchString(text) != p.ahead[i].want {
			return false
		}
	}
	return p.main.MatchString(text)
}

func compilePattern(source string, limit int) (*pattern, error) {
	if len(source) > limit {
		return nil, fmt.Errorf("pattern of %d bytes, at most %d", len(source), limit)
	}
	translated, err := translate(source)
	if err != nil {
		return nil, err
	}
	p := &pattern{source: source}
	rest := translated
	if strings.HasPrefix(translated, "^(?!") || strings.HasPrefix(translated, "^(?=") {
		if rest, err = p.lookaheads(translated[1:]); err != nil {
			return nil, err
		}
	}
	p.main, err = p.compile(rest)
	return p, err
}

// lookaheads takes the look-aheads off an anchored pattern and returns what they stand before, with
// its anchor.
func (p *pattern) lookaheads(rest string) (string, error) {
	for strings.HasPrefix(rest, "(?!") || strings.HasPrefix(rest, "(?=") {
		end, _ := scan(rest)
		if end < 0 {
			return "", errors.New("pattern: unbalanced parenthesis")
		}
		re, err := p.compile("^(?:" + rest[len("(?!"):end] + ")")
		if err != nil {
			return "", err
		}
		p.ahead = append(p.ahead, lookahead{re, rest[2] == '='})
		rest = rest[end+1:]
		if rest != "" && strings.IndexByte("*+?{", rest[0]) >= 0 {
			return "", errors.New("pattern: a repeated look-ahead")
		}
	}
	if _, alternatives := scan("(" + rest + ")"); alternatives {
		return "", errors.New("pattern: a look-ahead before alternatives")
	}
	return "^" + rest, nil
}

// scan finds the parenthesis that closes the first character of s; -1 if there is none. It reports
// whether there are alternatives directly inside.
func scan(s string) (end int, alternatives bool) {
	depth, class := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '(':
			depth++
		case c == '|' && depth == 1:
			alternatives = true
		case c == ')':
			if depth--; depth == 0 {
				return i, alternatives
			}
		}
	}
	return -1, alternatives
}

func (p *pattern) compile(expression string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	p.size += len(program.Inst)
	return re, nil
}

// translate writes the escapes that ECMA-262 has and RE2 has not (\uXXXX, \u{X…}, \cX), and refuses
// what means something else in RE2.
func translate(source string) (string, error) {
	var b strings.Builder
	class := false
	for i := 0; i < len(source); i++ {
		c := source[i]
		switch {
		case c == '\\' && i+1 < len(source):
			written, length, err := escape262(source[i+1:])
			if err != nil {
				return "", err
			}
			b.WriteString(written)
			i += length
			continue
		case class:
			if c == '[' && strings.HasPrefix(source[i+1:], ":") {
				return "", errors.New("pattern: [: in a class means something else in RE2")
			}
			class = c != ']'
		case c == '[':
			class = true
			if rest := source[i+1:]; strings.HasPrefix(rest, "]") || strings.HasPrefix(rest, "^]") {
				return "", errors.New("pattern: an empty class means something else in RE2")
			}
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// escape262 translates what follows a backslash and tells how long it is.
func escape262(s string) (written string, length int, err error) {
	switch c := s[0]; c {
	case 'u':
		digits, n, ok := codePoint(s[1:])
		if !ok {
			return "", 0, errors.New(`pattern: \u without a code point`)
		}
		return `\x{` + digits + `}`, n + 1, nil
	case 'c':
		if len(s) < 2 || !isLetter(s[1]) {
			return "", 0, errors.New(`pattern: \c without a letter`)
		}
		return fmt.Sprintf(`\x%02x`, s[1]&0x1f), 2, nil
	case 'A', 'z', 'Z', 'Q', 'E', 'a', 'C', 'G':
		return "", 0, fmt.Errorf(`pattern: \%c has no meaning in ECMA-262`, c)
	default:
		return `\` + s[:1], 1, nil
	}
}

// codePoint reads what follows \u: four hexadecimal digits, or any number of them in braces.
func codePoint(s string) (digits string, length int, ok bool) {
	if rest, braces := strings.CutPrefix(s, "{"); braces {
		digits, _, ok = strings.Cut(rest, "}")
		length = len(digits) + 2
	} else if len(s) >= 4 {
		digits, length, ok = s[:4], 4, true
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if !ok || err != nil || n > 0x10ffff || n >= 0xd800 && n < 0xe000 {
		return "", 0, false // half a surrogate pair cannot be said in RE2
	}
	return digits, length, true
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
