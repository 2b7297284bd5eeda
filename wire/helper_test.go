package wire

import (
	"errors"
	"testing"

	"github.com/warder-mcp/warder"
)

func mustDecode(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := Decode([]byte(raw), Limits{})
	if err != nil {
		tb.Fatalf("decode %s: %v", raw, err)
	}
	return m
}

// reasonOf is the reason of a *warder.Error; empty for nil, "?" for another error.
func reasonOf(err error) warder.Reason {
	if err == nil {
		return ""
	}
	var e *warder.Error
	if !errors.As(err, &e) {
		return "?"
	}
	return e.Reason
}
