package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
)

// A generator translates the schema of one revision.
type generator struct {
	rev  warder.Revision
	defs map[string]*schema
	done map[string]string // written definitions
	open []string          // definitions still to write
}

// need puts a definition on the list of those to write.
func (g *generator) need(name string) {
	if _, ok := g.done[name]; !ok {
		g.done[name] = ""
		g.open = append(g.open, name)
	}
}

// Generate returns the table of a revision.
func Generate(rev warder.Revision, raw []byte) ([]byte, error) {
	var file struct {
		Definitions map[string]*schema `json:"definitions"`
		Defs        map[string]*schema `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	g := &generator{rev: rev, defs: file.Definitions, done: map[string]string{}}
	if g.defs == nil {
		g.defs = file.Defs
	}
	overlay(rev, g.defs)
	messages, err := g.messages()
	if err != nil {
		return nil, err
	}
	if err := g.definitions(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Messages of MCP %s. Written by internal/tools/shapegen; do not edit.\n", rev)
	for _, line := range messages {
		fmt.Fprintln(&out, line)
	}
	for _, name := range sortedKeys(g.done) {
		fmt.Fprintf(&out, "%s = %s\n", name, g.done[name])
	}
	return out.Bytes(), nil
}

func (g *generator) definitions() error {
	for len(g.open) > 0 {
		name := g.open[0]
		g.open = g.open[1:]
		s, ok := g.defs[name]
		if !ok {
			return fmt.Errorf("%s: not defined", name)
		}
		text, err := g.expression(s)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		g.done[name] = text
	}
	return nil
}

// messages writes one line per method and direction.
func (g *generator) messages() ([]string, error) {
	var lines []string
	for _, group := range []struct{ union, line string }{
		{"ClientRequest", "client request"},
		{"ClientNotification", "client notification"},
		{"ServerRequest", "server request"},
		{"ServerNotification", "server notification"},
		{"InputRequest", "input request"},
	} {
		for _, name := range g.alternatives(group.union) {
			line, err := g.message(name, group.line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			lines = append(lines, line)
		}
	}
	for _, line := range extensions(g.rev) {
		for _, name := range line.uses {
			g.need(name)
		}
		lines = append(lines, line.text)
	}
	g.need(g.errorObject())
	lines = append(lines, "error "+g.errorObject())
	return lines, nil
}

// errorObject names the definition of the error member, which older revisions write in place.
func (g *generator) errorObject() string {
	if _, ok := g.defs["Error"]; !ok {
		g.defs["Error"] = g.defs["JSONRPCError"].Properties["error"]
	}
	return "Error"
}

// alternatives lists the definitions a union names. A union of one is written as that one.
func (g *generator) alternatives(union string) []string {
	s, ok := g.defs[union]
	if !ok {
		return nil
	}
	if len(s.AnyOf) == 0 {
		return []string{union}
	}
	var names []string
	for _, alternative := range s.AnyOf {
		names = append(names, alternative.Ref[strings.LastIndexByte(alternative.Ref, '/')+1:])
	}
	return names
}

func (g *generator) message(name, group string) (string, error) {
	s := g.defs[name]
	method, ok := s.Properties["method"].Const.(string)
	if !ok {
		return "", fmt.Errorf("no method")
	}
	params, mark := "{_meta?: {*: any}}", "?"
	if p := s.Properties["params"]; p != nil {
		text, err := g.expression(withMeta(p))
		if err != nil {
			return "", err
		}
		params = text
	}
	if slices.Contains(s.Required, "params") {
		mark = ""
	}
	line := fmt.Sprintf("%s %s params%s: %s", group, method, mark, params)
	if strings.HasSuffix(group, "notification") {
		return line, nil
	}
	result, err := g.result(name)
	if err != nil {
		return "", err
	}
	return line + " result: " + result, nil
}

// withMeta describes _meta where params are written in place and silent about it: every request and
// notification may carry it, so the closed reading must know it.
func withMeta(params *schema) *schema {
	if params.Ref != "" || params.Properties == nil || params.Properties["_meta"] != nil {
		return params
	}
	described := *params
	described.Properties = maps.Clone(params.Properties)
	described.Properties["_meta"] = &schema{Type: "object"}
	return &described
}

// result finds what answers a request: 2026-07-28 says it in XResultResponse, the others only by
// the names XRequest and XResult, and by offering a task where the request may ask for one.
func (g *generator) result(request string) (string, error) {
	stem := strings.TrimSuffix(request, "Request")
	if s, ok := g.defs[stem+"ResultResponse"]; ok {
		return g.expression(s.Properties["result"])
	}
	answer := stem + "Result"
	if _, ok := g.defs[answer]; !ok {
		answer = "EmptyResult"
	}
	g.need(answer)
	if _, ok := g.defs["CreateTaskResult"]; ok && g.takesTask(g.defs[request].Properties["params"]) {
		g.need("CreateTaskResult")
		return "(" + answer + " | CreateTaskResult)", nil
	}
	return answer, nil
}

// takesTask reports whether params, or one form of them, has a member "task".
func (g *generator) takesTask(params *schema) bool {
	if params = g.follow(params); params == nil {
		return false
	}
	_, ok := params.Properties["task"]
	return ok || slices.ContainsFunc(params.AnyOf, g.takesTask)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
