// Command docgen writes docs/reference from what the program itself knows: the configuration structs,
// the command tree, the error codes, the event types, the control catalogue. It is run by
// "go generate ./docs" and is not part of warder.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A page is one file of docs/reference.
type page struct {
	name  string
	write func(root string) (string, error)
}

func pages() []page {
	return []page{
		{"config.md", configPage},
		{"cli.md", cliPage},
		{"errors.md", errorsPage},
		{"events.md", eventsPage},
		{"metrics.md", metricsPage},
		{"controls.md", controlsPage},
		{"admin-api.md", adminPage},
		{"admin-api.json", adminDocument},
	}
}

func main() {
	root := flag.String("root", ".", "folder of the module")
	flag.Parse()
	if err := run(*root, filepath.Join(*root, "docs", "reference")); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func run(root, out string) error {
	if err := os.MkdirAll(out, 0o750); err != nil {
		return err
	}
	for _, p := range pages() {
		text, err := p.write(root)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := os.WriteFile(filepath.Join(out, p.name), []byte(strings.TrimRight(text, "\n")+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// heading begins a page.
func heading(title, intro string) string {
	return "<!-- Written by go generate ./docs. Do not edit. -->\n# " + title + "\n\n" + intro + "\n\n"
}

// row writes one line of a table. Cells are kept on one line and cannot end it.
func row(cells ...string) string {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", `\|`)
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// table begins a table.
func table(header ...string) string {
	return row(header...) + "|" + strings.Repeat(" --- |", len(header)) + "\n"
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
