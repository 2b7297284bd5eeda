package wire

import (
	"bytes"
	"iter"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire/skip"
)

// A Value is a cursor on one JSON value that Decode or Validate accepted. It reads in place, without
// checking again and without allocating. The zero Value is absent: its Kind is 0 and everything on
// it is empty. On bytes that were not validated the answers are meaningless, but no method panics.
type Value struct {
	base []byte // the bytes that spans refer to
	span warder.Span
}

// At returns the value at a span of the message; the zero Value if the span is absent.
func At(m *warder.Message, s warder.Span) Value {
	if !s.Present() || s.Start < 0 || s.End > len(m.Raw) {
		return Value{}
	}
	return Value{m.Raw, s}
}

// Root returns the whole message as a value.
func Root(m *warder.Message) Value { return At(m, Whole(m)) }

// Whole returns the span of the whole message: the parent of its envelope members.
func Whole(m *warder.Message) warder.Span { return warder.Span{End: len(m.Raw)} }

// Parse returns a cursor on valid JSON; spans count from the start of valid.
func Parse(valid []byte) Value {
	trimmed := trimSpace(valid)
	if len(trimmed) == 0 {
		return Value{}
	}
	start := cap(valid) - cap(trimmed)
	return Value{valid, warder.Span{Start: start, End: start + len(trimmed)}}
}

// Kind tells the type: '{', '[', '"', '0' for any number, 't', 'f', 'n', or 0 when absent.
func (v Value) Kind() byte {
	if !v.span.Present() {
		return 0
	}
	switch c := v.base[v.span.Start]; c {
	case '{', '[', '"', 't', 'f', 'n':
		return c
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return '0'
	default:
		return 0
	}
}

// Exists reports whether there is a value.
func (v Value) Exists() bool { return v.span.Present() }

// Raw returns the bytes of the value, nil when absent. They must not be changed.
func (v Value) Raw() []byte {
	if !v.span.Present() {
		return nil
	}
	return v.base[v.span.Start:v.span.End]
}

// Span returns where the value stands in the message, or in the bytes given to Parse.
func (v Value) Span() warder.Span { return v.span }

// A Key is the name of a member, as written.
type Key struct {
	base []byte
	span warder.Span
}

// Span returns where the name stands, quotes included.
func (k Key) Span() warder.Span { return k.span }

// Raw returns the name as written, quotes included.
func (k Key) Raw() []byte { return k.base[k.span.Start:k.span.End] }

// Unescaped returns the name.
func (k Key) Unescaped() string {
	text, _ := unquote(k.Raw())
	return text
}

// Is reports whether the unescaped name equals name. It does not allocate unless the name is
// written with escapes.
func (k Key) Is(name string) bool { return equalText(k.Raw(), name) }

// Members yields the members of an object in document order; nothing for any other value.
func (v Value) Members() iter.Seq2[Key, Value] {
	return func(yield func(Key, Value) bool) {
		if v.Kind() != '{' {
			return
		}
		b, end := v.base, v.span.End-1
		for i := skip.Space(b, v.span.Start+1); i < end; {
			key := warder.Span{Start: i, End: min(skip.String(b, i), end)}
			i = skip.Space(b, key.End) + 1 // the colon
			start := skip.Space(b, i)
			i = min(skip.Value(b, start), end)
			if b[key.Start] != '"' || key.End < key.Start+2 || i <= start {
				return // not valid JSON
			}
			if !yield(Key{b, key}, Value{b, warder.Span{Start: start, End: i}}) {
				return
			}
			i = skip.Space(b, skip.Space(b, i)+1) // the comma
		}
	}
}

// Elements yields the elements of an array with their index; nothing for any other value.
func (v Value) Elements() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		if v.Kind() != '[' {
			return
		}
		b, end, n := v.base, v.span.End-1, 0
		for i := skip.Space(b, v.span.Start+1); i < end; n++ {
			stop := min(skip.Value(b, i), end)
			if stop <= i {
				return // not valid JSON
			}
			if !yield(n, Value{b, warder.Span{Start: i, End: stop}}) {
				return
			}
			i = skip.Space(b, skip.Space(b, stop)+1) // the comma
		}
	}
}

// Get returns the member of an object stored under key, the zero Value if there is none.
func (v Value) Get(key string) Value {
	for k, member := range v.Members() {
		if k.Is(key) {
			return member
		}
	}
	return Value{}
}

// Find follows member names from an object inwards.
func (v Value) Find(path ...string) Value {
	for _, key := range path {
		v = v.Get(key)
	}
	return v
}

// Len counts the members of an object or the elements of an array; 0 for any other value.
func (v Value) Len() int {
	n := 0
	for range v.Members() {
		n++
	}
	for range v.Elements() {
		n++
	}
	return n
}

// Text returns the unescaped string; false if the value is not a string.
func (v Value) Text() (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	return unquote(v.Raw())
}

// AppendText appends the unescaped string to dst; false if the value is not a string.
func (v Value) AppendText(dst []byte) ([]byte, bool) {
	if v.Kind() != '"' {
		return dst, false
	}
	out, err := jsontext.AppendUnquote(dst, v.Raw())
	if err != nil {
		return dst, false
	}
	return out, true
}

// Equals reports whether the value is the string s.
func (v Value) Equals(s string) bool { return v.Kind() == '"' && equalText(v.Raw(), s) }

// Int returns an integer in its shortest form within ±(2^53-1); false for any other value.
func (v Value) Int() (int64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	return integer(v.Raw())
}

// Float returns a number as IEEE 754 double precision; false if it is not a number or out of range.
func (v Value) Float() (float64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v.Raw()), 64)
	return f, err == nil
}

// Bool returns a boolean; ok is false for any other value.
func (v Value) Bool() (value, ok bool) {
	kind := v.Kind()
	return kind == 't', kind == 't' || kind == 'f'
}

// unquote reads a JSON string as written.
func unquote(quoted []byte) (string, bool) {
	if len(quoted) < 2 {
		return "", false
	}
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	out, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return "", false
	}
	return string(out), true
}

// equalText reports whether a JSON string as written means s.
func equalText(quoted []byte, s string) bool {
	if len(quoted) < 2 {
		return false
	}
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner) == s
	}
	if len(inner) <= len(s) {
		return false // an escape is longer than what it stands for
	}
	text, ok := unquote(quoted)
	return ok && text == s
}
