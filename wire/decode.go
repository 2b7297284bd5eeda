package wire

import (
	"bytes"
	"errors"
	"hash/maphash"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/warder-mcp/warder"
)

// Decode reads one JSON-RPC message in one strict pass and tells where its parts are. White space
// around the message is dropped; raw is not copied: the message aliases it, so it must not change
// while the message lives. Zero fields of lim mean the defaults.
//
// It refuses what RFC 8259 refuses and also: invalid UTF-8, lone surrogates, a byte order mark,
// trailing data, equal member names, member names that differ only in case (Unicode simple folding),
// ids other than strings up to 256 bytes and integers of at most 53 bits in their shortest form,
// unknown members beside jsonrpc, id, method, params, result and error, and anything but exactly one
// of method, result and error. Members of params, result, error and _meta must not have the name of a
// member that MCP defines in another case. An error response may have no id or, as JSON-RPC 2.0 section 5
// demands of answers to unreadable requests, a null id; both read as absent.
//
// The error is a *warder.Error whose code is CodeMalformed, CodeTooLarge or CodeInvalidRequest and
// which repeats nothing of the message. Decode is safe for concurrent use.
func Decode(raw []byte, lim Limits) (*warder.Message, error) {
	lim = lim.orDefault()
	if int64(len(raw)) > lim.Bytes {
		return nil, warder.Fail(warder.CodeTooLarge, ReasonTooLarge, nil)
	}
	raw = trimSpace(raw)
	s, ok := scanners.Get().(*scanner)
	if !ok {
		s = newScanner()
	}
	defer s.release()
	if err := s.scan(raw, lim); err != nil {
		return nil, err
	}
	return s.message(raw)
}

// Validate applies the strictness of Decode to any JSON value: one value, no duplicate or colliding
// member names, valid UTF-8, within the limits. Errors are those of Decode.
func Validate(raw []byte, lim Limits) error {
	lim = lim.orDefault()
	if int64(len(raw)) > lim.Bytes {
		return warder.Fail(warder.CodeTooLarge, ReasonTooLarge, nil)
	}
	s, ok := scanners.Get().(*scanner)
	if !ok {
		s = newScanner()
	}
	defer s.release()
	s.loose = true
	return s.scan(trimSpace(raw), lim)
}

// A sink says which object of the message the members found belong to.
type sink uint8

const (
	sinkNone sink = iota
	sinkEnvelope
	sinkParams
	sinkMeta
	sinkResult
	sinkFailure
	sinkCount
)

// A found member is a member before its key has become a string.
type found struct {
	key      string // interned; empty when the key stands in the scanner's text
	from, to int    // the key in the scanner's text
	name     warder.Span
	value    warder.Span
}

// A frame is one open object or array.
type frame struct {
	object bool
	name   bool // the next token is a member name
	sink   sink
	child  sink // where the members of the next value go, if it is an object
	open   int  // offset of the opening brace
	base   int  // the object's first key hash
}

// A scanner is the reusable state of one pass.
type scanner struct {
	buf    bytes.Buffer
	dec    *jsontext.Decoder
	lim    Limits
	loose  bool // any value, not a message
	nodes  int
	depth  int
	frames []frame
	found  [sinkCount][]found
	keys   keySet
	text   []byte // unescaped member names that are not interned
	key    []byte // the member name at hand, unescaped
}

func newScanner() *scanner {
	s := &scanner{frames: make([]frame, 0, maxDepth), keys: keySet{seed: maphash.MakeSeed()}}
	s.dec = jsontext.NewDecoder(&s.buf)
	return s
}

// release forgets the message and gives the scanner back.
func (s *scanner) release() {
	s.buf = bytes.Buffer{}
	s.dec.Reset(&s.buf)
	s.loose, s.nodes, s.depth = false, 0, 0
	s.frames = s.frames[:0]
	for i := range s.found {
		clear(s.found[i])
		s.found[i] = s.found[i][:0]
	}
	s.keys.reset()
	s.text, s.key = s.text[:0], s.key[:0]
	if cap(s.text) > 1<<16 || cap(s.key) > 1<<16 {
		s.text, s.key = nil, nil
	}
	scanners.Put(s)
}

// scan walks all tokens of raw.
func (s *scanner) scan(raw []byte, lim Limits) error {
	if len(raw) == 0 {
		return warder.Fail(warder.CodeMalformed, ReasonEmpty, nil)
	}
	s.lim = lim
	s.buf = *bytes.NewBuffer(raw)
	s.dec.Reset(&s.buf)
	if !s.loose && s.dec.PeekKind() != '{' {
		return s.notObject(raw)
	}
	for {
		if err := s.token(raw); err != nil {
			return err
		}
		if len(s.frames) == 0 {
			break
		}
	}
	if int(s.dec.InputOffset()) != len(raw) {
		return warder.Fail(warder.CodeMalformed, ReasonTrailingData, nil)
	}
	return nil
}

// token reads one token: a scalar, a member name, or a brace or bracket.
func (s *scanner) token(raw []byte) error {
	switch s.dec.PeekKind() {
	case '{':
		return s.begin(raw, true)
	case '[':
		return s.begin(raw, false)
	case '}', ']':
		if _, err := s.dec.ReadToken(); err != nil {
			return malformed(raw, err)
		}
		last := len(s.frames) - 1
		f := s.frames[last]
		if f.object {
			s.keys.pop(f.base)
		}
		s.frames = s.frames[:last]
		s.complete(warder.Span{Start: f.open, End: int(s.dec.InputOffset())})
		return nil
	default:
		return s.scalar(raw)
	}
}

// begin opens an object or array.
func (s *scanner) begin(raw []byte, object bool) error {
	if _, err := s.dec.ReadToken(); err != nil {
		return malformed(raw, err)
	}
	if err := s.count(); err != nil {
		return err
	}
	if len(s.frames) >= s.lim.Depth {
		return warder.Fail(warder.CodeMalformed, ReasonTooDeep, nil)
	}
	f := frame{object: object, name: object, open: int(s.dec.InputOffset()) - 1, base: s.keys.push()}
	if object {
		f.sink = sinkEnvelope
		if n := len(s.frames); n > 0 {
			f.sink = s.frames[n-1].child
		}
		if s.loose {
			f.sink = sinkNone
		}
	}
	s.frames = append(s.frames, f)
	s.depth = max(s.depth, len(s.frames))
	return nil
}

// scalar reads a string, number or literal, which may be a member name.
func (s *scanner) scalar(raw []byte) error {
	v, err := s.dec.ReadValue()
	if err != nil {
		return malformed(raw, err)
	}
	if v[0] == '"' && len(v) > s.lim.StringBytes {
		return warder.Fail(warder.CodeTooLarge, ReasonTooLong, nil)
	}
	end := int(s.dec.InputOffset())
	span := warder.Span{Start: end - len(v), End: end}
	if n := len(s.frames); n > 0 && s.frames[n-1].name {
		return s.member(&s.frames[n-1], v, span)
	}
	if err := s.count(); err != nil {
		return err
	}
	s.complete(span)
	return nil
}

// count counts one value.
func (s *scanner) count() error {
	s.nodes++
	if s.nodes > s.lim.Nodes {
		return warder.Fail(warder.CodeTooLarge, ReasonTooManyValues, nil)
	}
	return nil
}

// member takes a member name.
func (s *scanner) member(f *frame, quoted []byte, span warder.Span) error {
	f.name = false
	key := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(key, '\\') >= 0 {
		unquoted, err := jsontext.AppendUnquote(s.key[:0], quoted)
		if err != nil {
			return warder.Fail(warder.CodeMalformed, ReasonBadJSON, err)
		}
		s.key, key = unquoted, unquoted
		if bytes.IndexByte(key, 0) >= 0 {
			return warder.Fail(warder.CodeMalformed, ReasonBadKey, nil)
		}
	}
	if !s.keys.add(f.base, key) {
		return warder.Fail(warder.CodeMalformed, ReasonKeyCollision, nil)
	}
	if s.keys.size(f.base) > s.lim.Members {
		return warder.Fail(warder.CodeTooLarge, ReasonTooManyValues, nil)
	}
	f.child = childSink(f.sink, key)
	if f.sink == sinkNone {
		return nil
	}
	m := found{key: intern(key), name: span}
	if m.key == "" {
		if f.sink != sinkEnvelope && misspelt(s.keys.folded) {
			return warder.Fail(warder.CodeMalformed, ReasonMisspelt, nil)
		}
		m.from = len(s.text)
		s.text = append(s.text, key...)
		m.to = len(s.text)
	}
	s.found[f.sink] = append(s.found[f.sink], m)
	return nil
}

// complete notes that a value ends, in the object it belongs to.
func (s *scanner) complete(span warder.Span) {
	n := len(s.frames)
	if n == 0 {
		return
	}
	f := &s.frames[n-1]
	if !f.object {
		return
	}
	f.name = true
	if f.sink != sinkNone {
		list := s.found[f.sink]
		list[len(list)-1].value = span
	}
}

// childSink says where the members of the value under key go.
func childSink(parent sink, key []byte) sink {
	switch parent {
	case sinkEnvelope:
		switch string(key) {
		case "params":
			return sinkParams
		case "result":
			return sinkResult
		case "error":
			return sinkFailure
		}
	case sinkParams, sinkResult:
		if string(key) == "_meta" {
			return sinkMeta
		}
	case sinkNone, sinkMeta, sinkFailure, sinkCount:
	}
	return sinkNone
}

// notObject explains why the first token is not an opening brace.
func (s *scanner) notObject(raw []byte) error {
	if _, err := s.dec.ReadToken(); err != nil {
		return malformed(raw, err)
	}
	return warder.Fail(warder.CodeInvalidRequest, ReasonNotObject, nil)
}

// malformed turns an error of the JSON decoder into ours. The decoder's words quote the message, so
// they stay behind.
func malformed(raw []byte, err error) error {
	reason := ReasonBadJSON
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		reason = ReasonDuplicateKey
	case bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")):
		reason = ReasonBOM
	case !utf8.Valid(raw):
		reason = ReasonBadUTF8
	case errors.As(err, &syntax) && surrogateAt(raw, int(syntax.ByteOffset)):
		reason = ReasonSurrogate
	}
	return warder.Fail(warder.CodeMalformed, reason, nil)
}

// surrogateAt reports whether a \ud800…\udfff escape stands at offset.
func surrogateAt(raw []byte, offset int) bool {
	if offset < 0 || offset+4 > len(raw) {
		return false
	}
	e := raw[offset:]
	return e[0] == '\\' && e[1] == 'u' && e[2]|0x20 == 'd' && bytes.IndexByte([]byte("89abcdefABCDEF"), e[3]) >= 0
}

// trimSpace drops JSON white space around b (RFC 8259 section 2).
func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }
