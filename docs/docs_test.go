package docs_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/warder-mcp/warder/cli"
	"github.com/warder-mcp/warder/config"
)

// A block is one fenced part of a page.
type block struct {
	file string
	line int
	kind string // yaml, sh, …
	text string
}

// pages lists the Markdown files of the repository that people write or read.
func pages(t *testing.T) []string {
	t.Helper()
	names := []string{"../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../AGENTS.md"}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func blocks(t *testing.T, name string) []block {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []block
	open := false
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		fence, found := strings.CutPrefix(strings.TrimLeft(text, " "), "```")
		switch {
		case found && !open:
			out, open = append(out, block{file: name, line: n, kind: fence}), true
		case found:
			open = false
		case open:
			out[len(out)-1].text += text + "\n"
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if open {
		t.Errorf("%s: a fenced block is not closed", name)
	}
	return out
}

// TestConfigurationsInPages proves that every YAML snippet that begins with a key of the configuration
// has the right keys and types. What only a whole file can have, such as the servers that a group
// names, is not judged.
func TestConfigurationsInPages(t *testing.T) {
	known, err := config.Reference()
	if err != nil {
		t.Fatal(err)
	}
	first := regexp.MustCompile(`(?m)^([a-z_]+):`)
	checked := 0
	for _, name := range pages(t) {
		for _, b := range blocks(t, name) {
			m := first.FindStringSubmatch(b.text)
			if b.kind != "yaml" || m == nil || !slices.ContainsFunc(known, func(e config.Entry) bool { return e.Path == m[1] }) {
				continue
			}
			checked++
			_, err := config.Parse(b.file, []byte(b.text))
			e, ok := errors.AsType[*config.Error](err)
			if !ok {
				continue
			}
			for _, p := range e.Problems {
				if strings.Contains(p.Message, "unknown key") || strings.HasPrefix(p.Message, "want ") || strings.Contains(p.Message, "not YAML") || strings.Contains(p.Message, "duplicate key") {
					t.Errorf("%s:%d: %s", b.file, b.line+p.Line, p.String())
				}
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d snippets were checked; is the test looking at the right places?", checked)
	}
}

// command finds "warder …" at the beginning of a line of a shell block or within backquotes.
var command = regexp.MustCompile("(?m)(?:^(?:\\$ )?(?:[A-Z_]+=\\S+ )?|`)warder ((?:[a-z]+(?:-[a-z]+)* ?)+)([^`\n]*)")

// TestCommandsInPages proves that every command that a page names exists, with its flags.
func TestCommandsInPages(t *testing.T) {
	checked := 0
	for _, name := range pages(t) {
		if strings.HasPrefix(name, "reference/") {
			continue // generated from the commands
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(data), -1) {
			checked++
			root := cli.Root()
			words := strings.Fields(m[1])
			cmd, _, err := root.Find(words[:1])
			if err != nil || cmd == root {
				t.Errorf("%s: there is no command %q", name, "warder "+words[0])
				continue
			}
			for depth := 2; depth <= len(words) && cmd.HasSubCommands(); depth++ {
				if cmd, _, err = root.Find(words[:depth]); err != nil || cmd.Name() != words[depth-1] {
					t.Errorf("%s: there is no command %q", name, "warder "+strings.Join(words[:depth], " "))
					break
				}
			}
			rest, _, _ := strings.Cut(m[2], " -- ")
			rest, _, _ = strings.Cut(rest, "#")
			for _, flag := range regexp.MustCompile(`(?:^| )--([a-z-]+)`).FindAllStringSubmatch(rest, -1) {
				if cmd.Flags().Lookup(flag[1]) == nil && cmd.InheritedFlags().Lookup(flag[1]) == nil && flag[1] != "help" {
					t.Errorf("%s: %q has no flag --%s", name, cmd.CommandPath(), flag[1])
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d commands were checked; is the test looking at the right places?", checked)
	}
}

// link finds relative links of a page.
var link = regexp.MustCompile(`\]\(([^):#]+)(?:#[^)]*)?\)`)

// TestLinksInPages proves that the pages that a page points at exist.
func TestLinksInPages(t *testing.T) {
	for _, name := range pages(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
		}
	}
}
