package wire

import (
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Quote returns s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func Quote(s string) []byte { return AppendQuote(nil, s) }

// AppendQuote appends s to dst as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendQuote(dst []byte, s string) []byte {
	out, err := jsontext.AppendQuote(dst, s)
	if err == nil {
		return out
	}
	clean := make([]byte, 0, len(s)+8)
	for _, r := range s { // ranging replaces bad bytes
		clean = utf8.AppendRune(clean, r)
	}
	out, err = jsontext.AppendQuote(dst, clean)
	if err != nil {
		return append(dst, `""`...)
	}
	return out
}

// Request returns a JSON-RPC request; params may be nil.
func Request(id []byte, method string, params []byte) []byte {
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	return appendCall(b, method, params)
}

// Notification returns a JSON-RPC notification; params may be nil.
func Notification(method string, params []byte) []byte {
	return appendCall([]byte(`{"jsonrpc":"2.0"`), method, params)
}

func appendCall(b []byte, method string, params []byte) []byte {
	b = AppendQuote(append(b, `,"method":`...), method)
	if len(params) > 0 {
		b = append(append(b, `,"params":`...), params...)
	}
	return append(b, '}')
}

// Response returns a JSON-RPC response with a result; a nil result is the empty object.
func Response(id, result []byte) []byte {
	if len(result) == 0 {
		result = []byte("{}")
	}
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	b = append(append(b, `,"result":`...), result...)
	return append(b, '}')
}

// ErrorResponse returns a JSON-RPC error response. Without id the member is left out; data may be
// nil.
func ErrorResponse(id []byte, code int, message string, data []byte) []byte {
	b := []byte(`{"jsonrpc":"2.0"`)
	if len(id) > 0 {
		b = append(append(b, `,"id":`...), id...)
	}
	b = strconv.AppendInt(append(b, `,"error":{"code":`...), int64(code), 10)
	b = AppendQuote(append(b, `,"message":`...), message)
	if len(data) > 0 {
		b = append(append(b, `,"data":`...), data...)
	}
	return append(b, '}', '}')
}
