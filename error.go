package warder

import "net/http"

// A Code is the public class of a failure. The list is closed; only the code and a public sentence
// leave the process.
type Code string

// The codes.
const (
	CodeUnauthenticated   Code = "unauthenticated"
	CodeInsufficientScope Code = "insufficient_scope"
	CodeDenied            Code = "denied"
	CodeForbiddenOrigin   Code = "forbidden_origin"
	CodeHeld              Code = "held"
	CodeMalformed         Code = "malformed"           // not JSON as Warder accepts it
	CodeInvalidRequest    Code = "invalid_request"     // JSON, but not a JSON-RPC or MCP message
	CodeHeaderMismatch    Code = "header_mismatch"     // headers and body disagree
	CodeUnsupported       Code = "unsupported_version" // revision not spoken here
	CodeMissingCapability Code = "missing_capability"  // the client did not declare what is needed
	CodeUnknownMethod     Code = "unknown_method"
	CodeMissingMeta       Code = "missing_meta" // 2026-07-28: required _meta members are absent
	CodeInvalidParams     Code = "invalid_params"
	CodeNotFound          Code = "not_found" // "not there" and "not yours" are this one answer
	CodeNoSession         Code = "no_session"
	CodeMethodNotAllowed  Code = "method_not_allowed" // HTTP method
	CodeNotAcceptable     Code = "not_acceptable"
	CodeMediaType         Code = "unsupported_media_type"
	CodeRateLimited       Code = "rate_limited"
	CodeTooLarge          Code = "too_large"
	CodeQuarantined       Code = "quarantined"
	CodeUpstreamFailed    Code = "upstream_failed"
	CodeTimeout           Code = "timeout"
	CodeUnavailable       Code = "unavailable" // fail closed
	CodeInternal          Code = "internal"
)

// A Face is what a code looks like from outside.
type Face struct {
	Status  int    // HTTP status
	RPC     int    // JSON-RPC error code
	Message string // default public sentence
}

// JSON-RPC error codes. Those of Warder's own lie outside -32768…-32000, as 2026-07-28 requires of
// codes that the specification does not define.
const (
	RPCParse             = -32700
	RPCInvalidRequest    = -32600
	RPCMethodNotFound    = -32601
	RPCInvalidParams     = -32602
	RPCInternal          = -32603
	RPCHeaderMismatch    = -32020
	RPCMissingCapability = -32021
	RPCUnsupported       = -32022
	RPCResourceNotFound  = -32002 // up to 2025-11-25
	RPCRefused           = -31403
	RPCUnauthenticated   = -31401
	RPCRateLimited       = -31429
	RPCTooLarge          = -31413
	RPCUpstream          = -31502
	RPCUnavailable       = -31503
	RPCTimeout           = -31504
	RPCHeld              = -31202
	RPCNoSession         = -31404
)

// Face returns the public face of the code.
func (c Code) Face() Face {
	switch c {
	case CodeUnauthenticated:
		return Face{http.StatusUnauthorized, RPCUnauthenticated, "Authentication required."}
	case CodeInsufficientScope:
		return Face{http.StatusForbidden, RPCRefused, "The token does not cover this operation."}
	case CodeForbiddenOrigin:
		return Face{http.StatusForbidden, RPCRefused, "This origin or host is not allowed."}
	case CodeHeld:
		return Face{http.StatusForbidden, RPCHeld, "A person must approve this call."}
	case CodeMalformed:
		return Face{http.StatusBadRequest, RPCParse, "The message is not acceptable JSON."}
	case CodeInvalidRequest:
		return Face{http.StatusBadRequest, RPCInvalidRequest, "The message is not a valid request."}
	case CodeHeaderMismatch:
		return Face{http.StatusBadRequest, RPCHeaderMismatch, "Headers and body disagree."}
	case CodeUnsupported:
		return Face{http.StatusBadRequest, RPCUnsupported, "Unsupported protocol version."}
	case CodeMissingCapability:
		return Face{http.StatusBadRequest, RPCMissingCapability, "The client lacks a required capability."}
	case CodeUnknownMethod:
		return Face{http.StatusNotFound, RPCMethodNotFound, "Method not found."}
	case CodeMissingMeta:
		return Face{http.StatusBadRequest, RPCInvalidParams, "The request lacks required _meta members."}
	case CodeInvalidParams:
		return Face{http.StatusOK, RPCInvalidParams, "Invalid parameters."}
	case CodeNotFound:
		return Face{http.StatusOK, RPCInvalidParams, "Not found."}
	case CodeNoSession:
		return Face{http.StatusNotFound, RPCNoSession, "Session not found."}
	case CodeMethodNotAllowed:
		return Face{http.StatusMethodNotAllowed, RPCInvalidRequest, "Method not allowed."}
	case CodeNotAcceptable:
		return Face{http.StatusNotAcceptable, RPCInvalidRequest, "The client must accept application/json and text/event-stream."}
	case CodeMediaType:
		return Face{http.StatusUnsupportedMediaType, RPCInvalidRequest, "Content-Type must be application/json."}
	case CodeRateLimited:
		return Face{http.StatusTooManyRequests, RPCRateLimited, "Too many requests."}
	case CodeTooLarge:
		return Face{http.StatusRequestEntityTooLarge, RPCTooLarge, "The message is too large."}
	case CodeQuarantined:
		return Face{http.StatusForbidden, RPCRefused, "This definition is quarantined until it is approved."}
	case CodeUpstreamFailed:
		return Face{http.StatusBadGateway, RPCUpstream, "The server behind the gateway failed."}
	case CodeTimeout:
		return Face{http.StatusGatewayTimeout, RPCTimeout, "The server behind the gateway did not answer in time."}
	case CodeUnavailable:
		return Face{http.StatusServiceUnavailable, RPCUnavailable, "A required control is unavailable."}
	case CodeInternal:
		return Face{http.StatusInternalServerError, RPCInternal, "Internal error."}
	default:
		return Face{http.StatusForbidden, RPCRefused, "Denied by policy."}
	}
}

// An Error is a failure a client may see. Only Code, Reason, Control and Public leave the process.
type Error struct {
	Code    Code
	Reason  Reason
	Control ControlID // the control that refused; empty if none did
	Public  string    // sentence for the client; empty: the code's default
	Ask     *Ask      // challenge to present, if any
	Data    []byte    // JSON for error.data, such as {"supported":[…]}; nil if none
	Err     error     // cause, for operators only
}

// Error describes the failure for operators.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Control != "" {
		s = string(e.Control) + ": " + s
	}
	if e.Reason != "" {
		s += " (" + string(e.Reason) + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Sentence is the public sentence of the error.
func (e *Error) Sentence() string {
	if e.Public != "" {
		return e.Public
	}
	return e.Code.Face().Message
}

// Fail builds an error without a control, such as a transport failure.
func Fail(code Code, reason Reason, cause error) *Error {
	return &Error{Code: code, Reason: reason, Err: cause}
}
