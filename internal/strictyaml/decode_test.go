package strictyaml

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type colour string

func (c *colour) UnmarshalText(text []byte) error {
	if string(text) != "red" && string(text) != "blue" {
		return fmt.Errorf("colour %q: want red or blue", Clip(string(text)))
	}
	*c = colour(text)
	return nil
}

// Base is inlined into shape.
type Base struct {
	Size int `yaml:"size"`
}

// shape has every kind of field.
type shape struct {
	Name   string        `yaml:"name"`
	Wait   time.Duration `yaml:"wait"`
	Hue    colour        `yaml:"hue"`
	Ratio  float64       `yaml:"ratio"`
	Small  uint8         `yaml:"small"`
	Open   bool          `yaml:"open"`
	Tags   []string      `yaml:"tags"`
	Inner  *Base         `yaml:"inner"`
	ByName map[string]Base
	Base   `yaml:",inline"`
	Hidden string `yaml:"-"`
}

func TestDecodeFillsAndKeepsDefaults(t *testing.T) {
	got := struct {
		Shape shape  `yaml:"shape"`
		Kept  string `yaml:"kept"`
		Null  string `yaml:"null_kept"`
	}{Kept: "default", Null: "default"}
	err := Decode("t.yaml", []byte("null_kept: null\nshape:\n  name: a\n  wait: 5m\n  hue: red\n  size: 3\n  inner: {size: 4}\n  tags: [x, y]\n  byname: {k: {size: 5}}\n"), &got, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := shape{Name: "a", Wait: 5 * time.Minute, Hue: "red", Tags: []string{"x", "y"}, Inner: &Base{4}, ByName: map[string]Base{"k": {5}}, Base: Base{3}}
	if diff := cmp.Diff(want, got.Shape); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Kept != "default" || got.Null != "default" {
		t.Errorf("defaults = %q, %q; a key left out and null keep them", got.Kept, got.Null)
	}
}

func TestDecodeRefusesEveryWrongValue(t *testing.T) {
	var into shape
	err := Decode("t.yaml", []byte(`name: 1
wait: 5 minutes
hue: green
ratio: much
small: 256
open: "true"
tags: x
inner: []
size: 1.5
hidden: a
unknown: b
byname: {k: {sise: 1}}
`), &into, nil)
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%T, want *Error: %v", err, err)
	}
	var got []string
	for _, p := range e.Problems {
		got = append(got, p.String())
	}
	want := []string{
		`t.yaml:1:7: name: want text, got a number`,
		`t.yaml:2:7: wait: want a duration such as 5m, got "5 minutes"`,
		`t.yaml:3:6: hue: colour "green": want red or blue`,
		`t.yaml:4:8: ratio: want a number, got "much"`,
		`t.yaml:5:8: small: want a whole number, got "256"`,
		`t.yaml:6:7: open: want true or false, got "true"`,
		`t.yaml:7:7: tags: want a list, got text`,
		`t.yaml:8:8: inner: want a mapping, got a list`,
		`t.yaml:9:7: size: want a whole number, got "1.5"`,
		`t.yaml:10:1: hidden: unknown key "hidden"`,
		`t.yaml:11:1: unknown: unknown key "unknown"`,
		`t.yaml:12:14: byname.k.sise: unknown key "sise"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestEditDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"listen", "listen", 0}, {"lisen", "listen", 1}, {"lsiten", "listen", 1}, {"a", "listen", 3}, {"", "ab", 2}, {"ab", "", 2}} {
		if got := EditDistance(tc.a, tc.b, 3); got != tc.want {
			t.Errorf("EditDistance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
