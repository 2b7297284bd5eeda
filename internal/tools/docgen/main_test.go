package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReferenceIsFresh proves that docs/reference is what the program says today.
func TestReferenceIsFresh(t *testing.T) {
	const root = "../../.."
	dir := t.TempDir()
	if err := run(root, dir); err != nil {
		t.Fatal(err)
	}
	for _, p := range pages() {
		t.Run(p.name, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join(dir, p.name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(root, "docs", "reference", p.name))
			if err != nil {
				t.Fatalf("%v; run: make docs", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("docs/reference/%s is stale; run: make docs\n(-program +page):\n%s", p.name, diff)
			}
		})
	}
}
