package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// FuzzConfig feeds files to Parse: it never panics, an error always is a list of problems whose
// places exist and whose rendering cannot steer a terminal, and an accepted file means the same when
// it is read again.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "version: 1\n", "lisen: []\n", "a: &x [*x]\n", "listen:\n  - {address: \":1\", tls: {cert: {file: a}, key: {env: B}}}\n",
		"servers: [{name: a}]\ngroups: [{name: b, servers: [a]}]\n", "controls: {PRT-02: {mode: off, owner: a, until: 2026-01-01}}\n",
		"version: 1\n---\nversion: 1\n", "? [a]\n: b\n", "<<: {version: 1}\n", "\xff\xfe", "version: !!int \"1\"\n", "version: 0x1\n", "\t- a\n",
		"admin: {address: \"\u202e\"}\n", "data: |\n  a\n  b\n", "controls: {null: {}}\n", "controls: {? {} : {}}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		cfg, err := Parse("f.yaml", data)
		if d := time.Since(start); d > 2*time.Second {
			t.Fatalf("%d bytes took %v", len(data), d)
		}
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok || len(e.Problems) == 0 {
				t.Fatalf("error of type %T with no problems: %v", err, err)
			}
			var b strings.Builder
			if err := e.Render(&b); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(b.String(), "\x00\x1b\u202e\u200b") {
				t.Fatalf("the rendering can steer a terminal: %q", b.String())
			}
			for _, p := range e.Problems {
				if p.Line < 0 || p.Line > strings.Count(string(data), "\n")+strings.Count(string(data), "\r")+2 {
					t.Fatalf("problem at line %d of a file with fewer: %v", p.Line, p)
				}
			}
			return
		}
		again, err := Parse("f.yaml", data)
		if err != nil {
			t.Fatalf("accepted once, refused the second time: %v", err)
		}
		if diff := cmp.Diff(Flatten(cfg), Flatten(again)); diff != "" {
			t.Fatalf("two readings differ:\n%s", diff)
		}
	})
}
