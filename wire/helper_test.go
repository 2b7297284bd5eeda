package wire

import (
	"errors"
	"testing"

	"github.com/warder-mcp/warder"
)

func mustDecode(t testing.TB, raw string) *warder.Message {
	t.Helper()
	m, err := Decode([]byte(raw), Limits{})
	if err != nil {
		t.Fatalf("decode %s: %v", raw, err)
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
