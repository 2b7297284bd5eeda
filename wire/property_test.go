package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/warder-mcp/warder"
)

// genValue draws a JSON value as Go values: map, slice, string, number, boolean or nil.
func genValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		n := 4
		if depth > 0 {
			n = 6
		}
		switch rapid.IntRange(0, n-1).Draw(t, "kind") {
		case 0:
			return rapid.String().Draw(t, "string")
		case 1:
			return rapid.Int64Range(-1<<60, 1<<60).Draw(t, "int")
		case 2:
			return rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && f < 1e308 && f > -1e308 }).Draw(t, "float")
		case 3:
			return rapid.SampledFrom([]any{nil, true, false}).Draw(t, "literal")
		case 4:
			return rapid.SliceOfN(genValue(depth-1), 0, 4).Draw(t, "array")
		default:
			return genObject(depth-1).Draw(t, "object")
		}
	})
}

// genObject draws an object whose keys do not collide.
func genObject(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		out, seen := map[string]any{}, keySet{}
		seen.seed = newScanner().keys.seed
		for range rapid.IntRange(0, 20).Draw(t, "members") {
			key := rapid.StringN(0, 6, -1).Draw(t, "key")
			if strings.Contains(key, "\x00") || !seen.add(0, []byte(key)) {
				continue
			}
			out[key] = genValue(depth).Draw(t, "value")
		}
		return out
	})
}

func mustMarshal(t rapid.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPropertyDecode: what encoding/json writes without colliding keys is accepted, and the spans
// give back each member.
func TestPropertyDecode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		params := genObject(3).Draw(t, "params")
		delete(params, "_meta")
		raw := Request([]byte("1"), "x/y", mustMarshal(t, params))
		m, err := Decode(raw, Limits{})
		if err != nil {
			t.Fatalf("Decode(%s): %v", raw, err)
		}
		if len(m.Params) != len(params) {
			t.Fatalf("%d members, want %d", len(m.Params), len(params))
		}
		for _, member := range m.Params {
			want, ok := params[member.Key]
			if !ok {
				t.Fatalf("member %q was not written", member.Key)
			}
			got := m.At(member.Value)
			if !bytes.Equal(got, mustMarshal(t, want)) {
				t.Fatalf("member %q = %s", member.Key, got)
			}
			if v := At(m, m.ParamsSpan).Get(member.Key); !bytes.Equal(v.Raw(), got) {
				t.Fatalf("cursor reads %s, span %s", v.Raw(), got)
			}
		}
	})
}

// TestPropertySplice: setting and removing members gives what a map would hold.
func TestPropertySplice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		params := genObject(2).Draw(t, "params")
		delete(params, "_meta")
		m, err := Decode(Request([]byte("1"), "x/y", mustMarshal(t, params)), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var drop []string
		var edits []Edit
		for _, member := range m.Params {
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				drop = append(drop, member.Key)
				delete(params, member.Key)
			case 1:
				v := genValue(1).Draw(t, "new")
				params[member.Key] = v
				edits = append(edits, SetMember(m, m.ParamsSpan, m.Params, member.Key, mustMarshal(t, v)))
			}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "added") {
			key := "added, a key that is long enough " + strconv.Itoa(i)
			params[key] = i
			edits = append(edits, SetMember(m, m.ParamsSpan, m.Params, key, []byte(strconv.Itoa(i))))
		}
		got, err := Splice(m, Limits{}, append(edits, RemoveMembers(m, m.Params, m.ParamsSpan, drop...)...)...)
		if err != nil {
			t.Fatalf("splice %s: %v", m.Raw, err)
		}
		want, err := Canonical(mustMarshal(t, params))
		if err != nil {
			t.Fatal(err)
		}
		have, err := Canonical(got.At(got.ParamsSpan))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(have)); diff != "" {
			t.Fatalf("params (-want +got):\n%s", diff)
		}
	})
}

// TestPropertyCanonical: the canonical form is its own canonical form, means the same, and does not
// depend on order or white space.
func TestPropertyCanonical(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := genValue(3).Draw(t, "value")
		once, err := Canonical(mustMarshal(t, v))
		if err != nil {
			t.Fatal(err)
		}
		twice, err := Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not idempotent: %s, %s, %v", once, twice, err)
		}
		indented, err := json.MarshalIndent(v, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		spaced, err := Canonical(indented)
		if err != nil || !bytes.Equal(once, spaced) {
			t.Fatalf("white space matters: %s, %s, %v", once, spaced, err)
		}
		var a, b any
		if err := errors.Join(json.Unmarshal(mustMarshal(t, v), &a), json.Unmarshal(once, &b)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("the meaning changed (-want +got):\n%s", diff)
		}
	})
}

// TestPropertyTree: Tree reads what encoding/json reads.
func TestPropertyTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := mustMarshal(t, genValue(3).Draw(t, "value"))
		got, err := Tree(raw)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("tree (-want +got):\n%s", diff)
		}
	})
}

// TestPropertyEvents: events come back as they were written, however the stream is cut.
func TestPropertyEvents(t *testing.T) {
	t.Parallel()
	line := rapid.StringMatching(`[^\r\n\x00]*`)
	rapid.Check(t, func(t *rapid.T) {
		var want []Event
		var stream []byte
		for range rapid.IntRange(0, 8).Draw(t, "events") {
			e := Event{Retry: NoRetry}
			if e.Comment = rapid.Bool().Draw(t, "comment"); e.Comment {
				e.Data = []byte(line.Draw(t, "text"))
			} else {
				e.Data = []byte(strings.Join(rapid.SliceOfN(line, 1, 4).Draw(t, "data"), "\n"))
				e.Name = line.Draw(t, "name")
				if e.HasID = rapid.Bool().Draw(t, "has id"); e.HasID {
					e.ID = line.Draw(t, "id")
				}
				if ms := rapid.IntRange(0, 1e9).Draw(t, "retry"); ms > 0 {
					e.Retry = time.Duration(ms) * time.Millisecond
				}
			}
			stream = AppendEvent(stream, e)
			if e.Data == nil {
				e.Data = []byte{}
			}
			want = append(want, e)
		}
		for _, r := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream))} {
			got, err := readEvents(r, 0)
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for i := range got {
				if got[i].Data == nil {
					got[i].Data = []byte{}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("events (-want +got):\n%s", diff)
			}
		}
	})
}

// TestPropertyHeaderValue: every text survives a header.
func TestPropertyHeaderValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		encoded := EncodeHeaderValue(s)
		if len(encoded) > MaxHeaderValue {
			return // longer than a header may be
		}
		if strings.ContainsAny(encoded, "\r\n") {
			t.Fatalf("header injection: %q", encoded)
		}
		got, err := DecodeHeaderValue(encoded)
		if err != nil || got != s {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
	})
}

// TestPropertyFold: keys collide exactly when strings.EqualFold says they are equal.
func TestPropertyFold(t *testing.T) {
	t.Parallel()
	letter := rapid.SampledFrom([]rune("kKKsSſåÅÅσςΣßẞiIıİǅǆǄaAμµΜ_-."))
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.StringOfN(letter, 1, 3, -1).Draw(t, "a"), rapid.StringOfN(letter, 1, 3, -1).Draw(t, "b")
		if a == b {
			return
		}
		raw := append(append(append(Quote(a), ":1,"...), Quote(b)...), ":2}"...)
		err := Validate(append([]byte{'{'}, raw...), Limits{})
		want := warder.Reason("")
		if strings.EqualFold(a, b) {
			want = ReasonKeyCollision
		}
		if reasonOf(err) != want {
			t.Fatalf("%q and %q: %v, want %q", a, b, err, want)
		}
	})
}
