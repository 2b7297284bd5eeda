package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	mcpgo "github.com/mark3labs/mcp-go/mcp"
	mcpgoserver "github.com/mark3labs/mcp-go/server"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder/e2e/kit"
)

// An execution is what an upstream did, as its own parser read the call.
type execution struct {
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
}

// taken is what happened at an upstream since the last look.
type taken struct {
	Executed []execution
	Arrived  int // messages that name one of the tools
}

// An oracle is a real server that remembers what it executed.
type oracle struct {
	name, url string
	take      func(*testing.T) taken
}

const recorderSchema = `{"type":"object","properties":{"tag":{"type":"string"},"o":{"type":"object"}}}`

// A recorder remembers for the servers in this process.
type recorder struct {
	mu  sync.Mutex
	got taken
}

func (r *recorder) executed(tool string, arguments []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got.Executed = append(r.got.Executed, execution{tool, bytes.Clone(arguments)})
}

func (r *recorder) take(*testing.T) taken {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = taken{}
	return got
}

// counted counts the messages about tools that arrive.
func (r *recorder) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if bytes.Contains(body, []byte(`"safe`)) || bytes.Contains(body, []byte(`"evil`)) {
			r.mu.Lock()
			r.got.Arrived++
			r.mu.Unlock()
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, req)
	})
}

// oracles starts a server of each family.
func oracles(t *testing.T) []oracle {
	t.Helper()
	node := nodeBin(t)
	address := freeAddress(t)
	start(t, kit.Spec{Args: []string{node, kit.Root() + "/e2e/npm/recorder.mjs", port(address)}, Listen: address})
	return []oracle{goSDKOracle(t), mcpGoOracle(t), {name: "node", url: "http://" + address + "/mcp", take: func(t *testing.T) taken {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/taken", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got taken
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}}}
}

func goSDKOracle(t *testing.T) oracle {
	t.Helper()
	r := &recorder{}
	s := mcp.NewServer(&mcp.Implementation{Name: "recorder", Version: "1"}, nil)
	for _, name := range []string{"safe", "evil"} {
		s.AddTool(&mcp.Tool{Name: name, Description: name, InputSchema: json.RawMessage(recorderSchema)},
			func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				r.executed(req.Params.Name, req.Params.Arguments)
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name}}}, nil
			})
	}
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true})
	srv := httptest.NewServer(r.counted(h))
	t.Cleanup(srv.Close)
	return oracle{"go-sdk", srv.URL, r.take}
}

func mcpGoOracle(t *testing.T) oracle {
	t.Helper()
	r := &recorder{}
	s := mcpgoserver.NewMCPServer("recorder", "1")
	for _, name := range []string{"safe", "evil"} {
		s.AddTool(mcpgo.NewToolWithRawSchema(name, name, json.RawMessage(recorderSchema)),
			func(_ context.Context, req mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
				raw, err := json.Marshal(req.GetArguments())
				if err != nil {
					return nil, err
				}
				r.executed(req.Params.Name, raw)
				return mcpgo.NewToolResultText(name), nil
			})
	}
	srv := httptest.NewServer(r.counted(mcpgoserver.NewStreamableHTTPServer(s, mcpgoserver.WithStateLess(true))))
	t.Cleanup(srv.Close)
	return oracle{"mcp-go", srv.URL + "/mcp", r.take}
}
