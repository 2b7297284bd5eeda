package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/warder-mcp/warder"
)

// ErrNumber says that a number does not fit IEEE 754 double precision, so that it has no canonical
// form.
var ErrNumber = errors.New("number out of range")

// Canonical returns the canonical form of a JSON value (RFC 8785): members sorted by UTF-16 code
// units, shortest escapes, numbers as ECMAScript writes them, no white space. Input that is not one
// strict JSON value is an error, and so is a number beyond double precision (ErrNumber): rounding it
// would give different values one form. Integers beyond 2^53 are rounded as RFC 8785 says.
func Canonical(valid []byte) ([]byte, error) {
	v := jsontext.Value(bytes.Clone(valid))
	if err := v.Canonicalize(); err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	if !numbersFit(Parse(valid), 0) {
		return nil, fmt.Errorf("canonical JSON: %w", ErrNumber)
	}
	return v, nil
}

// numbersFit reports whether every number within v is in the range of double precision.
func numbersFit(v Value, depth int) bool {
	switch v.Kind() {
	case '0':
		_, ok := v.Float()
		return ok
	case '{':
		for _, member := range v.Members() {
			if depth > maxTree || !numbersFit(member, depth+1) {
				return false
			}
		}
	case '[':
		for _, element := range v.Elements() {
			if depth > maxTree || !numbersFit(element, depth+1) {
				return false
			}
		}
	}
	return true
}

// maxTree bounds recursion over values that some caller did not get from Decode.
const maxTree = 1000

// Tree reads a valid JSON value into map[string]any, []any, string, json.Number, bool and nil, for
// validators that want such.
func Tree(valid []byte) (any, error) { return tree(Parse(valid), 0) }

func tree(v Value, depth int) (any, error) {
	if depth > maxTree {
		return nil, errors.New("JSON tree: too deep")
	}
	switch v.Kind() {
	case '{':
		return treeObject(v, depth)
	case '[':
		list := []any{}
		for _, element := range v.Elements() {
			item, err := tree(element, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	case '"':
		text, ok := v.Text()
		if !ok {
			return nil, errors.New("JSON tree: malformed string")
		}
		return text, nil
	case '0':
		return json.Number(v.Raw()), nil
	case 't', 'f':
		b, _ := v.Bool()
		return b, nil
	case 'n':
		var null any
		return null, nil
	default:
		return nil, errors.New("JSON tree: malformed value")
	}
}

func treeObject(v Value, depth int) (any, error) {
	object := map[string]any{}
	for key, member := range v.Members() {
		item, err := tree(member, depth+1)
		if err != nil {
			return nil, err
		}
		object[key.Unescaped()] = item
	}
	return object, nil
}

// Leaves yields every string within v with its RFC 6901 pointer from v, in document order. Member
// names are not leaves.
func Leaves(v Value) iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) { leaves(v, make([]byte, 0, 64), yield) }
}

func leaves(v Value, pointer []byte, yield func(string, Value) bool) bool {
	switch v.Kind() {
	case '"':
		return yield(string(pointer), v)
	case '{':
		for key, member := range v.Members() {
			if !inner(member) {
				continue
			}
			if !leaves(member, appendPointer(pointer, key.Unescaped()), yield) {
				return false
			}
		}
	case '[':
		for i, element := range v.Elements() {
			if !inner(element) {
				continue
			}
			if !leaves(element, strconv.AppendInt(append(pointer, '/'), int64(i), 10), yield) {
				return false
			}
		}
	}
	return true
}

// inner reports whether a value is or may hold a string.
func inner(v Value) bool { k := v.Kind(); return k == '"' || k == '{' || k == '[' }

// AppendPointer appends one reference token to a JSON pointer (RFC 6901 section 3).
func AppendPointer(pointer, token string) string {
	return string(appendPointer([]byte(pointer), token))
}

func appendPointer(pointer []byte, token string) []byte {
	pointer = append(pointer, '/')
	for i := range len(token) {
		switch token[i] {
		case '~':
			pointer = append(pointer, '~', '0')
		case '/':
			pointer = append(pointer, '~', '1')
		default:
			pointer = append(pointer, token[i])
		}
	}
	return pointer
}

// RequestDigest binds what a request asks: its method and its params without _meta, inputResponses
// and requestState, in canonical form. A retry that carries answers has the digest of the first
// attempt. Absent params count as empty ones.
func RequestDigest(m *warder.Message) [sha256.Size]byte {
	params := []byte{'{'}
	for i := range m.Params {
		p := &m.Params[i]
		if p.Key == "_meta" || p.Key == "inputResponses" || p.Key == "requestState" {
			continue
		}
		if len(params) > 1 {
			params = append(params, ',')
		}
		params = append(append(append(params, m.At(p.Name)...), ':'), m.At(p.Value)...)
	}
	params = append(params, '}')
	form := "canonical"
	if c, err := Canonical(params); err == nil {
		params = c
	} else {
		form = "raw" // a number out of range: the bytes as written bind, too
	}
	h := sha256.New()
	for _, part := range [...]string{"warder request digest 1", form, m.Method, string(params)} {
		h.Write(strconv.AppendInt(nil, int64(len(part)), 10))
		h.Write([]byte{':'})
		h.Write([]byte(part))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
