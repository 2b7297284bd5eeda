// Package mcpschema finds the JSON Schemas that the MCP project publishes, one REVISION.schema.json a
// revision, for the tests that hold Warder against them. The repository does not hold them:
//
//	WARDER_MCP_SCHEMA=/path/to/schemas go test ./wire/... ./internal/tools/...
package mcpschema

import (
	"os"
	"path/filepath"
	"testing"
)

// variable names the folder of the schemas.
const variable = "WARDER_MCP_SCHEMA"

// Folder returns the folder of the schemas: the one that WARDER_MCP_SCHEMA names, or else
// shared/data/mcp-schema beside the checkout. Without it, the test is left out and says so.
func Folder(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv(variable)
	if dir != "" {
		return dir // a wrong one fails the test
	}
	for up := ".."; len(up) < 20; up = filepath.Join(up, "..") {
		dir = filepath.Join(up, "shared", "data", "mcp-schema")
		if _, err := os.Stat(filepath.Join(dir, "2026-07-28.schema.json")); err == nil {
			return dir
		}
	}
	tb.Skip("NOT EXERCISED: agreement with the published MCP schemas; set " + variable + " to the folder that holds REVISION.schema.json")
	return ""
}
