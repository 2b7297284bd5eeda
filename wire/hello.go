package wire

import (
	"errors"
	"fmt"
	"slices"

	"github.com/warder-mcp/warder"
)

// ErrHello says that the answer to initialize or server/discover is not one.
var ErrHello = errors.New("server hello: malformed")

// maxVersions bounds the list of versions that a server may announce.
const maxVersions = 64

// A Hello is what a server says of itself when asked first, in either era.
type Hello struct {
	Revision         warder.Revision // negotiated; of a stateless server the newest common one, empty if none
	ServerInfo       []byte          // JSON object; nil if not told. Untrusted.
	Capabilities     []byte          // JSON object
	Instructions     string          // for the model; subject to approval
	ProtocolVersions []string        // as announced; of a stateful server the negotiated one
	Raw              *warder.Message // the answer; nil when the Hello is Warder's own
}

// ParseInitializeResult reads the answer to initialize (InitializeResult). It does not judge the
// revision. The error is ErrHello.
func ParseInitializeResult(m *warder.Message) (Hello, error) {
	if m.Kind != warder.KindResult {
		return Hello{}, fmt.Errorf("%w: not a result", ErrHello)
	}
	result := At(m, m.ResultSpan)
	version, ok := result.Get("protocolVersion").Text()
	if !ok {
		return Hello{}, fmt.Errorf("%w: protocolVersion", ErrHello)
	}
	h := Hello{Revision: warder.Revision(version), ProtocolVersions: []string{version}, Raw: m}
	if info := result.Get("serverInfo"); info.Kind() == '{' {
		h.ServerInfo = info.Raw()
	}
	return h, h.common(result)
}

// ParseDiscoverResult reads the answer to server/discover (2026-07-28, DiscoverResult). The error is
// ErrHello.
func ParseDiscoverResult(m *warder.Message) (Hello, error) {
	if m.Kind != warder.KindResult {
		return Hello{}, fmt.Errorf("%w: not a result", ErrHello)
	}
	result, h := At(m, m.ResultSpan), Hello{Raw: m}
	versions := result.Get("supportedVersions")
	if versions.Kind() != '[' {
		return Hello{}, fmt.Errorf("%w: supportedVersions", ErrHello)
	}
	for i, v := range versions.Elements() {
		text, ok := v.Text()
		if !ok || i >= maxVersions {
			return Hello{}, fmt.Errorf("%w: supportedVersions", ErrHello)
		}
		h.ProtocolVersions = append(h.ProtocolVersions, text)
		if rev := warder.Revision(text); rev.Known() && rev > h.Revision {
			h.Revision = rev
		}
	}
	if info := At(m, m.Meta.Get(MetaServerInfo)); info.Kind() == '{' {
		h.ServerInfo = info.Raw()
	}
	return h, h.common(result)
}

// common reads what both answers have.
func (h *Hello) common(result Value) error {
	capabilities := result.Get("capabilities")
	if capabilities.Kind() != '{' {
		return fmt.Errorf("%w: capabilities", ErrHello)
	}
	h.Capabilities = capabilities.Raw()
	if v := result.Get("instructions"); v.Exists() {
		text, ok := v.Text()
		if !ok {
			return fmt.Errorf("%w: instructions", ErrHello)
		}
		h.Instructions = text
	}
	return nil
}

// Announces reports whether the server announced the revision.
func (h Hello) Announces(rev warder.Revision) bool {
	return slices.Contains(h.ProtocolVersions, string(rev))
}

// InitializeRequest returns an initialize request. Nil clientInfo and capabilities become what the
// specification requires at least.
func InitializeRequest(id []byte, rev warder.Revision, clientInfo, capabilities []byte) []byte {
	p := AppendQuote([]byte(`{"protocolVersion":`), string(rev))
	p = append(append(p, `,"capabilities":`...), object(capabilities)...)
	p = append(append(p, `,"clientInfo":`...), implementation(clientInfo)...)
	return Request(id, MethodInitialize, append(p, '}'))
}

// InitializeResult answers initialize with a revision. Capabilities that only stateless revisions
// have are left out.
func InitializeResult(id []byte, h Hello, rev warder.Revision) []byte {
	r := AppendQuote([]byte(`{"protocolVersion":`), string(rev))
	r = append(append(r, `,"capabilities":`...), without(object(h.Capabilities), "extensions")...)
	r = append(append(r, `,"serverInfo":`...), implementation(h.ServerInfo)...)
	return Response(id, append(appendInstructions(r, h), '}'))
}

// DiscoverRequest returns a server/discover request.
func DiscoverRequest(id []byte, meta ModernMeta) []byte {
	p := append([]byte(`{"_meta":`), meta.object()...)
	return Request(id, MethodDiscover, append(p, '}'))
}

// DiscoverResult answers server/discover with the given revisions. The answer must not be cached;
// capabilities that only stateful revisions have are left out.
func DiscoverResult(id []byte, h Hello, revisions []warder.Revision) []byte {
	r := appendRevisions([]byte(`{"resultType":"complete","supportedVersions":`), revisions)
	r = append(append(r, `,"capabilities":`...), without(object(h.Capabilities), "tasks")...)
	r = append(appendInstructions(r, h), `,"ttlMs":0,"cacheScope":"private"`...)
	if len(h.ServerInfo) > 0 {
		r = append(AppendQuote(append(r, `,"_meta":{`...), MetaServerInfo), ':')
		r = append(append(r, h.ServerInfo...), '}')
	}
	return Response(id, append(r, '}'))
}

func appendInstructions(b []byte, h Hello) []byte {
	if h.Instructions == "" {
		return b
	}
	return AppendQuote(append(b, `,"instructions":`...), h.Instructions)
}

// object returns b, or the empty object if b is empty.
func object(b []byte) []byte {
	if len(b) == 0 {
		return []byte("{}")
	}
	return b
}

// implementation returns b, or the least Implementation if b is empty.
func implementation(b []byte) []byte {
	if len(b) == 0 {
		return []byte(`{"name":"unknown","version":"0"}`)
	}
	return b
}

// without returns an object without some of its members.
func without(valid []byte, keys ...string) []byte {
	b := []byte{'{'}
	for key, member := range Parse(valid).Members() {
		if slices.ContainsFunc(keys, key.Is) {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, key.Raw()...), ':'), member.Raw()...)
	}
	return append(b, '}')
}
