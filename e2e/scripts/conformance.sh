#!/bin/sh
# Runs the official conformance suite through Warder; the last line says "conformance: N passed, M failed".
set -eu
cd "$(dirname "$0")/../.."
bin=$PWD/.cache/bin
sdk=github.com/modelcontextprotocol/go-sdk/conformance
version=v1.8.0
if [ "$(cat "$bin/.conformance" 2>/dev/null)" != "$version" ] || [ ! -x "$bin/everything-server" ] || [ ! -x "$bin/everything-client" ]; then
	GOBIN=$bin go install "$sdk/everything-server@$version" "$sdk/everything-client@$version"
	echo "$version" >"$bin/.conformance"
fi
CGO_ENABLED=0 go build -o "$bin/" ./cmd/warder
go build -o "$bin/conformance" ./e2e/conformance
exec "$bin/conformance" "$@"
