package access_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/wire"
)

var errKilled = errors.New("dependency killed")

// grants are grants without a store.
type grants struct {
	list   []*warder.Grant
	uses   map[string]int
	err    error
	behind time.Duration
}

func (g *grants) Lookup(x *warder.Exchange, purpose string) *warder.Grant {
	for _, have := range g.list {
		fits := rar.CheckBounds(have.Arguments, wire.At(x.Request, x.Request.Params.Get("arguments"))) == nil
		if have.Principal == x.Principal.Subject && have.Server == x.Server.Name && (len(have.Tools) == 0 || have.Tools[0] == x.Request.Target) &&
			(purpose == "" || have.Purpose == "" || purpose == have.Purpose) && fits {
			return have
		}
	}
	return nil
}

func (g *grants) Resume(_ *warder.Exchange, id string) *warder.Grant {
	for _, have := range g.list {
		if have.ID == id && g.uses[id] > 0 {
			return have
		}
	}
	return nil
}

func (g *grants) Use(_ context.Context, used *warder.Grant) error {
	if g.err != nil {
		return g.err
	}
	if g.uses == nil {
		g.uses = map[string]int{}
	}
	if used.Uses > 0 && g.uses[used.ID] >= used.Uses {
		return access.ErrSpent
	}
	g.uses[used.ID]++
	return nil
}

func (g *grants) Age(time.Time) time.Duration { return g.behind }

// plans are at one step.
type plans struct {
	at      int
	grant   string
	later   []string
	settled []bool
	err     error
}

func (p *plans) Active(g *warder.Grant) bool { return g.Step == p.at && g.ID == p.grant }

func (p *plans) Later(_ *warder.Principal, _, tool string) string {
	if slices.Contains(p.later, tool) {
		return "plan"
	}
	return ""
}

func (p *plans) Settle(_ context.Context, _ *warder.Grant, success bool) error {
	if p.err != nil {
		return p.err
	}
	p.settled = append(p.settled, success)
	return nil
}

// holds keep calls in memory; decide says what a person decides while the call waits.
type holds struct {
	states map[[3]string]access.Held
	decide access.HoldState // pending: nobody
	flood  error
	err    error
	opened []access.Pending
	spent  map[string]bool
}

func keyOf(c *access.Pending) [3]string {
	return [3]string{c.Principal, string(c.Digest[:]), string(c.Context[:])}
}

func (h *holds) Find(c *access.Pending) access.Held { return h.states[keyOf(c)] }
func (h *holds) Admit(*access.Pending) error        { return h.flood }

func (h *holds) Open(_ context.Context, c *access.Pending) (access.Held, error) {
	if h.err != nil {
		return access.Held{}, h.err
	}
	h.opened = append(h.opened, *c)
	if h.states == nil {
		h.states = map[[3]string]access.Held{}
	}
	held := access.Held{ID: "hold-" + string(rune('0'+len(h.opened))), State: access.HoldPending}
	h.states[keyOf(c)] = held
	return held, nil
}

func (h *holds) Wait(_ context.Context, id string, _ time.Duration) (access.Held, error) {
	for k, held := range h.states {
		if held.ID == id && h.decide > access.HoldPending {
			held.State = h.decide
			h.states[k] = held
			return held, nil
		}
	}
	return access.Held{ID: id, State: access.HoldPending}, h.err
}

func (h *holds) Consume(_ context.Context, id string, c *access.Pending) error {
	if h.err != nil {
		return h.err
	}
	if h.spent[id] || h.states[keyOf(c)].ID != id {
		return access.ErrSpent
	}
	if h.spent == nil {
		h.spent = map[string]bool{}
	}
	h.spent[id] = true
	delete(h.states, keyOf(c))
	return nil
}

func (h *holds) Spent(id string, _ *access.Pending) bool { return h.spent[id] }

// scores are a risk that a test sets.
type scores struct {
	now   float64
	notes []string
}

func (s *scores) Score(*warder.Principal, [16]byte) float64 { return s.now }
func (s *scores) Note(signal string, _ *warder.Principal, _ [16]byte) {
	s.notes = append(s.notes, signal)
}

type posture string

func (p *posture) Of(*warder.Principal) string { return string(*p) }

// gone is what a test revoked.
type gone struct {
	subject, tool, grant string
	credential           bool // of the subject, who may sign in again
	behind               time.Duration
}

func (g *gone) Check(p *warder.Principal, server, tool string, have *warder.Grant) (string, bool, bool) {
	return "revoked by test", g.credential, p.Subject == g.subject || g.tool != "" && server+"/"+tool == g.tool || have != nil && have.ID == g.grant
}

func (g *gone) Age(time.Time) time.Duration { return g.behind }

const permitAll = `@id("all") permit(principal, action, resource);`

// request runs the Request phase of the layer up to the first refusal and says which control it was.
func request(tb testing.TB, l warder.Layer, x *warder.Exchange) (warder.ControlID, outcome) {
	tb.Helper()
	for _, ic := range l.Request {
		if got := run(tb, ic, x); got.Verdict != warder.Pass {
			return ic.Control(), got
		}
	}
	return "", outcome{Verdict: warder.Pass}
}

// judged is what a test wants to see of the Request phase.
type judged struct {
	Control warder.ControlID
	Verdict warder.Verdict
	Reason  warder.Reason
}

func judge(tb testing.TB, l warder.Layer, x *warder.Exchange) judged {
	tb.Helper()
	id, got := request(tb, l, x)
	return judged{id, got.Verdict, got.Reason}
}

func passes() judged { return judged{Verdict: warder.Pass} }

// layerOf builds the layer over policies as text.
func layerOf(tb testing.TB, cfg access.Config, deps access.Deps) warder.Layer {
	tb.Helper()
	if cfg.Inline == "" {
		cfg.Inline = permitAll
	}
	deps.Authorizer = engine(tb, cfg.Inline)
	return newLayer(tb, cfg, deps)
}

// called is a call of a tool with an effect.
func called(tb testing.TB, effect warder.Effect) *warder.Exchange {
	tb.Helper()
	x := exchange(tb, callOf(`{"path":"/srv/a"}`))
	x.Tool.Effect = effect
	return x
}
