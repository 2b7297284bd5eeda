// Package sample holds three small MCP servers that the quick start puts behind the gateway: notes
// (honest, stdio), weather (honest, Streamable HTTP of 2026-07-28) and trickster (hostile, HTTP+SSE of
// 2024-11-05). They are programs of their own: the gateway starts them as child processes of the same
// binary and treats them like any other server.
package sample

import (
	"sort"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A tool is one tool of a sample server.
type tool struct {
	definition func() string // complete JSON definition; asked at every list
	call       func(args wire.Value) string
}

// A server answers the methods that all three samples share.
type server struct {
	name         string
	instructions string
	modern       bool // speaks 2026-07-28 only; otherwise the revisions up to 2025-11-25
	newest       warder.Revision
	tools        map[string]tool
	onTool       func() // told after every call
}

// handle answers one message; nil means that there is no answer.
func (s *server) handle(m *warder.Message) []byte {
	if !m.IsCall() {
		return nil
	}
	id := m.IDBytes()
	switch m.Method {
	case wire.MethodInitialize:
		if s.modern {
			return wire.ErrorResponse(id, warder.RPCUnsupported, "this server speaks 2026-07-28", []byte(`{"requested":"initialize","supported":["2026-07-28"]}`))
		}
		return wire.Response(id, []byte(`{"protocolVersion":`+string(wire.Quote(string(s.version(m))))+`,"capabilities":{"tools":{"listChanged":false}},"serverInfo":`+s.info()+`,"instructions":`+string(wire.Quote(s.instructions))+`}`))
	case wire.MethodDiscover:
		if !s.modern {
			break
		}
		return wire.Response(id, []byte(`{"resultType":"complete","ttlMs":0,"cacheScope":"private","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions":`+string(wire.Quote(s.instructions))+`,"_meta":{"`+wire.MetaServerInfo+`":`+s.info()+`}}`))
	case wire.MethodPing:
		return wire.Response(id, nil)
	case wire.MethodToolsList:
		return wire.Response(id, s.list())
	case wire.MethodToolsCall:
		t, ok := s.tools[m.Target]
		if !ok {
			return wire.ErrorResponse(id, warder.RPCInvalidParams, "unknown tool", nil)
		}
		result := t.call(wire.At(m, m.Params.Get("arguments")))
		if s.onTool != nil {
			s.onTool()
		}
		return wire.Response(id, []byte(result))
	}
	return wire.ErrorResponse(id, warder.RPCMethodNotFound, "method not found", nil)
}

// version is the revision a session speaks: the client's, if the server knows it.
func (s *server) version(m *warder.Message) warder.Revision {
	offered, _ := wire.At(m, m.Params.Get("protocolVersion")).Text()
	if r := warder.Revision(offered); r.Known() && r <= s.newest {
		return r
	}
	return s.newest
}

func (s *server) info() string {
	return `{"name":` + string(wire.Quote(s.name)) + `,"version":"1.0.0"}`
}

// list renders the tools in the order of their names.
func (s *server) list() []byte {
	names := make([]string, 0, len(s.tools))
	for name := range s.tools {
		names = append(names, name)
	}
	sort.Strings(names)
	b := []byte(`{"tools":[`)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, s.tools[name].definition()...)
	}
	b = append(b, ']')
	if s.modern {
		b = append(b, `,"resultType":"complete","ttlMs":60000,"cacheScope":"public"`...)
	}
	return append(b, '}')
}

// text is a result of one text block.
func (s *server) text(t string) string {
	out := `{"content":[{"type":"text","text":` + string(wire.Quote(t)) + `}]`
	if s.modern {
		out += `,"resultType":"complete"`
	}
	return out + "}"
}

// fixed is a definition that never changes.
func fixed(definition string) func() string { return func() string { return definition } }

// argument reads a string argument.
func argument(args wire.Value, name string) string {
	s, _ := args.Get(name).Text()
	return s
}
