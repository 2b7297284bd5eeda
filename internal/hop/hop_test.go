package hop

import (
	"strings"
	"testing"
)

func TestDepth(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]int{
		"": 0, "vendor=x": 0, "warder=h1": 1, "vendor=x, warder=h12 ,other=y": 12,
		"warder=h": Max, "warder=hx": Max, "warder=h-1": Max, "warder=h9999": Max, "xwarder=h3": 0,
	} {
		if got := Depth(state); got != want {
			t.Errorf("Depth(%q) = %d, want %d", state, got, want)
		}
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{
		"":                              "warder=h1",
		"vendor=x":                      "warder=h1,vendor=x",
		"vendor=x,warder=h1":            "warder=h2,vendor=x",
		"a=1, warder=h7 , b=2,":         "warder=h8,a=1,b=2",
		"warder=h255":                   "warder=h255",
		"v=" + strings.Repeat("x", 600): "warder=h1",
	} {
		if got := Next(state); got != want {
			t.Errorf("Next(%q) = %q, want %q", state, got, want)
		}
	}
	state := ""
	for want := 1; want <= 20; want++ {
		if state = Next(state); Depth(state) != want {
			t.Fatalf("after %d hops: Depth(%q) = %d", want, state, Depth(state))
		}
	}
}
