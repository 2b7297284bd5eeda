#!/bin/sh
# Builds the foreign identity providers that the tests of identity run against, each a module of its own:
# dex and hydra. npm's oidc-provider comes with the npm packages.
set -eu
cd "$(dirname "$0")/../.."
bin=$PWD/.cache/bin
mkdir -p "$bin"
# provider NAME PACKAGE TAGS
provider() {
	stamp=$(cat "e2e/idp/$1/go.mod" "e2e/idp/$1/go.sum" | sha256sum)
	if [ -x "$bin/$1" ] && [ "$(cat "$bin/$1.stamp" 2>/dev/null)" = "$stamp" ]; then
		return
	fi
	echo "fixtures: building $1"
	CGO_ENABLED=0 go build -C "e2e/idp/$1" -tags "$3" -ldflags=-s -o "$bin/$1" "$2"
	printf '%s\n' "$stamp" >"$bin/$1.stamp"
}
provider dex github.com/dexidp/dex/cmd/dex ""
provider hydra . json1
