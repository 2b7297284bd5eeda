package shape

import (
	"strings"
	"testing"
)

// TestParseRefuses proves that a mistake in a table is an error at start-up and never a milder rule.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const good = "client request a/b params?: P result: {x: R}\nerror {code: integer}\nP = {a: string<uri>, \"b/c\"?: [R]{..3}, *: any}\nR = (\"x\" | \"y\")\n"
	if _, err := parseTable(good); err != nil {
		t.Fatalf("%v", err)
	}
	for name, change := range map[string][2]string{
		"undefined name":             {"R = ", "Q = "},
		"unknown format":             {"<uri>", "<date>"},
		"open bracket":               {"]{..3}", "{..3}"},
		"no length":                  {"{..3}", "{..}"},
		"text after":                 {"\"y\")\n", "\"y\") any\n"},
		"no colon":                   {"code: integer", "code integer"},
		"no params":                  {"params?: P ", ""},
		"request without result":     {" result: {x: R}", ""},
		"notification with a result": {"client request", "client notification"},
		"unclosed string":            {`"y")`, `"y)`},
		"no equals":                  {"R = ", "R "},
		"alias of itself":            {`R = ("x" | "y")`, "R = R"},
		"bad bounds":                 {"code: integer", "code: integer[a..]"},
		"unclosed bounds":            {"code: integer", "code: integer[1"},
		"empty expression":           {"x: R", "x: "},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s: changes nothing", name)
		}
		if _, err := parseTable(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for f, texts := range map[format]map[string]bool{
		formatURI: {
			"file:///a": true, "a:b": true, "a:": true, "http://[::1]:80/x?y#z": true, "urn:x:y%20z": true, "http://u:p@h:1/": true, "a:b#": true,
			"": false, "a": false, "/a": false, ":a": false, "1a:b": false, "a b:c": false, "a:b c": false, "a:%2": false, "a:%zz": false,
			"a:\\b": false, "a:é": false, "a:b#c#d": false, "http://[::1": false, "http://[x]/": false, "http://h:x/": false, "a:[": false, "http://a@b@c/": false,
		},
		formatTemplate: {
			"a:/{b}": true, "{+a,b*}{?c:3}": true, "": true, "x": true, "{a.b}": true,
			"{": false, "}": false, "{}": false, "{a": false, "{a{b}}": false, "{a b}": false, "{a:0}": false, "{?}": false, "a b": false, "{a..b}": false, "{=a}": false,
		},
		formatByte: {
			"": true, "AA==": true, "AAA=": true, "AAAA": true, "+/8=": true, `\/\/8=`: true, `\u0041A==`: true,
			"A": false, "AA": false, "AAA": false, "====": false, "A===": false, "AA=A": false, "AA-_": false, "AA=\x20": false, `AA\n==`: false, "AAAAA===": false,
		},
	} {
		for text, want := range texts {
			if got := f.fits([]byte(text)); got != want {
				t.Errorf("%s %q: got %v, want %v", f, text, got, want)
			}
		}
	}
}
