package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/warder-mcp/warder/admin"
)

// adminDocument is the OpenAPI description that the admin API serves.
func adminDocument(string) (string, error) {
	body, err := admin.Document()
	return string(body), err
}

// openAPI is the part of the description that the page shows.
type openAPI struct {
	Paths map[string]map[string]struct {
		Operation string   `json:"operationId"`
		Summary   string   `json:"summary"`
		Roles     []string `json:"x-warder-roles"`
		Factor    string   `json:"x-warder-second-factor"`
		Tags      []string `json:"tags"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]struct {
			Required   []string `json:"required"`
			Properties map[string]struct {
				Description string   `json:"description"`
				Type        string   `json:"type"`
				Ref         string   `json:"$ref"`
				Enum        []string `json:"enum"`
				Items       *struct {
					Type string `json:"type"`
					Ref  string `json:"$ref"`
				} `json:"items"`
			} `json:"properties"`
		} `json:"schemas"`
	} `json:"components"`
}

// adminPage is the reference of the admin API for people, made from its description.
func adminPage(string) (string, error) {
	body, err := admin.Document()
	if err != nil {
		return "", err
	}
	var doc openAPI
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", fmt.Errorf("read description: %w", err)
	}
	var b strings.Builder
	b.WriteString(heading("Admin API", "The API with which people and programs operate a gateway, over the socket `admin.sock` of the data\n"+
		"folder or at `admin.api.address`. The OpenAPI 3.1 description is in [admin-api.json](admin-api.json), and every\n"+
		"gateway serves it at `/admin/v1/openapi.json`. The *second factor* is that of [PUB-08](../controls/PUB-08.md).\n"+
		"A refusal is a problem (RFC 9457) whose `code` is stable."))
	b.WriteString("## Operations\n\n" + table("Operation", "Request", "What it does", "Roles", "Second factor"))
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			o := doc.Paths[path][method]
			roles := strings.Join(o.Roles, ", ")
			if len(o.Roles) == 0 {
				roles, o.Factor = "nobody needs to be logged in", "the recovery code"
			}
			b.WriteString(row(code(o.Operation), code(strings.ToUpper(method)+" "+path), o.Summary+".", roles, o.Factor))
		}
	}
	b.WriteString("\n## Types\n")
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		schema := doc.Components.Schemas[name]
		b.WriteString("\n### " + name + "\n\n" + table("Member", "Type", "Required", "Meaning"))
		for _, member := range slices.Sorted(maps.Keys(schema.Properties)) {
			p := schema.Properties[member]
			kind := typeOf(p.Type, p.Ref)
			if p.Items != nil {
				kind = "array of " + typeOf(p.Items.Type, p.Items.Ref)
			}
			required := ""
			if slices.Contains(schema.Required, member) {
				required = "yes"
			}
			text := p.Description
			if len(p.Enum) > 0 {
				text = strings.TrimSpace(text + " One of " + code(strings.Join(p.Enum, "`, `")) + ".")
			}
			b.WriteString(row(code(member), kind, required, text))
		}
	}
	return b.String(), nil
}

// typeOf names a type; a reference by its last part.
func typeOf(name, ref string) string {
	if ref != "" {
		return ref[strings.LastIndexByte(ref, '/')+1:]
	}
	if name == "" {
		return "any JSON"
	}
	return name
}
