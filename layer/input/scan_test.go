package input

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func decodeParams(params string) (*warder.Message, error) {
	return wire.Decode([]byte(`{"jsonrpc":"2.0","method":"x","params":`+params+`}`), wire.Limits{})
}

// count counts values by walking them.
func count(v wire.Value) int {
	n := 1
	for _, member := range v.Members() {
		n += count(member)
	}
	for _, element := range v.Elements() {
		n += count(element)
	}
	return n
}

func TestPathTo(t *testing.T) {
	t.Parallel()
	m, err := decodeParams(`{"a":[1, {"b/c":"x"}],"\u0064":2}`)
	if err != nil {
		t.Fatal(err)
	}
	v, prefix := body(m)
	for pointer, at := range map[string]wire.Value{
		"/params":          v,
		"/params/a":        v.Get("a"),
		"/params/d":        v.Get("d"),
		"/params/a/1/b~1c": v.Get("a").Find().Find(),
	} {
		if pointer == "/params/a/1/b~1c" {
			for _, element := range v.Get("a").Elements() {
				at = element.Get("b/c")
			}
		}
		if diff := cmp.Diff(pointer, point(prefix, pathTo(v, at.Span().Start))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
