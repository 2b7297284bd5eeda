package warder

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"time"
)

// A Door is the kind of front door an exchange came through.
type Door string

// The front doors.
const (
	DoorHTTP  Door = "streamable_http"
	DoorSSE   Door = "http_sse" // 2024-11-05, off by default
	DoorStdio Door = "stdio"
)

// A Conn is what is known of the peer before any message is read. Set by proxy.
type Conn struct {
	Peer   netip.AddrPort       // network address of the peer; zero for stdio, and if a proxy does not say it
	Hop    netip.AddrPort       // the trusted proxy that speaks for the peer; zero: the peer connected itself
	Local  netip.AddrPort       // address the peer reached; zero for stdio
	TLS    *tls.ConnectionState // nil on plaintext and stdio
	Method string               // HTTP method; empty for stdio
	Host   string               // HTTP Host; empty for stdio
	Path   string               // HTTP path without query; empty for stdio
	Query  string               // raw HTTP query
	Header http.Header          // HTTP headers; nil for stdio. Never changed.
}

// A Trace is a W3C trace context (https://www.w3.org/TR/trace-context/).
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte // of this exchange; what the server is told as its parent
	Parent  [8]byte // span of the caller; zero if the trace begins here
	Sampled bool
	State   string // tracestate, already validated
}

// A Direction tells who sent the message that an exchange is about.
type Direction uint8

// Directions.
const (
	FromClient Direction = iota // zero: the client asked
	FromServer                  // a server-initiated stream or message without a client request
)

// An Outcome is how an exchange ended.
type Outcome string

// Outcomes.
const (
	OutcomeAllowed  Outcome = "allowed"  // a final answer was delivered as judged
	OutcomeRefused  Outcome = "refused"  // a control denied, challenged or held
	OutcomeFailed   Outcome = "failed"   // the upstream or the gateway failed
	OutcomeCanceled Outcome = "canceled" // the client went away or cancelled
)

// An Exchange is one JSON-RPC request and everything that answers it. It is created by proxy and
// passed by pointer through every layer; each field names the one place that sets it.
//
// An exchange is used by one goroutine at a time.
type Exchange struct {
	ID       string     // audit id, sortable by time; set by proxy
	Received time.Time  // set by proxy
	Door     Door       // set by proxy
	From     Direction  // set by proxy
	Conn     Conn       // set by proxy
	Revision Revision   // the client's revision; set by proxy before Request, empty in Connect
	Session  string     // public digest of the legacy session, empty when stateless; set by proxy
	Parent   *Exchange  // the exchange this one continues or belongs to; set by proxy, may be nil
	Endpoint string     // name in the URL: a server or a group; set by proxy
	Trace    Trace      // set by proxy from headers or _meta, fresh if absent
	Client   ClientInfo // what the client says of itself, untrusted; set by proxy

	Server    *Server    // the server behind the endpoint; set by proxy, nil while a group fans out
	Inbound   *Message   // the message as the client sent it; set by proxy
	Request   *Message   // the message as it will be forwarded; replaced only in Request, before access
	Response  *Message   // the message of the answer under judgement; set by the runner, replaced by Response controls
	Principal *Principal // set by identity; nil until then
	Tool      *Tool      // the approved definition of the target; set by tools, nil for other methods
	Labels    []string   // data labels met so far; set by output
	Grant     *Grant     // what allowed the call for a limited time; set by access, nil if nothing did
	Purpose   string     // declared purpose of the call; set by identity from the credential or by access from the grant
	Approval  string     // id of the person's approval of exactly this call; set by access
	Risk      float64    // score of principal, agent and trace, 0 to 100; set by access

	Obligations []Obligation // what the policies and the risk that allow the call ask for besides; set by access, checked and met there
	Around      Surroundings // what policy was told of where, in what state and for what; set by access when it asks policy

	Nonce     string     // what the caller's next proof of possession must carry, if the one it used ends soon; set by identity
	Attach    Credential // what the server is shown in place of the caller's credential; set by upstream
	Question  *Message   // the server's question that this answer is about; set by proxy, nil unless an answer
	Resume    []byte     // payload of verified state that Warder minted; set by PRT-05
	Continues Leg        // what let the first leg of this request through; set by PRT-05 from verified state, zero for a first leg
	Budget    Budget     // set by proxy from configuration

	Trail     []Step     // every control that ran, in order; set by the runner
	Decisions []Decision // every decision that was not a plain pass, and the deciding one; set by the runner
	Policies  []string   // ids of the policies that allowed; set by access
	Forwarded bool       // the upstream was asked; set by proxy
	Outcome   Outcome    // set by proxy before Complete
	Failure   *Error     // the error the client saw; set by proxy before Complete, nil if none
	Messages  int        // messages sent to the client; set by proxy
	BytesIn   int64      // bytes of the client's message; set by proxy
	BytesOut  int64      // bytes of the messages sent to the client; set by proxy
	Upstream  string     // address or command of the instance that answered; set by proxy
	Finished  time.Time  // set by proxy before Complete
}

// Surroundings are what policy was told besides the caller and the message (control JIT-02), for the
// trail. Empty members were not known. The time of the message and the peer's address say the rest.
type Surroundings struct {
	Asked   bool   // policy was asked
	Zone    string // place in the network the caller was at
	Country string // of the caller's address
	Posture string // of the caller's device or workload
	Purpose string // as the credential states it, or the caller declared it
	Trust   int    // 0 to 100
	Grant   *Grant // found for the call; unlike Exchange.Grant it stays when the call needs none
}

// A Leg is what was spent on a request before its server asked the client something: the request that comes
// back with the answer goes on and is not a further one. It is bound to caller, server and parameters, as
// the state that carries it is.
type Leg struct {
	Approval string // id of the person's approval
	Grant    string // id of the grant of which a use was counted
}

// A Credential is what Warder shows to a server (control AUT-04). It never holds anything of the
// caller's own credential. The zero value attaches nothing.
type Credential struct {
	Kind   string                                            // "oauth", "exchange", "secret" and so on, for the trail; empty: nothing is attached
	Owner  string                                            // key of the principal it belongs to; empty when it is the server's own, shared by callers
	Header func(ctx context.Context, r *http.Request) error  // sets the headers of one outgoing request; nil: none
	Denied func(ctx context.Context, r *http.Response) error // told that the server answered 401 or 403; a nil error means try once more
	Env    func(ctx context.Context) ([]EnvSecret, error)    // secrets for a child process, handed over when it starts; nil: none
}

// An EnvSecret is one secret for a child process.
type EnvSecret struct {
	Name  string
	Value []byte // overwritten after use
	File  bool   // not in the environment, but in a file that exists in memory only; the variable NAME_FILE says where
}

// A Phase is one of the phases of the path.
type Phase uint8

// The phases, in order. Review runs beside Response, on long exchanges only.
const (
	PhaseConnect Phase = iota
	PhaseRequest
	PhaseResponse
	PhaseComplete
	PhaseReview
)

// String returns the phase's word in audit records and traces.
func (p Phase) String() string {
	return [...]string{"connect", "request", "response", "complete", "review"}[min(p, PhaseReview)]
}

// A Step says that one control ran on an exchange.
type Step struct {
	Control ControlID
	Phase   Phase
	Verdict Verdict
	Took    time.Duration
}

// A Budget bounds one exchange. Zero means the strict default, never "unlimited".
type Budget struct {
	RequestBytes  int64         // body of the client's message
	MessageBytes  int64         // one message of the answer
	ResponseBytes int64         // all messages of the answer
	Wall          time.Duration // hard maximum for the whole exchange
}

// A ClientInfo is what the client says of itself. It is untrusted and never decides.
type ClientInfo struct {
	Name, Version string
	Capabilities  []byte // JSON object as sent; nil if none
}

// Target names what the request acts on: the tool, prompt, resource or task. Empty if nothing.
func (x *Exchange) Target() string {
	if x.Request == nil {
		return ""
	}
	return x.Request.Target
}

// Method is the method under judgement: the request's, or that of the request being answered.
func (x *Exchange) Method() string {
	if x.Request == nil {
		return ""
	}
	if x.Request.Method == "" && x.Parent != nil {
		return x.Parent.Method()
	}
	return x.Request.Method
}

// Header renders the context as a traceparent for the next hop: version 00, this exchange's span as
// parent (W3C Trace Context section 3.2).
func (t Trace) Header() string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 55)
	out = append(out, "00-"...)
	for _, b := range t.TraceID {
		out = append(out, digits[b>>4], digits[b&15])
	}
	out = append(out, '-')
	for _, b := range t.SpanID {
		out = append(out, digits[b>>4], digits[b&15])
	}
	if t.Sampled {
		return string(append(out, "-01"...))
	}
	return string(append(out, "-00"...))
}
