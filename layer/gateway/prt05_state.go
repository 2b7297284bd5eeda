package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/wire"
)

// State configures how continuation state is kept in the client's hands.
type State struct {
	Keep     time.Duration `yaml:"keep"`     // how long a suspended request can be resumed; default 10m, at most 24h
	Reusable bool          `yaml:"reusable"` // let one state be presented more than once; weakens PRT-05
}

func defaultState() State { return State{Keep: 10 * time.Minute} }

// Purpose of the sealed state.
const statePurpose = "request_state"

// maxStates is how many used states are remembered at one time; above, no state is accepted.
const maxStates = 1 << 15

// Used remembers the states that came back. It outlives a reload of the configuration, as the keys do:
// else each reload would let every state be presented once more. It is safe for concurrent use.
type Used struct {
	hasher
	clock
	table *table[struct{}]
}

// NewUsed returns an empty memory; a nil clock is the system's.
func NewUsed(now func() time.Time) *Used {
	if now == nil {
		now = time.Now
	}
	return &Used{newHasher(), newClock(now), newTable[struct{}](maxStates, true)}
}

// state seals requestState on its way to the client and opens it on its way back, so that it comes
// back unchanged, from the same caller, with the same request, in time, and once. That holds for the
// state of servers and for the state of suspended calls that Warder keeps itself alike. The state also
// carries what let the call through, so that the answer to a question needs no second approval, and where
// a server gives none, Warder gives its own. On the way out it also judges the questions that servers ask.
// Control PRT-05; MCP 2026-07-28 "Multi round-trip requests" (SEP-2322), "Security considerations".
// Phases Request, Response and Complete.
type state struct {
	hasher
	clock
	cfg    State
	box    *seal.Box
	used   *table[struct{}]
	once   Once
	ask    questions
	limits wire.Limits
}

func newState(cfg Config, deps Deps) (*state, error) {
	s := cfg.State
	if s.Keep == 0 {
		s.Keep = defaultState().Keep
	}
	if s.Keep < time.Second || s.Keep > 24*time.Hour {
		return nil, errors.New("gateway.state.keep: want 1s to 24h")
	}
	u := deps.Used
	if u == nil {
		u = NewUsed(deps.Now)
	}
	return &state{
		u.hasher, u.clock, s, deps.State, u.table, deps.Once,
		questions{cfg.features()},
		deps.Limits,
	}, nil
}

// stateRequests is PRT-05 in phases Request and Complete.
type stateRequests struct{ *state }

// stateResponses is PRT-05 in phase Response.
type stateResponses struct{ *state }

var (
	_ warder.Interceptor = stateRequests{}
	_ warder.Interceptor = stateResponses{}
	_ warder.Recorder    = stateRequests{}
)

// Control returns "PRT-05".
func (*state) Control() warder.ControlID { return "PRT-05" }

// Intercept opens the state that a stateless client brings back and puts what was sealed in its
// place. The payload also becomes x.Resume.
func (s stateRequests) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	v := wire.At(m, m.Params.Get("requestState"))
	if !x.Revision.Modern() || !v.Exists() {
		return passed()
	}
	sealed, id, err := s.open(x)
	if err != nil {
		return refuseState(err), nil
	}
	leg, err := parseLeg(sealed)
	if err != nil {
		return refuseState(err), nil
	}
	if !s.cfg.Reusable {
		fresh, err := s.use(id)
		if err != nil {
			return warder.Decision{}, err
		}
		if !fresh {
			return refuseState(errReplayed), nil
		}
	}
	if leg.spent != (warder.Leg{}) {
		if fresh, err := s.onceOnly(ctx, id, leg.end); err != nil {
			return warder.Decision{}, err
		} else if !fresh {
			return refuseState(errReplayed), nil
		}
		x.Continues = leg.spent
	}
	x.Resume = leg.inner
	edits := []wire.Edit{{At: v.Span(), New: wire.Quote(string(leg.inner))}}
	if !leg.given {
		edits = wire.RemoveMembers(m, m.Params, m.ParamsSpan, "requestState")
	}
	if err := rewrite(x, s.limits, edits); err != nil {
		return warder.Decision{}, err
	}
	return passed()
}

// onceOnly spends a state that stands for an approval or a use of a grant, on all replicas: these let one
// call through. It is spent even if the request then does not reach its server.
func (s *state) onceOnly(ctx context.Context, id string, end time.Time) (fresh bool, err error) {
	if s.once == nil {
		return false, errors.New("nothing remembers the states of approved calls")
	}
	if fresh, err = s.once.Add(ctx, "state|"+id, end); err != nil {
		return false, fmt.Errorf("remember used state: %w", err)
	}
	return fresh, nil
}

// A leg is the payload that is sealed.
type leg struct {
	spent warder.Leg // what let the call through
	end   time.Time  // of the state, in whole seconds
	given bool       // inner is the server's; else it gave none
	inner []byte
}

func (l *leg) append(b []byte) []byte {
	mark := byte('n')
	if l.given {
		mark = 's'
	}
	b = append(append(append(b, mark), l.spent.Approval...), 0)
	b = append(append(b, l.spent.Grant...), 0)
	return append(append(strconv.AppendInt(b, l.end.Unix(), 10), 0), l.inner...)
}

func parseLeg(b []byte) (l leg, err error) {
	if len(b) == 0 || b[0] != 's' && b[0] != 'n' {
		return l, fmt.Errorf("%w: not of this version", seal.ErrMalformed)
	}
	const parts = 4
	fields := bytes.SplitN(b[1:], []byte{0}, parts)
	if len(fields) != parts {
		return l, fmt.Errorf("%w: not of this version", seal.ErrMalformed)
	}
	end, err := strconv.ParseInt(string(fields[2]), 10, 64)
	if err != nil {
		return l, fmt.Errorf("%w: not of this version", seal.ErrMalformed)
	}
	return leg{
		spent: warder.Leg{Approval: string(fields[0]), Grant: string(fields[1])}, end: time.Unix(end, 0), given: b[0] == 's', inner: fields[3],
	}, nil
}

// legOf is what let an exchange through. The step of a plan is settled when its call ended, whatever the
// server asked, and is granted anew; a state that may be used again stands for nothing.
func (s *state) legOf(x *warder.Exchange) (spent warder.Leg) {
	if s.cfg.Reusable || s.once == nil {
		return spent
	}
	spent.Approval = x.Approval
	if g := x.Grant; g != nil && g.Uses > 0 && g.Plan == "" {
		spent.Grant = g.ID
	}
	return spent
}

var errReplayed = errors.New("sealed token: used before")

// open opens the state of the message as the client sent it.
func (s *state) open(x *warder.Exchange) (payload []byte, id string, err error) {
	if x.Principal == nil {
		return nil, "", errNoPrincipal
	}
	token, ok := wire.At(x.Inbound, x.Inbound.Params.Get("requestState")).Text()
	if !ok {
		return nil, "", seal.ErrMalformed
	}
	return s.box.Open(token, s.now(), s.binding(x))
}

// binding names the request, the server that it went to and the caller. Equal requests to two servers
// are two: what one server wrote down is not for the other to read or to go on with.
func (s *state) binding(x *warder.Exchange) seal.Claims {
	digest := wire.RequestDigest(x.Inbound)
	digest = sha256.Sum256(append(digest[:], serverName(x)...))
	return seal.Claims{Purpose: statePurpose, Principal: x.Principal.Key(), Digest: digest}
}

// use marks a state as used; fresh is false if it was before.
func (s *state) use(id string) (fresh bool, err error) {
	now := s.since()
	key := s.add(0, id)
	e, mu := s.used.lock(key, now, false)
	mu.Unlock()
	if e != nil {
		return false, nil
	}
	e, mu = s.used.lock(key, now, true)
	defer mu.Unlock()
	switch {
	case e == nil:
		return false, errors.New("remember used state: table full")
	case e.until != 0:
		return false, nil // another exchange was faster
	}
	e.until = now + int64(s.cfg.Keep) + int64(2*time.Second) // tokens end on whole seconds
	return true, nil
}

// Record gives a state back that was presented but did not reach the server, so that the client can
// try again after it was held or failed on the way.
func (s stateRequests) Record(_ context.Context, x *warder.Exchange) error {
	if x.Resume == nil || x.Forwarded || s.cfg.Reusable {
		return nil
	}
	_, id, err := s.open(x)
	if err != nil {
		return nil // it has expired meanwhile
	}
	e, mu := s.used.lock(s.add(0, id), s.since(), false)
	defer mu.Unlock()
	if e != nil {
		e.until = s.since()
	}
	return nil
}

// refuseState gives every reason its own code for operators and one sentence for clients.
func refuseState(err error) warder.Decision {
	reason := warder.Reason("state_malformed")
	for _, r := range []struct {
		err    error
		reason warder.Reason
	}{
		{seal.ErrUnknownKey, "state_unknown_key"},
		{seal.ErrTampered, "state_tampered"},
		{seal.ErrPurpose, "state_purpose"},
		{seal.ErrExpired, "state_expired"},
		{seal.ErrPrincipal, "state_of_another"},
		{seal.ErrDigest, "state_of_another_request"},
		{errReplayed, "state_replayed"},
		{errNoPrincipal, "state_without_principal"},
	} {
		if errors.Is(err, r.err) {
			reason = r.reason
		}
	}
	return warder.Refuse(warder.CodeInvalidParams, reason, err.Error()).
		Tell("The requestState is not valid for this request. Send the request again without it.")
}

// Intercept judges the questions of a message and seals the state of an unfinished request.
func (s stateResponses) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	switch m.Kind {
	case warder.KindRequest:
		return s.ask.judge(m.Method, wire.At(m, m.ParamsSpan), capabilities(x)), nil
	case warder.KindError:
		return s.ask.judgeError(m, capabilities(x)), nil
	case warder.KindResult:
		if x.Revision.Modern() && wire.At(m, m.Result.Get("resultType")).Equals(wire.ResultInputRequired) {
			return s.unfinished(x)
		}
	case warder.KindNotification:
	}
	return passed()
}

// capabilities are those that the client declared and that configuration left it.
func capabilities(x *warder.Exchange) wire.Value {
	if x.Revision.Modern() && x.Request != nil {
		return declared(x.Request)
	}
	return wire.Parse(x.Client.Capabilities)
}

// unfinished judges an input_required result.
func (s stateResponses) unfinished(x *warder.Exchange) (warder.Decision, error) {
	switch x.Method() {
	case wire.MethodToolsCall, wire.MethodPromptsGet, wire.MethodResourcesRead:
	default:
		return warder.Refuse(warder.CodeUpstreamFailed, "input_not_allowed", "input_required in answer to "+quote(x.Method())), nil
	}
	m, caps := x.Response, capabilities(x)
	asked := wire.At(m, m.Result.Get("inputRequests"))
	if asked.Exists() && asked.Kind() != '{' {
		return warder.Refuse(warder.CodeUpstreamFailed, "questions_malformed", "inputRequests is not an object"), nil
	}
	count := 0
	for _, q := range asked.Members() {
		method, _ := q.Get("method").Text()
		if count++; count > maxAsked {
			return warder.Refuse(warder.CodeUpstreamFailed, "questions_too_many", "inputRequests"), nil
		}
		if d := s.ask.judge(method, q.Get("params"), caps); d.Verdict != warder.Pass {
			return d, nil
		}
	}
	inner := wire.At(m, m.Result.Get("requestState"))
	if !inner.Exists() && (count == 0 || s.legOf(x) == warder.Leg{}) {
		return passed()
	}
	return s.wrap(x, inner)
}

// maxAsked is how many questions one result may hold.
const maxAsked = 32

func (s stateResponses) wrap(x *warder.Exchange, inner wire.Value) (warder.Decision, error) {
	text, ok := inner.Text()
	if !ok && inner.Exists() {
		return warder.Refuse(warder.CodeUpstreamFailed, "state_malformed", "requestState is not a string"), nil
	}
	if x.Principal == nil {
		return warder.Decision{}, errNoPrincipal
	}
	c := s.binding(x)
	c.NotAfter = s.now().Add(s.cfg.Keep)
	token, err := s.box.Seal(c, (&leg{s.legOf(x), c.NotAfter, inner.Exists(), []byte(text)}).append(nil))
	if errors.Is(err, seal.ErrTooBig) {
		return warder.Refuse(warder.CodeUpstreamFailed, "state_too_large", "requestState"), nil
	}
	if err != nil {
		return warder.Decision{}, fmt.Errorf("seal state: %w", err)
	}
	m := x.Response
	edit := wire.SetMember(m, m.ResultSpan, m.Result, "requestState", wire.Quote(token))
	if err := rewriteResponse(x, s.limits, []wire.Edit{edit}); err != nil {
		return warder.Decision{}, err
	}
	return passed()
}
