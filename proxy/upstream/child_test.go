package upstream

import (
	"context"
	"fmt"
	"os"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// runChild is the main function of the child servers.
func runChild(kind string) int {
	switch kind {
	case "sdk":
		if err := sdkServer().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	default:
		return 3
	}
}

func childConfig(kind string) Config {
	return Config{Run: &Run{Command: []string{os.Args[0]}, Env: map[string]string{"UPSTREAM_TEST_CHILD": kind}}}
}
