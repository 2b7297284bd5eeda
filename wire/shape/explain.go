package shape

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder/wire/skip"
)

// explain says why the value at i does not fit n. It is called only for values that do not.
func (c cursor) explain(n *node, i int) Violation {
	k := kindOf(c.b[i])
	if n.kinds&k == 0 {
		return Violation{Keyword: "type", Want: wantKind(n)}
	}
	if n.cases != nil {
		return c.explainUnion(n, k, i)
	}
	switch k {
	case kindString:
		if n.words == nil {
			return Violation{Keyword: "format", Want: "a string of format " + n.format.String()}
		}
		return Violation{Keyword: enumOrConst(len(n.words)), Want: quoteAll(n.words)}
	case kindNumber:
		return explainNumber(n, c.b[i:skip.Scalar(c.b, i)])
	case kindArray:
		return c.explainArray(n, i)
	default:
		return c.explainObject(n, i)
	}
}

func wantKind(n *node) string {
	if n.integer {
		return "integer"
	}
	return n.kinds.String()
}

func enumOrConst(words int) string {
	if words == 1 {
		return "const"
	}
	return "enum"
}

func quoteAll(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, strconv.Quote(w))
	}
	return strings.Join(quoted, ", ")
}

func explainNumber(n *node, number []byte) Violation {
	f, err := strconv.ParseFloat(string(number), 64)
	switch {
	case n.constant != "":
		return Violation{Keyword: "const", Want: n.constant}
	case n.integer && !integral(number):
		return Violation{Keyword: "type", Want: "integer"}
	case err == nil && n.hasLow && f < n.low:
		return Violation{Keyword: "minimum", Want: "at least " + strconv.FormatFloat(n.low, 'g', -1, 64)}
	default:
		return Violation{Keyword: "maximum", Want: "at most " + strconv.FormatFloat(n.high, 'g', -1, 64)}
	}
}

func (c cursor) explainArray(n *node, i int) Violation {
	index := 0
	for i = skip.Space(c.b, i+1); i < len(c.b) && c.b[i] != ']'; index++ {
		end := c.match(n.items, i)
		if end == none {
			return c.explain(n.items, i).under("/" + strconv.Itoa(index))
		}
		i = next(c.b, end)
	}
	return Violation{Keyword: "maxItems", Want: "at most " + strconv.Itoa(n.most) + " elements"}
}

func (c cursor) explainObject(n *node, i int) Violation {
	var seen uint64
	for i = skip.Space(c.b, i+1); i < len(c.b) && c.b[i] != '}'; {
		nameEnd, value := memberAt(c.b, i)
		inner := c.b[i+1 : nameEnd-1]
		at, want := n.member(inner, c.closed)
		if want == nil {
			return Violation{Pointer: token(inner), Keyword: "additionalProperties", Want: "no member of this name"}
		}
		if at >= 0 {
			seen |= 1 << at
		}
		end := c.match(want, value)
		if end == none {
			return c.explain(want, value).under(token(inner))
		}
		i = next(c.b, end)
	}
	return Violation{Pointer: token([]byte(n.missing(seen))), Keyword: "required", Want: "this member"}
}

// explainUnion explains the only case a value can be, or says that none fits.
func (c cursor) explainUnion(n *node, k kind, i int) Violation {
	if k == kindObject && n.tag != "" {
		if tagged := n.tagged(c.b, i); tagged != nil {
			return c.explain(tagged, i)
		}
		return Violation{Pointer: "/" + n.tag, Keyword: "enum", Want: quoteAll(n.tags)}
	}
	var only *node
	count := 0
	for _, alternative := range n.cases {
		if alternative.kinds&k != 0 {
			only = alternative
			count++
		}
	}
	if count == 1 {
		return c.explain(only, i)
	}
	return Violation{Keyword: "anyOf", Want: "one of the forms of the specification"}
}

// token returns a member name as a step of an RFC 6901 pointer, cut to what is fit to show.
func token(inner []byte) string {
	name := text(inner)
	if len(name) > 64 {
		name = append(bytes.ToValidUTF8(name[:64:64], nil), "…"...)
	}
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(string(name))
}
