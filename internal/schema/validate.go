package schema

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// MaxViolations is how many violations one validation reports at most.
const MaxViolations = 16

// Validate judges a value that package wire has validated. It returns at most [MaxViolations],
// sorted by place; nil means valid. An error means that the value is too large to be judged and
// wraps ErrBudget.
func (s *Schema) Validate(value []byte) ([]warder.Violation, error) {
	tree, err := s.tree(value)
	if err != nil {
		return nil, err
	}
	var found []warder.Violation
	if err := s.compiled.Validate(tree); err != nil {
		var invalid *jsonschema.ValidationError
		if !errors.As(err, &invalid) {
			return nil, fmt.Errorf("validate: %w", err)
		}
		found = collect(nil, invalid)
		if len(found) == 0 {
			return nil, errors.New("validate: refused without a reason")
		}
	}
	if s.closed {
		found = append(found, s.declared.undeclared(tree)...)
	}
	return bounded16(found), nil
}

// Undeclared returns the properties of the value itself that the schema declares nowhere, as
// violations of "additionalProperties", although the schema does not forbid them (INV-04). A schema
// that says what to do with additional properties has no undeclared ones.
func (s *Schema) Undeclared(value []byte) ([]warder.Violation, error) {
	if s.declared.open {
		return nil, nil
	}
	tree, err := s.tree(value)
	if err != nil {
		return nil, err
	}
	return bounded16(s.declared.undeclared(tree)), nil
}

func (s *Schema) tree(value []byte) (any, error) {
	tree, err := wire.Tree(value)
	if err != nil {
		return nil, fmt.Errorf("validate: %w", err)
	}
	var c census
	bounds := s.limits
	bounds.Depth = maxHeight
	if err := c.count(tree, 0, bounds); err != nil {
		return nil, fmt.Errorf("validate: %w: %w", ErrBudget, err)
	}
	if c.values > s.limits.Work/max(s.work[c.height], 1) {
		return nil, fmt.Errorf("validate: %w: %d values of height %d", ErrBudget, c.values, c.height)
	}
	if s.program > 0 && c.text > maxSteps/s.program {
		return nil, fmt.Errorf("validate: %w: %d bytes of text for a pattern of size %d", ErrBudget, c.text, s.program)
	}
	return tree, nil
}

// maxSteps bounds the work of patterns: RE2 needs at worst the size of the pattern for each byte.
const maxSteps = 500_000_000

func bounded16(found []warder.Violation) []warder.Violation {
	slices.SortFunc(found, func(a, b warder.Violation) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Keyword, b.Keyword), cmp.Compare(a.Message, b.Message))
	})
	found = slices.Compact(found)
	return found[:min(len(found), MaxViolations)]
}

// collect appends the violations at the leaves of the error. Alternatives are reported as one
// violation: what the parts of "anyOf" and "oneOf" wanted contradicts itself.
func collect(found []warder.Violation, e *jsonschema.ValidationError) []warder.Violation {
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf, *kind.Not, *kind.Contains, *kind.MinContains, *kind.PropertyNames:
	default:
		if len(e.Causes) > 0 {
			for _, cause := range e.Causes {
				found = collect(found, cause)
			}
			return found
		}
	}
	pointer := pointerTo(e.InstanceLocation)
	if k, ok := e.ErrorKind.(*kind.AdditionalProperties); ok {
		for _, name := range k.Properties[:min(len(k.Properties), MaxViolations)] {
			found = append(found, undeclared(pointer+"/"+escape(name)))
		}
		return found
	}
	keyword, message := describe(e.ErrorKind)
	return append(found, warder.Violation{Pointer: pointer, Keyword: keyword, Message: message})
}

func undeclared(pointer string) warder.Violation {
	return warder.Violation{Pointer: pointer, Keyword: "additionalProperties", Message: "is not a declared property"}
}

func pointerTo(tokens []string) string {
	var b strings.Builder
	for _, token := range tokens {
		b.WriteByte('/')
		b.WriteString(escape(token))
	}
	return b.String()
}

// escape writes one token of a JSON pointer (RFC 6901 section 3).
func escape(token string) string {
	return strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
}

// describe says what was expected. It uses the schema's words and never the value's.
func describe(e jsonschema.ErrorKind) (keyword, message string) {
	if path := e.KeywordPath(); len(path) > 0 {
		keyword = path[0]
	}
	switch k := e.(type) {
	case *kind.Type:
		return keyword, "want " + strings.Join(k.Want, " or ") + ", got " + k.Got
	case *kind.Required:
		return keyword, "lacks " + names(k.Missing)
	case *kind.Dependency:
		return "dependencies", cut(k.Prop) + " needs " + names(k.Missing)
	case *kind.DependentRequired:
		return keyword, cut(k.Prop) + " needs " + names(k.Missing)
	case *kind.Enum:
		return keyword, "want one of " + choices(k.Want)
	case *kind.Const:
		return keyword, "want " + choices([]any{k.Want})
	case *kind.Format:
		return keyword, "want the format " + cut(k.Want)
	case *kind.Pattern:
		return keyword, "want a match of " + cut(k.Want)
	case *kind.FalseSchema:
		return "false", "nothing is allowed here"
	case *kind.RefCycle:
		return "$ref", "the schema refers to itself without end"
	case *kind.Not:
		return "not", "matches what it must not match"
	default:
		return describeBound(keyword, e)
	}
}

func describeBound(keyword string, e jsonschema.ErrorKind) (word, message string) {
	switch k := e.(type) {
	case *kind.MinLength:
		return keyword, "want at least " + strconv.Itoa(k.Want) + " characters"
	case *kind.MaxLength:
		return keyword, "want at most " + strconv.Itoa(k.Want) + " characters"
	case *kind.MinItems:
		return keyword, "want at least " + strconv.Itoa(k.Want) + " items"
	case *kind.MaxItems:
		return keyword, "want at most " + strconv.Itoa(k.Want) + " items"
	case *kind.MinProperties:
		return keyword, "want at least " + strconv.Itoa(k.Want) + " properties"
	case *kind.MaxProperties:
		return keyword, "want at most " + strconv.Itoa(k.Want) + " properties"
	case *kind.Minimum:
		return keyword, "want at least " + cut(k.Want.RatString())
	case *kind.Maximum:
		return keyword, "want at most " + cut(k.Want.RatString())
	case *kind.ExclusiveMinimum:
		return keyword, "want more than " + cut(k.Want.RatString())
	case *kind.ExclusiveMaximum:
		return keyword, "want less than " + cut(k.Want.RatString())
	case *kind.MultipleOf:
		return keyword, "want a multiple of " + cut(k.Want.RatString())
	case *kind.MaxContains:
		return keyword, "want at most " + strconv.Itoa(k.Want) + " items of one kind"
	case *kind.UniqueItems:
		return keyword, "want items that differ"
	case *kind.AdditionalItems:
		return "items", "has too many items"
	case *kind.AnyOf, *kind.OneOf:
		return keyword, "matches none of the alternatives, or more than one"
	case *kind.PropertyNames:
		return "propertyNames", "has a property whose name is not allowed"
	case *kind.Contains, *kind.MinContains:
		return keyword, "lacks items that must be there"
	default:
		return keyword, "is not as the schema says"
	}
}

// maxQuoted bounds words of a schema in a message.
const maxQuoted = 120

// cut quotes words of a schema: what cannot be seen is made visible, what is long is cut.
func cut(s string) string {
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "") + "…"
	}
	return strconv.QuoteToGraphic(s)
}

func names(list []string) string {
	quoted := make([]string, 0, min(len(list), MaxViolations))
	for _, name := range list[:min(len(list), MaxViolations)] {
		quoted = append(quoted, cut(name))
	}
	return strings.Join(quoted, ", ")
}

func choices(want []any) string {
	words := make([]string, 0, min(len(want), MaxViolations))
	for _, w := range want[:min(len(want), MaxViolations)] {
		switch w := w.(type) {
		case string:
			words = append(words, cut(w))
		case map[string]any, []any:
			words = append(words, "a structure")
		default:
			words = append(words, fmt.Sprint(w))
		}
	}
	if len(want) > len(words) {
		words = append(words, "…")
	}
	return strings.Join(words, ", ")
}
