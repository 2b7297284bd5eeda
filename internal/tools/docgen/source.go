package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record"
)

// A constant is one typed string constant of a Go file, with what its comment says.
type constant struct{ value, comment string }

// constants lists the constants of a type in the order of the file.
func constants(path, typeName string) ([]constant, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []constant
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				continue
			}
			if name, ok := v.Type.(*ast.Ident); !ok || name.Name != typeName {
				continue
			}
			lit, ok := v.Values[0].(*ast.BasicLit)
			if !ok {
				continue
			}
			value, err := strconv.Unquote(lit.Value)
			if err != nil {
				return nil, err
			}
			out = append(out, constant{value: value, comment: strings.TrimSpace(v.Comment.Text())})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no constants of type %s", path, typeName)
	}
	return out, nil
}

func errorsPage(root string) (string, error) {
	codes, err := constants(filepath.Join(root, "error.go"), "Code")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(heading("Error codes",
		"Every refusal and failure a client can see has one of these codes. Only the code, a stable reason, the id of\n"+
			"the control that refused, and a public sentence leave the process; the cause is in the audit trail.\n\n"+
			"A refused `tools/call` whose definition is quarantined, whose arguments are wrong (revisions since 2025-11-25)\n"+
			"or whose result was refused is answered with a tool result that has `isError: true` and says why."))
	b.WriteString(table("Code", "HTTP status", "JSON-RPC code", "Sentence", "Note"))
	for _, c := range codes {
		face := warder.Code(c.value).Face()
		b.WriteString(row(code(c.value), fmt.Sprint(face.Status), fmt.Sprint(face.RPC), face.Message, c.comment))
	}
	return b.String(), nil
}

func eventsPage(root string) (string, error) {
	outcomes, err := constants(filepath.Join(root, "exchange.go"), "Outcome")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(heading("Audit events",
		"The audit trail is a sequence of JSON objects of one shape. Values that came from a client or a server are\n"+
			"hashed, cut or redacted before they get there."))
	b.WriteString("## Outcomes\n\n" + table("outcome", "Meaning"))
	for _, o := range outcomes {
		b.WriteString(row(code(o.value), o.comment))
	}
	b.WriteString("\n## Types and fields\n\n" + record.Table())
	return b.String(), nil
}
