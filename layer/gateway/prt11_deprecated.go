package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// Deprecated turns on features that the protocol is giving up (SEP-2577, SEP-2596). All are off
// unless named.
type Deprecated struct {
	Roots    bool     `yaml:"roots"`           // true lets servers ask for the client's roots
	Sampling bool     `yaml:"sampling"`        // true lets servers ask the client's model, within the budget
	Logging  bool     `yaml:"logging"`         // true lets servers send protocol log messages
	HTTPSSE  bool     `yaml:"http_sse"`        // true lets clients use the HTTP+SSE transport of 2024-11-05
	Budget   Sampling `yaml:"sampling_budget"` // what servers may ask of the model where sampling is on
}

// Sampling is what servers may ask of a caller's model. A zero field means the default.
type Sampling struct {
	PerMinute  int `yaml:"per_minute"` // questions a minute; default 10
	Concurrent int `yaml:"concurrent"` // questions without an answer at one time; default 2
	PerCall    int `yaml:"per_call"`   // questions while one request is answered, retries included; default 5
	MaxTokens  int `yaml:"max_tokens"` // largest maxTokens of one question; default 4096
}

func defaultDeprecated() Deprecated {
	return Deprecated{Budget: Sampling{PerMinute: 10, Concurrent: 2, PerCall: 5, MaxTokens: 4096}}
}

// Windows of the sampling budget.
const (
	answerWait = 2 * time.Minute  // an unanswered question stops counting
	callWindow = 10 * time.Minute // what one request may ask is forgotten
	maxAskers  = 1 << 12          // callers and requests under budget at one time
)

// deprecated refuses deprecated features unless configured, and keeps sampling within its budget.
// Control PRT-11; MCP 2026-07-28 changelog, SEP-2577 (roots, sampling, logging), SEP-2596 (HTTP+SSE).
// Phases Connect, Request and Response.
type deprecated struct {
	hasher
	clock
	cfg     Deprecated
	minute  limit
	call    limit
	asked   *buckets
	pending *table[int] // by caller
	limits  wire.Limits
}

func newDeprecated(cfg Deprecated, deps Deps) (*deprecated, error) {
	def := defaultDeprecated().Budget
	for _, f := range []struct {
		field *int
		def   int
	}{
		{&cfg.Budget.PerMinute, def.PerMinute},
		{&cfg.Budget.Concurrent, def.Concurrent},
		{&cfg.Budget.PerCall, def.PerCall},
		{&cfg.Budget.MaxTokens, def.MaxTokens},
	} {
		if *f.field == 0 {
			*f.field = f.def
		}
		if *f.field < 0 || *f.field > math.MaxInt32 {
			return nil, errors.New("gateway.deprecated.sampling_budget: number out of range")
		}
	}
	return &deprecated{
		hasher: newHasher(), clock: newClock(deps.Now), cfg: cfg,
		minute: over(time.Minute, cfg.Budget.PerMinute), call: over(callWindow, cfg.Budget.PerCall),
		asked: newBuckets(maxAskers), pending: newTable[int](maxAskers, false), limits: deps.Limits,
	}, nil
}

// over is the limit of n in a window.
func over(window time.Duration, n int) limit {
	interval := int64(window) / int64(n)
	return limit{interval, interval * int64(n)}
}

// transport is PRT-11 in phase Connect.
type transport struct{ *deprecated }

// deprecatedRequests is PRT-11 in phase Request.
type deprecatedRequests struct{ *deprecated }

// deprecatedResponses is PRT-11 in phase Response.
type deprecatedResponses struct{ *deprecated }

var (
	_ warder.Interceptor = transport{}
	_ warder.Interceptor = deprecatedRequests{}
	_ warder.Interceptor = deprecatedResponses{}
)

// Control returns "PRT-11".
func (*deprecated) Control() warder.ControlID { return "PRT-11" }

// Intercept refuses the old transport.
func (d transport) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorSSE && !d.cfg.HTTPSSE {
		return warder.Refuse(warder.CodeMethodNotAllowed, "http_sse_off", "HTTP+SSE of 2024-11-05"), nil
	}
	return passed()
}

// Intercept refuses what clients send for features that are off, takes the log level away, and
// notes answers to sampling.
func (d deprecatedRequests) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	if m.IsAnswer() {
		if x.Question != nil && x.Question.Method == wire.MethodSampling {
			d.answered(x, 1)
		}
		return passed()
	}
	switch {
	case m.Method == wire.MethodSetLevel && !d.cfg.Logging:
		return off("logging_off"), nil
	case m.Method == wire.NotifyRootsChanged && !d.cfg.Roots:
		return off("roots_off"), nil
	}
	if !x.Revision.Modern() {
		return passed()
	}
	if responses := m.Params.Get("inputResponses"); responses.Present() {
		n := 0
		for _, r := range wire.At(m, responses).Members() {
			if r.Get("model").Exists() {
				n++
			}
		}
		d.answered(x, n)
	}
	if d.cfg.Logging || !m.Meta.Get(wire.MetaLogLevel).Present() {
		return passed()
	}
	edits := wire.RemoveMembers(m, m.Meta, m.Params.Get("_meta"), wire.MetaLogLevel)
	if err := rewrite(x, d.limits, edits); err != nil {
		return warder.Decision{}, err
	}
	return passed()
}

func off(reason warder.Reason) warder.Decision {
	return warder.Refuse(warder.CodeUnknownMethod, reason, "deprecated feature is off")
}

// Intercept refuses what servers send for features that are off and holds sampling to its budget.
func (d deprecatedResponses) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	switch m.Kind {
	case warder.KindRequest:
		return d.question(x, m.Method, wire.At(m, m.ParamsSpan))
	case warder.KindNotification:
		if m.Method == wire.NotifyMessage && !d.cfg.Logging {
			return off("logging_off"), nil
		}
	case warder.KindResult:
		return d.result(x)
	case warder.KindError:
	}
	return passed()
}

func (d *deprecated) result(x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	switch x.Method() {
	case wire.MethodInitialize, wire.MethodDiscover:
		caps := wire.At(m, m.Result.Get("capabilities"))
		if d.cfg.Logging || !caps.Get("logging").Exists() {
			return passed()
		}
		edits := remove(m, caps, func(k wire.Key) bool { return k.Is("logging") })
		if err := rewriteResponse(x, d.limits, edits); err != nil {
			return warder.Decision{}, err
		}
		return passed()
	}
	if !x.Revision.Modern() || !wire.At(m, m.Result.Get("resultType")).Equals(wire.ResultInputRequired) {
		return passed()
	}
	for _, q := range wire.At(m, m.Result.Get("inputRequests")).Members() {
		method, _ := q.Get("method").Text()
		if dec, err := d.question(x, method, q.Get("params")); err != nil || dec.Verdict != warder.Pass {
			return dec, err
		}
	}
	return passed()
}

// question decides whether a server may ask for roots or for the client's model.
func (d *deprecated) question(x *warder.Exchange, method string, params wire.Value) (warder.Decision, error) {
	switch {
	case method == wire.MethodRootsList && !d.cfg.Roots:
		return refuseQuestion("roots_off", "roots"), nil
	case method == wire.MethodSampling && !d.cfg.Sampling:
		return refuseQuestion("sampling_off", "sampling"), nil
	case method == wire.MethodSampling:
		return d.sampling(x, params)
	default:
		return passed()
	}
}

func refuseQuestion(reason warder.Reason, what string) warder.Decision {
	return warder.Refuse(warder.CodeDenied, reason, "deprecated feature is off").
		Tell("This gateway does not let servers use " + what + ".")
}

// sampling spends from the caller's budget, the cheapest check first.
func (d *deprecated) sampling(x *warder.Exchange, params wire.Value) (warder.Decision, error) {
	if x.Principal == nil {
		return warder.Decision{}, errNoPrincipal
	}
	if n, ok := params.Get("maxTokens").Int(); !ok || n > int64(d.cfg.Budget.MaxTokens) {
		return budget("sampling_tokens", fmt.Sprintf("maxTokens %s, at most %d", quote(string(params.Get("maxTokens").Raw())), d.cfg.Budget.MaxTokens)), nil
	}
	if params.Get("includeContext").Equals("allServers") {
		return budget("sampling_context", "the server asks for the context of other servers"), nil
	}
	now, caller := d.since(), d.caller(0, x.Principal)
	if x.Inbound != nil {
		digest := wire.RequestDigest(x.Inbound)
		if _, ok := d.asked.take(d.bytes(d.add(caller, serverName(x)), digest[:]), d.call, now); !ok {
			return budget("sampling_loop", "one request leads to too many questions"), nil
		}
	}
	if _, ok := d.asked.take(caller, d.minute, now); !ok {
		return budget("sampling_rate", "too many questions in a minute"), nil
	}
	e, mu := d.pending.lock(caller, now, true)
	defer mu.Unlock()
	if e.value >= d.cfg.Budget.Concurrent {
		return budget("sampling_concurrent", "too many questions without an answer"), nil
	}
	e.value++
	e.until = now + int64(answerWait)
	return passed()
}

func budget(reason warder.Reason, detail string) warder.Decision {
	return warder.Refuse(warder.CodeRateLimited, reason, detail).
		Tell("The server asks more of the client's model than this gateway allows.")
}

// answered notes that questions were answered.
func (d *deprecated) answered(x *warder.Exchange, n int) {
	if n == 0 {
		return
	}
	e, mu := d.pending.lock(d.caller(0, x.Principal), d.since(), false)
	defer mu.Unlock()
	if e != nil {
		e.value = max(0, e.value-n)
	}
}
