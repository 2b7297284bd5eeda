package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A schema is the part of JSON Schema that the published files use.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       any                `json:"type"` // a string or a list of strings
	Const      any                `json:"const"`
	Enum       []string           `json:"enum"`
	Format     string             `json:"format"`
	Minimum    *json.Number       `json:"minimum"`
	Maximum    *json.Number       `json:"maximum"`
	MaxItems   *int               `json:"maxItems"`
	Items      *schema            `json:"items"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Extra      json.RawMessage    `json:"additionalProperties"`
	AnyOf      []*schema          `json:"anyOf"`
	AllOf      []*schema          `json:"allOf"`

	object bool // "properties" was written, even if empty
}

// UnmarshalJSON refuses keywords that this program does not know.
func (s *schema) UnmarshalJSON(raw []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	for key := range keys {
		switch key {
		case "$ref", "type", "const", "enum", "format", "minimum", "maximum", "maxItems", "items",
			"properties", "required", "additionalProperties", "anyOf", "allOf", "description":
		default:
			return fmt.Errorf("keyword %q has no translation", key)
		}
	}
	type plain schema
	if err := json.Unmarshal(raw, (*plain)(s)); err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	_, s.object = keys["properties"]
	return nil
}

func (s *schema) types() ([]string, error) {
	switch t := s.Type.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{t}, nil
	case []any:
		var names []string
		for _, name := range t {
			text, ok := name.(string)
			if !ok {
				return nil, errors.New("type is not a string")
			}
			names = append(names, text)
		}
		return names, nil
	default:
		return nil, errors.New("type is neither a string nor a list")
	}
}

// expression writes a schema in the language of the tables.
func (g *generator) expression(s *schema) (string, error) {
	switch {
	case s.Ref != "":
		name := s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
		g.need(name)
		return name, nil
	case len(s.AnyOf) > 0:
		return g.union(s.AnyOf)
	case len(s.AllOf) > 0:
		return g.merged(s.AllOf)
	}
	names, err := s.types()
	if err != nil {
		return "", err
	}
	if len(names) > 1 {
		return "(" + strings.Join(names, " | ") + ")", nil
	}
	if len(names) == 0 {
		if s.object || s.Items != nil || s.Const != nil || s.Enum != nil || s.Format != "" {
			return "", errors.New("constraints without a type")
		}
		return "any", nil
	}
	return g.typed(s, names[0])
}

func (g *generator) union(list []*schema) (string, error) {
	var parts []string
	for _, alternative := range list {
		text, err := g.expression(alternative)
		if err != nil {
			return "", err
		}
		parts = append(parts, text)
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return "(" + strings.Join(parts, " | ") + ")", nil
}

// merged writes "allOf" over objects as one object with the members of all. The closed reading of
// the outcome knows all members, which "allOf" over closed objects could not say.
func (g *generator) merged(list []*schema) (string, error) {
	sum := &schema{Type: "object", object: true, Properties: map[string]*schema{}}
	for _, part := range list {
		part = g.follow(part)
		if part == nil || part.Type != "object" {
			return "", errors.New("allOf over something that is not an object")
		}
		if part.Extra != nil && string(part.Extra) != "{}" && string(part.Extra) != "true" {
			return "", errors.New("allOf over restricted members")
		}
		for key, value := range part.Properties {
			if _, twice := sum.Properties[key]; twice {
				return "", fmt.Errorf("%s: described twice in allOf", key)
			}
			sum.Properties[key] = value
		}
		sum.Required = append(sum.Required, part.Required...)
	}
	return g.object(sum)
}

// follow resolves references; nil if one leads nowhere.
func (g *generator) follow(s *schema) *schema {
	for s != nil && s.Ref != "" {
		s = g.defs[s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]]
	}
	return s
}

func (g *generator) typed(s *schema, name string) (string, error) {
	switch name {
	case "string":
		return text(s)
	case "integer", "number":
		return number(s, name)
	case "boolean", "null":
		return name, nil
	case "array":
		return g.array(s)
	case "object":
		return g.object(s)
	default:
		return "", fmt.Errorf("type %q has no translation", name)
	}
}

func text(s *schema) (string, error) {
	if c, ok := s.Const.(string); ok {
		return strconv.Quote(c), nil
	}
	if len(s.Enum) == 1 {
		return strconv.Quote(s.Enum[0]), nil
	}
	if len(s.Enum) > 0 {
		var quoted []string
		for _, word := range s.Enum {
			quoted = append(quoted, strconv.Quote(word))
		}
		return "(" + strings.Join(quoted, " | ") + ")", nil
	}
	switch s.Format {
	case "":
		return "string", nil
	case "uri", "uri-template", "byte":
		return "string<" + s.Format + ">", nil
	default:
		return "", fmt.Errorf("format %q has no translation", s.Format)
	}
}

func number(s *schema, name string) (string, error) {
	if c, ok := s.Const.(float64); ok {
		return strconv.FormatInt(int64(c), 10), nil
	}
	if s.Minimum == nil && s.Maximum == nil {
		return name, nil
	}
	var low, high string
	if s.Minimum != nil {
		low = s.Minimum.String()
	}
	if s.Maximum != nil {
		high = s.Maximum.String()
	}
	return name + "[" + low + ".." + high + "]", nil
}

func (g *generator) array(s *schema) (string, error) {
	items := "any"
	if s.Items != nil {
		var err error
		if items, err = g.expression(s.Items); err != nil {
			return "", err
		}
	}
	if s.MaxItems != nil {
		return "[" + items + "]{.." + strconv.Itoa(*s.MaxItems) + "}", nil
	}
	return "[" + items + "]", nil
}

func (g *generator) object(s *schema) (string, error) {
	var members []string
	keys := make([]string, 0, len(s.Properties))
	for key := range s.Properties {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value, err := g.expression(s.Properties[key])
		if err != nil {
			return "", fmt.Errorf("%s: %w", key, err)
		}
		mark := "?"
		if slices.Contains(s.Required, key) {
			mark = ""
		}
		members = append(members, name(key)+mark+": "+value)
	}
	for _, key := range s.Required {
		if _, ok := s.Properties[key]; !ok {
			return "", fmt.Errorf("%s: required and not described", key)
		}
	}
	extra, err := g.extra(s)
	if err != nil {
		return "", err
	}
	if extra != "" {
		members = append(members, "*: "+extra)
	}
	return "{" + strings.Join(members, ", ") + "}", nil
}

// extra says what other members may be. Empty means that the schema is silent about them: valid,
// but not wanted by the closed reading.
func (g *generator) extra(s *schema) (string, error) {
	if s.Extra == nil {
		if s.object {
			return "", nil
		}
		return "any", nil // an object of no description at all
	}
	if string(s.Extra) == "true" {
		return "any", nil
	}
	var extra schema
	if err := json.Unmarshal(s.Extra, &extra); err != nil {
		return "", fmt.Errorf("additionalProperties: %w", err)
	}
	return g.expression(&extra)
}

// name quotes a member name unless it is a plain word.
func name(key string) string {
	plain := strings.IndexFunc(key, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) < 0
	if plain {
		return key
	}
	return strconv.Quote(key)
}
