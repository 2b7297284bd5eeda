// Package hop counts how often a chain of calls has passed through Warder. The count travels in the
// tracestate of the W3C trace context, which servers pass on when they call further servers, also
// where they start spans of their own: member "warder" with value "h" and a decimal number.
//
//	depth := hop.Depth(x.Trace.State)          // gateway: 0 for a call from outside
//	header.Set("Tracestate", hop.Next(x.Trace.State)) // upstream: one deeper
package hop

import (
	"strconv"
	"strings"
)

const (
	member = "warder=h"
	// Max is the deepest count that is told apart; deeper ones read as Max.
	Max = 255
	// maxState is the length of tracestate that W3C Trace Context section 3.3.1.5 asks to pass on.
	maxState = 512
)

// Depth returns how many times the call has passed through Warder already. A count that cannot be
// read is Max: only Warder writes it, so somebody changed it.
func Depth(state string) int {
	text, _ := find(state)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text[len(member):], 10, 16)
	if err != nil || n > Max {
		return Max
	}
	return int(n)
}

// Next returns the tracestate of a call that Warder makes on behalf of a call with this one: the
// count is one higher and stands first, as section 3.5 asks of the member that changed. Members that
// do not fit are cut from the end.
func Next(state string) string {
	text, rest := find(state)
	if text == "" {
		rest = state
	}
	var b strings.Builder
	b.WriteString(member)
	b.WriteString(strconv.Itoa(min(Depth(state)+1, Max)))
	for part := range strings.SplitSeq(rest, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		if b.Len()+1+len(part) > maxState {
			break
		}
		b.WriteByte(',')
		b.WriteString(part)
	}
	return b.String()
}

// find returns Warder's member and the state without it.
func find(state string) (text, rest string) {
	for i := 0; i < len(state); {
		end := strings.IndexByte(state[i:], ',')
		if end < 0 {
			end = len(state)
		} else {
			end += i
		}
		if part := strings.Trim(state[i:end], " \t"); strings.HasPrefix(part, member) {
			return part, state[:i] + state[min(end+1, len(state)):]
		}
		i = end + 1
	}
	return "", state
}
