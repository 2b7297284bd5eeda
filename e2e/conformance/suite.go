package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder/e2e/kit"
)

// A suite is the installed conformance tool.
type suite struct {
	node, script string
	dir          string // for what it writes
	preload      string // module that Node loads first
}

func newSuite(dir string) (*suite, error) {
	node, err := kit.Node()
	if err != nil {
		return nil, err
	}
	script, err := kit.Script("conformance")
	if err != nil {
		return nil, err
	}
	return &suite{node: node, script: script, dir: dir, preload: filepath.Join(kit.Root(), "e2e", "npm", "bearer.mjs")}, nil
}

// A result is what became of one scenario.
type result struct {
	scenario     string
	required     bool
	ran          bool
	good, bad    int
	vacuous      bool     // it ran and checked nothing
	explanations []string // what the suite says of failed checks
}

// ok reports a scenario that ran and has nothing to complain about.
func (r result) ok() bool { return r.ran && r.bad == 0 && !r.vacuous }

// counts reports whether a scenario must pass: those that the suite requires, and those of authorization,
// which it runs and does not score.
func (r result) counts() bool { return r.required || strings.HasPrefix(r.scenario, "auth/") }

// required lists the scenarios of a leg that a revision requires, in the order of the suite.
func (s *suite) required(ctx context.Context, leg, set string) ([]string, error) {
	out, err := kit.Output(ctx, kit.Spec{Args: []string{s.node, s.script, "list", "--requirements", set}})
	if err != nil {
		return nil, fmt.Errorf("list requirements: %w", err)
	}
	var names []string
	in := false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "Server scenarios"):
			in = leg == "server"
		case strings.HasPrefix(line, "Client scenarios"):
			in = leg == "client"
		case strings.HasPrefix(line, "Run and reported"):
			in = false
		case in && strings.HasPrefix(line, "- "):
			names = append(names, strings.TrimPrefix(line, "- "))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the suite lists no %s scenario for %s", leg, set)
	}
	return names, nil
}

var summaryLine = regexp.MustCompile(`^(✓|✗|-) (\S+): (?:(\d+) passed, (\d+) failed(?:, (\d+) warnings)?|skipped)`)

// run runs one leg of the suite with one set of requirements.
// Its checks go to the folder out.
func (s *suite) run(ctx context.Context, leg, set, out string, env []string, args ...string) ([]result, error) {
	names, err := s.required(ctx, leg, set)
	if err != nil {
		return nil, err
	}
	args = append([]string{s.node, s.script, leg, "--requirements", set, "-o", out}, args...)
	text, err := kit.Output(ctx, kit.Spec{Args: args, Env: env, Dir: s.dir})
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("run the suite: %w", err)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("run the suite: %w", ctx.Err())
	}
	results := parse(text)
	for i, name := range names {
		at := slices.IndexFunc(results, func(r result) bool { return r.scenario == name })
		if at < 0 {
			results = slices.Insert(results, min(i, len(results)), result{scenario: name, required: true})
			continue
		}
		results[at].required = true
	}
	for i := range results {
		if !results[i].ok() {
			results[i].explanations = explain(out, results[i].scenario)
		}
	}
	log := filepath.Join(s.dir, fmt.Sprintf("suite-%s-%s.log", leg, set))
	return results, os.WriteFile(log, text, 0o600)
}

// explain returns what the suite says of the failed checks of a scenario.
func explain(out, scenario string) []string {
	var why []string
	for _, pattern := range []string{"*", "*/*"} { // names of scenarios may have a slash
		files, err := filepath.Glob(filepath.Join(out, pattern, "checks.json"))
		if err != nil {
			return []string{err.Error()}
		}
		for _, file := range files {
			if strings.Contains(file, scenario+"-20") {
				why = append(why, failures(file)...)
			}
		}
	}
	return why
}

// failures reads the failed checks of one file of the suite.
func failures(file string) []string {
	var checks []struct{ ID, Status, Description, ErrorMessage string }
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &checks)
	}
	if err != nil {
		return []string{err.Error()}
	}
	var why []string
	for _, c := range checks {
		if c.Status == "FAILURE" {
			why = append(why, fmt.Sprintf("%s: %s: %s", c.ID, c.Description, c.ErrorMessage))
		}
	}
	return why
}

// parse reads the tables that the suite prints.
func parse(out []byte) []result {
	var results []result
	inSummary := false
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if strings.HasPrefix(line, "=== ") && strings.Contains(line, "SUMMARY") {
			inSummary = true
		}
		m := summaryLine.FindStringSubmatch(line)
		if inSummary && m != nil {
			r := result{scenario: m[2], ran: m[1] != "-"}
			r.good, _ = strconv.Atoi(m[3]) // digits by the expression
			r.bad, _ = strconv.Atoi(m[4])
			if warnings, _ := strconv.Atoi(m[5]); m[1] == "✗" && r.bad == 0 {
				r.bad = warnings
			}
			r.vacuous = r.good+r.bad == 0
			results = append(results, r)
		}
	}
	return results
}

// table prints one line a scenario, the required ones first, and a line that counts.
func table(title string, results []result, verbose bool) {
	fmt.Printf("== %s\n", title)
	for _, required := range []bool{true, false} {
		passed, total := 0, 0
		for _, r := range results {
			if r.required != required {
				continue
			}
			total++
			mark := "✗"
			if r.ok() {
				mark = "✓"
				passed++
			}
			fmt.Printf("  %s %-50s %3d checks passed, %d failed%s\n", mark, r.scenario, r.good, r.bad, remark(r))
			if !r.ok() && (verbose || r.counts()) {
				for _, e := range r.explanations {
					fmt.Println("      ", e)
				}
			}
		}
		if required {
			fmt.Printf("  -- required: %d of %d\n", passed, total)
		} else if total > 0 {
			fmt.Printf("  -- not scored by the suite: %d of %d\n", passed, total)
		}
	}
}

func remark(r result) string {
	switch {
	case !r.ran:
		return " (did not run)"
	case r.vacuous:
		return " (checked nothing)"
	default:
		return ""
	}
}

// counts is passed and all of the required ones.
func counts(results []result) (passed, total int) {
	for _, r := range results {
		if r.required {
			total++
			if r.ok() {
				passed++
			}
		}
	}
	return passed, total
}
