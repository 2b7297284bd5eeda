package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// A census counts the parts of a JSON value and refuses the one that exceeds a bound.
type census struct {
	values  int // of any kind
	objects int
	text    int // bytes of strings and of member names
	height  int // 0 for a scalar, 1 + that of the highest part otherwise
}

// count visits value. The limits are upper bounds of the counts; depth is how deep value lies.
func (c *census) count(value any, depth int, limits Limits) error {
	c.values++
	c.height = max(c.height, depth)
	if c.values > limits.Values {
		return fmt.Errorf("more than %d values", limits.Values)
	}
	switch v := value.(type) {
	case map[string]any:
		c.objects++
		if depth+1 > limits.Depth {
			return fmt.Errorf("deeper than %d", limits.Depth)
		}
		for name, part := range v {
			c.text += len(name)
			if err := c.count(part, depth+1, limits); err != nil {
				return err
			}
		}
	case string:
		c.text += len(v)
	case []any:
		if depth+1 > limits.Depth {
			return fmt.Errorf("deeper than %d", limits.Depth)
		}
		for _, part := range v {
			if err := c.count(part, depth+1, limits); err != nil {
				return err
			}
		}
	case json.Number:
		return checkNumber(v)
	}
	return nil
}

const (
	maxDigits   = 400 // characters of one number
	maxExponent = 400 // more than a float64 has
)

// checkNumber refuses numbers that cost much to expand exactly, such as 1e999999, which the
// validator does for every comparison.
func checkNumber(n json.Number) error {
	if len(n) > maxDigits {
		return errors.New("number too long")
	}
	i := strings.IndexAny(string(n), "eE")
	if i < 0 {
		return nil
	}
	exponent, err := strconv.Atoi(string(n[i+1:]))
	if err != nil || exponent > maxExponent || exponent < -maxExponent {
		return errors.New("number out of range")
	}
	return nil
}

// check judges the schema as a JSON value, before anything interprets it.
func check(tree any, limits Limits) error {
	var c census
	bounds := limits
	bounds.Values = limits.Bytes // a value takes a byte at least
	if err := c.count(tree, 0, bounds); err != nil {
		return err
	}
	if c.objects > limits.Subschemas {
		return fmt.Errorf("%d objects, at most %d", c.objects, limits.Subschemas)
	}
	return checkDialect(tree)
}

// checkDialect refuses any "$schema" but those of the published drafts. A vocabulary such as
// ".../meta/core" would be accepted by the library and would switch validation keywords off.
func checkDialect(tree any) error {
	switch v := tree.(type) {
	case map[string]any:
		if dialect, ok := v["$schema"].(string); ok && !slices.Contains(dialects(), strings.TrimSuffix(dialect, "#")) {
			return fmt.Errorf("unknown $schema %s", cut(dialect))
		}
		for _, part := range v {
			if err := checkDialect(part); err != nil {
				return err
			}
		}
	case []any:
		for _, part := range v {
			if err := checkDialect(part); err != nil {
				return err
			}
		}
	}
	return nil
}

func dialects() []string {
	return []string{
		"https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema",
		"http://json-schema.org/draft-07/schema", "http://json-schema.org/draft-06/schema", "http://json-schema.org/draft-04/schema",
		"https://json-schema.org/draft-07/schema", "http://json-schema.org/draft/2020-12/schema",
	}
}

// compilePattern compiles a regular expression of ECMA-262, which JSON Schema means, as far as RE2
// can say the same. The size is how many steps it may need for one byte.
func compilePattern(pattern string, limit int) (re *regexp.Regexp, size int, err error) {
	if len(pattern) > limit {
		return nil, 0, fmt.Errorf("pattern of %d bytes, at most %d", len(pattern), limit)
	}
	translated, err := translate(pattern)
	if err != nil {
		return nil, 0, err
	}
	if re, err = regexp.Compile(translated); err != nil {
		return nil, 0, err
	}
	parsed, err := syntax.Parse(translated, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, err
	}
	return re, len(program.Inst), nil
}

// translate writes the escapes that ECMA-262 has and RE2 has not (\uXXXX, \u{X…}, \cX), and refuses those that mean something else in RE2.
func translate(pattern string) (string, error) {
	if !strings.Contains(pattern, `\`) {
		return pattern, nil
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '\\' || i+1 == len(pattern) {
			b.WriteByte(pattern[i])
			continue
		}
		i++
		switch c := pattern[i]; c {
		case 'u':
			digits, length, ok := codePoint(pattern[i+1:])
			if !ok {
				return "", errors.New(`pattern: \u without a code point`)
			}
			b.WriteString(`\x{` + digits + `}`)
			i += length
		case 'c':
			if i+1 == len(pattern) || !isLetter(pattern[i+1]) {
				return "", errors.New(`pattern: \c without a letter`)
			}
			i++
			fmt.Fprintf(&b, `\x%02x`, pattern[i]&0x1f)
		case 'A', 'z', 'Z', 'Q', 'E', 'a', 'C', 'G':
			return "", fmt.Errorf(`pattern: \%c has no meaning in ECMA-262`, c)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), nil
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
