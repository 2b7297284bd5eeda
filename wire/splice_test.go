package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func TestSetAndRemoveMembers(t *testing.T) {
	t.Parallel()
	type op struct {
		set, value string
		remove     []string
	}
	for _, c := range []struct {
		name, params string
		ops          []op
		want         string
	}{
		{"replace", `{"a":1,"b":2}`, []op{{set: "a", value: "9"}}, `{"a":9,"b":2}`},
		{"add", `{"a":1}`, []op{{set: "b", value: `"x"`}}, `{"a":1,"b":"x"}`},
		{"add to empty", `{}`, []op{{set: "b", value: "1"}}, `{"b":1}`},
		{"add to empty with space", `{ }`, []op{{set: "b", value: "1"}}, `{ "b":1}`},
		{"add two to empty", `{}`, []op{{set: "a", value: "1"}, {set: "b", value: "2"}}, `{"a":1,"b":2}`},
		{"add a key that needs escapes", `{}`, []op{{set: "a\"\n", value: "1"}}, `{"a\"\n":1}`},
		{"replace an escaped key", `{"\u0061":1}`, []op{{set: "a", value: "2"}}, `{"\u0061":2}`},
		{"remove first", `{"a":1,"b":2,"c":3}`, []op{{remove: []string{"a"}}}, `{"b":2,"c":3}`},
		{"remove middle", `{"a":1,"b":2,"c":3}`, []op{{remove: []string{"b"}}}, `{"a":1,"c":3}`},
		{"remove last", `{"a":1,"b":2,"c":3}`, []op{{remove: []string{"c"}}}, `{"a":1,"b":2}`},
		{"remove neighbours", `{"a":1,"b":2,"c":3}`, []op{{remove: []string{"c", "b"}}}, `{"a":1}`},
		{"remove around", `{"a":1,"b":2,"c":3}`, []op{{remove: []string{"a", "c"}}}, `{"b":2}`},
		{"remove all", `{"a":1,"b":2,"c":3}`, []op{{remove: []string{"a", "b", "c"}}}, `{}`},
		{"remove absent", `{"a":1}`, []op{{remove: []string{"z"}}}, `{"a":1}`},
		{"remove all, add two", `{"a":1,"b":2}`, []op{{remove: []string{"a", "b"}}, {set: "c", value: "3"}, {set: "d", value: "4"}}, `{"c":3,"d":4}`},
		{"remove last, add", `{"a":1,"b":2}`, []op{{remove: []string{"b"}}, {set: "c", value: "3"}}, `{"a":1,"c":3}`},
		{"with space", `{ "a" : 1 , "b" : 2 }`, []op{{remove: []string{"a"}}, {set: "c", value: "3"}}, `{ "b" : 2 ,"c":3}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":`+c.params+`}`)
			before := bytes.Clone(m.Raw)
			var edits []Edit
			for _, o := range c.ops {
				if o.set != "" {
					edits = append(edits, SetMember(m, m.ParamsSpan, m.Params, o.set, []byte(o.value)))
				}
				edits = append(edits, RemoveMembers(m, m.Params, m.ParamsSpan, o.remove...)...)
			}
			got, err := Splice(m, Limits{}, edits...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got.At(got.ParamsSpan))); diff != "" {
				t.Errorf("params (-want +got):\n%s", diff)
			}
			if !bytes.Equal(before, m.Raw) {
				t.Error("the message was changed in place")
			}
		})
	}
}

func TestSpliceRefuses(t *testing.T) {
	t.Parallel()
	m := mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1}}`)
	a := m.Params.Get("a")
	for _, c := range []struct {
		name  string
		edits []Edit
		want  warder.Reason
	}{
		{"overlap", []Edit{{At: a, New: []byte("2")}, {At: a, New: []byte("3")}}, ReasonBadEdit},
		{"beyond the end", []Edit{{At: warder.Span{Start: 5, End: len(m.Raw) + 1}}}, ReasonBadEdit},
		{"backwards", []Edit{{At: warder.Span{Start: 5, End: 4}}}, ReasonBadEdit},
		{"before the start", []Edit{{At: warder.Span{Start: -1, End: 4}}}, ReasonBadEdit},
		{"not JSON", []Edit{{At: a, New: []byte("1,")}}, ReasonBadJSON},
		{"smuggles a member", []Edit{{At: a, New: []byte(`1,"A":2`)}}, ReasonKeyCollision},
		{"smuggles a message", []Edit{{At: warder.Span{Start: len(m.Raw), End: len(m.Raw)}, New: []byte("{}")}}, ReasonTrailingData},
		{"adds a colliding member", []Edit{SetMember(m, m.ParamsSpan, m.Params, "A", []byte("1"))}, ReasonKeyCollision},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, err := Splice(m, Limits{}, c.edits...); reasonOf(err) != c.want {
				t.Errorf("Splice = %v, %v; want %s", got, err, c.want)
			}
		})
	}
	if _, err := Splice(m, Limits{Bytes: int64(len(m.Raw))}, Edit{At: a, New: []byte("22")}); reasonOf(err) != ReasonTooLarge {
		t.Errorf("splice beyond the limit: %v", err)
	}
}

func TestWithIDAndTarget(t *testing.T) {
	t.Parallel()
	m := mustDecode(t, `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"s__echo"}}`)
	got, err := WithID(m, []byte("7"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got, err = WithTarget(got, `e"cho`, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"e\"cho"}}`, string(got.Raw)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if got.Target != `e"cho` {
		t.Errorf("target %q", got.Target)
	}
	if _, err := WithTarget(mustDecode(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`), "x", Limits{}); err == nil {
		t.Error("a message without target was renamed")
	}
	added, err := WithID(mustDecode(t, `{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}`), []byte(`"n"`), Limits{})
	if err != nil || string(added.IDBytes()) != `"n"` {
		t.Errorf("id added to an error: %v, %v", added, err)
	}
}

func TestBuilders(t *testing.T) {
	t.Parallel()
	for want, got := range map[string][]byte{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:                                                 Request([]byte("1"), "ping", nil),
		`{"jsonrpc":"2.0","id":"a","method":"x","params":{"a":1}}`:                                 Request([]byte(`"a"`), "x", []byte(`{"a":1}`)),
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:                                   Notification(NotifyInitialized, nil),
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                                                     Response([]byte("1"), nil),
		`{"jsonrpc":"2.0","id":1,"error":{"code":-31403,"message":"no \"way\"","data":{"r":"x"}}}`: ErrorResponse([]byte("1"), -31403, `no "way"`, []byte(`{"r":"x"}`)),
		`{"jsonrpc":"2.0","error":{"code":-32700,"message":""}}`:                                   ErrorResponse(nil, -32700, "", nil),
	} {
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
		mustDecode(t, string(got))
	}
	if got := string(Quote("a\xff\u2028<")); got != "\"a\ufffd\u2028<\"" {
		t.Errorf("Quote = %s", got)
	}
}

func TestSplitBatch(t *testing.T) {
	t.Parallel()
	one := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	big := "[" + string(bytes.Repeat([]byte("1,"), 100)) + "1]"
	for _, c := range []struct {
		name, raw string
		n         int
		batch     bool
		reason    warder.Reason
	}{
		{"single", one, 1, false, ""},
		{"two", " [" + one + " , " + one + "] ", 2, true, ""},
		{"garbage is one message", "garbage", 1, false, ""},
		{"empty", "[]", 0, true, ReasonBatch},
		{"too many", big, 0, true, ReasonBatch},
		{"not JSON", "[" + one + ",]", 0, true, ReasonBadJSON},
		{"duplicate in one", `[{"a":1,"a":2}]`, 0, true, ReasonDuplicateKey},
		{"trailing", "[" + one + "]" + one, 0, true, ReasonTrailingData},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, batch, err := SplitBatch([]byte(c.raw), Limits{})
			if len(got) != c.n || batch != c.batch || reasonOf(err) != c.reason {
				t.Errorf("SplitBatch = %d messages, %v, %v", len(got), batch, err)
			}
		})
	}
}
