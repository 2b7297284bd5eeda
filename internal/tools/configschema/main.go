// Command configschema writes the JSON Schema of the configuration file, made from the structs of
// package config and their comments. It is run by "go generate ./config" and is not part of warder.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/unit"
)

const module = "github.com/warder-mcp/warder"

func main() {
	root := flag.String("root", ".", "folder of the module")
	out := flag.String("o", "config/schema.json", "file to write, relative to the root")
	flag.Parse()
	if err := run(*root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "configschema:", err)
		os.Exit(1)
	}
}

func run(root, out string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true, // nothing is required: every key has a strict default
		Anonymous:                  true,
		Mapper:                     scalar,
		Namer:                      name,
	}
	for _, dir := range commented() {
		if err := r.AddGoComments(module, dir, jsonschema.WithFullComment()); err != nil {
			return fmt.Errorf("read comments of %s: %w", dir, err)
		}
	}
	for key, comment := range r.CommentMap {
		r.CommentMap[key] = describe(key[strings.LastIndexByte(key, '.')+1:], comment)
	}
	schema := r.Reflect(&config.Config{})
	schema.ID = "https://github.com/warder-mcp/warder/config/schema.json"
	schema.Title = "warder.yaml"
	data, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o600)
}

// commented lists the folders whose types may stand in the configuration.
func commented() []string {
	dirs := []string{"./admin", "./config", "./issuer", "./issuer/login", "./proxy", "./store", "./internal/secret", "./internal/unit", "./internal/tlsconf"}
	_ = filepath.WalkDir("layer", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() != "testdata" {
			dirs = append(dirs, "./"+path)
		}
		return nil
	})
	return dirs
}

// scalar describes the types that are written as one word.
func scalar(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, Examples: []any{"500ms", "30s", "5m"}}
	case reflect.TypeFor[unit.Bytes]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: "0"},
			{Type: "string", Pattern: `^[0-9]+ ?(B|KiB|MiB|GiB)?$`},
		}, Examples: []any{"16KiB", "1MiB"}}
	case reflect.TypeFor[config.Mode]():
		return &jsonschema.Schema{Type: "string", Enum: []any{"enforce", "monitor", "off"}}
	case reflect.TypeFor[config.Date]():
		return &jsonschema.Schema{Type: "string", Format: "date"}
	default:
		return nil
	}
}

// name makes definition names unique across packages: "network.Config".
func name(t reflect.Type) string {
	if t.Name() == "" {
		return "" // a list or a map: written out where it stands
	}
	pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
	return pkg + "." + t.Name()
}

// describe turns the comment of a Go name into a sentence about the key: "Data is the folder" becomes
// "The folder".
func describe(name, comment string) string {
	text := strings.Join(strings.Fields(comment), " ")
	for _, article := range []string{"", "A ", "An "} {
		rest, ok := strings.CutPrefix(text, article+name+" ")
		if !ok {
			continue
		}
		for _, verb := range []string{"is ", "are ", "lists ", "holds "} {
			rest = strings.TrimPrefix(rest, verb)
		}
		text = rest
	}
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
