package input

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// caps refuses what is larger than the default where no schema says how large it may be. A schema
// of an approved definition that states a bound is followed instead, by INV-01.
// Control INV-02. Phase Request.
type caps struct {
	bytes, text, name int
	items, members    int
	number            float64
}

var _ warder.Interceptor = (*caps)(nil)

func newCaps(cfg Config) *caps {
	return &caps{
		bytes: int(cfg.MaxBytes), text: int(cfg.MaxString), name: int(cfg.MaxName),
		items: cfg.MaxItems, members: cfg.MaxMembers, number: cfg.MaxNumber,
	}
}

// Control names the control.
func (*caps) Control() warder.ControlID { return "INV-02" }

// Intercept judges the message of the client.
func (c *caps) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	if m == nil || c.bytes <= 0 {
		return warder.Decision{}, errors.New("judge size: no message or no caps")
	}
	v, pointer := body(m)
	raw := v.Raw()
	if len(raw) > c.bytes {
		return refuse(warder.CodeTooLarge, "params_too_large", pointer, "bytes",
			fmt.Sprintf("want at most %d bytes", c.bytes)), nil
	}
	read := 0
	over, found := c.first(raw, func(o excess) bool {
		if read += len(raw); read > maxReread {
			return false
		}
		return stated(x, pathTo(v, v.Span().Start+o.offset), o.keyword)
	})
	if !found {
		return warder.Continue(), nil
	}
	path := pathTo(v, v.Span().Start+over.offset)
	return refuse(warder.CodeInvalidParams, over.reason, point(pointer, path), over.keyword, over.want), nil
}

// maxReread bounds the bytes that are read again to find the places of values above their caps. Behind
// it a value is refused, whatever its schema allows.
const maxReread = 128 << 20

// An excess is one value above its cap.
type excess struct {
	offset  int
	reason  warder.Reason
	keyword string // JSON Schema keyword that would state a bound
	want    string
}

// first returns the first value above its cap that excused does not excuse.
func (c *caps) first(b []byte, excused func(excess) bool) (over excess, found bool) {
	s := scan{b: b}
	followed := s.run(func(t token, start, end int) bool {
		over = c.judge(&s, t, start, end)
		found = over.reason != "" && !excused(over)
		return !found
	})
	if !followed {
		return excess{0, "too_deep", "depth", fmt.Sprintf("want at most %d levels", maxFrames)}, true
	}
	return over, found
}

func (c *caps) judge(s *scan, t token, start, end int) excess {
	switch t {
	case tokenName:
		if end-start-2 > c.name {
			return excess{start, "name_too_long", "propertyNames", fmt.Sprintf("want member names of at most %d bytes", c.name)}
		}
		if f := s.top(); int(f.n) == c.members+1 {
			return excess{f.start, "object_too_large", "maxProperties", fmt.Sprintf("want at most %d members", c.members)}
		}
		return excess{}
	case tokenString:
		if end-start-2 > c.text {
			return excess{start, "string_too_long", "maxLength", fmt.Sprintf("want at most %d bytes", c.text)}
		}
	case tokenNumber:
		if !c.fits(s.b[start:end]) {
			return excess{
				start, "number_out_of_range", "maximum",
				"want a number of magnitude at most " + strconv.FormatFloat(c.number, 'f', -1, 64),
			}
		}
	case tokenClose:
		return excess{}
	case tokenLiteral, tokenOpen:
	}
	return c.element(s, t)
}

// element judges the array in which a value has begun.
func (c *caps) element(s *scan, t token) excess {
	top := s.depth - 1
	if t == tokenOpen {
		top-- // the value is the frame just opened
	}
	if top >= 0 && s.stack[top].array && int(s.stack[top].n) == c.items+1 {
		return excess{s.stack[top].start, "array_too_long", "maxItems", fmt.Sprintf("want at most %d elements", c.items)}
	}
	return excess{}
}

// maxDigits is how long a number may be written. No double needs more.
const maxDigits = 64

// fits judges a number as written.
func (c *caps) fits(number []byte) bool {
	if len(number) <= 15 && plainDigits(number) {
		return c.number >= 1e15 || c.small(number)
	}
	return len(number) <= maxDigits && c.small(number)
}

func (c *caps) small(number []byte) bool {
	f, err := strconv.ParseFloat(string(number), 64)
	return err == nil && math.Abs(f) <= c.number
}

// plainDigits reports whether a number has no exponent.
func plainDigits(number []byte) bool {
	for _, d := range number {
		if d|0x20 == 'e' {
			return false
		}
	}
	return true
}

// stated reports whether the schema of the called tool bounds the argument at a path of params by a
// keyword. What cannot be followed states nothing.
func stated(x *warder.Exchange, path []string, keyword string) bool {
	at, ok := describing(x, path)
	if !ok {
		return false
	}
	if keyword != "propertyNames" && (at.Get("enum").Exists() || at.Get("const").Exists()) {
		return true
	}
	switch keyword {
	case "maxLength", "maxItems", "maxProperties":
		return at.Get(keyword).Kind() == '0'
	case "maximum":
		return bound(at, "maximum", "exclusiveMaximum") && bound(at, "minimum", "exclusiveMinimum")
	default:
		return false
	}
}

func bound(schema wire.Value, names ...string) bool {
	for _, name := range names {
		if schema.Get(name).Kind() == '0' {
			return true
		}
	}
	return false
}

// describing returns the subschema of the called tool's input schema for a path of params. It
// follows properties, items, prefixItems, additionalProperties and local references, and nothing
// that offers alternatives.
func describing(x *warder.Exchange, path []string) (wire.Value, bool) {
	if x.Tool == nil || x.Request.Method != wire.MethodToolsCall || len(path) == 0 || path[0] != "arguments" {
		return wire.Value{}, false
	}
	root := wire.Parse(x.Tool.Definition).Get("inputSchema")
	at, ok := dereference(root, root)
	for _, step := range path[1:] {
		if !ok {
			return wire.Value{}, false
		}
		at, ok = dereference(root, child(at, step))
	}
	return at, ok && at.Kind() == '{'
}

func child(schema wire.Value, step string) wire.Value {
	if property := schema.Get("properties").Get(step); property.Exists() {
		return property
	}
	index, err := strconv.Atoi(step)
	if err == nil && (schema.Get("items").Exists() || schema.Get("prefixItems").Exists()) {
		for i, element := range schema.Get("prefixItems").Elements() {
			if i == index {
				return element
			}
		}
		return schema.Get("items")
	}
	return schema.Get("additionalProperties")
}

// dereference follows "$ref" within the document, eight times at most.
func dereference(root, schema wire.Value) (wire.Value, bool) {
	for range 8 {
		ref, ok := schema.Get("$ref").Text()
		if !ok {
			return schema, schema.Kind() == '{'
		}
		pointer, local := strings.CutPrefix(ref, "#")
		if !local || pointer != "" && pointer[0] != '/' {
			return wire.Value{}, false
		}
		schema = root
		for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
			if pointer != "" {
				schema = schema.Get(strings.NewReplacer("~1", "/", "~0", "~").Replace(step))
			}
		}
	}
	return wire.Value{}, false
}
