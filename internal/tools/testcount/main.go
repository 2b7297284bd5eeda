// Command testcount reads the output of "go test -json" and shows what a person wants to see: one line
// per package, everything about a test that failed or was skipped, and the number of tests.
//
//	go test -json ./... | testcount -name unit -total .cache/total
//
// With -leaves a test that has sub-tests counts by them, and for itself only if it failed and none of them
// did. The total is added to a file, "PASSED FAILED" on one line, so that several runs can be summed up. It
// ends with 1 if anything failed, or if nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// An event is one line of "go test -json" (see "go doc test2json").
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	FailedBuild string
}

func main() {
	name := flag.String("name", "go test", "what is counted")
	total := flag.String("total", "", "file to add the counts to")
	leaves := flag.Bool("leaves", false, "count tests without sub-tests only")
	flag.Parse()
	c := counter{out: os.Stdout, lines: map[string][]string{}, leaves: *leaves}
	if err := c.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stdout, "== %s: %d passed, %d failed, %d skipped\n", *name, c.passed, c.failed, c.skipped)
	if err := c.add(*total); err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		os.Exit(1)
	}
	if c.failed > 0 || c.passed == 0 {
		os.Exit(1)
	}
}

// A counter shows and counts results. Lines of a test are kept until it is known how it ended.
type counter struct {
	out                     io.Writer
	passed, failed, skipped int
	lines                   map[string][]string // package and test → output
	broken                  map[string]bool     // packages in which a test failed
	leaves                  bool
	parents                 map[string]bool // package and test that has sub-tests → whether one of them failed
}

func (c *counter) read(r io.Reader) error {
	c.broken, c.parents = map[string]bool{}, map[string]bool{}
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintln(c.out, in.Text()) // not of go test: a compiler, a crash
			continue
		}
		c.see(e)
	}
	return in.Err()
}

func (c *counter) see(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "run":
		if i := strings.LastIndexByte(key, '/'); c.leaves && strings.Contains(e.Test, "/") {
			if _, known := c.parents[key[:i]]; !known {
				c.parents[key[:i]] = false
			}
		}
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			c.lines[key] = append(c.lines[key], e.Output)
		}
	case "pass":
		c.end(key, e.Test == "", false)
		if _, parent := c.parents[key]; e.Test != "" && !parent {
			c.passed++
		}
	case "skip":
		c.end(key, true, true)
		if _, parent := c.parents[key]; e.Test != "" && !parent {
			c.skipped++
		}
	case "fail":
		c.end(key, true, true)
		if i := strings.LastIndexByte(key, '/'); c.leaves && strings.Contains(e.Test, "/") {
			c.parents[key[:i]] = true
		}
		switch {
		case c.parents[key]: // counted already
		case e.Test != "":
			c.failed++
			c.broken[e.Package] = true
		case !c.broken[e.Package]:
			c.failed++ // it did not build, panicked, or timed out
		}
	}
}

// end shows the lines of a test, or only the last of a package that passed, and forgets them.
func (c *counter) end(key string, show, all bool) {
	kept := c.lines[key]
	delete(c.lines, key)
	if !show {
		return
	}
	for _, line := range kept {
		if all || strings.HasPrefix(line, "ok") || strings.HasPrefix(line, "FAIL") {
			if !strings.Contains(line, "[no test files]") {
				fmt.Fprint(c.out, line)
			}
		}
	}
}

// add adds the counts to those of the file.
func (c *counter) add(name string) error {
	if name == "" {
		return nil
	}
	var passed, failed int
	if data, err := os.ReadFile(name); err == nil {
		if _, err := fmt.Sscan(string(data), &passed, &failed); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	return os.WriteFile(name, fmt.Appendf(nil, "%d %d\n", passed+c.passed, failed+c.failed), 0o600)
}
