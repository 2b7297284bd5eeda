package parity

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
)

// universe lists every method and notification that package wire knows, read from its source, so that
// one that is added is driven too.
func universe(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../wire/methods.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var methods []string
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			name := v.Names[0].Name
			if !strings.HasPrefix(name, "Method") && !strings.HasPrefix(name, "Notify") {
				continue
			}
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			methods = append(methods, text)
		}
	}
	if len(methods) < 30 {
		t.Fatalf("found %d methods in package wire, want at least 30", len(methods))
	}
	slices.Sort(methods)
	return methods
}

func isRequest(method string) bool { return !strings.HasPrefix(method, "notifications/") }

// bodyOf is a well-formed params object of a method.
func bodyOf(method string) string {
	switch method {
	case "prompts/get":
		return `{"name":"p"}`
	case "resources/read", "resources/subscribe", "resources/unsubscribe", "notifications/resources/updated":
		return `{"uri":"file:///r"}`
	case "completion/complete":
		return `{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"b"}}`
	case "logging/setLevel":
		return `{"level":"info"}`
	case "tasks/get", "tasks/result", "tasks/cancel":
		return `{"taskId":"t"}`
	case "tasks/update":
		return `{"taskId":"t","inputResponses":{}}`
	case "sampling/createMessage":
		return `{"messages":[{"role":"user","content":{"type":"text","text":"t"}}],"maxTokens":1}`
	case "elicitation/create":
		return `{"message":"Which one?","requestedSchema":{"type":"object","properties":{"one":{"type":"string"}}}}`
	case "tools/call":
		return `{"name":"announce","arguments":{"what":"notifications/message"}}`
	case "initialize":
		return `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}`
	case "subscriptions/listen", "notifications/subscriptions/acknowledged":
		return `{"notifications":{}}`
	case "notifications/cancelled":
		return `{"requestId":"nothing"}`
	case "notifications/progress":
		return `{"progressToken":"nothing","progress":1}`
	case "notifications/message":
		return `{"level":"info","data":"d"}`
	case "notifications/elicitation/complete":
		return `{"elicitationId":"e"}`
	case "notifications/tasks", "notifications/tasks/status":
		return `{"taskId":"t","status":"working","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z","ttl":1000}`
	default:
		return `{}`
	}
}

// clientCapabilities is what the clients declare: everything servers may ask about.
const clientCapabilities = `{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true}}`

// A step is one message of a client. Its trace names it in the audit trail and at the server.
type step struct {
	name   string // what the step is about; equal steps are compared
	trace  string
	id     string // empty for notifications
	method string
	target string // of the Mcp-Name header
	raw    []byte
}

// A script makes the messages of one run.
type script struct {
	run    int
	rev    warder.Revision
	prefix string // of tool and prompt names in a group
	n      int
}

// make builds a message: params without _meta, which the script adds.
func (s *script) make(name, method, params string, request bool) step {
	s.n++
	st := step{name: name, method: method, trace: fmt.Sprintf("%016x%016x", s.run+1, s.n)}
	meta := fmt.Sprintf(`"_meta":{"traceparent":"00-%s-00f067aa0ba902b7-01"`, st.trace)
	if s.rev.Modern() {
		meta += fmt.Sprintf(`,"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":%s`, s.rev, clientCapabilities)
	}
	if method == "tools/call" {
		meta += fmt.Sprintf(`,"progressToken":"p%d"`, s.n)
	}
	meta += "}"
	for _, key := range []string{"name", "uri", "taskId"} {
		if _, after, ok := strings.Cut(params, `"`+key+`":"`); ok && strings.HasPrefix(params, `{"`+key) {
			st.target, _, _ = strings.Cut(after, `"`)
		}
	}
	if s.prefix != "" {
		switch method {
		case "tools/call", "prompts/get":
			params = strings.Replace(params, `{"name":"`, `{"name":"`+s.prefix, 1)
			st.target = s.prefix + st.target
		case "completion/complete":
			params = strings.Replace(params, `"name":"p"`, `"name":"`+s.prefix+`p"`, 1)
		}
	}
	if params == "{}" {
		params = "{" + meta + "}"
	} else {
		params = "{" + meta + "," + params[1:]
	}
	if request {
		st.id = strconv.Itoa(s.n)
		st.raw = fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, st.id, method, params)
	} else {
		st.raw = fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q,"params":%s}`, method, params)
	}
	return st
}

// fromClient is one step for every method: as the client would send it if it may.
func (s *script) fromClient(methods []string) []step {
	var out []step
	for _, m := range methods {
		if m == "initialize" && !s.rev.Modern() || m == "subscriptions/listen" && s.rev.Modern() {
			continue // the opening of every run, and its stream
		}
		out = append(out, s.make("client "+m, m, bodyOf(m), isRequest(m)))
	}
	return out
}

// fromServer is one call for every method that the server shall send during it.
func (s *script) fromServer(methods []string) []step {
	var out []step
	for _, m := range methods {
		out = append(out, s.emit("server "+m, m))
	}
	return out
}

func (s *script) emit(name, what string) step {
	return s.make(name, "tools/call", fmt.Sprintf(`{"name":"emit","arguments":{"what":%q,"n":"%d"}}`, what, s.n), true)
}

// retry is the second round of a stateless call.
func (s *script) retry(st step, state, responses string) step {
	s.n++
	again := st
	again.id = strconv.Itoa(s.n)
	text := strings.Replace(string(st.raw), `"id":`+st.id+`,`, `"id":`+again.id+`,`, 1)
	text = strings.Replace(text, `"params":{`, fmt.Sprintf(`"params":{"requestState":%s,"inputResponses":%s,`, state, responses), 1)
	again.raw = []byte(text)
	return again
}

// answerTo is a client's result for a question.
func answerTo(method string) string {
	switch method {
	case "sampling/createMessage":
		return `{"role":"assistant","content":{"type":"text","text":"t"},"model":"m"}`
	case "roots/list":
		return `{"roots":[]}`
	case "elicitation/create":
		return `{"action":"accept","content":{"one":"x"}}`
	default:
		return `{}`
	}
}
