package schema

import (
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The validator has no budget of its own, and a small schema can make it work for years:
//
//	{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}], "$defs":{"a":{"allOf":[…twice b…]}, …}}
//
// So the worst case is computed once, when the schema is compiled: how many subschemas can be
// evaluated on one path from the root of a value to a leaf, for every height the value may have.
// Times the number of values, that bounds the work of a validation before it begins.

// maxHeight is the deepest value that package wire lets through.
const maxHeight = 64

// A workTable tells, by the height of a value, how many evaluations one of its paths may need.
type workTable [maxHeight + 1]int

var errEndless = errors.New("a reference leads back to itself without consuming input")

// A class is a kind of JSON value with parts of its own.
type class int

const (
	scalar class = iota
	array
	object
	classes
)

func (c class) types() []string {
	switch c {
	case array:
		return []string{"array"}
	case object:
		return []string{"object"}
	default:
		return []string{"null", "boolean", "number", "integer", "string"}
	}
}

// An estimator computes a workTable, height by height.
type estimator struct {
	all      []*jsonschema.Schema
	index    map[*jsonschema.Schema]int
	dynamic  map[string][]*jsonschema.Schema
	recurse  []*jsonschema.Schema
	admits   [][classes]bool
	current  [][classes]int // evaluations at the height under work; 0: not computed, -1: under way
	previous []int          // evaluations at the height below, the worst class
	height   int
}

func estimate(root *jsonschema.Schema) (workTable, error) {
	e := &estimator{index: map[*jsonschema.Schema]int{}, dynamic: map[string][]*jsonschema.Schema{}}
	e.gather(root)
	e.previous = make([]int, len(e.all))
	var table workTable
	for h := range table {
		e.height = h
		e.current = make([][classes]int, len(e.all))
		steady := h > 0
		next := make([]int, len(e.all))
		for i, s := range e.all {
			for c := range classes {
				n, err := e.evaluations(s, c)
				if err != nil {
					return table, err
				}
				next[i] = max(next[i], n)
			}
			steady = steady && next[i] == e.previous[i]
		}
		e.previous = next
		table[h] = next[e.index[root]]
		if steady { // heights above give the same numbers
			for above := h + 1; above < len(table); above++ {
				table[above] = table[h]
			}
			return table, nil
		}
	}
	return table, nil
}

// gather numbers every schema that can be reached from root.
func (e *estimator) gather(root *jsonschema.Schema) {
	todo := []*jsonschema.Schema{root}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, known := e.index[s]; known {
			continue
		}
		e.index[s] = len(e.all)
		e.all = append(e.all, s)
		var admits [classes]bool
		for c := range classes {
			admits[c] = admitsClass(s, c)
		}
		e.admits = append(e.admits, admits)
		if s.DynamicAnchor != "" {
			e.dynamic[s.DynamicAnchor] = append(e.dynamic[s.DynamicAnchor], s)
		}
		if s.RecursiveAnchor {
			e.recurse = append(e.recurse, s)
		}
		for part := range parts(s) {
			todo = append(todo, part)
		}
	}
}

// admitsClass reports whether the schema looks further at values of the class: a wrong type ends its
// evaluation at once.
func admitsClass(s *jsonschema.Schema, c class) bool {
	if s.Bool != nil {
		return false
	}
	if s.Types == nil || s.Types.IsEmpty() {
		return true
	}
	for _, have := range s.Types.ToStrings() {
		if slices.Contains(c.types(), have) {
			return true
		}
	}
	return false
}

// evaluations counts those of s and of everything below it on one path of a value of class c.
func (e *estimator) evaluations(s *jsonschema.Schema, c class) (int, error) {
	i := e.index[s]
	switch n := e.current[i][c]; {
	case n > 0:
		return n, nil
	case n < 0:
		return 0, errEndless
	}
	if !e.admits[i][c] {
		e.current[i][c] = 1
		return 1, nil
	}
	e.current[i][c] = -1
	total := 1
	for part := range e.samePlace(s) {
		n, err := e.evaluations(part, c)
		if err != nil {
			return 0, err
		}
		total = add(total, n)
	}
	if e.height > 0 {
		total = add(total, e.below(s, c))
	}
	e.current[i][c] = total
	return total, nil
}

// samePlace yields the schemas that judge the same value as s because s says so.
func (e *estimator) samePlace(s *jsonschema.Schema) iter.Seq[*jsonschema.Schema] {
	return func(yield func(*jsonschema.Schema) bool) {
		for part := range inPlace(s) {
			if !yield(part) {
				return
			}
		}
		var candidates []*jsonschema.Schema
		if s.DynamicRef != nil {
			candidates = append(candidates, e.dynamic[s.DynamicRef.Anchor]...)
		}
		if s.RecursiveRef != nil {
			candidates = append(candidates, e.recurse...)
		}
		for _, candidate := range candidates {
			if !yield(candidate) {
				return
			}
		}
	}
}

// below counts the evaluations of the worst part of a value.
func (e *estimator) below(s *jsonschema.Schema, c class) int {
	cost := func(part *jsonschema.Schema) int {
		if part == nil {
			return 0
		}
		return e.previous[e.index[part]]
	}
	worst, every := 0, 0
	switch c {
	case array:
		for item := range itemSchemas(s) {
			worst = max(worst, cost(item))
		}
		every = add(cost(s.Contains), cost(s.UnevaluatedItems))
	case object:
		for _, property := range s.Properties {
			worst = max(worst, cost(property))
		}
		if additional, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
			worst = max(worst, cost(additional))
		}
		every = add(cost(s.UnevaluatedProperties), cost(s.PropertyNames))
		for _, pattern := range s.PatternProperties {
			every = add(every, cost(pattern))
		}
	case scalar, classes:
	}
	return add(worst, every)
}

// add adds counts and saturates far above every budget.
func add(a, b int) int { return min(a+b, math.MaxInt32) }

// itemSchemas yields the schemas of which at most one judges an item by its position.
func itemSchemas(s *jsonschema.Schema) iter.Seq[*jsonschema.Schema] {
	return func(yield func(*jsonschema.Schema) bool) {
		list := append([]*jsonschema.Schema{s.Items2020}, s.PrefixItems...)
		switch items := s.Items.(type) {
		case *jsonschema.Schema:
			list = append(list, items)
		case []*jsonschema.Schema:
			list = append(list, items...)
		}
		if additional, ok := s.AdditionalItems.(*jsonschema.Schema); ok {
			list = append(list, additional)
		}
		for _, item := range list {
			if item != nil && !yield(item) {
				return
			}
		}
	}
}

// inPlace yields the schemas that judge the same value as s: references and compositions.
func inPlace(s *jsonschema.Schema) iter.Seq[*jsonschema.Schema] {
	return func(yield func(*jsonschema.Schema) bool) {
		list := []*jsonschema.Schema{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else}
		if s.DynamicRef != nil {
			list = append(list, s.DynamicRef.Ref)
		}
		list = append(append(append(list, s.AllOf...), s.AnyOf...), s.OneOf...)
		for _, dependent := range s.DependentSchemas {
			list = append(list, dependent)
		}
		for _, dependent := range s.Dependencies {
			if schema, ok := dependent.(*jsonschema.Schema); ok {
				list = append(list, schema)
			}
		}
		for _, part := range list {
			if part != nil && !yield(part) {
				return
			}
		}
	}
}

// parts yields every schema that s mentions, some maybe more than once.
func parts(s *jsonschema.Schema) iter.Seq[*jsonschema.Schema] {
	return func(yield func(*jsonschema.Schema) bool) {
		list := []*jsonschema.Schema{s.Contains, s.UnevaluatedItems, s.UnevaluatedProperties, s.PropertyNames}
		for part := range inPlace(s) {
			list = append(list, part)
		}
		for item := range itemSchemas(s) {
			list = append(list, item)
		}
		if additional, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
			list = append(list, additional)
		}
		for _, property := range s.Properties {
			list = append(list, property)
		}
		for _, pattern := range s.PatternProperties {
			list = append(list, pattern)
		}
		for _, part := range list {
			if part != nil && !yield(part) {
				return
			}
		}
	}
}
