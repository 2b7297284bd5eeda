package rar

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	detail := func(members string) string { return `[{"type":"mcp",` + members + `}]` }
	bound := func(members string) string { return detail(`"arguments":[{` + members + `}]`) }
	long := strings.Repeat("x", MaxName+1)
	for _, raw := range []string{
		``, `null`, `{}`, `[]`, `[1]`, `[{}]`, `[{"type":1}]`, `[{"type":"mcp"}`, `[{"type":"mcp","type":"mcp"}]`,
		`[{"type":"mcp","Type":"x"}]`, detail(`"tool":"a"`), detail(`"server":""`), detail(`"server":1`), detail(`"server":"` + long + `"`),
		detail(`"server":"a\nb"`), detail(`"tools":[]`), detail(`"tools":"a"`), detail(`"tools":["a","a"]`), detail(`"tools":[""]`),
		detail(`"max_calls":0`), detail(`"max_calls":-1`), detail(`"max_calls":1.5`), detail(`"max_calls":"1"`), detail(`"max_calls":1000000001`),
		detail(`"arguments":[]`), detail(`"arguments":{}`), detail(`"purpose":null`), bound(`"pointer":"/a"`), bound(`"equals":1`),
		bound(`"pointer":"a","equals":1`), bound(`"pointer":"/a~2","equals":1`), bound(`"pointer":"/~","equals":1`),
		bound(`"pointer":"/a","equals":1,"prefix":"x"`), bound(`"pointer":"/a","equals":1,"one_of":[1]`), bound(`"pointer":"/a","prefix":""`),
		bound(`"pointer":"/a","one_of":[]`), bound(`"pointer":"/a","min":2,"max":1`), bound(`"pointer":"/a","min":"1"`),
		bound(`"pointer":"/a","min":1e999`), bound(`"pointer":"/a","max":9007199254740993`), bound(`"pointer":"/a","equals":9007199254740993`),
		bound(`"pointer":"/a","prefix":"https://api.example"`), bound(`"pointer":"/a","like":"x"`), bound(`"pointer":"/` + strings.Repeat("x", MaxPointer) + `","equals":1`),
		`[` + strings.Repeat(`{"type":"mcp"},`, MaxDetails) + `{"type":"mcp"}]`, detail(`"server":"` + strings.Repeat("x", MaxBytes) + `"`),
	} {
		if d, err := Parse([]byte(raw)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.100s: read as %+v, %v", raw, d, err)
		}
	}
	if _, err := Parse([]byte(`[{"type":"payment"}]`)); !errors.Is(err, ErrType) {
		t.Errorf("another type: %v", err)
	}
}

func TestEncodeIsCanonical(t *testing.T) {
	t.Parallel()
	const raw = `[{"type":"mcp","tools":["b","a"],"server":"s","purpose":"p","max_calls":3,"arguments":[{"pointer":"/n","max":1e1,"min":-0.5},{"one_of":[{"b":1,"a":2.0}],"pointer":""}]}]`
	const want = `[{"arguments":[{"max":10,"min":-0.5,"pointer":"/n"},{"one_of":[{"a":2,"b":1}],"pointer":""}],"max_calls":3,"purpose":"p","server":"s","tools":["b","a"],"type":"mcp"}]`
	d, err := Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(Encode(d))); diff != "" {
		t.Errorf("encoded (-want +got):\n%s", diff)
	}
	for name, bad := range map[string][]warder.Detail{
		"none": nil, "value that is no JSON": {{Arguments: []warder.Bound{{Equals: []byte("{")}}}},
		"bound without a limit": {{Arguments: []warder.Bound{{Pointer: "/a"}}}}, "name": {{Server: "a\nb"}},
	} {
		if b := Encode(bad); b != nil {
			t.Errorf("%s: encoded as %s", name, b)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ bound, args, want string }{
		{`"equals":"a"`, `{"v":"\u0061"}`, ""},
		{`"equals":"a"`, `{"v":"A"}`, "equals"},
		{`"equals":10`, `{"v":1e1}`, ""},
		{`"equals":10`, `{"v":"10"}`, "equals"},
		{`"equals":10`, `{"v":10.0000000000000000000001}`, "equals"},
		{`"equals":0`, `{"v":-0.0e5}`, ""},
		{`"equals":{"a":[1,2],"b":null}`, `{"v":{"b":null,"a":[1.0,2]}}`, ""},
		{`"equals":{"a":1}`, `{"v":{"a":1,"b":2}}`, "equals"},
		{`"equals":[1,2]`, `{"v":[2,1]}`, "equals"},
		{`"equals":null`, `{}`, "equals"},
		{`"equals":null`, `{"v":null}`, ""},
		{`"one_of":[1,"a",true]`, `{"v":true}`, ""},
		{`"one_of":[1,"a",true]`, `{"v":"true"}`, "one_of"},
		{`"prefix":"/srv/"`, `{"v":"/srv/a..b"}`, ""},
		{`"prefix":"/srv/"`, `{"v":"/srv"}`, "prefix"},
		{`"prefix":"/srv/"`, `{"v":"/srv/../etc"}`, "prefix"},
		{`"prefix":"/srv/"`, `{"v":"/srv/a/.."}`, "prefix"},
		{`"prefix":"/srv/"`, `{"v":"/srv/..\\etc"}`, "prefix"},
		{`"prefix":"https://a.example/x/"`, `{"v":"https://a.example/x/%2E%2e/y"}`, "prefix"},
		{`"prefix":"https://a.example/x/"`, `{"v":"https://a.example/x/%2e%2e%2fy"}`, "prefix"},
		{`"prefix":"INV-"`, `{"v":"INV-../.."}`, ""},
		{`"prefix":"a"`, `{"v":["a"]}`, "prefix"},
		{`"min":1,"max":2`, `{"v":2}`, ""},
		{`"min":1,"max":2`, `{"v":2.00000000000000000001}`, "max"},
		{`"min":1,"max":2`, `{"v":0.99999999999999999999}`, "min"},
		{`"max":0`, `{"v":1e-999}`, "max"},
		{`"max":9007199254740992`, `{"v":9007199254740993}`, "max"},
		{`"max":2`, `{"v":1e999}`, "max"},
		{`"min":2`, `{"v":1e99999999999999999999}`, "min"},
	} {
		d, err := Parse([]byte(`[{"type":"mcp","server":"s","arguments":[{"pointer":"/v",` + tt.bound + `}]}]`))
		if err != nil {
			t.Fatalf("%s: %v", tt.bound, err)
		}
		got := ""
		if v := CheckBounds(d[0].Arguments, wire.Parse([]byte(tt.args))); v != nil {
			got = v.Want
		}
		if got != tt.want {
			t.Errorf("%s of %s breaks %q, want %q", tt.args, tt.bound, got, tt.want)
		}
	}
	if v := CheckBounds([]warder.Bound{{Pointer: "/v"}}, wire.Parse([]byte(`{"v":1}`))); v == nil {
		t.Error("a bound without a limit is kept")
	}
}

func TestPointers(t *testing.T) {
	t.Parallel()
	args := wire.Parse([]byte(`{"a":[10,{"b/c":1,"d~e":2,"":3}],"01":4}`))
	for pointer, want := range map[string]string{
		"": string(args.Raw()), "/a/0": "10", "/a/1/b~1c": "1", "/a/1/d~0e": "2", "/a/1/": "3", "/01": "4",
		"/a/00": "", "/a/-": "", "/a/2": "", "/a/+1": "", "/a/0/x": "", "/b": "", "/a/1/~01": "",
	} {
		if got := string(resolve(args, pointer).Raw()); got != want {
			t.Errorf("%q leads to %q, want %q", pointer, got, want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	d, err := Parse([]byte(`[{"type":"mcp","server":"a","tools":["x"],"max_calls":1},{"type":"mcp","server":"a","tools":["x","y"],"arguments":[{"pointer":"/n","max":1}]},{"type":"mcp","server":"b","purpose":"p"}]`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		call Call
		args string
		at   int
		want string
	}{
		{Call{Server: "a", Tool: "x"}, `{}`, 0, ""},
		{Call{Server: "a", Tool: "x"}, `{"n":1}`, 1, ""}, // does not count calls
		{Call{Server: "a", Tool: "y"}, `{"n":2}`, -1, "arguments"},
		{Call{Server: "a", Tool: "z"}, `{}`, -1, "tools"},
		{Call{Server: "c", Tool: "x"}, `{}`, -1, "server"},
		{Call{Server: "b", Tool: "q", Purpose: "p"}, `{}`, 2, ""},
		{Call{Server: "b", Tool: "q", Purpose: "r"}, `{}`, -1, "purpose"},
	} {
		tt.call.Args = wire.Parse([]byte(tt.args))
		at, v := Find(d, tt.call)
		field := ""
		if v != nil {
			field = v.Field
		}
		if at != tt.at || field != tt.want {
			t.Errorf("%+v %s: detail %d, %q, want %d, %q", tt.call, tt.args, at, field, tt.at, tt.want)
		}
	}
	if at, v := Find(nil, Call{}); at != -1 || v != nil {
		t.Errorf("no details: %d, %v", at, v)
	}
}

func TestNarrowerCountsCalls(t *testing.T) {
	t.Parallel()
	n := func(calls ...int) (out []warder.Detail) {
		for _, c := range calls {
			out = append(out, warder.Detail{Server: "s", MaxCalls: c})
		}
		return out
	}
	for _, tt := range []struct {
		have, want []warder.Detail
		ok         bool
	}{
		{nil, nil, true},
		{nil, n(1), true},
		{n(5), nil, false},
		{n(5), n(5), true},
		{n(5), n(2, 3), true},
		{n(5), n(3, 3), false},
		{n(5), n(0), false},
		{n(5), n(6), false},
		{n(0, 1), n(7, 7), true},
		{n(2, 3), n(3, 2), true},
	} {
		if got := Narrower(tt.have, tt.want); got != tt.ok {
			t.Errorf("have %+v, want %+v: %v", tt.have, tt.want, got)
		}
	}
}

// The generators draw from small sets, so that details overlap.
func genBound() *rapid.Generator[warder.Bound] {
	return rapid.Custom(func(t *rapid.T) warder.Bound {
		b := warder.Bound{Pointer: rapid.SampledFrom([]string{"/a", "/b"}).Draw(t, "pointer")}
		value := func() []byte {
			return []byte(rapid.SampledFrom([]string{`1`, `2`, `"x"`, `"/s/a"`, `"/s/../a"`, `true`}).Draw(t, "value"))
		}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			b.Equals = value()
		case 1:
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				b.OneOf = append(b.OneOf, value())
			}
		case 2:
			b.Prefix = rapid.SampledFrom([]string{"/", "/s", "/s/", "/s/a", "x"}).Draw(t, "prefix")
		default:
			lo, hi := rapid.Float64Range(0, 3).Draw(t, "min"), rapid.Float64Range(0, 3).Draw(t, "more")
			if hi += lo; rapid.Bool().Draw(t, "both") {
				b.Min, b.Max = &lo, &hi
			} else {
				b.Max = &hi
			}
		}
		return b
	})
}

func genDetails() *rapid.Generator[[]warder.Detail] {
	name := rapid.SampledFrom([]string{"", "s", "t"})
	one := rapid.Custom(func(t *rapid.T) warder.Detail {
		return warder.Detail{
			Server:    name.Draw(t, "server"),
			Tools:     rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), 0, 2, rapid.ID[string]).Draw(t, "tools"),
			Arguments: rapid.SliceOfN(genBound(), 0, 2).Draw(t, "arguments"),
			Purpose:   name.Draw(t, "purpose"),
			MaxCalls:  rapid.IntRange(0, 2).Draw(t, "calls"),
		}
	})
	return rapid.SliceOfN(one, 0, 3)
}

// TestNarrowerIsSound proves that what a narrower set of details covers, the wider one covers, too.
func TestNarrowerIsSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		have, want := genDetails().Draw(t, "have"), genDetails().Draw(t, "want")
		if rapid.Bool().Draw(t, "derive") { // independent draws are seldom narrower
			want = derive(t, have)
		}
		if !Narrower(have, want) {
			return
		}
		value := rapid.SampledFrom([]string{`1`, `2`, `1.5`, `"x"`, `"xy"`, `"/s/a"`, `"/s/../a"`, `"/sa"`, `true`, `null`})
		args := fmt.Sprintf(`{"a":%s,"b":%s}`, value.Draw(t, "a"), value.Draw(t, "b"))
		call := Call{
			Server: rapid.SampledFrom([]string{"s", "t"}).Draw(t, "at"), Tool: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "tool"),
			Purpose: rapid.SampledFrom([]string{"", "s", "t"}).Draw(t, "for"), Args: wire.Parse([]byte(args)),
		}
		if _, v := Find(want, call); v != nil {
			return
		}
		if _, v := Find(have, call); v != nil {
			t.Fatalf("covered by the narrower details only: %s", v)
		}
	})
}

// derive draws details that are mostly narrower.
func derive(t *rapid.T, have []warder.Detail) []warder.Detail {
	var out []warder.Detail
	for _, d := range have {
		d.Arguments = append(append([]warder.Bound(nil), d.Arguments...), rapid.SliceOfN(genBound(), 0, 1).Draw(t, "more")...)
		if len(d.Tools) > 1 {
			d.Tools = d.Tools[:1]
		}
		out = append(out, d)
	}
	return out
}

// TestNarrowerOfItself proves that every set of details is as narrow as itself, and that what Encode
// writes Parse reads.
func TestNarrowerOfItself(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := genDetails().Draw(t, "details")
		if !Narrower(d, d) {
			t.Fatal("wider than itself")
		}
		raw := Encode(d)
		if len(d) == 0 {
			return
		}
		back, err := Parse(raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if again := Encode(back); !bytes.Equal(raw, again) || !Narrower(d, back) || !Narrower(back, d) {
			t.Fatalf("%s was read as %s", raw, again)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"type":"mcp","server":"s","tools":["a"],"arguments":[{"pointer":"/p","prefix":"/srv/"},{"pointer":"/n","max":1e1}],"max_calls":3}]`), []byte(`{"p":"/srv/x","n":1}`))
	f.Add([]byte(`[{"type":"mcp","arguments":[{"pointer":"","one_of":[{"a":1}]}]}]`), []byte(`{"a":1}`))
	f.Fuzz(func(t *testing.T, raw, args []byte) {
		d, err := Parse(raw)
		if err != nil {
			return
		}
		canonical := Encode(d)
		back, err := Parse(canonical)
		if err != nil || !bytes.Equal(canonical, Encode(back)) {
			t.Fatalf("%s was written as %s: %v", raw, canonical, err)
		}
		if wire.Validate(args, wire.Limits{}) != nil {
			return
		}
		a, b := Check(d, "s", "a", wire.Parse(args)), Check(back, "s", "a", wire.Parse(args))
		if (a == nil) != (b == nil) {
			t.Fatalf("%s: %v as given, %v as written", raw, a, b)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	d, err := Parse([]byte(`[{"type":"mcp","server":"s","tools":["a"],"arguments":[{"pointer":"/p","prefix":"/srv/"},{"pointer":"/n","max":10}]}]`))
	if err != nil {
		b.Fatal(err)
	}
	args := wire.Parse([]byte(`{"p":"/srv/x","n":3}`))
	b.ReportAllocs()
	for b.Loop() {
		if Check(d, "s", "a", args) != nil {
			b.Fatal("refused")
		}
	}
}
