package registry

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/wire"
)

// ErrInvalid is wrapped by every error that says a definition can never be approved.
var ErrInvalid = errors.New("definition not acceptable")

const (
	maxDefinition = 1 << 20 // bytes of one definition
	maxName       = 256     // bytes of a tool's or prompt's name; the specification advises 128
	maxURI        = 4096    // bytes of a resource's URI
)

// Build makes the immutable form of one definition: name, digest of the canonical form, compiled
// schemas, and annotations. The tool is quarantined; only a decision changes that. Bytes need not be
// valid JSON. Every error wraps [ErrInvalid].
func Build(server, kind string, definition []byte) (*warder.Tool, error) {
	tool, err := parse(server, kind, definition)
	if err != nil {
		return nil, err
	}
	made, err := compile(tool, func(s []byte) (*schema.Schema, error) { return schema.Compile(s, schema.Options{}) })
	if err != nil {
		return nil, err
	}
	return made.complete(tool), nil
}

// parse reads name and digest of a definition. It does not compile schemas: an unapproved definition
// is not worth the work.
func parse(server, kind string, definition []byte) (*warder.Tool, error) {
	if len(definition) > maxDefinition {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(definition), maxDefinition)
	}
	if err := wire.Validate(definition, wire.Limits{}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	name, err := nameOf(kind, wire.Parse(definition))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := checkNumbers(definition); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	canonical, err := wire.Canonical(definition)
	if err != nil {
		return nil, fmt.Errorf("%w: canonical form: %w", ErrInvalid, err)
	}
	return &warder.Tool{
		Kind: kind, Server: strings.Clone(server), Name: name,
		Digest: sha256.Sum256(canonical), Definition: canonical,
	}, nil
}

// nameOf returns what the definition is called, unescaped.
func nameOf(kind string, v wire.Value) (string, error) {
	if kind == KindInstructions {
		if v.Kind() != '"' {
			return "", errors.New("instructions are not text")
		}
		return InstructionsName, nil
	}
	member, limit := "name", maxName
	switch kind {
	case KindTool, KindPrompt:
	case KindResource:
		member, limit = "uri", maxURI
	case KindTemplate:
		member, limit = "uriTemplate", maxURI
	default:
		return "", fmt.Errorf("unknown kind %q", kind)
	}
	if v.Kind() != '{' {
		return "", errors.New("not an object")
	}
	name, ok := v.Get(member).Text()
	if !ok {
		return "", fmt.Errorf("%s is missing or not text", member)
	}
	if name == "" || len(name) > limit {
		return "", fmt.Errorf("%s of %d bytes, want 1 to %d", member, len(name), limit)
	}
	if !utf8.ValidString(name) || Visible(name) != name {
		return "", fmt.Errorf("%s has characters that cannot be seen", member)
	}
	return strings.Clone(name), nil
}

// checkNumbers refuses numbers that the canonical form cannot tell apart. RFC 8785 section 3.2.2.3
// writes every number as an IEEE 754 double, so 9007199254740993 becomes …992: two definitions that
// a validator distinguishes would share one digest.
func checkNumbers(definition []byte) error {
	tree, err := wire.Tree(definition)
	if err != nil {
		return err
	}
	return everyNumber(tree, func(n json.Number) error {
		if len(n) > 64 {
			return errors.New("a number has more than 64 characters")
		}
		f, err := strconv.ParseFloat(string(n), 64)
		if err != nil || f != 0 && (f > 1e300 || f < -1e300 || f > -1e-300 && f < 1e-300) {
			return errors.New("a number is out of range")
		}
		exact, ok := new(big.Rat).SetString(string(n))
		written, ok2 := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
		if !ok || !ok2 || exact.Cmp(written) != 0 {
			return errors.New("a number has more digits than a double can hold")
		}
		return nil
	})
}

func everyNumber(tree any, visit func(json.Number) error) error {
	switch v := tree.(type) {
	case map[string]any:
		for _, part := range v {
			if err := everyNumber(part, visit); err != nil {
				return err
			}
		}
	case []any:
		for _, part := range v {
			if err := everyNumber(part, visit); err != nil {
				return err
			}
		}
	case json.Number:
		return visit(v)
	}
	return nil
}

// compiled is what is made of a definition once it may be used.
type compiled struct {
	input, output warder.Schema
	headers       []warder.Header
}

// complete returns a copy of the tool with its compiled parts.
func (c *compiled) complete(tool *warder.Tool) *warder.Tool {
	made := *tool
	made.Input, made.Output, made.Headers = c.input, c.output, c.headers
	return &made
}

// compile makes schemas and annotations of a parsed definition.
func compile(tool *warder.Tool, compileSchema func([]byte) (*schema.Schema, error)) (*compiled, error) {
	made := &compiled{}
	if tool.Kind != KindTool {
		return made, nil
	}
	v := wire.Parse(tool.Definition)
	input := v.Get("inputSchema")
	if input.Kind() != '{' || !input.Get("type").Equals("object") {
		return nil, fmt.Errorf(`%w: inputSchema is not a schema of type "object"`, ErrInvalid)
	}
	in, err := compileSchema(input.Raw())
	if err != nil {
		return nil, fmt.Errorf("%w: inputSchema: %w", ErrInvalid, err)
	}
	made.input = in
	if output := v.Get("outputSchema"); output.Exists() {
		out, err := compileSchema(output.Raw())
		if err != nil {
			return nil, fmt.Errorf("%w: outputSchema: %w", ErrInvalid, err)
		}
		made.output = out
	}
	if made.headers, err = wire.AnnotatedHeaders(input.Raw()); err != nil {
		return nil, fmt.Errorf("%w: inputSchema: %w", ErrInvalid, err)
	}
	return made, nil
}
