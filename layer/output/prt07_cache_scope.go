package output

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// cacheScope says for whom and how long an answer may be kept. What Warder answers depends on who
// asks: lists are filtered by policy, reads are authorised one by one. So an answer is "private" and
// short-lived, whatever the server says; an answer to a retry with the user's input is not kept at
// all. Warder itself keeps no answer of one caller for another.
// Control PRT-07; MCP 2026-07-28 "Caching". Phase Response; earlier revisions have no such members.
type cacheScope struct {
	longest time.Duration
	public  []string // servers whose reads are the same for every caller
}

var _ warder.Interceptor = (*cacheScope)(nil)

// Members of a cacheable result.
const (
	memberScope = "cacheScope"
	memberTTL   = "ttlMs"

	scopePrivate = "private"
	scopePublic  = "public"
)

// Control names the control.
func (*cacheScope) Control() warder.ControlID { return "PRT-07" }

// Intercept judges one message of the answer.
func (c *cacheScope) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m == nil {
		return warder.Decision{}, errors.New("judge cache scope: no message")
	}
	if !x.Revision.Modern() || m.Kind != warder.KindResult || x.Request == nil {
		return warder.Continue(), nil
	}
	scope, ttl := m.Result.Get(memberScope), m.Result.Get(memberTTL)
	cacheable := cacheable(x.Request.Method) && wire.ResultType(m) == wire.ResultComplete
	if !cacheable && !scope.Present() && !ttl.Present() {
		return warder.Continue(), nil
	}
	want, milliseconds := c.decide(x, m, cacheable)
	var edits []wire.Edit
	if !wire.At(m, scope).Equals(want) {
		edits = append(edits, wire.SetMember(m, m.ResultSpan, m.Result, memberScope, wire.Quote(want)))
	}
	if n, ok := wire.At(m, ttl).Int(); !ok || n != milliseconds {
		edits = append(edits, wire.SetMember(m, m.ResultSpan, m.Result, memberTTL, strconv.AppendInt(nil, milliseconds, 10)))
	}
	if len(edits) == 0 {
		return warder.Continue(), nil
	}
	return c.apply(x, m, scope, edits)
}

// decide returns the scope and the time to live, in milliseconds, that the answer may have.
func (c *cacheScope) decide(x *warder.Exchange, m *warder.Message, cacheable bool) (scope string, milliseconds int64) {
	said, known := wire.At(m, m.Result.Get(memberScope)).Text()
	ttl, ok := wire.At(m, m.Result.Get(memberTTL)).Int()
	known = known && (said == scopePrivate || said == scopePublic)
	if !cacheable || !known || !ok || ttl < 0 || isRetry(x.Request) {
		return scopePrivate, 0
	}
	ttl = min(ttl, c.longest.Milliseconds())
	if said == scopePublic && c.mayBePublic(x) {
		return scopePublic, ttl
	}
	return scopePrivate, ttl
}

// mayBePublic reports whether the answer is the same for every caller.
func (c *cacheScope) mayBePublic(x *warder.Exchange) bool {
	if x.Server == nil || !slices.Contains(c.public, x.Server.Name) {
		return false
	}
	return x.Request.Method == wire.MethodDiscover || x.Request.Method == wire.MethodResourcesRead
}

// isRetry reports whether a request carries the user's answers or a server's state.
func isRetry(m *warder.Message) bool {
	return m.Params.Get("inputResponses").Present() || m.Params.Get("requestState").Present()
}

// cacheable reports whether results of a method say how long they hold.
func cacheable(method string) bool {
	switch method {
	case wire.MethodDiscover, wire.MethodToolsList, wire.MethodPromptsList, wire.MethodResourcesList,
		wire.MethodResourceTemplates, wire.MethodResourcesRead:
		return true
	default:
		return false
	}
}

func (c *cacheScope) apply(x *warder.Exchange, m *warder.Message, scope warder.Span, edits []wire.Edit) (warder.Decision, error) {
	out, err := wire.Splice(m, limitsFor(m), edits...)
	if err != nil {
		return warder.Decision{}, fmt.Errorf("set cache scope: %w", err)
	}
	public := wire.At(m, scope).Equals(scopePublic)
	x.Response = out
	if !public {
		return warder.Continue(), nil
	}
	return warder.Observe(warder.Finding{
		Rule: "public_result_made_private", Severity: warder.Low, Pointer: "/result/" + memberScope,
		Evidence: "the server offers an answer for one caller to every caller",
	}), nil
}

// limitsFor admits a message that grows by a few members.
func limitsFor(m *warder.Message) wire.Limits {
	limits := wire.DefaultLimits()
	limits.Bytes = max(limits.Bytes, int64(len(m.Raw))+4096)
	return limits
}
