package wire

import (
	"slices"
	"strconv"

	"github.com/warder-mcp/warder"
)

// A ModernMeta is what every request of a stateless revision says of its client (2026-07-28,
// RequestMetaObject).
type ModernMeta struct {
	Version      warder.Revision
	ClientInfo   []byte // JSON object; left out if nil
	Capabilities []byte // JSON object; nil means none
	LogLevel     string // left out if empty
}

// members lists the members in the order they are written; a nil value means "left out".
func (mm ModernMeta) members() [4]struct {
	key   string
	value []byte
} {
	var level []byte
	if mm.LogLevel != "" {
		level = Quote(mm.LogLevel)
	}
	return [4]struct {
		key   string
		value []byte
	}{
		{MetaVersion, Quote(string(mm.Version))},
		{MetaClientInfo, mm.ClientInfo},
		{MetaCapabilities, object(mm.Capabilities)},
		{MetaLogLevel, level},
	}
}

// object writes the members as a _meta object.
func (mm ModernMeta) object() []byte {
	b := []byte{'{'}
	for _, m := range mm.members() {
		if len(m.value) == 0 {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(AppendQuote(b, m.key), ':'), m.value...)
	}
	return append(b, '}')
}

// ReadModernMeta reads what a request of a stateless revision says of its client; ok is false when
// it names no protocol version, which is how requests of stateful revisions are told.
func ReadModernMeta(m *warder.Message) (meta ModernMeta, ok bool) {
	version, ok := At(m, m.Meta.Get(MetaVersion)).Text()
	if !ok {
		return ModernMeta{}, false
	}
	meta.Version = warder.Revision(version)
	if v := At(m, m.Meta.Get(MetaClientInfo)); v.Kind() == '{' {
		meta.ClientInfo = v.Raw()
	}
	if v := At(m, m.Meta.Get(MetaCapabilities)); v.Kind() == '{' {
		meta.Capabilities = v.Raw()
	}
	meta.LogLevel, _ = At(m, m.Meta.Get(MetaLogLevel)).Text()
	return meta, true
}

// RequestToModern turns a request of a stateful client into one for a stateless server: it says in
// params._meta what the session said before, and drops the task member, which servers choose now.
// Other messages come back as they are.
func RequestToModern(m *warder.Message, meta ModernMeta, lim Limits) (*warder.Message, error) {
	if m.Kind != warder.KindRequest {
		return m, nil
	}
	if m.Params == nil {
		params := append(append([]byte(`{"_meta":`), meta.object()...), '}')
		return Splice(m, lim, SetMember(m, Whole(m), m.Envelope, "params", params))
	}
	edits := RemoveMembers(m, m.Params, m.ParamsSpan, "task")
	if m.Meta == nil {
		return Splice(m, lim, append(edits, SetMember(m, m.ParamsSpan, m.Params, "_meta", meta.object()))...)
	}
	parent := m.Params.Get("_meta")
	var drop []string
	for _, member := range meta.members() {
		if len(member.value) == 0 {
			drop = append(drop, member.key)
			continue
		}
		edits = append(edits, SetMember(m, parent, m.Meta, member.key, member.value))
	}
	return Splice(m, lim, append(edits, RemoveMembers(m, m.Meta, parent, drop...)...)...)
}

// RequestToLegacy turns a request of a stateless client into one for a stateful server: it drops
// from params._meta what the session says, and inputResponses and requestState, which only Warder
// understands there. Other messages come back as they are.
func RequestToLegacy(m *warder.Message, lim Limits) (*warder.Message, error) {
	if m.Kind != warder.KindRequest || m.Params == nil {
		return m, nil
	}
	edits := RemoveMembers(m, m.Params, m.ParamsSpan, "inputResponses", "requestState")
	edits = append(edits, RemoveMembers(m, m.Meta, m.Params.Get("_meta"),
		MetaVersion, MetaClientInfo, MetaCapabilities, MetaLogLevel)...)
	if len(edits) == 0 {
		return m, nil
	}
	return Splice(m, lim, edits...)
}

// cacheable reports whether results of a method must carry caching hints (2026-07-28,
// CacheableResult).
func cacheable(method string) bool {
	switch method {
	case MethodDiscover, MethodToolsList, MethodPromptsList, MethodResourcesList, MethodResourceTemplates, MethodResourcesRead:
		return true
	default:
		return false
	}
}

// ResultToModern turns the answer of a stateful server into one for a stateless client: it sets
// resultType "complete" and, where the method requires caching hints, ttlMs 0 and cacheScope
// "private". A stateful server cannot mean these members, so what it wrote there is replaced. Error
// codes that 2026-07-28 forbids or gives a meaning of its own become what it uses instead.
func ResultToModern(m *warder.Message, method string, lim Limits) (*warder.Message, error) {
	switch m.Kind {
	case warder.KindResult:
		edits := []Edit{SetMember(m, m.ResultSpan, m.Result, "resultType", []byte(`"complete"`))}
		if cacheable(method) {
			edits = append(edits,
				SetMember(m, m.ResultSpan, m.Result, "ttlMs", []byte("0")),
				SetMember(m, m.ResultSpan, m.Result, "cacheScope", []byte(`"private"`)))
		}
		return Splice(m, lim, edits...)
	case warder.KindError:
		return mapCode(m, lim, func(code int64) int64 {
			switch {
			case code == warder.RPCResourceNotFound:
				return warder.RPCInvalidParams
			case code <= -32020 && code >= -32099: // reserved for the specification
				return warder.RPCInternal
			default:
				return code
			}
		})
	case warder.KindRequest, warder.KindNotification:
	}
	return m, nil
}

// ResultToLegacy turns the answer of a stateless server into one for a stateful client of revision
// target: it drops resultType, ttlMs and cacheScope, a structuredContent that is not an object, and
// from 2025-03-26 down structuredContent as such; "not found" gets its code of old. Definitions stay
// as they are, since their digests are pinned. A result that asks for input is not translated here:
// see InputRequests.
func ResultToLegacy(m *warder.Message, method string, target warder.Revision, lim Limits) (*warder.Message, error) {
	switch m.Kind {
	case warder.KindResult:
		drop := []string{"resultType", "ttlMs", "cacheScope"}
		if v := At(m, m.Result.Get("structuredContent")); method == MethodToolsCall && v.Exists() &&
			(v.Kind() != '{' || target < warder.Revision20250618) {
			drop = append(drop, "structuredContent")
		}
		edits := RemoveMembers(m, m.Result, m.ResultSpan, drop...)
		if len(edits) == 0 {
			return m, nil
		}
		return Splice(m, lim, edits...)
	case warder.KindError:
		return mapCode(m, lim, func(code int64) int64 {
			if method == MethodResourcesRead && code == warder.RPCInvalidParams {
				return warder.RPCResourceNotFound
			}
			return code
		})
	case warder.KindRequest, warder.KindNotification:
	}
	return m, nil
}

// mapCode changes the code of an error response.
func mapCode(m *warder.Message, lim Limits, change func(int64) int64) (*warder.Message, error) {
	at := m.Failure.Get("code")
	old, ok := At(m, at).Int()
	if !ok {
		return nil, invalid(ReasonBadError)
	}
	code := change(old)
	if code == old {
		return m, nil
	}
	return Splice(m, lim, Edit{At: at, New: strconv.AppendInt(nil, code, 10)})
}

// ErrorCode returns the code and message of an error response; zero values for another message.
func ErrorCode(m *warder.Message) (code int, message string) {
	n, _ := At(m, m.Failure.Get("code")).Int()
	message, _ = At(m, m.Failure.Get("message")).Text()
	return int(n), message
}

// ModernError reports whether an error response is one that only a stateless server gives, by which
// a client tells the server's era.
func ModernError(m *warder.Message) bool {
	code, _ := ErrorCode(m)
	return slices.Contains([]int{warder.RPCHeaderMismatch, warder.RPCMissingCapability, warder.RPCUnsupported}, code)
}

// SupportedVersions reads the versions that an unsupported-version error announces.
func SupportedVersions(m *warder.Message) []string {
	var out []string
	for i, v := range At(m, m.Failure.Get("data")).Get("supported").Elements() {
		if text, ok := v.Text(); ok && i < maxVersions {
			out = append(out, text)
		}
	}
	return out
}
