// Package w3c reads and writes trace context (https://www.w3.org/TR/trace-context/, level 2) and
// baggage (https://www.w3.org/TR/baggage/), strictly: what does not follow the grammar is refused as
// a whole, so that nothing a client writes there travels on by accident.
//
//	t, ok := w3c.Parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
package w3c

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
)

// Header names and the names of the same values in _meta.
const (
	TraceParent = "traceparent"
	TraceState  = "tracestate"
	Baggage     = "baggage"
)

const (
	parentLength = 55
	maxState     = 512  // bytes of tracestate that are propagated (section 3.3.1.5)
	maxMembers   = 32   // members of tracestate (section 3.3.1.1)
	maxBaggage   = 8192 // bytes of baggage (W3C Baggage section 3.3.2)
)

// Parse reads a traceparent (section 3.2). The result's Parent is the caller's span; its SpanID is
// left empty. A version higher than 00 is read as far as version 00 goes (section 4.3).
func Parse(s string) (warder.Trace, bool) {
	var t warder.Trace
	if len(s) < parentLength || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return t, false
	}
	version, ok := hexByte(s[0], s[1])
	if !ok || version == 0xff || (version == 0 && len(s) != parentLength) || (len(s) > parentLength && s[parentLength] != '-') {
		return t, false
	}
	flags, ok := hexByte(s[53], s[54])
	if !ok || !lowerHex(s[3:35]) || !lowerHex(s[36:52]) {
		return t, false
	}
	_, _ = hex.Decode(t.TraceID[:], []byte(s[3:35])) // checked above
	_, _ = hex.Decode(t.Parent[:], []byte(s[36:52])) // checked above
	t.Sampled = flags&1 == 1
	return t, t.TraceID != [16]byte{} && t.Parent != [8]byte{}
}

// Format writes the traceparent that t's own span hands on.
func Format(t warder.Trace) string { return string(Append(make([]byte, 0, parentLength), t)) }

// Append appends the traceparent that t's own span hands on.
func Append(b []byte, t warder.Trace) []byte {
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.TraceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.SpanID[:])
	if t.Sampled {
		return append(b, "-01"...)
	}
	return append(b, "-00"...)
}

func hexByte(hi, lo byte) (byte, bool) {
	h, ok1 := hexDigit(hi)
	l, ok2 := hexDigit(lo)
	return h<<4 | l, ok1 && ok2
}

// hexDigit knows small letters only: the grammar has no capitals (section 3.2.2).
func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	default:
		return 0, false
	}
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if _, ok := hexDigit(s[i]); !ok {
			return false
		}
	}
	return true
}

// State checks a tracestate (section 3.3) and returns it in normal form, without empty members. A
// state that is malformed, too long, or names a key twice is refused.
func State(s string) (string, bool) {
	if s == "" {
		return "", true
	}
	if len(s) > maxState {
		return "", false
	}
	var keys [maxMembers]string
	n := 0
	var out strings.Builder
	for member := range strings.SplitSeq(s, ",") {
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || n == maxMembers || !stateKey(key) || !stateValue(value) {
			return "", false
		}
		if slices.Contains(keys[:n], key) {
			return "", false
		}
		keys[n] = key
		n++
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		out.WriteString(member)
	}
	return out.String(), true
}

// stateKey checks a key of section 3.3.1.3.1: a simple key of up to 256 bytes or tenant@system.
func stateKey(k string) bool {
	tenant, system, multi := strings.Cut(k, "@")
	if !multi {
		return len(k) <= 256 && letter(k) && keyBytes(k)
	}
	return tenant != "" && len(tenant) <= 241 && (letter(tenant) || digit(tenant)) && keyBytes(tenant) &&
		len(system) <= 14 && letter(system) && keyBytes(system)
}

func letter(s string) bool { return s != "" && s[0] >= 'a' && s[0] <= 'z' }
func digit(s string) bool  { return s != "" && s[0] >= '0' && s[0] <= '9' }

func keyBytes(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '*' && c != '/' {
			return false
		}
	}
	return true
}

// stateValue checks a value of section 3.3.1.3.2.
func stateValue(v string) bool {
	if v == "" || len(v) > 256 || v[len(v)-1] == ' ' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < 0x20 || c > 0x7e || c == ',' || c == '=' {
			return false
		}
	}
	return true
}

// Keep returns the members of a baggage value whose key allowed accepts, unchanged, and how many it
// dropped. A member that is malformed is dropped; a value that is too long is dropped whole.
func Keep(baggage string, allowed func(key string) bool) (kept string, dropped int) {
	if len(baggage) > maxBaggage {
		return "", 1 + strings.Count(baggage, ",")
	}
	var out strings.Builder
	for member := range strings.SplitSeq(baggage, ",") {
		trimmed := strings.Trim(member, " \t")
		if trimmed == "" {
			continue
		}
		key, value, ok := strings.Cut(trimmed, "=")
		if key = strings.TrimRight(key, " \t"); !ok || !allowed(key) || !baggageValue(value) {
			dropped++
			continue
		}
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		out.WriteString(trimmed)
	}
	return out.String(), dropped
}

// baggageValue checks value and properties (W3C Baggage section 3.3.1.2): visible ASCII without
// quotes, commas and backslashes; blanks only around semicolons are tolerated as part of properties.
func baggageValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < 0x20 || c > 0x7e || c == '"' || c == ',' || c == '\\' {
			return false
		}
	}
	return true
}
