package input

import (
	"context"
	"errors"
	"fmt"

	"github.com/warder-mcp/warder"
)

// budget refuses messages that nest too deep or hold too many values, before anything walks or
// validates them. Deciding takes one pass over the bytes at most, and none for short messages.
// Control INV-03; MCP 2026-07-28 "JSON Schema usage" (bound depth and work). Phase Request.
type budget struct {
	depth  int // of params
	values int // in params, on all levels
}

var _ warder.Interceptor = (*budget)(nil)

// Control names the control.
func (*budget) Control() warder.ControlID { return "INV-03" }

// Intercept judges the message of the client.
func (c *budget) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	if m == nil || c.depth <= 0 || c.values <= 0 {
		return warder.Decision{}, errors.New("judge budget: no message or no budget")
	}
	v, pointer := body(m)
	if m.Depth-1 > c.depth { // the envelope is one level
		return refuse(warder.CodeInvalidParams, "too_deep", pointer, "depth",
			fmt.Sprintf("want at most %d levels of objects and arrays", c.depth)), nil
	}
	if len(v.Raw())/2+1 <= c.values { // a value takes a byte, and a comma parts it from the next
		return warder.Continue(), nil
	}
	if countValues(v.Raw(), c.values) > c.values {
		return refuse(warder.CodeInvalidParams, "too_many_values", pointer, "values",
			fmt.Sprintf("want at most %d values on all levels together", c.values)), nil
	}
	return warder.Continue(), nil
}

// countValues counts the values in valid JSON and stops above limit.
func countValues(b []byte, limit int) int {
	s := scan{b: b}
	n := 0
	followed := s.run(func(t token, _, _ int) bool {
		if t != tokenName && t != tokenClose {
			n++
		}
		return n <= limit
	})
	if !followed {
		return limit + 1
	}
	return n
}
