// Package input is the line of defence that judges what the client says: is the question harmless.
//
// In Request the message is proper MCP (gateway) and its target is a vetted definition (tools). The
// controls run from cheap to dear, so that each may rely on what the one before it bounded:
//
//	INV-03  nesting and number of values stay within a budget
//	INV-02  strings, arrays, objects, numbers and the whole stay within caps where the schema has none
//	INV-04  no member that the revision, the tool or the list of _meta keys does not know
//	INV-01  arguments match the schema of the approved definition; answers match the question
//
// In Response, for every message of the answer:
//
//	INV-01  structuredContent matches the output schema of the approved definition
//
// A client's answer to a question of the server is an exchange of its own and is judged the same way
// in Request. Nothing here changes a message, but for INV-04: keys of _meta that break the rules of
// the specification are left out where the configuration says so.
//
// What the client is told names the place and the rule, never the value: an argument may be a
// secret, and error texts end up in logs and in models.
package input

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/schema"
	"github.com/warder-mcp/warder/internal/unit"
	"github.com/warder-mcp/warder/wire"
	"github.com/warder-mcp/warder/wire/shape"
)

// Config is the section "input" of the configuration. Zero numbers mean the defaults of [Default].
type Config struct {
	// MaxBytes is the length of params, or of a client's answer. Default 1MiB.
	MaxBytes unit.Bytes `yaml:"max_bytes"`

	// MaxDepth is the nesting of params. Default 32.
	MaxDepth int `yaml:"max_depth"`

	// MaxValues is how many values params may hold, on all levels together. Default 10000.
	MaxValues int `yaml:"max_values"`

	// MaxString is the length of one string where its schema states none. Default 256KiB.
	MaxString unit.Bytes `yaml:"max_string"`

	// MaxName is the length of one member name. Default 256B.
	MaxName unit.Bytes `yaml:"max_name"`

	// MaxItems is the length of one array where its schema states none. Default 2000.
	MaxItems int `yaml:"max_items"`

	// MaxMembers is the number of members of one object where its schema states none. Default 500.
	MaxMembers int `yaml:"max_members"`

	// MaxNumber is the magnitude of a number where its schema states no bounds. Default
	// 9007199254740991, the largest integer every JSON reader keeps.
	MaxNumber float64 `yaml:"max_number"`

	// Patterns are allow-lists for single arguments, beyond what their schema says.
	Patterns []Pattern `yaml:"patterns"`

	// OpenArguments names servers whose tools may be called with arguments their schema does not
	// declare. Meant for servers that read undeclared arguments; weakens INV-04.
	OpenArguments []string `yaml:"open_arguments"`

	// StripUnknownMeta leaves keys out of _meta that are neither known nor named after a domain
	// ("com.example/key"), and lets the message pass. Without it such a message is refused. Default
	// true: widespread clients send keys of their own there.
	StripUnknownMeta bool `yaml:"strip_unknown_meta"`

	// AllowMeta lists further keys of _meta to forward: whole keys, or beginnings that end in "/" or
	// ".", such as "claudecode/". Reserved keys (modelcontextprotocol, mcp) cannot be listed.
	AllowMeta []string `yaml:"allow_meta"`
}

// A Pattern says what one argument of one tool may be.
type Pattern struct {
	Server   string `yaml:"server"`   // server name
	Tool     string `yaml:"tool"`     // tool, as the server names it
	Argument string `yaml:"argument"` // RFC 6901 pointer into the arguments, such as "/path"
	Allow    string `yaml:"allow"`    // RE2 expression that the whole text must match; numbers and booleans as written
}

// Default returns the defaults.
func Default() Config {
	return Config{
		MaxBytes: unit.MiB, MaxDepth: 32, MaxValues: 10_000, MaxString: 256 * unit.KiB, MaxName: 256,
		MaxItems: 2000, MaxMembers: 500, MaxNumber: 1<<53 - 1, StripUnknownMeta: true,
	}
}

// Check returns every error of the configuration.
func (c Config) Check() error {
	var errs []error
	numbers := map[string]float64{
		"max_bytes": float64(c.MaxBytes), "max_depth": float64(c.MaxDepth), "max_values": float64(c.MaxValues),
		"max_string": float64(c.MaxString), "max_name": float64(c.MaxName), "max_items": float64(c.MaxItems),
		"max_members": float64(c.MaxMembers), "max_number": c.MaxNumber,
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		if !(numbers[name] >= 0) {
			errs = append(errs, fmt.Errorf("input.%s: want a number of at least 0", name))
		}
	}
	if c.MaxDepth > wire.DefaultLimits().Depth {
		errs = append(errs, fmt.Errorf("input.max_depth: at most %d", wire.DefaultLimits().Depth))
	}
	for i, key := range c.AllowMeta {
		if key == "" || reservedKey(key) {
			errs = append(errs, fmt.Errorf("input.allow_meta[%d]: %q cannot be allowed", i, key))
		}
	}
	_, err := compilePatterns(c.Patterns)
	errs = append(errs, err)
	return errors.Join(errs...)
}

// orDefault fills zero numbers.
func (c Config) orDefault() Config {
	d := Default()
	c.MaxBytes = cmp.Or(c.MaxBytes, d.MaxBytes)
	c.MaxDepth = cmp.Or(c.MaxDepth, d.MaxDepth)
	c.MaxValues = cmp.Or(c.MaxValues, d.MaxValues)
	c.MaxString = cmp.Or(c.MaxString, d.MaxString)
	c.MaxName = cmp.Or(c.MaxName, d.MaxName)
	c.MaxItems = cmp.Or(c.MaxItems, d.MaxItems)
	c.MaxMembers = cmp.Or(c.MaxMembers, d.MaxMembers)
	c.MaxNumber = cmp.Or(c.MaxNumber, d.MaxNumber)
	return c
}

// Questions remembers what a server asked in a result of resultType "input_required". Implemented
// by whoever keeps the state of a multi-round-trip request.
type Questions interface {
	// Asked returns the questions that the inputResponses of x.Request answer. ok is false if they
	// are not known here: the server alone can judge the answers then, apart from their form.
	Asked(x *warder.Exchange) (questions []wire.Question, ok bool)
}

// Deps is what the layer needs from others.
type Deps struct {
	Questions Questions // may be nil: answers in inputResponses are judged by their form alone
}

// New builds the layer.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	if err := cfg.Check(); err != nil {
		return warder.Layer{}, err
	}
	cfg = cfg.orDefault()
	rules, err := shape.Load()
	if err != nil {
		return warder.Layer{}, fmt.Errorf("load message forms: %w", err)
	}
	patterns, err := compilePatterns(cfg.Patterns)
	if err != nil {
		return warder.Layer{}, err
	}
	answers := schema.NewCache(256, schema.Options{Closed: true})
	return warder.Layer{
		Name: "input",
		Request: []warder.Interceptor{
			&budget{depth: cfg.MaxDepth, values: cfg.MaxValues},
			newCaps(cfg),
			newUnknown(cfg, rules),
			&arguments{answers: answers, questions: deps.Questions, patterns: patterns},
		},
		Response: []warder.Interceptor{&structured{}},
	}, nil
}
