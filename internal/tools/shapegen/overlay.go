package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
)

// overlay changes the definitions of a revision where Warder judges other than the published file.
// Each change is one entry of the table of differences in wire/shape/doc.go.
func overlay(rev warder.Revision, defs map[string]*schema) {
	extensible(defs)
	elicitedNumbers(rev, defs)
	if rev.Modern() {
		resultTypes(defs)
		taskResult(defs)
	}
}

// extensible opens what the closed reading must not close: what peers say of themselves, which
// newer peers send to older ones before a revision is agreed, and _meta, which INV-04 judges by
// its keys. The published reading is not changed by it.
func extensible(defs map[string]*schema) {
	for name, s := range defs {
		if name == "ClientCapabilities" || name == "ServerCapabilities" || name == "Implementation" ||
			strings.HasSuffix(name, "MetaObject") {
			openAll(s)
		}
	}
}

func openAll(s *schema) {
	if s == nil {
		return
	}
	if s.object && s.Extra == nil {
		s.Extra = json.RawMessage("true")
	}
	for _, p := range s.Properties {
		openAll(p)
	}
}

// elicitedNumbers lets the answer to a form carry a fraction. The published files say "integer"
// where the TypeScript source says number, and NumberSchema asks for numbers. In the stateful
// revisions a message with a fraction is valid as published, because ClientResult admits any
// result; in 2026-07-28 it is not, and stays refused.
func elicitedNumbers(rev warder.Revision, defs map[string]*schema) {
	result, ok := defs["ElicitResult"]
	if !ok || rev.Modern() {
		return
	}
	var values schema
	if json.Unmarshal(result.Properties["content"].Extra, &values) != nil {
		return
	}
	for _, s := range append(slices.Clone(values.AnyOf), &values) {
		if types, ok := s.Type.([]any); ok {
			for i := range types {
				if types[i] == "integer" {
					types[i] = "number"
				}
			}
		}
	}
	defs["ElicitedValue"] = &values
	result.Properties["content"].Extra = json.RawMessage(`{"$ref":"#/ElicitedValue"}`)
}

// resultTypes binds every result to its resultType. Without it InputRequiredResult, which demands
// nothing else, would admit any answer to tools/call, prompts/get and resources/read.
func resultTypes(defs map[string]*schema) {
	for name, s := range defs {
		kind := "complete"
		if name == "InputRequiredResult" {
			kind = "input_required"
		}
		if p := s.Properties["resultType"]; p != nil && name != "Result" {
			s.Properties["resultType"] = &schema{Type: p.Type, Const: kind}
		}
	}
}

// taskResult admits the result of the extension io.modelcontextprotocol/tasks (SEP-2663) as an
// answer to tools/call. Whether the extension may be used is PRT-09's question.
func taskResult(defs map[string]*schema) {
	defs["TaskResult"] = &schema{
		Type:   "object",
		object: true,
		Properties: map[string]*schema{
			"resultType": {Type: "string", Const: "task"},
			"taskId":     {Type: "string"},
			"status":     {Ref: "#/TaskStatus"},
		},
		Required: []string{"resultType", "taskId", "status"},
		Extra:    json.RawMessage("true"),
	}
	defs["TaskStatus"] = &schema{
		Type: "string",
		Enum: []string{"cancelled", "completed", "failed", "input_required", "working"},
	}
	response := defs["CallToolResultResponse"].Properties["result"]
	response.AnyOf = append(response.AnyOf, &schema{Ref: "#/TaskResult"})
}

// A line is one message line with the definitions it names.
type line struct {
	text string
	uses []string
}

// extensions adds the messages of extensions that Warder knows and no published schema describes:
// io.modelcontextprotocol/tasks for 2026-07-28 (SEP-2663).
func extensions(rev warder.Revision) []line {
	if !rev.Modern() {
		return nil
	}
	task := "{_meta: RequestMetaObject, taskId: string}"
	state := "{_meta?: {*: any}, taskId: string, status: TaskStatus, *: any}"
	return []line{
		{"client request tasks/get params: " + task + " result: " + state, []string{"RequestMetaObject", "TaskStatus"}},
		{"client request tasks/update params: {_meta: RequestMetaObject, taskId: string, " +
			"inputResponses?: InputResponses, requestState?: string} result: {_meta?: {*: any}, *: any}", []string{"InputResponses"}},
		{"client request tasks/cancel params: " + task + " result: {_meta?: {*: any}, *: any}", nil},
		{"server notification notifications/tasks params: " + state, nil},
	}
}
