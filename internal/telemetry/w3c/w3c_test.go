package w3c

import (
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
)

const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestParse(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		good:                               true,
		good[:53] + "00":                   true,
		good[:53] + "ff":                   true, // other flags are ignored
		"cc" + good[2:] + "-what-ever":     true, // later versions may carry more
		"cc" + good[2:]:                    true,
		"cc" + good[2:] + ".x":             false,
		"ff" + good[2:]:                    false,
		good + "-00":                       false, // version 00 has exactly four fields
		strings.ToUpper(good):              false,
		good[:54]:                          false,
		"":                                 false,
		" " + good:                         false,
		strings.Replace(good, "-", "_", 1): false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01": false,
		"0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": false,
	} {
		got, ok := Parse(s)
		if ok != want {
			t.Errorf("Parse(%q) ok = %v, want %v", s, ok, want)
		}
		if ok && got.SpanID != [8]byte{} {
			t.Errorf("Parse(%q) sets the span of the exchange", s)
		}
	}
	got, _ := Parse(good)
	got.SpanID = got.Parent
	if f := Format(got); f != good {
		t.Errorf("Format = %q, want %q", f, good)
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                                 "",
		"rojo=00f067aa0ba902b7":            "rojo=00f067aa0ba902b7",
		"rojo=1, congo=t61 ,,":             "rojo=1,congo=t61",
		"1tenant@vendor=x":                 "1tenant@vendor=x",
		"rojo=1,rojo=2":                    "refused",
		"Rojo=1":                           "refused",
		"rojo":                             "refused",
		"rojo=":                            "refused",
		"rojo=a=b":                         "refused",
		"rojo=\x01":                        "refused",
		"a@b@c=1":                          "refused",
		"x=" + strings.Repeat("y", 257):    "refused",
		strings.Repeat("a=1,", 200) + "b=": "refused",
	} {
		got, ok := State(s)
		if !ok {
			got = "refused"
		}
		if got != want {
			t.Errorf("State(%q) = %q, want %q", s, got, want)
		}
	}
	var many []string
	for i := range 33 {
		many = append(many, string(rune('a'+i%26))+strings.Repeat("z", i/26)+"=1")
	}
	if _, ok := State(strings.Join(many, ",")); ok {
		t.Error("33 members were accepted")
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	allow := func(k string) bool { return k == "tenant" || k == "region" }
	for s, want := range map[string]string{
		"tenant=a,user=bob;p=1,region=eu;ttl=3": "tenant=a,region=eu;ttl=3",
		"user=bob":                              "",
		"tenant":                                "",
		"tenant=a\x00b":                         "",
		"tenant =x":                             "tenant =x",
		"tenant=" + strings.Repeat("x", 9000):   "",
	} {
		got, dropped := Keep(s, allow)
		if got != want || (dropped == 0) != (got == s) {
			t.Errorf("Keep(%.40q) = %q, %d dropped; want %q", s, got, dropped, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good, "rojo=1,congo=t61")
	f.Add("cc"+good[2:]+"-x", "a@b=1")
	f.Fuzz(func(t *testing.T, parent, state string) {
		tr, ok := Parse(parent)
		if ok {
			if tr.TraceID == ([16]byte{}) || tr.Parent == ([8]byte{}) {
				t.Fatalf("Parse(%q) accepted zero ids", parent)
			}
			again := warder.Trace{TraceID: tr.TraceID, SpanID: tr.Parent, Sampled: tr.Sampled}
			back, ok := Parse(Format(again))
			if !ok || back != tr {
				t.Fatalf("round trip of %q: %+v, want %+v", parent, back, tr)
			}
		}
		if s, ok := State(state); ok {
			if again, ok := State(s); !ok || again != s {
				t.Fatalf("State(%q) is not stable: %q, %v", state, again, ok)
			}
		}
		kept, _ := Keep(state, func(string) bool { return true })
		if again, dropped := Keep(kept, func(string) bool { return true }); again != kept || dropped != 0 {
			t.Fatalf("Keep(%q) is not stable: %q", state, again)
		}
	})
}
