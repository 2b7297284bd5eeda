package warder

import "time"

// A Server is one MCP server that Warder stands in front of. Set by configuration; never changed.
type Server struct {
	Name     string   // unique, [a-z0-9][a-z0-9-]*, no "__"
	Resource string   // canonical URI that tokens for this server name as audience (RFC 8707)
	Labels   []string // data labels of everything it returns
	Local    bool     // started by Warder as a child process
}

// An Effect says what calling a tool may change. The zero value is the strictest.
type Effect uint8

// Effects, as our registry records them; the server's own annotations are untrusted.
const (
	EffectUnknown     Effect = iota // treated as destructive
	EffectRead                      // changes nothing
	EffectWrite                     // changes state, reversibly
	EffectDestructive               // may destroy
)

// String returns the effect's word in configuration, policies and audit records.
func (e Effect) String() string {
	return [...]string{"unknown", "read", "write", "destructive"}[min(e, EffectDestructive)]
}

// A State is where a definition stands in the registry. The zero value is not callable.
type State uint8

// States of a definition.
const (
	Quarantined State = iota // new or changed: not listed, not callable
	Approved                 // exactly this digest was approved
	Revoked                  // was approved, is no more
)

// String returns the state's word in tables and audit records.
func (s State) String() string {
	return [...]string{"quarantined", "approved", "revoked"}[min(s, Revoked)]
}

// A Digest is the SHA-256 of a canonical definition (RFC 8785).
type Digest [32]byte

// A Tool is a definition as pinned: a tool, prompt, resource, template, or a server's instructions.
// It is immutable once built and shared by many exchanges.
type Tool struct {
	Kind       string    // "tool", "prompt", "resource", "template", "instructions"
	Server     string    // server name
	Name       string    // as the server names it
	Digest     Digest    // of the complete canonical definition
	State      State     // at the time of the decision
	Effect     Effect    // from the approval, never from the server
	Labels     []string  // data labels, from the approval
	ApprovedBy string    // who approved this digest; empty if nobody
	ApprovedAt time.Time // when
	Definition []byte    // canonical JSON; must not be changed
	Input      Schema    // compiled inputSchema; nil when the definition has none
	Output     Schema    // compiled outputSchema; nil when the definition has none
	Headers    []Header  // x-mcp-header annotations of inputSchema (2026-07-28)
}

// A Header says that an argument is mirrored in an Mcp-Param-* header.
type Header struct {
	Name    string   // header name without the Mcp-Param- prefix, as annotated
	Pointer []string // path of property names from the arguments object
	Type    string   // "string", "integer", "boolean"
}

// A Schema judges one JSON value. It is safe for concurrent use.
type Schema interface {
	// Validate returns the violations found, at most a bounded number; nil means valid.
	// An error means the schema could not decide, which denies.
	Validate(value []byte) ([]Violation, error)
}

// A Violation is one way in which a value breaks its schema.
type Violation struct {
	Pointer string // RFC 6901 pointer into the value
	Keyword string // JSON Schema keyword that failed, such as "type"
	Message string // says what was expected; never repeats the value
}
