package shape

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A parser reads expressions of the table language.
type parser struct {
	text string
	at   int
	defs map[string]*node
	all  *[]*node // every node made, in order
	any  *node
}

func (p *parser) node(n *node) *node {
	n.any = p.any
	*p.all = append(*p.all, n)
	return n
}

// named returns the node of a definition, which may be filled in later.
func (p *parser) named(name string) *node {
	n, ok := p.defs[name]
	if !ok {
		n = p.node(&node{most: -1})
		p.defs[name] = n
	}
	return n
}

func (p *parser) space() {
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
}

// take consumes a token if it comes next.
func (p *parser) take(token string) bool {
	p.space()
	if !strings.HasPrefix(p.text[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

func (p *parser) expect(token string) error {
	if !p.take(token) {
		return fmt.Errorf("want %q at %q", token, p.text[p.at:])
	}
	return nil
}

// word reads letters, digits and "_".
func (p *parser) word() string {
	p.space()
	start := p.at
	for p.at < len(p.text) && (letter(p.text[p.at]) || digit(p.text[p.at]) || p.text[p.at] == '_') {
		p.at++
	}
	return p.text[start:p.at]
}

// quoted reads a string in quotes. The tables need no escapes.
func (p *parser) quoted() (string, error) {
	end := strings.IndexByte(p.text[p.at:], '"')
	if end < 0 {
		return "", errors.New("string without end")
	}
	s := p.text[p.at : p.at+end]
	p.at += end + 1
	return s, nil
}

func (p *parser) expression() (*node, error) {
	switch {
	case p.take("{"):
		return p.object()
	case p.take("["):
		return p.array()
	case p.take("("):
		return p.union()
	case p.take(`"`):
		s, err := p.quoted()
		return p.node(&node{kinds: kindString, words: []string{s}, most: -1}), err
	}
	if c := p.text[min(p.at, len(p.text)-1)]; digit(c) || c == '-' {
		start := p.at
		p.at++
		p.word()
		return p.node(&node{kinds: kindNumber, constant: p.text[start:p.at], most: -1}), nil
	}
	word := p.word()
	switch word {
	case "":
		return nil, fmt.Errorf("want an expression at %q", p.text[p.at:])
	case "any":
		return p.any, nil
	case "boolean":
		return p.node(&node{kinds: kindBoolean, most: -1}), nil
	case "null":
		return p.node(&node{kinds: kindNull, most: -1}), nil
	case "string":
		return p.string()
	case "integer", "number":
		return p.number(word == "integer")
	default:
		return p.named(word), nil
	}
}

func (p *parser) string() (*node, error) {
	n := p.node(&node{kinds: kindString, most: -1})
	if !p.take("<") {
		return n, nil
	}
	for _, f := range []format{formatTemplate, formatURI, formatByte} {
		if p.take(f.String() + ">") {
			n.format = f
			return n, nil
		}
	}
	return nil, fmt.Errorf("unknown format at %q", p.text[p.at:])
}

func (p *parser) number(integer bool) (*node, error) {
	n := p.node(&node{kinds: kindNumber, integer: integer, most: -1})
	if !p.take("[") {
		return n, nil
	}
	low, rest, ok := strings.Cut(p.text[p.at:], "..")
	high, _, closed := strings.Cut(rest, "]")
	if !ok || !closed {
		return nil, errors.New("bounds without end")
	}
	p.at += len(low) + len(high) + 3
	var err error
	if low != "" {
		n.hasLow = true
		if n.low, err = strconv.ParseFloat(low, 64); err != nil {
			return nil, fmt.Errorf("lower bound: %w", err)
		}
	}
	if high != "" {
		n.hasHigh = true
		if n.high, err = strconv.ParseFloat(high, 64); err != nil {
			return nil, fmt.Errorf("upper bound: %w", err)
		}
	}
	return n, nil
}

func (p *parser) array() (*node, error) {
	items, err := p.expression()
	if err != nil {
		return nil, err
	}
	n := p.node(&node{kinds: kindArray, items: items, most: -1})
	if err := p.expect("]"); err != nil {
		return nil, err
	}
	if !p.take("{..") {
		return n, nil
	}
	if n.most, err = strconv.Atoi(p.word()); err != nil {
		return nil, fmt.Errorf("length: %w", err)
	}
	return n, p.expect("}")
}

func (p *parser) object() (*node, error) {
	n := p.node(&node{kinds: kindObject, most: -1})
	for !p.take("}") {
		if len(n.members) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		if err := p.member(n); err != nil {
			return nil, err
		}
	}
	if len(n.members) > 64 {
		return nil, errors.New("more than 64 members")
	}
	n.constrainsObject = len(n.members) > 0 || n.rest != p.any
	return n, nil
}

func (p *parser) member(n *node) error {
	var name string
	switch {
	case p.take("*"):
		name = "*"
	case p.take(`"`):
		var err error
		if name, err = p.quoted(); err != nil {
			return err
		}
	default:
		name = p.word()
	}
	optional := p.take("?")
	if err := p.expect(":"); err != nil {
		return err
	}
	value, err := p.expression()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if name == "*" {
		n.rest = value
		return nil
	}
	if !optional {
		n.required |= 1 << len(n.members)
	}
	n.members = append(n.members, member{name, value})
	return nil
}

// union reads alternatives. Alternatives that are all string constants become one node.
func (p *parser) union() (*node, error) {
	n := p.node(&node{most: -1})
	words := []string{}
	for {
		c, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.cases = append(n.cases, c)
		if len(c.words) == 1 {
			words = append(words, c.words[0])
		}
		if p.take(")") {
			break
		}
		if err := p.expect("|"); err != nil {
			return nil, err
		}
	}
	if len(words) == len(n.cases) {
		return p.node(&node{kinds: kindString, words: words, most: -1}), nil
	}
	return n, nil
}
