package cli

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// A witness says what the record of one exchange knows, in the place of the gateway's state: the grant it
// found, the risk and posture of the caller, the approval it used, what had been revoked. The state of now
// is never asked, so the same record always gets the same judgement. It is used by one goroutine.
type witness struct{ e *warder.Event }

var (
	_ access.Grants  = (*witness)(nil)
	_ access.Plans   = (*witness)(nil)
	_ access.Holds   = (*witness)(nil)
	_ access.Risk    = (*witness)(nil)
	_ access.Posture = (*witness)(nil)
)

// deps are the dependencies of the access layer that judge by the record.
func (w *witness) deps(policies access.Authorizer, metadata func(endpoint string) string) access.Deps {
	return access.Deps{
		Authorizer: policies, MetadataURL: metadata, Revoked: then{w}, Grants: w, Plans: w, Holds: w, Risk: w, Posture: w, Now: w.now,
		Trust: func(string, string) int { return w.circumstances().Trust },
	}
}

// incomplete says what the record does not know; empty if it knows what policy saw.
func (w *witness) incomplete() string {
	switch {
	case w.e.Principal != nil && w.e.Principal.Transport == "":
		return "the record is of an older version: place, posture, risk, purpose, grant and strength of the login are not known"
	case w.e.Circumstances == nil:
		return "policy was not asked then: place, posture, risk, purpose and grant are not known"
	default:
		return ""
	}
}

// refusedBy reports whether a control refused the exchange then.
func (w *witness) refusedBy(id warder.ControlID) bool {
	return w.e.Outcome == warder.OutcomeRefused && w.e.Control == id
}

func (w *witness) circumstances() warder.Circumstances {
	if w.e == nil || w.e.Circumstances == nil {
		return warder.Circumstances{}
	}
	return *w.e.Circumstances
}

func (w *witness) now() time.Time {
	if w.e == nil {
		return time.Now()
	}
	return w.e.Time
}

// peer is the address the exchange came from.
func (w *witness) peer() netip.AddrPort {
	a, err := netip.ParseAddr(w.e.Peer)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, 0)
}

// principal is the caller as the record has it, with other groups and scopes if there are some.
func (w *witness) principal(groups, scopes []string) *warder.Principal {
	p := &warder.Principal{Groups: groups, Scopes: scopes, Transport: "bearer", Registered: w.agent()}
	if w.e.Door == warder.DoorStdio {
		p.Transport = "stdio"
	}
	was := w.e.Principal
	if was == nil {
		return p
	}
	p.Issuer, p.Subject, p.Tenant, p.Client, p.Agent, p.TokenID = was.Issuer, was.Subject, was.Tenant, was.Client, was.Agent, was.TokenID
	p.Actors, p.ACR, p.AMR, p.AuthTime = was.Actors, was.ACR, was.AMR, was.AuthTime
	if was.Transport != "" {
		p.Transport = was.Transport
	}
	if was.Bound {
		p.Binding = "bound"
	}
	if groups == nil {
		p.Groups = was.Groups
	}
	if scopes == nil {
		p.Scopes = was.Scopes
	}
	return p
}

func (w *witness) agent() *warder.Agent {
	a := w.circumstances().Agent
	if a == nil {
		return nil
	}
	return &warder.Agent{Name: a.Name, Owner: a.Owner, Roles: a.Roles}
}

func (w *witness) grant() *warder.Grant {
	g := w.circumstances().Grant
	if g == nil {
		return nil
	}
	return &warder.Grant{
		ID: g.ID, Server: w.e.Server, Purpose: g.Purpose, NotBefore: w.e.Time, NotAfter: g.NotAfter, Plan: g.Plan, Step: g.Step,
	}
}

// decisions are those of the record, with what the controls found that ran before policy.
func (w *witness) decisions() []warder.Decision {
	out := slices.Clone(w.e.Decisions)
	var found []warder.Finding
	for _, f := range w.e.Findings {
		before := func(s warder.Step) bool {
			return s.Control == f.Control && (s.Phase == warder.PhaseConnect || s.Phase == warder.PhaseRequest)
		}
		if slices.ContainsFunc(w.e.Trail, before) {
			found = append(found, f)
		}
	}
	if found != nil {
		out = append(out, warder.Decision{Verdict: warder.Pass, Findings: found})
	}
	return out
}

// Lookup implements access.Grants: the grant that was found then.
func (w *witness) Lookup(*warder.Exchange, string) *warder.Grant { return w.grant() }

// Resume implements access.Grants.
func (w *witness) Resume(*warder.Exchange, string) *warder.Grant { return w.grant() }

// Use implements access.Grants: a grant that was used up then is used up.
func (w *witness) Use(context.Context, *warder.Grant) error {
	if w.refusedBy("JIT-01") {
		return access.ErrSpent
	}
	return nil
}

// Age implements access.Grants.
func (*witness) Age(time.Time) time.Duration { return 0 }

// Active implements access.Plans: the plan stood where the grant says.
func (w *witness) Active(*warder.Grant) bool { return !w.refusedBy("JIT-05") }

// Later implements access.Plans.
func (w *witness) Later(*warder.Principal, string, string) string {
	if w.refusedBy("JIT-05") {
		return "of the record"
	}
	return ""
}

// Settle implements access.Plans; nothing is written.
func (*witness) Settle(context.Context, *warder.Grant, bool) error { return nil }

func (w *witness) held() access.Held {
	h := access.Held{ID: w.e.Approval, State: access.HoldPending}
	switch {
	case w.e.Approval != "":
		h.State = access.HoldApproved
	case w.refusedBy("HIL-01") && w.e.Reason == "approval_denied":
		h.State = access.HoldDenied
	case w.refusedBy("HIL-01") && w.e.Reason == "approval_timeout":
		h.State = access.HoldExpired
	}
	return h
}

// Find implements access.Holds: what a person decided then. What nobody was asked about waits.
func (w *witness) Find(*access.Pending) access.Held { return w.held() }

// Admit implements access.Holds.
func (w *witness) Admit(*access.Pending) error {
	if w.refusedBy("HIL-02") {
		return access.ErrFlood
	}
	return nil
}

// Open implements access.Holds; nobody is asked.
func (w *witness) Open(context.Context, *access.Pending) (access.Held, error) { return w.held(), nil }

// Wait implements access.Holds.
func (w *witness) Wait(context.Context, string, time.Duration) (access.Held, error) {
	return w.held(), nil
}

// Spent implements access.Holds.
func (w *witness) Spent(string, *access.Pending) bool { return !w.refusedBy("HIL-01") }

// Consume implements access.Holds.
func (w *witness) Consume(context.Context, string, *access.Pending) error {
	if w.refusedBy("HIL-01") {
		return access.ErrSpent
	}
	return nil
}

// Score implements access.Risk: the score of then.
func (w *witness) Score(*warder.Principal, [16]byte) float64 {
	return float64(w.circumstances().Risk)
}

// Note implements access.Risk; nothing is counted.
func (*witness) Note(string, *warder.Principal, [16]byte) {}

// Of implements access.Posture: what was known then.
func (w *witness) Of(*warder.Principal) string { return w.circumstances().Posture }

// then is what had been revoked then: whatever the exchange was refused for, and nothing else.
type then struct{ *witness }

var _ access.Revoked = then{}

// Check implements access.Revoked.
func (t then) Check(*warder.Principal, string, string, *warder.Grant) (what string, credential, revoked bool) {
	return "as it was recorded", t.e.Code == warder.CodeUnauthenticated, t.refusedBy("JIT-04") && !strings.HasSuffix(string(t.e.Reason), "_stale")
}

// Age implements access.Revoked.
func (t then) Age(time.Time) time.Duration {
	if t.refusedBy("JIT-04") && strings.HasSuffix(string(t.e.Reason), "_stale") {
		return math.MaxInt64
	}
	return 0
}
