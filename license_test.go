package warder_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the committed files that tests compare with")

// linkedFile lists the modules that are linked into the program, with their licences.
const linkedFile = "docs/reference/modules.txt"

// accepted lists the licences a linked module may have. MPL-2.0 asks that changed files of the module
// itself are published; we change none.
var accepted = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// TestLinkedModules proves that the list of what is linked into the program is the committed one, so
// that a new dependency is seen in review, and that every licence is acceptable.
func TestLinkedModules(t *testing.T) {
	type module struct {
		Path, Version, Dir string
		Main               bool
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Module", "./cmd/warder")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	linked := map[string]module{}
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var p struct{ Module *module }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module != nil && !p.Module.Main {
			linked[p.Module.Path] = *p.Module
		}
	}
	var list []string
	for _, m := range linked {
		licence := licenceOf(m.Dir)
		if !slices.Contains(accepted, licence) {
			t.Errorf("%s has the licence %q, want one of %s", m.Path, licence, strings.Join(accepted, ", "))
		}
		list = append(list, fmt.Sprintf("%s %s %s", m.Path, m.Version, licence))
	}
	slices.Sort(list)
	got := "# Modules linked into warder, with version and licence. Written by: go test -run TestLinkedModules . -update\n" + strings.Join(list, "\n") + "\n"
	if *update {
		if err := os.MkdirAll(filepath.Dir(linkedFile), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(linkedFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(linkedFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the linked modules differ from %s; look at the change, then run: go test -run TestLinkedModules . -update\n(-committed +linked):\n%s", linkedFile, diff)
	}
}

// licenceOf recognises the licence of a module by the words that make it so.
func licenceOf(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICEN") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err.Error()
		}
		text := strings.Join(strings.Fields(string(data)), " ")
		has := func(s string) bool { return strings.Contains(text, s) }
		switch {
		case has("Apache License") && has("Version 2.0"):
			return "Apache-2.0"
		case has("Mozilla Public License") && has("2.0"):
			return "MPL-2.0"
		case has("Permission is hereby granted, free of charge"):
			return "MIT"
		case has("Permission to use, copy, modify, and/or distribute this software") || has("Permission to use, copy, modify, and distribute this software for any purpose"):
			return "ISC"
		case has("Redistribution and use in source and binary forms") && (has("Neither the name") || has("may be used to endorse")):
			return "BSD-3-Clause"
		case has("Redistribution and use in source and binary forms"):
			return "BSD-2-Clause"
		}
	}
	return "unknown"
}
