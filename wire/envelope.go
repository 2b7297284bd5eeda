package wire

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/warder-mcp/warder"
)

// message builds the message from what the pass found and judges its envelope.
func (s *scanner) message(raw []byte) (*warder.Message, error) {
	m := &warder.Message{Raw: raw, Depth: s.depth}
	s.objects(m)
	if err := envelope(m); err != nil {
		return nil, err
	}
	if err := body(m); err != nil {
		return nil, err
	}
	if err := target(m); err != nil {
		return nil, err
	}
	return m, nil
}

// objects makes the member lists: one array for all, one string for all names that are not interned.
func (s *scanner) objects(m *warder.Message) {
	total := 0
	for i := range s.found {
		total += len(s.found[i])
	}
	all := make([]warder.Member, 0, total)
	text := string(s.text)
	list := func(of sink) warder.Object {
		start := len(all)
		for i := range s.found[of] {
			f := &s.found[of][i]
			key := f.key
			if key == "" {
				key = text[f.from:f.to]
			}
			all = append(all, warder.Member{Key: key, Name: f.name, Value: f.value})
		}
		return warder.Object(all[start:len(all):len(all)])
	}
	m.Envelope = list(sinkEnvelope)
	m.ParamsSpan, m.Params = part(m, "params", list(sinkParams))
	m.ResultSpan, m.Result = part(m, "result", list(sinkResult))
	m.ErrorSpan, m.Failure = part(m, "error", list(sinkFailure))
	body := m.Params
	if body == nil {
		body = m.Result
	}
	if meta := m.At(body.Get("_meta")); len(meta) > 0 && meta[0] == '{' {
		m.Meta = list(sinkMeta)
	}
}

// part returns the span of an envelope member and its members, nil unless it is an object.
func part(m *warder.Message, key string, members warder.Object) (warder.Span, warder.Object) {
	span := m.Envelope.Get(key)
	if v := m.At(span); len(v) == 0 || v[0] != '{' {
		return span, nil
	}
	return span, members
}

func invalid(reason warder.Reason) error {
	return warder.Fail(warder.CodeInvalidRequest, reason, nil)
}

// envelope judges the top level: JSON-RPC 2.0 sections 4 and 5.
func envelope(m *warder.Message) error {
	for i := range m.Envelope {
		switch m.Envelope[i].Key {
		case "jsonrpc", "id", "method", "params", "result", "error":
		default:
			return invalid(ReasonBadMember)
		}
	}
	if string(m.At(m.Envelope.Get("jsonrpc"))) != `"2.0"` {
		return invalid(ReasonNotJSONRPC)
	}
	if err := kind(m); err != nil {
		return err
	}
	return id(m)
}

// kind decides what the message is: exactly one of method, result and error.
func kind(m *warder.Message) error {
	method, result, failure := m.Envelope.Get("method"), m.ResultSpan, m.ErrorSpan
	switch {
	case method.Present() && !result.Present() && !failure.Present():
		name, ok := methodName(m.At(method))
		if !ok {
			return invalid(ReasonBadMethod)
		}
		m.Method, m.Kind = name, warder.KindNotification
		if m.Envelope.Get("id").Present() {
			m.Kind = warder.KindRequest
		}
	case result.Present() && !method.Present() && !failure.Present() && !m.ParamsSpan.Present():
		m.Kind = warder.KindResult
	case failure.Present() && !method.Present() && !result.Present() && !m.ParamsSpan.Present():
		m.Kind = warder.KindError
	default:
		return invalid(ReasonAmbiguous)
	}
	return nil
}

// methodName reads a method name, without allocating when it is a known one.
func methodName(quoted []byte) (string, bool) {
	if len(quoted) < 3 || quoted[0] != '"' || len(quoted) > 6*maxMethodBytes+2 {
		return "", false
	}
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		unquoted, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return "", false
		}
		inner = unquoted
	}
	if len(inner) > maxMethodBytes {
		return "", false
	}
	for _, c := range inner {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	if known := internMethod(inner); known != "" {
		return known, true
	}
	return string(inner), true
}

// id judges and records the id.
func id(m *warder.Message) error {
	span := m.Envelope.Get("id")
	switch m.Kind {
	case warder.KindNotification:
		return nil
	case warder.KindError:
		if !span.Present() || string(m.At(span)) == "null" {
			return nil
		}
	case warder.KindRequest, warder.KindResult:
	}
	if !ValidID(m.At(span)) {
		return invalid(ReasonBadID)
	}
	m.ID = span
	return nil
}

// ValidID reports whether raw, a JSON value, is an id that Warder accepts: a string of at most 256
// bytes, or an integer of at most 53 bits written in its shortest form.
func ValidID(raw []byte) bool {
	if len(raw) == 0 {
		return false
	}
	if raw[0] == '"' {
		return len(raw) >= 2 && len(raw) <= maxIDBytes+2
	}
	_, ok := integer(raw)
	return ok
}

// integer reads an integer in canonical form within ±(2^53-1).
func integer(raw []byte) (int64, bool) {
	digits := raw
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
		if len(digits) > 0 && digits[0] == '0' {
			return 0, false
		}
	}
	if len(digits) == 0 || len(digits) > 16 || len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil && n <= maxInteger && n >= -maxInteger
}

// body judges params, result, error and _meta.
func body(m *warder.Message) error {
	for _, p := range [...]struct {
		span    warder.Span
		members warder.Object
	}{{m.ParamsSpan, m.Params}, {m.ResultSpan, m.Result}, {m.ErrorSpan, m.Failure}} {
		if p.span.Present() && p.members == nil {
			return invalid(ReasonNotObject)
		}
	}
	if meta := bodyMembers(m).Get("_meta"); meta.Present() && m.Meta == nil {
		return invalid(ReasonNotObject)
	}
	if m.Kind != warder.KindError {
		return nil
	}
	if _, ok := integer(m.At(m.Failure.Get("code"))); !ok {
		return invalid(ReasonBadError)
	}
	if text := m.At(m.Failure.Get("message")); len(text) == 0 || text[0] != '"' {
		return invalid(ReasonBadError)
	}
	return nil
}

// bodyMembers are the members of params, or of result.
func bodyMembers(m *warder.Message) warder.Object {
	if m.Params != nil {
		return m.Params
	}
	return m.Result
}

// target records what the message acts on.
func target(m *warder.Message) error {
	span := targetSpan(m)
	if !span.Present() {
		return nil
	}
	text, ok := Parse(m.At(span)).Text()
	if !ok {
		return invalid(ReasonBadTarget)
	}
	m.Target = text
	return nil
}

// TargetSpan returns the span of the member of params that Message.Target was read from, quotes
// included; absent if the message has no target. It is what a rename replaces.
func TargetSpan(m *warder.Message) warder.Span { return targetSpan(m) }

func targetSpan(m *warder.Message) warder.Span {
	switch m.Method {
	case MethodToolsCall, MethodPromptsGet:
		return m.Params.Get("name")
	case MethodResourcesRead, MethodResourcesSubscribe, MethodResourcesUnsubscribe:
		return m.Params.Get("uri")
	case MethodTasksGet, MethodTasksResult, MethodTasksCancel, MethodTasksUpdate:
		return m.Params.Get("taskId")
	case MethodComplete:
		ref := At(m, m.Params.Get("ref"))
		if name := ref.Get("name"); name.Kind() != 0 {
			return name.Span()
		}
		return ref.Get("uri").Span()
	default:
		return warder.Span{}
	}
}
