#!/bin/sh
# Runs every fuzz target for FUZZTIME each (default 30s).
set -eu
cd "$(dirname "$0")/.."
for pkg in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$pkg"/*_test.go 2>/dev/null | sed 's/func //'); do
		echo "== $target (${pkg#"$PWD"/})"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" -fuzzminimizetime 10x "$pkg"
	done
done
