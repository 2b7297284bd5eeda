package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const stream = `
{"Action":"run","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"noise\n"}
{"Action":"pass","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestBad","Output":"    a_test.go:1: want 1\n"}
{"Action":"output","Package":"a","Test":"TestBad","Output":"--- FAIL: TestBad\n"}
{"Action":"fail","Package":"a","Test":"TestBad"}
{"Action":"output","Package":"a","Test":"TestNot","Output":"    a_test.go:2: needs root\n"}
{"Action":"skip","Package":"a","Test":"TestNot"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t0.1s\n"}
{"Action":"fail","Package":"a"}
{"Action":"output","Package":"b","Output":"PASS\n"}
{"Action":"output","Package":"b","Output":"ok  \tb\t0.1s\n"}
{"Action":"pass","Package":"b"}
{"ImportPath":"c","Action":"build-output","Output":"c.go:1: syntax error\n"}
{"Action":"output","Package":"c","Output":"FAIL\tc [build failed]\n"}
{"Action":"fail","Package":"c","FailedBuild":"c"}
`

func TestCounts(t *testing.T) {
	var out strings.Builder
	c := counter{out: &out, lines: map[string][]string{}}
	if err := c.read(strings.NewReader(strings.TrimSpace(stream))); err != nil {
		t.Fatal(err)
	}
	if c.passed != 1 || c.failed != 2 || c.skipped != 1 {
		t.Errorf("%d passed, %d failed, %d skipped; want 1, 2 (TestBad and the package that did not build), 1", c.passed, c.failed, c.skipped)
	}
	want := `    a_test.go:1: want 1
--- FAIL: TestBad
    a_test.go:2: needs root
FAIL	a	0.1s
ok  	b	0.1s
c.go:1: syntax error
FAIL	c [build failed]
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	name := filepath.Join(t.TempDir(), "total")
	for range 2 {
		if err := c.add(name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "2 4\n" {
		t.Errorf("total after two runs = %q, want \"2 4\\n\"", got)
	}
}
