package rar

import (
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Narrower reports whether want allows nothing that have does not allow: every call that a credential
// with want may make, one with have may make, and no more often. It may say no where it cannot tell,
// never yes. No details at all allow everything.
func Narrower(have, want []warder.Detail) bool {
	if len(have) == 0 {
		return true
	}
	if len(want) == 0 {
		return false
	}
	left := make([]int, len(have)) // calls that bounded details can still give away
	for i := range have {
		left[i] = have[i].MaxCalls
	}
	for i := range want {
		if !place(have, &want[i], left) {
			return false
		}
	}
	return true
}

// place finds the detail that covers want, first among those that do not count calls.
func place(have []warder.Detail, want *warder.Detail, left []int) bool {
	for i := range have {
		if have[i].MaxCalls == 0 && narrower(&have[i], want) {
			return true
		}
	}
	for i := range have {
		if have[i].MaxCalls > 0 && want.MaxCalls > 0 && want.MaxCalls <= left[i] && narrower(&have[i], want) {
			left[i] -= want.MaxCalls
			return true
		}
	}
	return false
}

// narrower compares all but the number of calls.
func narrower(have, want *warder.Detail) bool {
	switch {
	case have.Server != "" && want.Server != have.Server:
		return false
	case have.Purpose != "" && want.Purpose != have.Purpose:
		return false
	case len(have.Tools) > 0 && (len(want.Tools) == 0 || !contains(have.Tools, want.Tools)):
		return false
	}
	return NarrowerBounds(have.Arguments, want.Arguments)
}

func contains(all, some []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// NarrowerBounds reports whether arguments that keep want keep have, too.
func NarrowerBounds(have, want []warder.Bound) bool {
	for i := range have {
		h := &have[i]
		if !slices.ContainsFunc(want, func(w warder.Bound) bool { return w.Pointer == h.Pointer && implies(&w, h) }) {
			return false
		}
	}
	return true
}

// implies reports whether every value that keeps w keeps h.
func implies(w, h *warder.Bound) bool {
	keeps := func(raw []byte) bool { return broken(h, wire.Parse(raw)) == "" }
	switch {
	case w.Equals != nil:
		return keeps(w.Equals)
	case w.OneOf != nil:
		return !slices.ContainsFunc(w.OneOf, func(raw []byte) bool { return !keeps(raw) })
	case w.Prefix != "":
		return h.Equals == nil && h.OneOf == nil && h.Prefix != "" && strings.HasPrefix(w.Prefix, h.Prefix)
	case w.Min != nil || w.Max != nil:
		return ranged(h) && (h.Min == nil || w.Min != nil && *w.Min >= *h.Min) && (h.Max == nil || w.Max != nil && *w.Max <= *h.Max)
	default:
		return false
	}
}

func ranged(b *warder.Bound) bool {
	return b.Equals == nil && b.OneOf == nil && b.Prefix == "" && (b.Min != nil || b.Max != nil)
}
