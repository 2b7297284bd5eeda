package upstream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

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
	case "echo":
		return echoChild()
	default:
		return 3
	}
}

// echoChild is a hand-written server of the stateless era.
func echoChild() int {
	in := bufio.NewReaderSize(os.Stdin, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		at := bytes.Index(line, []byte(`"id":`)) + 5
		id := line[at : at+bytes.IndexByte(line[at:], ',')]
		result := `{"resultType":"complete","content":[{"type":"text","text":"` + strings.Repeat("x", 250) + `"}]}`
		if bytes.Contains(line, []byte("server/discover")) {
			result = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"ttlMs":0,"cacheScope":"private"}`
		}
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", id, result)
	}
}

func childConfig(kind string) Config {
	return Config{Run: &Run{Command: []string{os.Args[0]}, Env: map[string]string{"UPSTREAM_TEST_CHILD": kind}}}
}
