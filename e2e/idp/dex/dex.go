//go:build tools

// Package dex pins the identity provider of that name for the tests of Warder. Build it with
// "go build github.com/dexidp/dex/cmd/dex" in this folder.
package dex

import _ "github.com/dexidp/dex/cmd/dex"
