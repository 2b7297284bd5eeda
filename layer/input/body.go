package input

import (
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// body returns what the client says in a message, and its pointer.
func body(m *warder.Message) (value wire.Value, pointer string) {
	switch m.Kind {
	case warder.KindResult:
		return wire.At(m, m.ResultSpan), "/result"
	case warder.KindError:
		return wire.At(m, m.ErrorSpan), "/error"
	default:
		return wire.At(m, m.ParamsSpan), "/params"
	}
}

// pathTo returns the steps from a value to the one that begins at offset in its bytes, names
// unescaped. It reads the value once more, so it is for refusals only.
func pathTo(v wire.Value, offset int) []string {
	var path []string
	for {
		step, inner, ok := toward(v, offset)
		if !ok {
			return path
		}
		path = append(path, step)
		v = inner
	}
}

// toward returns the member or element of v that holds the byte at offset.
func toward(v wire.Value, offset int) (step string, inner wire.Value, ok bool) {
	for key, member := range v.Members() {
		if key.Span().Start <= offset && offset < member.Span().End {
			return key.Unescaped(), member, true
		}
	}
	for i, element := range v.Elements() {
		if element.Span().Start <= offset && offset < element.Span().End {
			return strconv.Itoa(i), element, true
		}
	}
	return "", wire.Value{}, false
}

// point writes steps as an RFC 6901 pointer. Long names are cut.
func point(prefix string, path []string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, step := range path {
		if len(step) > 64 {
			step = strings.ToValidUTF8(step[:64], "") + "…"
		}
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
	}
	return b.String()
}

// show quotes a pointer for people: names in it come from the client.
func show(pointer string) string {
	if len(pointer) > 200 {
		pointer = strings.ToValidUTF8(pointer[:200], "") + "…"
	}
	return strconv.Quote(pointer)
}

// refuse is the refusal of a message for what stands at a pointer. The texts never repeat the value.
func refuse(code warder.Code, reason warder.Reason, pointer, keyword, want string) warder.Decision {
	d := warder.Refuse(code, reason, pointer+": "+keyword+": "+want)
	d.Findings = []warder.Finding{{Rule: string(reason), Severity: warder.Medium, Pointer: pointer, Evidence: want}}
	return d.Tell("At " + show(pointer) + ": " + want + " (" + keyword + ").")
}
