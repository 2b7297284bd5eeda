// Package schema compiles JSON Schemas that servers and clients send and judges values by them. It
// is the one place that knows which library does it.
//
//	s, err := schema.Compile([]byte(`{"type":"object","properties":{"n":{"type":"integer"}}}`), schema.Options{})
//	violations, err := s.Validate([]byte(`{"n":"x"}`)) // /n type: want integer, got string
//
// Schemas are untrusted. MCP 2026-07-28 says that references over the network must not be followed
// and that size, depth, number of subschemas and time should be bounded: nothing is ever loaded, and
// a schema that could need more work than its budget is refused when it is compiled. Drafts 4, 6, 7,
// 2019-09 and 2020-12 are known; 2020-12 is meant where "$schema" is absent. "format" is asserted.
// Patterns are matched in linear time by RE2; one that RE2 cannot express is refused, except for
// look-aheads at the beginning.
package schema

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/wire"
)

// Limits bounds what a schema may look like and how much work one validation may be. A zero field
// means the default.
type Limits struct {
	Bytes      int // length of the schema; default 256 KiB
	Depth      int // nesting of its objects and arrays; default 48
	Subschemas int // objects in it; default 4096
	Pattern    int // bytes of one regular expression; default 1024
	Values     int // values in an instance; default 100,000
	Work       int // subschema evaluations one validation may need at worst; default 4,000,000
}

func (l Limits) orDefault() Limits {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&l.Bytes, 256<<10)
	set(&l.Depth, 48)
	set(&l.Subschemas, 4096)
	set(&l.Pattern, 1024)
	set(&l.Values, 100_000)
	set(&l.Work, 4_000_000)
	return l
}

// Options says how a schema is to be read.
type Options struct {
	Limits Limits

	// Closed refuses properties of the value itself that the schema declares nowhere, unless the
	// schema says what to do with them. Values inside the value are judged by the schema alone.
	Closed bool
}

// ErrSchema is wrapped by every error that says a schema is not acceptable.
var ErrSchema = errors.New("schema not acceptable")

// ErrBudget says that a value is too large to be judged by its schema.
var ErrBudget = errors.New("judging the value exceeds the budget")

// A Schema is a compiled schema. It is safe for concurrent use.
type Schema struct {
	compiled *jsonschema.Schema
	limits   Limits
	closed   bool
	declared declaration
	work     workTable
	program  int // instructions of the largest pattern
}

var _ warder.Schema = (*Schema)(nil)

// location is the base URI of every schema: one that cannot be fetched and that relative references
// resolve against.
const location = "urn:warder:schema"

// Compile compiles one schema. The bytes must be JSON that package wire has validated. Every error
// wraps ErrSchema.
func Compile(schema []byte, opts Options) (*Schema, error) {
	limits := opts.Limits.orDefault()
	if len(schema) > limits.Bytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrSchema, len(schema), limits.Bytes)
	}
	tree, err := wire.Tree(schema)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if err := check(tree, limits); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	compiled, program, err := compile(tree, limits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	work, err := estimate(compiled)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return &Schema{
		compiled: compiled, limits: limits, closed: opts.Closed,
		declared: declarations(compiled), work: work, program: program,
	}, nil
}

// compile lets the library read the schema. The program is the size of its largest pattern.
func compile(tree any, limits Limits) (s *jsonschema.Schema, program int, err error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(refuse{})
	done := false // afterwards the engine runs for "format": "regex", by many goroutines at once
	c.UseRegexpEngine(func(pattern string) (jsonschema.Regexp, error) {
		p, err := compilePattern(pattern, limits.Pattern)
		if err != nil {
			return nil, err
		}
		if !done {
			program = max(program, p.size)
		}
		return p, nil
	})
	if err := c.AddResource(location, tree); err != nil {
		return nil, 0, err
	}
	s, err = c.Compile(location)
	done = true
	return s, program, err
}

// refuse is the loader of every compiler: it loads nothing.
type refuse struct{}

func (refuse) Load(string) (any, error) {
	return nil, errors.New("external references are not followed")
}

// A Cache compiles schemas with the same options and keeps those used last, by the digest of their
// bytes. It is safe for concurrent use.
type Cache struct {
	opts Options
	kept *bounded.Cache[[sha256.Size]byte, *Schema]
}

// NewCache returns a cache for at most 2*size compiled schemas.
func NewCache(size int, opts Options) *Cache {
	return &Cache{opts: opts, kept: bounded.New[[sha256.Size]byte, *Schema](size)}
}

// Compile returns the compiled schema for these bytes. Errors are as those of [Compile] and are not
// kept.
func (c *Cache) Compile(schema []byte) (*Schema, error) {
	key := sha256.Sum256(schema)
	if s, ok := c.kept.Get(key); ok {
		return s, nil
	}
	s, err := Compile(schema, c.opts)
	if err != nil {
		return nil, err
	}
	return c.kept.Add(key, s), nil
}
