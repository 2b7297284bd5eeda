package gateway

import (
	"bytes"
	"context"
	"math/big"
	"net/http"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Annotations says which arguments of a tool are mirrored in Mcp-Param-* headers.
type Annotations interface {
	// Annotations returns those of a server's tool; nil if it has none or is unknown. The slice is
	// shared and must not be changed.
	Annotations(server, tool string) []warder.Header
}

// Bounds of mirrored headers, checked before anything is decoded. SEP-2243 asks for them without
// naming numbers; net/http already bounds all headers together at 1 MiB.
const (
	maxMirrored      = 64       // Mcp-* headers of one request
	maxMirroredBytes = 16 << 10 // names and values together
)

// agreement refuses a message whose headers say something else than its body. Intermediaries route
// and filter by the headers; the server acts on the body.
// Control PRT-02; MCP 2026-07-28 Streamable HTTP, "Standard request headers" and "Custom headers";
// SEP-2243. Phase Request, before anything decides on the message.
type agreement struct{ annotations Annotations }

var _ warder.Interceptor = (*agreement)(nil)

// Control returns "PRT-02".
func (*agreement) Control() warder.ControlID { return "PRT-02" }

// Intercept compares headers and body. Only 2026-07-28 and later mirror the body; what older clients
// put into those headers is ignored, and nothing in Warder reads it.
func (a *agreement) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorStdio {
		return warder.Continue(), nil
	}
	h, m := x.Conn.Header, x.Inbound
	if reason := bounds(h); reason != "" {
		return mismatch(reason), nil
	}
	if !x.Revision.Modern() {
		return legacyVersion(h, x), nil
	}
	version := wire.At(m, m.Meta.Get(wire.MetaVersion))
	if got := h[keyVersion]; len(got) == 0 {
		return mismatch("version_missing"), nil
	} else if version.Exists() && !version.Equals(got[0]) || got[0] != string(x.Revision) {
		return mismatch("version_mismatch"), nil
	}
	if d := mirrored(h[wire.HeaderMethod], m.Method, "method_missing", "method_mismatch"); d != "" {
		return mismatch(d), nil
	}
	if reason := name(h, m); reason != "" {
		return mismatch(reason), nil
	}
	if m.Method == wire.MethodToolsCall {
		if reason := a.params(h, x); reason != "" {
			return mismatch(reason), nil
		}
	}
	return warder.Continue(), nil
}

// keyVersion is wire.HeaderVersion as net/http spells it.
const keyVersion = "Mcp-Protocol-Version"

func mismatch(reason warder.Reason) warder.Decision {
	return warder.Refuse(warder.CodeHeaderMismatch, reason, "headers and body disagree")
}

// bounds refuses too many, too long and repeated Mcp-* headers, and names with an underscore that
// other software reads as a hyphen.
func bounds(h http.Header) warder.Reason {
	count, size := 0, 0
	for k, v := range h {
		if len(k) < 4 || k[0]|0x20 != 'm' || k[1]|0x20 != 'c' || k[2]|0x20 != 'p' {
			continue
		}
		switch {
		case k[3] == '_', k[3] == '-' && strings.IndexByte(k, '_') >= 0 && !strings.HasPrefix(k, wire.HeaderParamPrefix):
			return "header_name"
		case k[3] != '-':
			continue
		case len(v) != 1:
			return "header_repeated"
		}
		count++
		size += len(k) + len(v[0])
	}
	if count > maxMirrored || size > maxMirroredBytes {
		return "headers_too_large"
	}
	return ""
}

// legacyVersion compares the version header with the session's revision. Clients that connect again
// still send the revision of their last session with initialize, so there any revision with
// sessions will do.
func legacyVersion(h http.Header, x *warder.Exchange) warder.Decision {
	got := h[keyVersion]
	if len(got) == 0 {
		return warder.Continue()
	}
	if x.Inbound.Method == wire.MethodInitialize {
		if r := warder.Revision(got[0]); !r.Known() || r.Modern() {
			return mismatch("version_mismatch")
		}
		return warder.Continue()
	}
	if got[0] != string(x.Revision) {
		return mismatch("version_mismatch")
	}
	return warder.Continue()
}

// mirrored compares a header that must be there with the text it mirrors.
func mirrored(header []string, want string, missing, differs warder.Reason) warder.Reason {
	if len(header) == 0 {
		return missing
	}
	if header[0] == want && !strings.HasPrefix(want, "=?") && visible(want) {
		return "" // the common case, without decoding
	}
	got, err := wire.DecodeHeaderValue(header[0])
	if err != nil {
		return "header_encoding"
	}
	if got != want {
		return differs
	}
	return ""
}

// visible reports whether s can stand in a header as it is.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// name compares Mcp-Name, which requests about one named thing must have and no other may.
func name(h http.Header, m *warder.Message) warder.Reason {
	header := h[wire.HeaderName]
	switch m.Method {
	case wire.MethodToolsCall, wire.MethodPromptsGet, wire.MethodResourcesRead,
		wire.MethodTasksGet, wire.MethodTasksUpdate, wire.MethodTasksCancel:
		return mirrored(header, m.Target, "name_missing", "name_mismatch")
	default:
		if len(header) != 0 {
			return "name_unexpected"
		}
		return ""
	}
}

// params compares the annotated arguments of a tool with their headers. Headers that no annotation
// names are not ours to judge: they are passed on (SEP-2243) and decide nothing.
func (a *agreement) params(h http.Header, x *warder.Exchange) warder.Reason {
	server := serverName(x)
	annotated := a.annotations.Annotations(server, x.Request.Target)
	if len(annotated) == 0 {
		return ""
	}
	m := x.Inbound
	arguments := wire.At(m, m.Params.Get("arguments"))
	for i := range annotated {
		header := paramHeader(h, annotated[i].Name)
		if reason := param(header, arguments.Find(annotated[i].Pointer...), annotated[i].Type); reason != "" {
			return reason
		}
	}
	return ""
}

// paramHeader finds a header by its annotated name, ignoring case.
func paramHeader(h http.Header, name string) []string {
	for k, v := range h {
		if len(k) == len(wire.HeaderParamPrefix)+len(name) &&
			strings.EqualFold(k[:len(wire.HeaderParamPrefix)], wire.HeaderParamPrefix) &&
			strings.EqualFold(k[len(wire.HeaderParamPrefix):], name) {
			return v
		}
	}
	return nil
}

// param compares one header with one argument. An argument that is absent or null has no header.
func param(header []string, argument wire.Value, typ string) warder.Reason {
	kind := argument.Kind()
	if kind == 0 || kind == 'n' {
		if len(header) != 0 {
			return "param_unexpected"
		}
		return ""
	}
	if len(header) == 0 {
		return "param_missing"
	}
	text, err := wire.DecodeHeaderValue(header[0])
	if err != nil {
		return "header_encoding"
	}
	var equal bool
	switch {
	case kind == '"':
		equal = argument.Equals(text)
	case kind == '0' && typ != "string":
		equal = sameNumber(text, argument.Raw())
	case kind == 't' || kind == 'f':
		equal = text == string(argument.Raw())
	}
	if !equal {
		return "param_mismatch" // also objects and arrays, which no header can mirror
	}
	return ""
}

// sameNumber compares numbers by value: 42, 42.0 and 4.2e1 are one integer. Both must be JSON
// numbers of reasonable length.
func sameNumber(text string, raw []byte) bool {
	if text == string(raw) {
		return true
	}
	if !jsonNumber(text) || !jsonNumber(string(raw)) {
		return false
	}
	a, okA := new(big.Rat).SetString(text)
	b, okB := new(big.Rat).SetString(string(raw))
	return okA && okB && a.Cmp(b) == 0
}

// jsonNumber reports whether s is a number of RFC 8259 section 6 that costs little to expand.
func jsonNumber(s string) bool {
	if len(s) > 64 || s == "" {
		return false
	}
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] < '0' || digits[0] > '9' || len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return false
	}
	if !bytes.ContainsAny([]byte(digits), "eE") {
		return strings.Trim(digits, "0123456789.") == "" && strings.Count(digits, ".") <= 1 && !strings.HasSuffix(digits, ".")
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(digits), "e")
	n, err := strconv.Atoi(exponent)
	return err == nil && n >= -400 && n <= 400 && jsonNumber(mantissa)
}
