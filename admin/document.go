package admin

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A node is a JSON object of the document.
type node = map[string]any

// Document is the OpenAPI 3.1 description of the API, as JSON with two spaces of indentation. It is made
// from the same table as the router and the same types as the codec.
func Document() ([]byte, error) {
	a := &API{rules: rules(), glass: newBreakGlass(&Deps{})}
	a.operations = a.table()
	body, err := json.MarshalIndent(a.document(), "", "  ")
	return append(body, '\n'), err
}

func (a *API) serveDocument(w http.ResponseWriter, r *http.Request) {
	body, err := Document()
	if err != nil {
		a.deps.Log.ErrorContext(r.Context(), "make document", slog.Any("error", err))
		problem(http.StatusInternalServerError, codeInternal, "").write(w)
		return
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	_, _ = w.Write(body) // the client may be gone
}

func (a *API) document() node {
	s := schemas{}
	paths := node{}
	for i := range a.operations {
		o := &a.operations[i]
		item, ok := paths[prefix+o.path].(node)
		if !ok {
			item = node{}
			paths[prefix+o.path] = item
		}
		item[strings.ToLower(o.method)] = a.describe(o, s)
	}
	return node{
		"openapi": "3.1.0",
		"info": node{
			"title": "Warder admin API", "version": "1",
			"description": "The API with which people and programs operate a gateway. Over the socket of the data folder the operating system says who calls; elsewhere an access token for this API does. Cookies are never read.",
			"license":     node{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers": []node{{"url": "/"}},
		"paths":   paths,
		"components": node{
			"schemas": s.named(),
			"securitySchemes": node{
				"token":      node{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "Access token whose only audience is this API, or the token of a break-glass session."},
				"boundToken": node{"type": "http", "scheme": "dpop", "description": "Access token bound to a key, with a proof of possession (RFC 9449)."},
			},
		},
		"security": []node{{"token": []string{}}, {"boundToken": []string{}}},
	}
}

// describe is the operation object.
func (a *API) describe(o *operation, s schemas) node {
	d := node{"operationId": o.id, "summary": o.summary, "tags": []string{strings.SplitN(o.id, ".", 2)[0]}}
	if o.open {
		d["security"] = []node{}
	} else if row, ok := a.rules[o.id]; ok {
		d["x-warder-roles"] = row.roles
		d["x-warder-second-factor"] = row.factor
		d["description"] = "For " + words(row.roles) + "."
		switch row.factor {
		case NeedAlways:
			d["description"] = d["description"].(string) + " A phishing-resistant login of the last minutes is needed (PUB-08)."
		case NeedSometimes:
			d["description"] = d["description"].(string) + " Depending on what is asked, a phishing-resistant login of the last minutes is needed (PUB-08)."
		case NeedNever:
		}
	}
	if params := a.parameters(o, s); len(params) > 0 {
		d["parameters"] = params
	}
	if o.method != http.MethodGet && o.in.NumField() > 0 {
		d["requestBody"] = node{"required": true, "content": node{"application/json": node{"schema": s.of(o.in)}}}
	}
	d["responses"] = responses(o, s)
	return d
}

func responses(o *operation, s schemas) node {
	failed := node{"description": "It was not done; code says why.", "content": node{"application/problem+json": node{"schema": s.of(reflect.TypeFor[Error]())}}}
	if o.out.NumField() == 0 {
		return node{"204": node{"description": "Done."}, "default": failed}
	}
	ok := node{"description": "Done.", "content": node{"application/json": node{"schema": s.of(o.out)}}}
	if tagged(o) {
		ok["headers"] = node{"ETag": node{"description": "Names this state of it, for If-Match.", "schema": node{"type": "string"}}}
	}
	return node{"200": ok, "default": failed}
}

func (a *API) parameters(o *operation, s schemas) []node {
	var out []node
	for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(o.path, -1) {
		out = append(out, node{"name": m[1], "in": "path", "required": true, "schema": node{"type": "string", "maxLength": maxPath}})
	}
	if o.current != nil {
		out = append(out, node{"name": "If-Match", "in": "header", "description": "ETag of the answer that was looked at; without it any version is changed.", "schema": node{"type": "string"}})
	}
	if o.method == http.MethodGet {
		out = append(out, queryOf(o.in, s)...)
	}
	return out
}

func queryOf(t reflect.Type, s schemas) []node {
	var out []node
	for f := range t.Fields() {
		if f.Anonymous {
			out = append(out, queryOf(f.Type, s)...)
			continue
		}
		schema := s.field(&f)
		p := node{"name": f.Tag.Get("query"), "in": "query", "schema": schema}
		if doc, ok := schema["description"]; ok {
			p["description"] = doc
			delete(schema, "description")
		}
		out = append(out, p)
	}
	return out
}

// schemas are the named types of the document.
type schemas map[string]node

// named returns them as the document holds them.
func (s schemas) named() node {
	out := node{}
	for name, schema := range s {
		out[name] = schema
	}
	return out
}

// nameOf is the name of a type in the document: Page[Grant] is GrantPage.
func nameOf(t reflect.Type) string {
	name := t.Name()
	if base, arg, ok := strings.Cut(name, "["); ok {
		arg = strings.TrimSuffix(arg, "]")
		return arg[strings.LastIndexByte(arg, '.')+1:] + base
	}
	return name
}

// of returns the schema of a type; of a struct, a reference to it.
func (s schemas) of(t reflect.Type) node {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return node{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return node{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice:
		return node{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return node{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.String:
		return node{"type": "string"}
	case reflect.Bool:
		return node{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return node{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return node{"type": "number"}
	default:
		s.define(t)
		return node{"$ref": "#/components/schemas/" + nameOf(t)}
	}
}

func (s schemas) define(t reflect.Type) {
	name := nameOf(t)
	if _, done := s[name]; done {
		return
	}
	schema := node{"type": "object", "additionalProperties": false}
	s[name] = schema
	properties := node{}
	var required []string
	for f := range t.Fields() {
		member, must := memberOf(&f)
		if member == "-" || member == "" {
			continue
		}
		properties[member] = s.field(&f)
		if must {
			required = append(required, member)
		}
	}
	schema["properties"] = properties
	if len(required) > 0 {
		slices.Sort(required)
		schema["required"] = required
	}
}

// field is the schema of one member, with what its tags say.
func (s schemas) field(f *reflect.StructField) node {
	schema := s.of(f.Type)
	if words := f.Tag.Get("enum"); words != "" {
		schema["enum"] = strings.Split(words, ",")
	}
	if doc := f.Tag.Get("doc"); doc != "" {
		schema["description"] = strings.ToUpper(doc[:1]) + doc[1:] + "."
	}
	return schema
}
