package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestLeaves counts the same run with and without the tests that have sub-tests.
func TestLeaves(t *testing.T) {
	t.Parallel()
	run := func(lines ...string) string {
		var b strings.Builder
		for _, l := range lines {
			action, test, _ := strings.Cut(l, " ")
			fmt.Fprintf(&b, "{\"Action\":%q,\"Package\":\"p\",\"Test\":%q}\n", action, test)
		}
		return b.String()
	}
	good := run("run A", "run A/b", "run A/b/c", "pass A/b/c", "pass A/b", "run A/d", "pass A/d", "pass A", "run E", "pass E", "pass ")
	bad := run("run A", "run A/b", "fail A/b", "run A/c", "pass A/c", "fail A", "fail ")
	own := run("run A", "run A/b", "pass A/b", "fail A", "fail ")
	tests := []struct {
		name           string
		in             string
		leaves         bool
		passed, failed int
	}{
		{"all", good, false, 5, 0},
		{"leaves", good, true, 3, 0},
		{"a sub-test failed", bad, false, 1, 2},
		{"a leaf failed", bad, true, 1, 1},
		{"only the parent failed", own, true, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := counter{out: io.Discard, lines: map[string][]string{}, leaves: tt.leaves}
			if err := c.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			if c.passed != tt.passed || c.failed != tt.failed {
				t.Errorf("%d passed, %d failed, want %d and %d", c.passed, c.failed, tt.passed, tt.failed)
			}
		})
	}
}
