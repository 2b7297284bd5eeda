// Command warder is a security gateway for the Model Context Protocol; see package cli.
package main

import (
	"os"

	"github.com/warder-mcp/warder/cli"
)

func main() { os.Exit(cli.Main()) }
