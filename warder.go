// Package warder holds the words of the domain: the exchange that travels the path, the messages it
// carries, who sent them, what each control decided, and the errors a client may see.
//
// Warder is a security gateway for the Model Context Protocol. One [Exchange] is created at the
// front door for every JSON-RPC request, notification or answer and is passed by pointer through
// every [Layer]: down through Connect and Request, back up through Response, and always through
// Complete. A control is an [Interceptor] in one phase; the runner in package proxy alone owns
// order, deadline, panic, mode, tracing, metrics and fail-closed.
//
//	client ── POST /mcp/{server} ──► network → gateway → identity      Connect, headers only
//	                                 gateway → tools → input → access  Request, message known
//	                                 upstream ───────────────────────► MCP server
//	                                 output → input → tools → gateway  Response, each message back
//	                                 record … network                  Complete, always
//
// The package imports the standard library only. Zero values are safe: the zero [Verdict] denies.
package warder

import "context"

// A ControlID names a control of the catalogue, such as "PRT-02".
type ControlID string

// An Interceptor is one control at one point of the path.
//
// It may read the whole exchange and writes only the fields its layer owns. It must honour ctx and
// must be safe for concurrent use by many exchanges. Returning an error denies the exchange with
// code [CodeUnavailable]: a control that cannot decide never passes.
type Interceptor interface {
	Control() ControlID
	Intercept(ctx context.Context, x *Exchange) (Decision, error)
}

// A Recorder sees every finished exchange, whatever its outcome.
type Recorder interface {
	Record(ctx context.Context, x *Exchange) error
}

// A Layer is one line of defence: its controls, by phase.
type Layer struct {
	Name     string
	Connect  []Interceptor // headers only
	Request  []Interceptor // message decoded
	Response []Interceptor // once per message of the answer, layers in reverse order
	// Review runs beside the answer of an exchange that lasts: at every interval, and at once when
	// something was revoked, whether or not a message passes. It sees a copy of the exchange as it was
	// when the request had been judged, must not change it, and runs on another goroutine than the rest.
	// A refusal ends the exchange.
	Review   []Interceptor
	Complete []Recorder // always, layers in reverse order
}
