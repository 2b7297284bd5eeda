package shape

import (
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/warder-mcp/warder"
)

//go:embed tables/*.shape
var tables embed.FS

// A Set holds the tables of all revisions. It is immutable and safe for concurrent use.
type Set struct {
	tables map[warder.Revision]*table
}

// A table holds the messages of one revision.
type table struct {
	client, server map[string]*message
	input          map[string]*message // questions inside a result (2026-07-28)
	failure        *node
	defs           map[string]*node
}

// A message is one method in one direction.
type message struct {
	request       bool
	params        *node
	paramsDemands bool  // params must be there
	result        *node // nil for notifications
}

// Load parses the tables. It takes about a millisecond; do it once at start-up. An error means a
// broken build.
func Load() (*Set, error) {
	s := &Set{tables: map[warder.Revision]*table{}}
	for _, rev := range warder.Revisions() {
		raw, err := tables.ReadFile("tables/" + string(rev) + ".shape")
		if err != nil {
			return nil, fmt.Errorf("read table: %w", err)
		}
		t, err := parseTable(string(raw))
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", rev, err)
		}
		s.tables[rev] = t
	}
	return s, nil
}

func parseTable(text string) (*table, error) {
	t := &table{
		client: map[string]*message{}, server: map[string]*message{}, input: map[string]*message{},
		defs: map[string]*node{},
	}
	var nodes []*node
	everything := &node{kinds: kindAny, most: -1}
	everything.any = everything
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		p := &parser{text: line, defs: t.defs, all: &nodes, any: everything}
		if err := t.line(p); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return t, t.link(nodes)
}

// line reads one line of a table: a definition, a message, or the error object.
func (t *table) line(p *parser) error {
	word := p.word()
	switch word {
	case "client", "server", "input":
		return t.message(p, word)
	case "error":
		var err error
		t.failure, err = p.expression()
		return err
	default:
		if err := p.expect("="); err != nil {
			return err
		}
		n, err := p.expression()
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
		p.named(word).alias = n
		return p.end()
	}
}

func (p *parser) end() error {
	if p.space(); p.at != len(p.text) {
		return fmt.Errorf("unexpected %q", p.text[p.at:])
	}
	return nil
}

func (t *table) message(p *parser, from string) error {
	m := &message{request: p.word() == "request"}
	p.space()
	method, rest, _ := strings.Cut(p.text[p.at:], " ")
	p.at = len(p.text) - len(rest)
	if !p.take("params") {
		return errors.New("message without params")
	}
	m.paramsDemands = !p.take("?")
	if err := p.expect(":"); err != nil {
		return err
	}
	var err error
	if m.params, err = p.expression(); err != nil {
		return fmt.Errorf("params: %w", err)
	}
	if p.take("result:") {
		if m.result, err = p.expression(); err != nil {
			return fmt.Errorf("result: %w", err)
		}
	}
	if m.request != (m.result != nil) {
		return errors.New("a request has a result and a notification has none")
	}
	map[string]map[string]*message{"client": t.client, "server": t.server, "input": t.input}[from][method] = m
	return p.end()
}

// link connects names with definitions and prepares unions.
func (t *table) link(nodes []*node) error {
	for name, n := range t.defs {
		if n.alias == nil {
			return fmt.Errorf("%s: not defined", name)
		}
		if err := resolve(&n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t.defs[name] = n
	}
	roots := []**node{&t.failure}
	for _, messages := range []map[string]*message{t.client, t.server, t.input} {
		for _, m := range messages {
			roots = append(roots, &m.params, &m.result)
		}
	}
	for _, root := range roots {
		if err := resolve(root); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		n.settle()
	}
	return nil
}
