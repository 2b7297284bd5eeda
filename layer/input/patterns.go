package input

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// patterns are the allow-lists of single arguments, by tool.
type patterns map[toolName][]pattern

// A toolName names a tool of a server.
type toolName struct{ server, tool string }

// A pattern is one compiled allow-list.
type pattern struct {
	pointer string
	path    []string
	allow   *regexp.Regexp
}

// compilePatterns reports every mistake.
func compilePatterns(list []Pattern) (patterns, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := patterns{}
	var errs []error
	for i, p := range list {
		re, err := regexp.Compile(`\A(?:` + p.Allow + `)\z`)
		switch {
		case p.Server == "" || p.Tool == "" || p.Allow == "":
			errs = append(errs, fmt.Errorf("input.patterns[%d]: want server, tool, argument and allow", i))
		case !strings.HasPrefix(p.Argument, "/"):
			errs = append(errs, fmt.Errorf("input.patterns[%d].argument: want a pointer such as /path", i))
		case err != nil:
			errs = append(errs, fmt.Errorf("input.patterns[%d].allow: %w", i, err))
		default:
			path := strings.Split(p.Argument[1:], "/")
			for j := range path {
				path[j] = strings.NewReplacer("~1", "/", "~0", "~").Replace(path[j])
			}
			key := toolName{p.Server, p.Tool}
			out[key] = append(out[key], pattern{p.Argument, path, re})
		}
	}
	return out, errors.Join(errs...)
}

// judge refuses arguments that match no allow-list where there is one. An argument that is left out
// is the schema's business. Every element of an array must match.
func (p patterns) judge(t *warder.Tool, given wire.Value) warder.Decision {
	for _, one := range p[toolName{t.Server, t.Name}] {
		v := given
		for _, step := range one.path {
			v = within(v, step)
		}
		if !v.Exists() || one.admits(v) {
			continue
		}
		return refuse(warder.CodeInvalidParams, "pattern_mismatch", "/params/arguments"+one.pointer, "pattern",
			"want what this gateway allows for this argument")
	}
	return warder.Continue()
}

// within returns the member or element that one step of a pointer names.
func within(v wire.Value, step string) wire.Value {
	if v.Kind() != '[' {
		return v.Get(step)
	}
	index, err := strconv.Atoi(step)
	if err != nil {
		return wire.Value{}
	}
	for i, element := range v.Elements() {
		if i == index {
			return element
		}
	}
	return wire.Value{}
}

func (p *pattern) admits(v wire.Value) bool {
	switch v.Kind() {
	case '"':
		text, ok := v.Text()
		return ok && p.allow.MatchString(text)
	case '[':
		for _, element := range v.Elements() {
			if !p.admits(element) {
				return false
			}
		}
		return true
	case '{', 'n':
		return false
	default:
		return p.allow.Match(v.Raw())
	}
}
