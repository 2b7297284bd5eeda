package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
)

// A printer writes what a command found: a table for people, JSON for programs.
type printer struct {
	out  io.Writer
	json bool
}

// A grid is a table: a header and rows of as many cells.
type grid struct {
	header []string
	rows   [][]string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// print writes value as JSON, or the grid as a table.
func (p *printer) print(value any, g *grid) error {
	if p.json {
		return p.writeJSON(value)
	}
	return p.table(g)
}

func (p *printer) writeJSON(value any) error {
	enc := json.NewEncoder(p.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(value)
}

func (p *printer) table(g *grid) error {
	for _, row := range g.rows {
		for i := range row {
			row[i] = oneLine(row[i])
		}
	}
	if width := colourWidth(p.out); width > 0 {
		_, err := fmt.Fprintln(p.out, styled(g, width))
		return err
	}
	_, err := io.WriteString(p.out, plain(g))
	return err
}

// text writes a line as it is.
func (p *printer) text(format string, args ...any) error {
	_, err := fmt.Fprintf(p.out, format+"\n", args...)
	return err
}

// plain writes columns two spaces apart, nothing behind the last.
func plain(g *grid) string {
	widths := make([]int, len(g.header))
	all := append([][]string{g.header}, g.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-ansi.StringWidth(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

func styled(g *grid, width int) string {
	head := lipgloss.NewStyle().Bold(true).PaddingRight(2)
	cell := lipgloss.NewStyle().PaddingRight(2)
	t := table.New().Headers(g.header...).Rows(g.rows...).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).BorderColumn(false).
		BorderHeader(true).Border(lipgloss.NormalBorder()).
		StyleFunc(func(row, _ int) lipgloss.Style {
			if row == table.HeaderRow {
				return head
			}
			return cell
		})
	if len(plain(g)) > 0 && longest(plain(g)) > width {
		t = t.Width(width)
	}
	return t.Render()
}

func longest(text string) int {
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n = max(n, ansi.StringWidth(line))
	}
	return n
}

// colourWidth is the width of the terminal behind w; 0 when there is none or colour is not wanted.
func colourWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return 0
	}
	width, _, err := term.GetSize(f.Fd())
	if err != nil || width < 20 {
		return 80
	}
	return width
}

// oneLine makes foreign text safe for one line of a terminal: what is invisible or steers the
// terminal becomes a question mark, long text is cut.
func oneLine(s string) string {
	const limit = 120
	s = harmless(s, false)
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

// lines makes foreign text safe for a terminal and keeps its lines.
func lines(s string) string { return harmless(s, true) }

func harmless(s string, keepLines bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && keepLines, r == '\t' && keepLines:
			return r
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r == 0xfffd:
			return '?'
		case r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff, r == 0x00ad:
			return '?'
		case r >= 0xe0000 && r <= 0xe0fff, r >= 0xfe00 && r <= 0xfe0f:
			return '?'
		default:
			return r
		}
	}, s)
}
