package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A census counts the parts of a JSON value and refuses the one that exceeds a bound.
type census struct {
	values  int // of any kind
	objects int
	text    int // bytes of strings and of member names
	height  int // 0 for a scalar, 1 + that of the highest part otherwise
}

// count visits value. The limits are upper bounds of the counts; depth is how deep value lies.
func (c *census) count(value any, depth int, limits Limits) error {
	c.values++
	c.height = max(c.height, depth)
	if c.values > limits.Values {
		return fmt.Errorf("more than %d values", limits.Values)
	}
	switch v := value.(type) {
	case map[string]any:
		c.objects++
		if depth+1 > limits.Depth {
			return fmt.Errorf("deeper than %d", limits.Depth)
		}
		for name, part := range v {
			c.text += len(name)
			if err := c.count(part, depth+1, limits); err != nil {
				return err
			}
		}
	case string:
		c.text += len(v)
	case []any:
		if depth+1 > limits.Depth {
			return fmt.Errorf("deeper than %d", limits.Depth)
		}
		for _, part := range v {
			if err := c.count(part, depth+1, limits); err != nil {
				return err
			}
		}
	case json.Number:
		return checkNumber(v)
	}
	return nil
}

const (
	maxDigits   = 400 // characters of one number
	maxExponent = 400 // more than a float64 has
)

// checkNumber refuses numbers that cost much to expand exactly, such as 1e999999, which the
// validator does for every comparison.
func checkNumber(n json.Number) error {
	if len(n) > maxDigits {
		return errors.New("number too long")
	}
	i := strings.IndexAny(string(n), "eE")
	if i < 0 {
		return nil
	}
	exponent, err := strconv.Atoi(string(n[i+1:]))
	if err != nil || exponent > maxExponent || exponent < -maxExponent {
		return errors.New("number out of range")
	}
	return nil
}

// check judges the schema as a JSON value, before anything interprets it.
func check(tree any, limits Limits) error {
	var c census
	bounds := limits
	bounds.Values = limits.Bytes // a value takes a byte at least
	if err := c.count(tree, 0, bounds); err != nil {
		return err
	}
	if c.objects > limits.Subschemas {
		return fmt.Errorf("%d objects, at most %d", c.objects, limits.Subschemas)
	}
	return checkDialect(tree)
}

// checkDialect refuses any "$schema" but those of the published drafts. A vocabulary such as
// ".../meta/core" would be accepted by the library and would switch validation keywords off.
func checkDialect(tree any) error {
	switch v := tree.(type) {
	case map[string]any:
		if dialect, ok := v["$schema"].(string); ok && !slices.Contains(dialects(), strings.TrimSuffix(dialect, "#")) {
			return fmt.Errorf("unknown $schema %s", cut(dialect))
		}
		for _, part := range v {
			if err := checkDialect(part); err != nil {
				return err
			}
		}
	case []any:
		for _, part := range v {
			if err := checkDialect(part); err != nil {
				return err
			}
		}
	}
	return nil
}

func dialects() []string {
	return []string{
		"https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema",
		"http://json-schema.org/draft-07/schema", "http://json-schema.org/draft-06/schema", "http://json-schema.org/draft-04/schema",
		"https://json-schema.org/draft-07/schema", "http://json-schema.org/draft/2020-12/schema",
	}
}
