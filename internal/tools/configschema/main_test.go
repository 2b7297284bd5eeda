package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSchemaIsFresh proves that config/schema.json is made from the structs as they are.
func TestSchemaIsFresh(t *testing.T) {
	t.Chdir("../../..")
	out := filepath.Join(t.TempDir(), "schema.json")
	if err := run(".", out); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("config/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("config/schema.json is stale; run: make docs\n(-structs +file):\n%s", diff)
	}
}
