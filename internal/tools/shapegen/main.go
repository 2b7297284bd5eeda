// Command shapegen derives the tables of package wire/shape from the JSON Schemas that the
// specification publishes. The schemas are not part of this repository; name the folder that holds
// REVISION.schema.json for every revision:
//
//	go run ./internal/tools/shapegen -schemas DIR -out wire/shape/tables
//
// The generator refuses every JSON Schema keyword it does not translate, so a table never says less
// than its schema. Where Warder is stricter or, once, milder than the schema, overlay.go says so by
// name and reason; the proof test of wire/shape holds every difference against that list.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/warder-mcp/warder"
)

func main() {
	schemas := flag.String("schemas", "", "folder with REVISION.schema.json")
	out := flag.String("out", "", "folder to write REVISION.shape to")
	flag.Parse()
	if err := run(*schemas, *out); err != nil {
		fmt.Fprintln(os.Stderr, "shapegen:", err)
		os.Exit(1)
	}
}

func run(schemas, out string) error {
	for _, rev := range warder.Revisions() {
		raw, err := os.ReadFile(filepath.Join(schemas, string(rev)+".schema.json"))
		if err != nil {
			return fmt.Errorf("read schema: %w", err)
		}
		table, err := Generate(rev, raw)
		if err != nil {
			return fmt.Errorf("translate %s: %w", rev, err)
		}
		if err := os.WriteFile(filepath.Join(out, string(rev)+".shape"), table, 0o600); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	return nil
}
