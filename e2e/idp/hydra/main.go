// Command hydra is the authorization server of that name, pinned, for the tests of Warder.
package main

import "github.com/ory/hydra/v2/cmd"

func main() { cmd.Execute() }
