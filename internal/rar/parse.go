package rar

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Type is the value of the type member of the details of this package (RFC 9396 section 2).
const Type = "mcp"

// Bounds of what [Parse] accepts. Lengths are in bytes.
const (
	MaxBytes   = 32 << 10 // the whole array
	MaxDetails = 32
	MaxTools   = 256 // of one detail
	MaxBounds  = 64  // of one detail
	MaxValues  = 64  // of one_of
	MaxName    = 256 // server, tool, purpose
	MaxPointer = 512
	MaxValue   = 4 << 10 // one JSON value, or a prefix
	MaxCalls   = 1_000_000_000

	maxDepth = 16
)

// Errors of [Parse]. Both mean that a credential with these details must be refused.
var (
	ErrType      = errors.New("authorization detail of another type")
	ErrMalformed = errors.New("authorization details malformed")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Parse reads a JSON array of authorization details. An empty array is an error: it would look like
// no narrowing at all. A detail of another type is [ErrType]. Every other fault is [ErrMalformed].
func Parse(raw []byte) ([]warder.Detail, error) {
	v, err := value(raw)
	if err != nil {
		return nil, err
	}
	if v.Kind() != '[' {
		return nil, malformed("not an array")
	}
	var details []warder.Detail
	for i, e := range v.Elements() {
		if i == MaxDetails {
			return nil, malformed("more than %d", MaxDetails)
		}
		d, err := parseDetail(e)
		if err != nil {
			return nil, fmt.Errorf("authorization_details[%d]: %w", i, err)
		}
		details = append(details, d)
	}
	if len(details) == 0 {
		return nil, malformed("empty")
	}
	return details, nil
}

// value checks size and form of JSON from outside.
func value(raw []byte) (wire.Value, error) {
	if err := wire.Validate(raw, wire.Limits{Bytes: MaxBytes, Depth: maxDepth}); err != nil {
		return wire.Value{}, malformed("%v", err)
	}
	return wire.Parse(raw), nil
}

func parseDetail(v wire.Value) (d warder.Detail, err error) {
	if v.Kind() != '{' {
		return d, malformed("not an object")
	}
	switch kind := v.Get("type"); {
	case kind.Kind() != '"':
		return d, malformed("type missing")
	case !kind.Equals(Type):
		return d, ErrType
	}
	for key, m := range v.Members() {
		switch name := key.Unescaped(); name {
		case "type":
		case "server":
			d.Server, err = parseName(name, m)
		case "tools":
			d.Tools, err = parseTools(m)
		case "arguments":
			d.Arguments, err = parseBounds(m)
		case "purpose":
			d.Purpose, err = parseName(name, m)
		case "max_calls":
			n, ok := m.Int()
			if !ok || n < 1 || n > MaxCalls {
				err = malformed("max_calls: want 1 to %d", MaxCalls)
			}
			d.MaxCalls = int(n)
		default:
			err = malformed("unknown member %.64q", name)
		}
		if err != nil {
			return warder.Detail{}, err
		}
	}
	return d, nil
}

// parseName reads a text that is neither empty nor long and has no control characters.
func parseName(member string, v wire.Value) (string, error) {
	s, ok := v.Text()
	if !ok || !nameable(s) {
		return "", malformed("%s: want a text of 1 to %d bytes", member, MaxName)
	}
	return s, nil
}

func nameable(s string) bool {
	return s != "" && len(s) <= MaxName && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func parseTools(v wire.Value) ([]string, error) {
	if v.Kind() != '[' {
		return nil, malformed("tools: not an array")
	}
	var tools []string
	for i, e := range v.Elements() {
		if i == MaxTools {
			return nil, malformed("tools: more than %d", MaxTools)
		}
		name, err := parseName("tools", e)
		if err != nil {
			return nil, err
		}
		if slices.Contains(tools, name) {
			return nil, malformed("tools: %.64q stands twice", name)
		}
		tools = append(tools, name)
	}
	if len(tools) == 0 {
		return nil, malformed("tools: empty")
	}
	return tools, nil
}

func parseBounds(v wire.Value) ([]warder.Bound, error) {
	if v.Kind() != '[' {
		return nil, malformed("arguments: not an array")
	}
	var bounds []warder.Bound
	for i, e := range v.Elements() {
		if i == MaxBounds {
			return nil, malformed("arguments: more than %d", MaxBounds)
		}
		b, err := parseBound(e)
		if err != nil {
			return nil, fmt.Errorf("arguments[%d]: %w", i, err)
		}
		bounds = append(bounds, b)
	}
	if len(bounds) == 0 {
		return nil, malformed("arguments: empty")
	}
	return bounds, nil
}

func parseBound(v wire.Value) (b warder.Bound, err error) {
	if v.Kind() != '{' {
		return b, malformed("not an object")
	}
	pointed := false
	for key, m := range v.Members() {
		switch name := key.Unescaped(); name {
		case "pointer":
			b.Pointer, pointed = m.Text()
		case "equals":
			b.Equals, err = parseValue(m)
		case "one_of":
			b.OneOf, err = parseValues(m)
		case "prefix":
			var ok bool
			if b.Prefix, ok = m.Text(); !ok {
				err = malformed("prefix: not a string")
			} else if b.Prefix == "" {
				err = malformed("prefix: empty")
			}
		case "min":
			b.Min, err = parseNumber(m)
		case "max":
			b.Max, err = parseNumber(m)
		default:
			err = malformed("unknown member %.64q", name)
		}
		if err != nil {
			return warder.Bound{}, err
		}
	}
	if !pointed {
		return warder.Bound{}, malformed("pointer missing")
	}
	return b, checkBound(&b)
}

// parseValue keeps a value in canonical form (RFC 8785), which must not change what it means.
func parseValue(v wire.Value) ([]byte, error) {
	c, err := wire.Canonical(v.Raw())
	switch {
	case err != nil:
		return nil, malformed("%v", err)
	case len(c) > MaxValue:
		return nil, malformed("value over %d bytes", MaxValue)
	case !equal(wire.Parse(c), v):
		return nil, malformed("a number is beyond double precision")
	}
	return c, nil
}

func parseValues(v wire.Value) ([][]byte, error) {
	if v.Kind() != '[' {
		return nil, malformed("one_of: not an array")
	}
	var values [][]byte
	for i, e := range v.Elements() {
		if i == MaxValues {
			return nil, malformed("one_of: more than %d", MaxValues)
		}
		c, err := parseValue(e)
		if err != nil {
			return nil, err
		}
		values = append(values, c)
	}
	if len(values) == 0 {
		return nil, malformed("one_of: empty")
	}
	return values, nil
}

func parseNumber(v wire.Value) (*float64, error) {
	f, ok := v.Float()
	if !ok || !sameNumber(v.Raw(), formatFloat(f)) {
		return nil, malformed("min, max: not a number within double precision")
	}
	return &f, nil
}

// Validate checks details that were not read by [Parse], such as those of a grant request.
func Validate(details []warder.Detail) error {
	if len(details) > MaxDetails {
		return malformed("more than %d", MaxDetails)
	}
	for i := range details {
		if err := checkDetail(&details[i]); err != nil {
			return fmt.Errorf("authorization_details[%d]: %w", i, err)
		}
	}
	return nil
}

func checkDetail(d *warder.Detail) error {
	switch {
	case d.Server != "" && !nameable(d.Server):
		return malformed("server: not a name")
	case d.Purpose != "" && !nameable(d.Purpose):
		return malformed("purpose: not a short text")
	case d.MaxCalls < 0 || d.MaxCalls > MaxCalls:
		return malformed("max_calls: want 1 to %d", MaxCalls)
	case len(d.Tools) > MaxTools:
		return malformed("tools: more than %d", MaxTools)
	}
	for i, t := range d.Tools {
		if !nameable(t) || slices.Contains(d.Tools[:i], t) {
			return malformed("tools: %.64q is no name or stands twice", t)
		}
	}
	return ValidateBounds(d.Arguments)
}

// ValidateBounds checks bounds that were not read by [Parse].
func ValidateBounds(bounds []warder.Bound) error {
	if len(bounds) > MaxBounds {
		return malformed("arguments: more than %d", MaxBounds)
	}
	for i := range bounds {
		b := &bounds[i]
		err := checkBound(b)
		for _, v := range append(slices.Clone(b.OneOf), b.Equals) {
			if err == nil && v != nil {
				err = checkValue(v)
			}
		}
		if err != nil {
			return fmt.Errorf("arguments[%d]: %w", i, err)
		}
	}
	return nil
}

func checkValue(raw []byte) error {
	v, err := value(raw)
	if err != nil {
		return err
	}
	_, err = parseValue(v)
	return err
}

// checkBound wants exactly one kind of limit, and one that can hold.
func checkBound(b *warder.Bound) error {
	kinds := 0
	for _, set := range [...]bool{b.Equals != nil, b.OneOf != nil, b.Prefix != "", b.Min != nil || b.Max != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return malformed("want exactly one of equals, one_of, prefix, or min and max")
	case !validPointer(b.Pointer):
		return malformed("pointer: not a JSON pointer of at most %d bytes", MaxPointer)
	case len(b.Prefix) > MaxValue:
		return malformed("prefix: over %d bytes", MaxValue)
	case b.OneOf != nil && (len(b.OneOf) == 0 || len(b.OneOf) > MaxValues):
		return malformed("one_of: want 1 to %d values", MaxValues)
	case !finite(b.Min) || !finite(b.Max):
		return malformed("min, max: not a number")
	case b.Min != nil && b.Max != nil && *b.Min > *b.Max:
		return malformed("min is over max")
	case hostOnly(b.Prefix):
		return malformed("prefix: a URL must go on past its host, with a slash")
	}
	return nil
}

func finite(f *float64) bool { return f == nil || !math.IsNaN(*f) && !math.IsInf(*f, 0) }

// hostOnly reports whether a prefix of a URL ends within the host, so that a longer host name begins
// with it, too.
func hostOnly(prefix string) bool {
	_, rest, ok := strings.Cut(prefix, "://")
	return ok && !strings.Contains(rest, "/")
}

// validPointer reports whether s is a JSON pointer (RFC 6901 section 3); the empty one is the whole
// arguments object.
func validPointer(s string) bool {
	if s == "" {
		return true
	}
	if s[0] != '/' || len(s) > MaxPointer {
		return false
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return false
		}
	}
	return true
}
