package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValueWalk(t *testing.T) {
	t.Parallel()
	m := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"s":"a\"\\\u00e9\n","n":-12,"f":1.5e3,"t":true,"z":null,
		"o":{ "k" : [ 1 , "two" , {"three":3} ] , "q\"}]": "}]" },"e":{},"l":[]}}`)
	p := At(m, m.ParamsSpan)
	if text, ok := p.Get("s").Text(); text != "a\"\\é\n" || !ok {
		t.Errorf("s = %q, %v", text, ok)
	}
	if n, ok := p.Get("n").Int(); n != -12 || !ok {
		t.Errorf("n = %v, %v", n, ok)
	}
	if _, ok := p.Get("f").Int(); ok {
		t.Error("1.5e3 is not an integer in its shortest form")
	}
	if f, ok := p.Get("f").Float(); f != 1500 || !ok {
		t.Errorf("f = %v, %v", f, ok)
	}
	if b, ok := p.Get("t").Bool(); !b || !ok {
		t.Errorf("t = %v, %v", b, ok)
	}
	if _, ok := p.Get("z").Bool(); ok || p.Get("z").Kind() != 'n' {
		t.Error("null is not a boolean")
	}
	if got := string(p.Find("o", `q"}]`).Raw()); got != `"}]"` {
		t.Errorf("brackets in strings: got %s", got)
	}
	var elements []string
	for i, e := range p.Find("o", "k").Elements() {
		elements = append(elements, string(e.Raw()))
		if got := m.At(e.Span()); string(got) != elements[i] {
			t.Errorf("span of element %d gives %s", i, got)
		}
	}
	if diff := cmp.Diff([]string{"1", `"two"`, `{"three":3}`}, elements); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
	var keys []string
	for k, v := range p.Members() {
		keys = append(keys, k.Unescaped())
		if string(m.At(k.Span())) != string(k.Raw()) || string(m.At(v.Span())) != string(v.Raw()) {
			t.Errorf("spans of %s are wrong", k.Raw())
		}
	}
	if diff := cmp.Diff([]string{"s", "n", "f", "t", "z", "o", "e", "l"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if p.Len() != 8 || p.Get("e").Len() != 0 || p.Get("l").Len() != 0 || p.Find("o", "k").Len() != 3 {
		t.Error("Len is wrong")
	}
}

func TestValueAbsent(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]Value{
		"zero": {}, "of empty": Parse(nil), "missing": Parse([]byte(`{"a":1}`)).Get("b"),
		"of a string": Parse([]byte(`"a"`)).Get("a"), "beyond": Parse([]byte(`{"a":{"b":1}}`)).Find("a", "b", "c"),
	} {
		_, text := v.Text()
		_, number := v.Int()
		_, float := v.Float()
		_, boolean := v.Bool()
		if v.Exists() || v.Kind() != 0 || v.Raw() != nil || v.Len() != 0 || text || number || float || boolean || v.Equals("") {
			t.Errorf("%s: got %+v", name, v)
		}
	}
}

func TestValueEscapedKey(t *testing.T) {
	t.Parallel()
	v := Parse([]byte(` {"n\u0061me":"x"} `))
	if !v.Get("name").Equals("x") || v.Get("nam").Exists() || v.Get(`n\u0061me`).Exists() {
		t.Error("escaped member name is not found by its meaning")
	}
}

func TestLeaves(t *testing.T) {
	t.Parallel()
	v := Parse([]byte(`{"a":"1","b/c":[["2",3,null],{"~":"4","":"5"}],"d":{},"e":true}`))
	got := map[string]string{}
	for pointer, leaf := range Leaves(v) {
		got[pointer], _ = leaf.Text()
	}
	want := map[string]string{"/a": "1", "/b~1c/0/0": "2", "/b~1c/1/~0": "4", "/b~1c/1/": "5"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("leaves (-want +got):\n%s", diff)
	}
	for pointer := range Leaves(Parse([]byte(`"alone"`))) {
		if pointer != "" {
			t.Errorf("pointer of a lone string: %q", pointer)
		}
	}
	for range Leaves(v) {
		break // stopping early must not panic
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	got, err := Tree([]byte(`{"a":[1,2.50,"x\u0041",true,null,{}],"b":9007199254740993}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"a": []any{json.Number("1"), json.Number("2.50"), "xA", true, nil, map[string]any{}},
		"b": json.Number("9007199254740993"),
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	for _, bad := range []string{``, `?`, strings.Repeat("[", 5000)} {
		if _, err := Tree([]byte(bad)); err == nil {
			t.Errorf("Tree(%.10q): no error", bad)
		}
	}
}

func TestIDKey(t *testing.T) {
	t.Parallel()
	if IDKey([]byte(`"a<"`)) != IDKey([]byte(`"\u0061\u003c"`)) {
		t.Error("spellings of one id differ")
	}
	if IDKey([]byte(`"1"`)) == IDKey([]byte(`1`)) {
		t.Error("text and number are one")
	}
}

// TestCanonical holds the examples of RFC 8785.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{
			"section 3.2.2", `{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`,
			`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		{
			"section 3.2.3, sorting", `{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`,
			"{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}",
		},
		{"white space", " { \"b\" : [ 1 , 2 ] , \"a\" : { } } ", `{"a":{},"b":[1,2]}`},
		{"nested sorting", `[{"b":{"d":1,"c":2},"a":0}]`, `[{"a":0,"b":{"c":2,"d":1}}]`},
		{"control characters", `"\u0000\u0008\u0009\u000a\u000b\u000c\u000d\u001f\u007f"`, "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\u007f\""},
		{"no HTML escapes", `"\u003c\u2028\u0026"`, "\"<\u2028&\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Canonical([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("canonical form (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCanonicalNumbers holds appendix B of RFC 8785 as far as JSON can say it, and the edges of the
// format.
func TestCanonicalNumbers(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"0": "0", "-0": "0", "0.0": "0", "-0.0e5": "0", "4.9e-324": "5e-324", "-4.9e-324": "-5e-324",
		"1.7976931348623157e308": "1.7976931348623157e+308", "-1.7976931348623157e308": "-1.7976931348623157e+308",
		"9007199254740992": "9007199254740992", "-9007199254740992": "-9007199254740992",
		"295147905179352830000": "295147905179352830000", "9.999999999999997e22": "9.999999999999997e+22",
		"1e23": "1e+23", "1.0000000000000001e23": "1.0000000000000001e+23", "999999999999999700000": "999999999999999700000",
		"999999999999999900000": "999999999999999900000", "1e21": "1e+21", "1e20": "100000000000000000000",
		"9.999999999999997e-7": "9.999999999999997e-7", "0.000001": "0.000001", "0.0000001": "1e-7",
		"333333333.3333332": "333333333.3333332", "333333333.33333325": "333333333.33333325",
		"333333333.3333333": "333333333.3333333", "333333333.3333334": "333333333.3333334",
		"333333333.33333343": "333333333.33333343", "-0.0000033333333333333333": "-0.0000033333333333333333",
		"1424953923781206.2": "1424953923781206.2", "1.50": "1.5", "100e-2": "1", "9007199254740993": "9007199254740992",
		"1e-400": "0",
	} {
		got, err := Canonical([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("Canonical(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{``, `{`, `{"a":1,"a":2}`, `"\ud800"`, "\"\xff\"", `1 2`, `[1,]`} {
		if got, err := Canonical([]byte(in)); err == nil {
			t.Errorf("Canonical(%q) = %s, want an error", in, got)
		}
	}
	for _, in := range []string{`1e309`, `{"a":[-1e400]}`, `1` + strings.Repeat("0", 400)} {
		if got, err := Canonical([]byte(in)); !errors.Is(err, ErrNumber) {
			t.Errorf("Canonical(%.20s) = %s, %v; want ErrNumber", in, got, err)
		}
	}
	in := []byte(`{"b":1,"a":2}`)
	if _, err := Canonical(in); err != nil || string(in) != `{"b":1,"a":2}` {
		t.Errorf("the input was changed: %s, %v", in, err)
	}
}

func TestRequestDigest(t *testing.T) {
	t.Parallel()
	base := RequestDigest(mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"y":2}}}`))
	for name, c := range map[string]struct {
		raw  string
		same bool
	}{
		"retry with answers": {`{"jsonrpc":"2.0","id":"other","method":"tools/call","params":{"_meta":{"t":1},"arguments":{ "y":2, "x":1.0 },"name":"\u0061","inputResponses":{"q":{}},"requestState":"s"}}`, true},
		"other argument":     {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"y":3}}}`, false},
		"other tool":         {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"b","arguments":{"x":1,"y":2}}}`, false},
		"other method":       {`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"a","arguments":{"x":1,"y":2}}}`, false},
		"more params":        {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"y":2},"z":0}}`, false},
		"state in arguments": {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"y":2,"requestState":"s"}}}`, false},
	} {
		if got := RequestDigest(mustDecode(t, c.raw)) == base; got != c.same {
			t.Errorf("%s: same digest = %v, want %v", name, got, c.same)
		}
	}
	bare, empty := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x"}`), mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{}}}`)
	if RequestDigest(bare) != RequestDigest(empty) {
		t.Error("absent and empty params differ")
	}
	huge, huger := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"n":1e400}}`), mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"n":1e401}}`)
	if RequestDigest(huge) == RequestDigest(huger) {
		t.Error("numbers out of range have one digest")
	}
}

func TestSkippingStringsIsLinear(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"a":"` + strings.Repeat(`\n`, 1<<20) + `","b":1}`)
	start := time.Now()
	if n, ok := Parse(raw).Get("b").Int(); !ok || n != 1 {
		t.Fatalf("b = %d, %v", n, ok)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("skipping a string of %d escapes took %v", 1<<20, took)
	}
}
