package rar

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A Call is what details are asked about.
type Call struct {
	Server  string
	Tool    string
	Purpose string     // as the caller declares it; empty: none, which a detail with a purpose fills in
	Args    wire.Value // arguments object; absent counts as empty
}

// A Violation says which field of the details a call breaks. It repeats no value of the call.
type Violation struct {
	Field   string // "server", "tools", "purpose", "arguments"
	Pointer string // argument concerned, RFC 6901; arguments only
	Want    string // what is allowed there: "equals", "one_of", "prefix", "min", "max"; arguments only
	Detail  int    // index of the detail that came closest
}

// Reason is the stable machine code of the violation.
func (v *Violation) Reason() warder.Reason {
	switch v.Field {
	case "server":
		return "detail_server"
	case "tools":
		return "detail_tool"
	case "purpose":
		return "detail_purpose"
	default:
		return "detail_argument"
	}
}

// String says for operators what is broken.
func (v *Violation) String() string {
	if v.Field == "arguments" {
		return fmt.Sprintf("detail %d: argument %q breaks %s", v.Detail, v.Pointer, v.Want)
	}
	return fmt.Sprintf("detail %d: %s", v.Detail, v.Field)
}

// closeness orders fields: the later one fails, the closer the call came.
func closeness(field string) int {
	return slices.Index([]string{"server", "tools", "purpose", "arguments"}, field)
}

// Check returns nil if one of the details covers the call, and otherwise how the one that came closest
// is broken. No details cover everything: they do not narrow.
func Check(details []warder.Detail, server, tool string, args wire.Value) *Violation {
	_, v := Find(details, Call{Server: server, Tool: tool, Args: args})
	return v
}

// Find is [Check] that also returns the index of the detail that covers the call, -1 if there are no
// details. Of several that do it prefers one without max_calls.
func Find(details []warder.Detail, c Call) (int, *Violation) {
	found := -1
	var closest *Violation
	for i := range details {
		v := within(&details[i], &c)
		switch {
		case v == nil && details[i].MaxCalls == 0:
			return i, nil
		case v == nil && found < 0:
			found = i
		case v != nil && (closest == nil || closeness(v.Field) > closeness(closest.Field)):
			v.Detail, closest = i, v
		}
	}
	if found >= 0 || len(details) == 0 {
		return found, nil
	}
	return -1, closest
}

// within checks one detail; nil if it covers the call.
func within(d *warder.Detail, c *Call) *Violation {
	switch {
	case d.Server != "" && d.Server != c.Server:
		return &Violation{Field: "server"}
	case len(d.Tools) > 0 && !slices.Contains(d.Tools, c.Tool):
		return &Violation{Field: "tools"}
	case d.Purpose != "" && c.Purpose != "" && d.Purpose != c.Purpose:
		return &Violation{Field: "purpose"}
	}
	return CheckBounds(d.Arguments, c.Args)
}

// Whole reports whether a detail covers everything of a server, and not only calls of tools.
func Whole(d *warder.Detail) bool { return len(d.Tools) == 0 && len(d.Arguments) == 0 }

// CheckBounds returns nil if the arguments keep every bound. A value that is absent breaks its bound.
func CheckBounds(bounds []warder.Bound, args wire.Value) *Violation {
	for i := range bounds {
		b := &bounds[i]
		if kind := broken(b, resolve(args, b.Pointer)); kind != "" {
			return &Violation{Field: "arguments", Pointer: b.Pointer, Want: kind}
		}
	}
	return nil
}

// broken returns which limit the value breaks, empty if it keeps the bound.
func broken(b *warder.Bound, v wire.Value) string {
	switch {
	case b.Equals != nil:
		if !v.Exists() || !equal(wire.Parse(b.Equals), v) {
			return "equals"
		}
	case b.OneOf != nil:
		if !v.Exists() || !slices.ContainsFunc(b.OneOf, func(o []byte) bool { return equal(wire.Parse(o), v) }) {
			return "one_of"
		}
	case b.Prefix != "":
		if s, ok := v.Text(); !ok || !beginsWith(s, b.Prefix) {
			return "prefix"
		}
	case b.Min != nil || b.Max != nil:
		return outOfRange(b, v)
	default:
		return "bound" // no limit at all is not a bound: nothing keeps it
	}
	return ""
}

func outOfRange(b *warder.Bound, v wire.Value) string {
	if b.Min != nil {
		if c, ok := compareNumber(v, *b.Min); !ok || c < 0 {
			return "min"
		}
	}
	if b.Max != nil {
		if c, ok := compareNumber(v, *b.Max); !ok || c > 0 {
			return "max"
		}
	}
	return ""
}

func compareNumber(v wire.Value, limit float64) (int, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	return compareFloat(v.Raw(), limit)
}

// beginsWith reports whether s begins with the prefix and, where the prefix is one of a path, does not
// climb out of it again.
func beginsWith(s, prefix string) bool {
	if !strings.HasPrefix(s, prefix) {
		return false
	}
	return !strings.ContainsAny(prefix, `/\`) || !climbs(s)
}

// climbs reports whether a path has a segment "..", also written with percent signs as URLs may.
func climbs(s string) bool {
	if !strings.Contains(s, "..") && !strings.Contains(s, "%") {
		return false
	}
	plain := strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/", `\`, "/").Replace(s)
	for segment := range strings.SplitSeq(plain, "/") {
		if segment == ".." {
			return true
		}
	}
	return false
}

// resolve follows a JSON pointer (RFC 6901 section 4); absent if it leads nowhere.
func resolve(v wire.Value, pointer string) wire.Value {
	for pointer != "" {
		token, rest := pointer[1:], ""
		if i := strings.IndexByte(token, '/'); i >= 0 {
			token, rest = token[:i], token[i:]
		}
		if strings.IndexByte(token, '~') >= 0 {
			token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		}
		switch v.Kind() {
		case '{':
			v = v.Get(token)
		case '[':
			v = element(v, token)
		default:
			return wire.Value{}
		}
		pointer = rest
	}
	return v
}

func element(v wire.Value, token string) wire.Value {
	want, err := strconv.Atoi(token)
	if err != nil || strconv.Itoa(want) != token { // no sign, no leading zero, no "-"
		return wire.Value{}
	}
	for i, e := range v.Elements() {
		if i == want {
			return e
		}
	}
	return wire.Value{}
}

// equal reports whether two JSON values mean the same. Numbers are compared without rounding.
func equal(a, b wire.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case '"':
		x, ok := a.Text()
		return ok && b.Equals(x)
	case '0':
		return sameNumber(a.Raw(), b.Raw())
	case '{':
		return equalObjects(a, b)
	case '[':
		return equalArrays(a, b)
	case 0:
		return false
	default:
		return string(a.Raw()) == string(b.Raw())
	}
}

func equalObjects(a, b wire.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	for key, x := range a.Members() {
		if y := b.Get(key.Unescaped()); !y.Exists() || !equal(x, y) {
			return false
		}
	}
	return true
}

func equalArrays(a, b wire.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	others := make([]wire.Value, 0, 8)
	for _, y := range b.Elements() {
		others = append(others, y)
	}
	for i, x := range a.Elements() {
		if !equal(x, others[i]) {
			return false
		}
	}
	return true
}
