package wire

import (
	"github.com/warder-mcp/warder"
)

// Limits bounds one message. A zero field means the value of [DefaultLimits], never "unlimited".
type Limits struct {
	Bytes       int64 // length of the message
	Depth       int   // nesting of objects and arrays; never more than 64
	Members     int   // members of one object
	Nodes       int   // values in total, member names not counted
	StringBytes int   // one string or member name as written, with its quotes
}

const (
	defaultBytes   = 4 << 20
	defaultMembers = 4096
	defaultNodes   = 1 << 18
	maxDepth       = 64
	maxIDBytes     = 256       // a string id without its quotes, as written
	maxMethodBytes = 128       // a method name
	maxInteger     = 1<<53 - 1 // RFC 8259 section 6, RFC 7493 section 2.2
)

// DefaultLimits returns the strict defaults: 4 MiB, depth 64, 4096 members in one object, 262144
// values, strings as long as the message may be.
func DefaultLimits() Limits { return Limits{}.orDefault() }

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = defaultBytes
	}
	if l.Depth <= 0 || l.Depth > maxDepth {
		l.Depth = maxDepth
	}
	if l.Members <= 0 {
		l.Members = defaultMembers
	}
	if l.Nodes <= 0 {
		l.Nodes = defaultNodes
	}
	if l.StringBytes <= 0 {
		l.StringBytes = int(l.Bytes)
	}
	return l
}

// Reasons of refusal. They are stable and safe to show.
const (
	ReasonBadJSON       warder.Reason = "bad_json"        // not JSON of RFC 8259
	ReasonBOM           warder.Reason = "byte_order_mark" // starts with a byte order mark
	ReasonBadUTF8       warder.Reason = "bad_utf8"        // not UTF-8
	ReasonSurrogate     warder.Reason = "lone_surrogate"  // \u escape of half a surrogate pair
	ReasonDuplicateKey  warder.Reason = "duplicate_key"   // two equal member names
	ReasonKeyCollision  warder.Reason = "key_collision"   // member names equal but for case
	ReasonMisspelt      warder.Reason = "misspelt_key"    // member name of MCP's in another case
	ReasonBadKey        warder.Reason = "bad_key"         // member name with U+0000
	ReasonTrailingData  warder.Reason = "trailing_data"   // bytes after the message
	ReasonEmpty         warder.Reason = "empty"           // no message at all
	ReasonTooDeep       warder.Reason = "too_deep"        // nesting
	ReasonTooManyValues warder.Reason = "too_many_values" // members of an object, values in total
	ReasonTooLong       warder.Reason = "string_too_long" // one string
	ReasonTooLarge      warder.Reason = "too_large"       // the message
	ReasonNotObject     warder.Reason = "not_an_object"   // message, params, result, error or _meta
	ReasonNotJSONRPC    warder.Reason = "not_jsonrpc"     // "jsonrpc" is not "2.0"
	ReasonAmbiguous     warder.Reason = "ambiguous_kind"  // not exactly one of method, result, error
	ReasonBadMember     warder.Reason = "unknown_member"  // envelope member that JSON-RPC does not know
	ReasonBadID         warder.Reason = "bad_id"          // id missing, null, fractional, too long …
	ReasonBadMethod     warder.Reason = "bad_method"      // method not a string, empty or too long
	ReasonBadError      warder.Reason = "bad_error"       // error without integer code and text message
	ReasonBadTarget     warder.Reason = "bad_target"      // name, uri or taskId is not a string
	ReasonBatch         warder.Reason = "bad_batch"       // empty or oversized batch
	ReasonBadEdit       warder.Reason = "bad_edit"        // overlapping or misplaced splice
)
