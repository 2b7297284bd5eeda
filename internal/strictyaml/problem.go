package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Problem is one thing wrong with a file.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the place is not known
	Column  int    `json:"column,omitempty"` // in characters, from 1
	Path    string `json:"path,omitempty"`   // such as servers[0].name
	Message string `json:"message"`          // what is wrong
	Hint    string `json:"hint,omitempty"`   // what would help, if we know

	source string // the line of the file
	width  int    // characters to underline, at least 1
}

// String describes the problem on one line: file:line:column: path: message.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Render writes the problem with the line of the file, a caret line under the text in question, and
// the hint.
func (p Problem) Render(w io.Writer) error {
	var b strings.Builder
	b.WriteString(p.String() + "\n")
	if p.Line > 0 && p.source != "" {
		number := fmt.Sprintf("%5d", p.Line)
		fmt.Fprintf(&b, "%s | %s\n", number, p.source)
		fmt.Fprintf(&b, "%s | %s%s\n", strings.Repeat(" ", len(number)), indent(p.source, p.Column), strings.Repeat("^", max(p.width, 1)))
	}
	if p.Hint != "" {
		b.WriteString("      hint: " + p.Hint + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// indent returns the white space before the column, with the tabs of the line kept.
func indent(line string, column int) string {
	var b strings.Builder
	n := 1
	for _, r := range line {
		if n >= column {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
		n++
	}
	return b.String()
}

// An Error is everything wrong with a file, in the order of the file.
type Error struct{ Problems []Problem }

// Error lists the problems, one per line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Render writes every problem with its place in the file.
func (e *Error) Render(w io.Writer) error {
	var errs error
	for _, p := range e.Problems {
		errs = errors.Join(errs, p.Render(w))
	}
	return errs
}

// inOrder orders the problems by place and removes those said twice.
func inOrder(ps []Problem) *Error {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Error{slices.CompactFunc(ps, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})}
}

// place fills in the line of the file and the text to underline. Control characters of the line are
// shown as question marks, so that a file cannot steer the terminal that shows its errors.
func (p *Problem) place(lines []string, text string) {
	if p.Line < 1 || p.Line > len(lines) {
		return
	}
	p.source = Visible(lines[p.Line-1])
	left := utf8.RuneCountInString(p.source) - p.Column + 1
	p.width = max(1, min(utf8.RuneCountInString(text), left))
}

// Visible returns the text with characters that steer a terminal or hide text shown as question marks.
func Visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == utf8.RuneError || bidi(r)) {
			return '?'
		}
		return r
	}, strings.TrimRight(s, "\r"))
}

// bidi reports whether r reorders or hides the text around it.
func bidi(r rune) bool {
	return (r >= 0x200b && r <= 0x200f) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2060 && r <= 0x2069) || r == 0xfeff
}

// Clip bounds text of the file that is repeated in a message.
func Clip(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}
