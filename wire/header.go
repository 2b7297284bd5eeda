package wire

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxHeaderValue is the longest header value that DecodeHeaderValue looks at, in bytes as sent.
const MaxHeaderValue = 8 << 10

const (
	sentinelOpen  = "=?base64?"
	sentinelClose = "?="
)

// ErrHeaderValue says that a mirrored header value is not one.
var ErrHeaderValue = errors.New("header value: malformed")

// DecodeHeaderValue reads the value of a header that mirrors a part of the body (2026-07-28,
// Mcp-Method, Mcp-Name and Mcp-Param-*): visible ASCII with inner spaces, or UTF-8 in Base64 between
// the case-sensitive markers "=?base64?" and "?=". Every value has one accepted form of Base64: the
// standard alphabet, padded, without stray bits. The error is ErrHeaderValue.
func DecodeHeaderValue(s string) (string, error) {
	if len(s) > MaxHeaderValue {
		return "", ErrHeaderValue
	}
	if inner, ok := sentinel(s); ok {
		if strings.ContainsAny(inner, "\r\n") { // encoding/base64 would skip them
			return "", ErrHeaderValue
		}
		text, err := base64.StdEncoding.Strict().DecodeString(inner)
		if err != nil || !utf8.Valid(text) {
			return "", ErrHeaderValue
		}
		return string(text), nil
	}
	if !plain(s) {
		return "", ErrHeaderValue
	}
	return s, nil
}

// EncodeHeaderValue writes a value for a mirrored header: plain if it can be, else in Base64.
func EncodeHeaderValue(s string) string {
	if _, marked := sentinel(s); !marked && plain(s) {
		return s
	}
	return sentinelOpen + base64.StdEncoding.EncodeToString([]byte(s)) + sentinelClose
}

// sentinel returns what stands between the Base64 markers.
func sentinel(s string) (string, bool) {
	inner, open := strings.CutPrefix(s, sentinelOpen)
	if !open {
		return "", false
	}
	return strings.CutSuffix(inner, sentinelClose)
}

// plain reports whether s can stand in a header as it is.
func plain(s string) bool {
	if s != "" && (s[0] == ' ' || s[len(s)-1] == ' ') {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Token reports whether s is a token of RFC 9110 section 5.6.2.
func Token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}
