#!/bin/sh
# Runs Warder against foreign identity providers, real MCP clients and a real browser; the last line says
# "identity: N passed, M failed". Screenshots of the pages lie in .cache/identity.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p .cache/bin
total=$PWD/.cache/identity.total
echo 0 0 >"$total"
go build -o .cache/bin/testcount ./internal/tools/testcount
go test -json -count=1 -timeout 10m "$@" ./e2e/identity 2>&1 | .cache/bin/testcount -leaves -name identity -total "$total" || true
read -r passed failed <"$total"
echo "identity: $passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
