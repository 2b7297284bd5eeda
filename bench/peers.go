package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// echoDefinition is the tool every echo server here offers.
const echoDefinition = `{"name":"echo","description":"Returns its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"},"pad":{"type":"string"}},"required":["text"],"additionalProperties":false}}`

// listen announces the address on standard output, as the runner expects.
func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Println("listening on http://" + l.Addr().String())
	return l, nil
}

// memory serves the runtime's allocation counters.
func memory(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Fprintf(w, "go_memstats_alloc_bytes_total %d\ngo_memstats_mallocs_total %d\n", m.TotalAlloc, m.Mallocs)
}

// extraTools is how many further tools the echo server lists, to measure large lists.
func extraTools(n int) string {
	var out strings.Builder
	out.WriteString(echoDefinition)
	for i := range n {
		fmt.Fprintf(&out, `,{"name":"tool%d","description":"Does nothing, number %d.","inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`, i, i)
	}
	return out.String()
}

// echoServer answers MCP of both eras by hand, without an SDK, so that its own cost stays small.
type echoServer struct{ list string }

func (s *echoServer) answer(body []byte) (answer []byte, status int) {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Arguments struct {
				Text json.RawMessage `json:"text"`
			} `json:"arguments"`
			Version string `json:"protocolVersion"`
			Meta    struct {
				Version string `json:"io.modelcontextprotocol/protocolVersion"`
			} `json:"_meta"`
		} `json:"params"`
	}
	if bytes.Contains(body, []byte(`"tools/call"`)) {
		return s.call(body), http.StatusOK // the measured path: no parser in the server
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return []byte(`{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"}}`), http.StatusBadRequest
	}
	if len(m.ID) == 0 {
		return nil, http.StatusAccepted
	}
	var result, extra string
	if m.Params.Meta.Version != "" {
		extra = `,"resultType":"complete","ttlMs":0,"cacheScope":"private"`
	}
	switch m.Method {
	case "initialize":
		result = `{"protocolVersion":"` + m.Params.Version + `","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}`
	case "server/discover":
		result = `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}` + extra + `}`
	case "tools/list":
		result = `{"tools":[` + s.list + `]` + extra + `}`
	default:
		return []byte(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"error":{"code":-32601,"message":"method not found"}}`), http.StatusNotFound
	}
	return []byte(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` + result + `}`), http.StatusOK
}

// call echoes params.arguments.text, which the load writes without escapes.
func (s *echoServer) call(body []byte) []byte {
	id := between(body, `"id":`, `,`)
	text := between(body, `"text":"`, `"`)
	out := make([]byte, 0, len(text)+160)
	out = append(out, `{"jsonrpc":"2.0","id":`...)
	out = append(out, id...)
	out = append(out, `,"result":{"content":[{"type":"text","text":"`...)
	out = append(out, text...)
	out = append(out, `"}]`...)
	if bytes.Contains(body, []byte(`"io.modelcontextprotocol/protocolVersion"`)) {
		out = append(out, `,"resultType":"complete"`...)
	}
	return append(out, `}}`...)
}

func between(b []byte, before, after string) []byte {
	_, rest, _ := bytes.Cut(b, []byte(before))
	value, _, _ := bytes.Cut(rest, []byte(after))
	return value
}

func (s *echoServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	answer, status := s.answer(body)
	if bytes.Contains(body, []byte(`"initialize"`)) && status == http.StatusOK {
		w.Header().Set("Mcp-Session-Id", "bench-session")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(status)
	_, _ = w.Write(answer) // the load notices
}

func serveEcho(args []string) error {
	fs := flag.NewFlagSet("echo", flag.ExitOnError)
	addr := fs.String("listen", "127.0.0.1:0", "address")
	tools := fs.Int("tools", 0, "further tools to list")
	_ = fs.Parse(args) // exits on error
	l, err := listen(*addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", &echoServer{list: extraTools(*tools)})
	mux.HandleFunc("/metrics", memory)
	return http.Serve(l, mux)
}

func serveProxy(args []string) error {
	fs := flag.NewFlagSet("proxy", flag.ExitOnError)
	addr := fs.String("listen", "127.0.0.1:0", "address")
	to := fs.String("to", "", "upstream")
	_ = fs.Parse(args) // exits on error
	target, err := url.Parse(*to)
	if err != nil {
		return err
	}
	l, err := listen(*addr)
	if err != nil {
		return err
	}
	rp := httputil.NewSingleHostReverseProxy(target)
	rp.FlushInterval = -1
	rp.Transport = &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256}
	mux := http.NewServeMux()
	mux.Handle("/", rp)
	mux.HandleFunc("/metrics", memory)
	return http.Serve(l, mux)
}

// serveSDK is an echo server on the official SDK, in front of which a plain reverse proxy loses replies.
func serveSDK(args []string) error {
	fs := flag.NewFlagSet("sdk", flag.ExitOnError)
	addr := fs.String("listen", "127.0.0.1:0", "address")
	_ = fs.Parse(args) // exits on error
	l, err := listen(*addr)
	if err != nil {
		return err
	}
	type in struct {
		Text string `json:"text"`
		Pad  string `json:"pad,omitempty"`
	}
	srv := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	mcp.AddTool(srv, &mcp.Tool{Name: "echo", Description: "Returns its text."}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	return http.Serve(l, h)
}

// serveStdio is the echo server over stdio.
func serveStdio() error {
	s := &echoServer{list: echoDefinition}
	r := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if answer, _ := s.answer(bytes.TrimSpace(line)); answer != nil {
			if _, err := os.Stdout.Write(append(answer, '\n')); err != nil {
				return err
			}
		}
	}
}
