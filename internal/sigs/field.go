package sigs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of structured fields.
const (
	maxField   = 16 << 10 // bytes of one field
	maxMembers = 64       // of a dictionary, list or inner list
	maxParams  = 32       // of one item
)

// ErrField says that a structured field is malformed or over a bound.
var ErrField = errors.New("malformed structured field")

// The bare types of RFC 9651 that are neither string, []byte, bool nor int64.
type (
	token   string
	decimal int64 // thousandths
	date    int64 // seconds
	display string
)

// A param is one parameter of an item, in order.
type param struct {
	key   string
	value any
}

// An item is a bare item, or an inner list, with parameters (RFC 9651 sections 3.1.1 and 3.3).
type item struct {
	value  any    // nil for an inner list
	inner  []item // of an inner list
	params []param
}

func (it *item) param(key string) (any, bool) {
	for _, p := range it.params {
		if p.key == key {
			return p.value, true
		}
	}
	return nil, false
}

// A member is one member of a dictionary, in order.
type member struct {
	key  string
	item item
}

type fieldParser struct {
	s string
	i int
}

func (p *fieldParser) fault(what string) error {
	return fmt.Errorf("%w: byte %d: %s", ErrField, p.i, what)
}

func (p *fieldParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *fieldParser) skip(set string) {
	for p.i < len(p.s) && strings.IndexByte(set, p.s[p.i]) >= 0 {
		p.i++
	}
}

// parseDictionary reads a dictionary (RFC 9651 section 4.2.2). Stricter than the standard it refuses
// keys that repeat: there the last one would win, and two readers could disagree.
func parseDictionary(s string) ([]member, error) {
	p := &fieldParser{s: s}
	if len(s) > maxField {
		return nil, p.fault("too long")
	}
	var out []member
	for p.skip(" "); p.i < len(s); {
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		m := member{key: key, item: item{value: true}}
		if p.peek() == '=' {
			p.i++
			m.item, err = p.itemOrInner()
		} else {
			m.item.params, err = p.params()
		}
		if err != nil {
			return nil, err
		}
		for _, o := range out {
			if o.key == key {
				return nil, p.fault("key stands twice")
			}
		}
		if out = append(out, m); len(out) > maxMembers {
			return nil, p.fault("too many members")
		}
		if done, err := p.comma(); done || err != nil {
			return out, err
		}
	}
	return out, nil
}

// comma steps over the comma between members; done at the end of the field.
func (p *fieldParser) comma() (done bool, err error) {
	p.skip(" \t")
	if p.i == len(p.s) {
		return true, nil
	}
	if p.s[p.i] != ',' {
		return false, p.fault("want a comma")
	}
	p.i++
	p.skip(" \t")
	if p.i == len(p.s) {
		return false, p.fault("ends in a comma")
	}
	return false, nil
}

func (p *fieldParser) key() (string, error) {
	start := p.i
	if c := p.peek(); !lower(c) && c != '*' {
		return "", p.fault("want a key")
	}
	for p.i < len(p.s) {
		c := p.s[p.i]
		if !lower(c) && !digit(c) && c != '_' && c != '-' && c != '.' && c != '*' {
			break
		}
		p.i++
	}
	return p.s[start:p.i], nil
}

func (p *fieldParser) itemOrInner() (item, error) {
	if p.peek() != '(' {
		return p.item()
	}
	p.i++
	it := item{inner: []item{}}
	for {
		p.skip(" ")
		if p.peek() == ')' {
			p.i++
			var err error
			it.params, err = p.params()
			return it, err
		}
		inner, err := p.item()
		if err != nil {
			return it, err
		}
		if it.inner = append(it.inner, inner); len(it.inner) > maxMembers {
			return it, p.fault("too many members")
		}
		if c := p.peek(); c != ' ' && c != ')' {
			return it, p.fault("want a space or the end of the list")
		}
	}
}

func (p *fieldParser) item() (it item, err error) {
	if it.value, err = p.bare(); err != nil {
		return it, err
	}
	it.params, err = p.params()
	return it, err
}

func (p *fieldParser) params() ([]param, error) {
	var out []param
	for p.peek() == ';' {
		p.i++
		p.skip(" ")
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		v := param{key: key, value: true}
		if p.peek() == '=' {
			p.i++
			if v.value, err = p.bare(); err != nil {
				return nil, err
			}
		}
		for _, o := range out {
			if o.key == key {
				return nil, p.fault("parameter stands twice")
			}
		}
		if out = append(out, v); len(out) > maxParams {
			return nil, p.fault("too many parameters")
		}
	}
	return out, nil
}

// bare reads a bare item (RFC 9651 section 4.2.3.1).
func (p *fieldParser) bare() (any, error) {
	switch c := p.peek(); {
	case c == '-' || digit(c):
		return p.number()
	case c == '"':
		return p.text()
	case c == ':':
		return p.bytes()
	case c == '?':
		return p.boolean()
	case c == '@':
		p.i++
		n, err := p.number()
		if v, ok := n.(int64); ok && err == nil {
			return date(v), nil
		}
		return nil, p.fault("want a date")
	case c == '%':
		return p.display()
	case c == '*' || lower(c) || upper(c):
		start := p.i
		for p.i < len(p.s) && tokenChar(p.s[p.i]) {
			p.i++
		}
		return token(p.s[start:p.i]), nil
	default:
		return nil, p.fault("want a value")
	}
}

func (p *fieldParser) number() (any, error) {
	start := p.i
	if p.peek() == '-' {
		p.i++
	}
	whole := p.i
	for digit(p.peek()) {
		p.i++
	}
	n := p.i - whole
	if p.peek() != '.' {
		if n == 0 || n > 15 {
			return nil, p.fault("integer of 1 to 15 digits")
		}
		v, err := strconv.ParseInt(p.s[start:p.i], 10, 64)
		if err != nil {
			return nil, p.fault("integer")
		}
		return v, nil
	}
	p.i++
	fraction := p.i
	for digit(p.peek()) {
		p.i++
	}
	f := p.i - fraction
	if n == 0 || n > 12 || f == 0 || f > 3 {
		return nil, p.fault("decimal of 1 to 12 and 1 to 3 digits")
	}
	v, err := strconv.ParseInt(p.s[start:fraction-1]+p.s[fraction:p.i]+"000"[f:], 10, 64)
	if err != nil {
		return nil, p.fault("decimal")
	}
	return decimal(v), nil
}

func (p *fieldParser) text() (any, error) {
	p.i++
	var b strings.Builder
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == '"':
			return b.String(), nil
		case c == '\\':
			if e := p.peek(); e != '"' && e != '\\' {
				return nil, p.fault("escape")
			}
			b.WriteByte(p.peek())
			p.i++
		case c < ' ' || c > '~':
			return nil, p.fault("character in a string")
		default:
			b.WriteByte(c)
		}
	}
	return nil, p.fault("string does not end")
}

func (p *fieldParser) bytes() (any, error) {
	p.i++
	end := strings.IndexByte(p.s[p.i:], ':')
	if end < 0 {
		return nil, p.fault("byte sequence does not end")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(p.s[p.i : p.i+end])
	if err != nil || strings.ContainsAny(p.s[p.i:p.i+end], "\r\n") {
		return nil, p.fault("base64")
	}
	p.i += end + 1
	return b, nil
}

func (p *fieldParser) boolean() (any, error) {
	p.i++
	c := p.peek()
	if c != '0' && c != '1' {
		return nil, p.fault("boolean")
	}
	p.i++
	return c == '1', nil
}

// display reads a display string (RFC 9651 section 4.2.10).
func (p *fieldParser) display() (any, error) {
	if !strings.HasPrefix(p.s[p.i:], `%"`) {
		return nil, p.fault("display string")
	}
	p.i += 2
	var b []byte
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == '"':
			if !utf8.Valid(b) {
				return nil, p.fault("display string is not UTF-8")
			}
			return display(b), nil
		case c == '%':
			if p.i+2 > len(p.s) || strings.ToLower(p.s[p.i:p.i+2]) != p.s[p.i:p.i+2] {
				return nil, p.fault("percent escape")
			}
			v, err := strconv.ParseUint(p.s[p.i:p.i+2], 16, 8)
			if err != nil {
				return nil, p.fault("percent escape")
			}
			b = append(b, byte(v))
			p.i += 2
		case c < ' ' || c > '~':
			return nil, p.fault("character in a display string")
		default:
			b = append(b, c)
		}
	}
	return nil, p.fault("display string does not end")
}

func lower(c byte) bool { return 'a' <= c && c <= 'z' }
func upper(c byte) bool { return 'A' <= c && c <= 'Z' }
func digit(c byte) bool { return '0' <= c && c <= '9' }

func tokenChar(c byte) bool {
	return lower(c) || upper(c) || digit(c) || strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0
}

// appendItem writes an item as RFC 9651 section 4.1 does.
func appendItem(b []byte, it *item) []byte {
	if it.inner == nil {
		b = appendBare(b, it.value)
		return appendParams(b, it.params)
	}
	b = append(b, '(')
	for i := range it.inner {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendItem(b, &it.inner[i])
	}
	return appendParams(append(b, ')'), it.params)
}

func appendParams(b []byte, params []param) []byte {
	for _, p := range params {
		b = append(append(b, ';'), p.key...)
		if p.value != true {
			b = appendBare(append(b, '='), p.value)
		}
	}
	return b
}

func appendBare(b []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(b, v, 10)
	case decimal:
		return appendDecimal(b, v)
	case date:
		return strconv.AppendInt(append(b, '@'), int64(v), 10)
	case string:
		b = append(b, '"')
		for i := range len(v) {
			if v[i] == '"' || v[i] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, v[i])
		}
		return append(b, '"')
	case token:
		return append(b, v...)
	case []byte:
		return append(base64.StdEncoding.AppendEncode(append(b, ':'), v), ':')
	case bool:
		if v {
			return append(b, "?1"...)
		}
		return append(b, "?0"...)
	case display:
		return appendDisplay(b, string(v))
	default:
		return b // not reached: the parser makes no other
	}
}

func appendDecimal(b []byte, v decimal) []byte {
	if v < 0 {
		b, v = append(b, '-'), -v
	}
	b = strconv.AppendInt(b, int64(v/1000), 10)
	f := strconv.Itoa(1000 + int(v%1000))[1:]
	return append(append(b, '.'), f[:max(1, len(strings.TrimRight(f, "0")))]...)
}

func appendDisplay(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '%', '"')
	for i := range len(s) {
		if c := s[i]; c == '%' || c == '"' || c < ' ' || c > '~' {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}
