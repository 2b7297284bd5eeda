package skip

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestEnds(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `[]`, `""`, `0`, `-1.5e+9`, `true`, `false`, `null`, `{"a":[1,{"b":"}"}],"c":"]"}`, `[[],[[]],"[",{}]`,
		`"\""`, `"\\"`, `"\\\""`, `"a\\\\"`, `[ 1 , 2 ]`, `{"\"":"\\"}`,
	} {
		for _, after := range []string{"", ",1", "]", "}", " ", "\n", `,"x"`} {
			if text[0] != '"' && text[0] != '{' && text[0] != '[' && after == `,"x"` {
				continue
			}
			b := []byte("[" + text + after)
			if got := Value(b, 1); got != 1+len(text) {
				t.Errorf("Value(%s, 1) = %d, want %d", b, got, 1+len(text))
			}
		}
	}
	if got := Space([]byte(" \t\r\n x"), 0); got != 5 {
		t.Errorf("Space = %d, want 5", got)
	}
}

// FuzzValue finds no text, valid or not, that makes the package leave its bounds, and no valid value
// whose end it misses.
func FuzzValue(f *testing.F) {
	for _, s := range []string{`{"a":["\\\"",1]}`, `"\`, `[`, `{"`, `}`, strings.Repeat("[", 100)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for i := range b {
			ends := []int{Space(b, i), Scalar(b, i), Value(b, i)}
			if b[i] == '"' {
				ends = append(ends, String(b, i))
			}
			if slices.Min(ends) < i || slices.Max(ends) > len(b) {
				t.Fatalf("offsets %v for %q from %d", ends, b, i)
			}
		}
		if !json.Valid(b) {
			return
		}
		start := Space(b, 0)
		if end := Value(b, start); string(bytes.TrimSpace(b)) != string(b[start:end]) {
			t.Errorf("Value(%q) ends at %d", b, end)
		}
	})
}
