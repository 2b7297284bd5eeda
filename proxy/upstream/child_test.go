package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
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
	case "exits":
		fmt.Fprintln(os.Stderr, "cannot open database")
		return 7
	case "stubborn":
		return stubbornChild()
	case "deaf":
		return deafChild()
	case "touchy":
		return touchyChild()
	default:
		return scriptChild(kind)
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
		say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result)
	}
}

// say writes one line to stdout.
func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// nextRequest reads lines until one is a request and returns its method and id.
func nextRequest(in *bufio.Reader) (method, id, line string, ok bool) {
	for {
		raw, err := in.ReadBytes('\n')
		if err != nil {
			return "", "", "", false
		}
		m, err := wire.Decode(raw, wire.Limits{})
		if err != nil {
			say(`{"broken":"warder sent %v"}`, err)
			continue
		}
		fmt.Fprintf(os.Stderr, "got %s", raw)
		if m.Kind == warder.KindRequest {
			return m.Method, string(m.IDBytes()), string(raw), true
		}
	}
}

const initAnswer = `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"c","version":"1"}}}`

// greeted answers the handshake of the legacy era and returns the first other request.
func greeted(in *bufio.Reader) (id, line string, ok bool) {
	for {
		method, id, line, ok := nextRequest(in)
		switch {
		case !ok:
			return "", "", false
		case method == wire.MethodDiscover:
			say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`, id)
		case method == wire.MethodInitialize:
			say(initAnswer, id)
		default:
			return id, line, true
		}
	}
}

// scriptChild answers each call with what the kind says.
func scriptChild(kind string) int {
	in := bufio.NewReaderSize(os.Stdin, 64<<10)
	for {
		id, line, ok := greeted(in)
		if !ok {
			return 0
		}
		if code, done := script(kind, id, line); done {
			return code
		}
	}
}

// script is one way of answering a call.
func script(kind, id, line string) (code int, exit bool) {
	ok := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}`, id)
	switch kind {
	case "honest":
		say(ok)
	case "dies":
		fmt.Fprintln(os.Stderr, "segmentation fault")
		return 9, true
	case "dies in a line":
		fmt.Fprint(os.Stdout, ok[:20])
		return 9, true
	case "closes stdout":
		_ = os.Stdout.Close()
		time.Sleep(time.Minute)
	case "hangs":
	case "wrong id":
		say(`{"jsonrpc":"2.0","id":"nobody","result":{}}`)
	case "twice":
		say(ok)
		say(ok)
	case "banner":
		say("Welcome to the server!")
		say(`{"level":"info","msg":"started"}`)
		say(ok)
	case "duplicate key":
		say(`{"jsonrpc":"2.0","id":%s,"result":{"a":1,"a":2}}`, id)
	case "oversized":
		say(`{"jsonrpc":"2.0","id":%s,"result":{"text":"%s"}}`, id, strings.Repeat("x", 200<<10))
	case "floods":
		for range 20000 {
			say(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`)
		}
	case "pings":
		say(`{"jsonrpc":"2.0","id":"ping-1","method":"ping"}`)
		say(ok)
	case "asks a lot":
		for i := range 200 {
			say(`{"jsonrpc":"2.0","id":%d,"method":"roots/list"}`, i)
		}
		say(ok)
	case "token":
		say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
		say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":2}}`, id)
		say(ok)
	case "environment":
		b, _ := json.Marshal(os.Environ())
		dir, _ := os.Getwd()
		say(`{"jsonrpc":"2.0","id":%s,"result":{"env":%s,"dir":%q}}`, id, b, dir)
	case "mirror":
		b, _ := json.Marshal(line)
		say(`{"jsonrpc":"2.0","id":%s,"result":{"line":%s}}`, id, b)
	}
	return 0, false
}

// stubbornChild ignores the end of stdin and SIGTERM, and leaves a grandchild.
func stubbornChild() int {
	signal.Ignore(syscall.SIGTERM)
	grandchild := exec.CommandContext(context.Background(), "sleep", "60")
	_ = grandchild.Start()
	in := bufio.NewReader(os.Stdin)
	for {
		id, _, ok := greeted(in)
		if !ok {
			time.Sleep(time.Minute)
			return 0
		}
		say(`{"jsonrpc":"2.0","id":%s,"result":{"pid":%d,"grandchild":%d}}`, id, os.Getpid(), grandchild.Process.Pid)
	}
}

// deafChild answers the handshake and reads no more.
func deafChild() int {
	in := bufio.NewReaderSize(os.Stdin, 16)
	_, id, _, _ := nextRequest(in)
	say(initAnswer, id)
	time.Sleep(time.Minute)
	return 0
}

// touchyChild dies of anything but initialize.
func touchyChild() int {
	in := bufio.NewReader(os.Stdin)
	method, id, _, _ := nextRequest(in)
	if method != wire.MethodInitialize {
		return 5
	}
	say(initAnswer, id)
	for {
		id, _, ok := greeted(in)
		if !ok {
			return 0
		}
		say(`{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}`, id)
	}
}

func childConfig(kind string) Config {
	return Config{Run: &Run{Command: []string{os.Args[0]}, Env: map[string]string{"UPSTREAM_TEST_CHILD": kind}}}
}
