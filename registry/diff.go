package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder/wire"
)

// A Change is one difference between two definitions.
type Change struct {
	Pointer string `json:"pointer"`       // RFC 6901, into the definition
	Op      string `json:"op"`            // "add", "remove" or "replace"
	Old     string `json:"old,omitempty"` // value before, with hidden characters made visible
	New     string `json:"new,omitempty"` // value after, with hidden characters made visible
}

// Compare returns the differences between two canonical definitions in the order of their pointers.
// No bytes at all mean that there was no definition.
func Compare(before, after []byte) ([]Change, error) {
	var old, now any
	var err error
	if len(before) > 0 {
		if old, err = wire.Tree(before); err != nil {
			return nil, fmt.Errorf("before: %w", err)
		}
	}
	if len(after) > 0 {
		if now, err = wire.Tree(after); err != nil {
			return nil, fmt.Errorf("after: %w", err)
		}
	}
	var changes []Change
	switch {
	case len(before) == 0 && len(after) == 0:
	case len(before) == 0:
		changes = []Change{{Op: "add", New: readable(now)}}
	case len(after) == 0:
		changes = []Change{{Op: "remove", Old: readable(old)}}
	default:
		changes = compare(nil, "", old, now)
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return changes, nil
}

func compare(changes []Change, at string, old, now any) []Change {
	switch o := old.(type) {
	case map[string]any:
		if n, ok := now.(map[string]any); ok {
			return compareObjects(changes, at, o, n)
		}
	case []any:
		if n, ok := now.([]any); ok {
			return compareArrays(changes, at, o, n)
		}
	default:
		if old == now {
			return changes
		}
	}
	return append(changes, Change{Pointer: at, Op: "replace", Old: readable(old), New: readable(now)})
}

func compareObjects(changes []Change, at string, old, now map[string]any) []Change {
	for key, o := range old {
		n, ok := now[key]
		if !ok {
			changes = append(changes, Change{Pointer: at + "/" + token(key), Op: "remove", Old: readable(o)})
			continue
		}
		changes = compare(changes, at+"/"+token(key), o, n)
	}
	for key, n := range now {
		if _, ok := old[key]; !ok {
			changes = append(changes, Change{Pointer: at + "/" + token(key), Op: "add", New: readable(n)})
		}
	}
	return changes
}

func compareArrays(changes []Change, at string, old, now []any) []Change {
	for i := range max(len(old), len(now)) {
		place := at + "/" + strconv.Itoa(i)
		switch {
		case i >= len(now):
			changes = append(changes, Change{Pointer: place, Op: "remove", Old: readable(old[i])})
		case i >= len(old):
			changes = append(changes, Change{Pointer: place, Op: "add", New: readable(now[i])})
		default:
			changes = compare(changes, place, old[i], now[i])
		}
	}
	return changes
}

// token writes one part of a JSON pointer. Hidden characters are shown, so the pointer is for readers.
func token(key string) string {
	return Visible(strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1"))
}

// readable writes a value as JSON on one line, with hidden characters made visible.
func readable(value any) string {
	switch v := value.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		parts := make([]string, 0, len(keys))
		for _, key := range keys {
			parts = append(parts, `"`+text(key)+`": `+readable(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := make([]string, 0, len(v))
		for _, part := range v {
			parts = append(parts, readable(part))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case string:
		return `"` + text(v) + `"`
	case json.Number:
		return v.String()
	case nil:
		return "null"
	default:
		return fmt.Sprint(v)
	}
}

// text writes the inside of a string so that a reader can tell a written backslash from an escape.
func text(s string) string {
	return Visible(strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`))
}

// contextRunes is how much of the equal text WriteChanges shows around a difference.
const contextRunes = 40

// WriteChanges writes changes for people: the pointer, then the value before with "-" and after with
// "+". Of long values that share their ends, only the surroundings of the difference are shown.
func WriteChanges(w io.Writer, changes []Change) error {
	for _, c := range changes {
		old, now := c.Old, c.New
		if c.Op == "replace" {
			old, now = excerpt(old, now)
		}
		pointer := c.Pointer
		if pointer == "" {
			pointer = "(whole definition)"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s\n", c.Op, pointer)
		if c.Op != "add" {
			fmt.Fprintf(&b, "  - %s\n", old)
		}
		if c.Op != "remove" {
			fmt.Fprintf(&b, "  + %s\n", now)
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return fmt.Errorf("write changes: %w", err)
		}
	}
	return nil
}

// excerpt cuts what two texts have in common at their ends, but for some context.
func excerpt(old, now string) (cutOld, cutNow string) {
	a, b := []rune(old), []rune(now)
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	from, drop := max(head-contextRunes, 0), max(tail-contextRunes, 0)
	mark := func(r []rune) string {
		s := string(r[from : len(r)-drop])
		if from > 0 {
			s = "…" + s
		}
		if drop > 0 {
			s += "…"
		}
		return s
	}
	return mark(a), mark(b)
}
