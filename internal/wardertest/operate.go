package wardertest

import (
	"encoding/json"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/revocation"
)

// The people of a case: one asks, the other decides.
func asker() broker.Person { return broker.Person{Issuer: "wardertest", Subject: "asker"} }

func operator() broker.Person {
	return broker.Person{Issuer: "wardertest", Subject: "operator", Groups: []string{"ops"}, Operator: true}
}

// grant makes the grants and the plan of the case, approved.
func (r *runner) grant() error {
	ctx, b := r.t.Context(), r.app.Broker()
	for line := range strings.Lines(r.c.sections["grants"]) {
		var g struct {
			Principal, Agent, Server, Purpose, TTL string
			Tools                                  []string
			Uses                                   int
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &g); err != nil {
			return fmt.Errorf("grants: %w", err)
		}
		ttl, err := time.ParseDuration(g.TTL)
		if err != nil {
			return fmt.Errorf("grants: %w", err)
		}
		made, err := b.Grants.Request(ctx, broker.GrantRequest{
			Principal: g.Principal, Agent: g.Agent, Server: g.Server, Tools: g.Tools, Purpose: g.Purpose, TTL: ttl, Uses: g.Uses, By: asker(),
		})
		if err == nil {
			_, err = b.Grants.Approve(ctx, made.ID, operator(), "wardertest")
		}
		if err != nil {
			return fmt.Errorf("grants: %w", err)
		}
	}
	return r.plan()
}

func (r *runner) plan() error {
	text := r.c.sections["plan"]
	if text == "" {
		return nil
	}
	var p struct {
		Principal, TTL string
		Tools          []string
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	ttl, err := time.ParseDuration(p.TTL)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	q := broker.PlanRequest{Principal: p.Principal, TTL: ttl, By: asker()}
	for _, tool := range p.Tools {
		q.Steps = append(q.Steps, broker.Step{Server: "s", Tools: []string{tool}})
	}
	made, err := r.app.Broker().Plans.Request(r.t.Context(), q)
	if err == nil {
		_, err = r.app.Broker().Plans.Approve(r.t.Context(), made.ID, operator(), "wardertest")
	}
	return err
}

// operate does what an operator or a signal does.
func (a *act) operate(verb, rest string) error {
	ctx, b := a.r.t.Context(), a.r.app.Broker()
	switch verb {
	case "revoke":
		kind, value, _ := strings.Cut(rest, " ")
		value = strings.ReplaceAll(value, "{{caller}}", a.caller())
		return a.r.app.Revoked().Revoke(ctx, revocation.Entry{Kind: revocation.Kind(kind), Value: value, Reason: "case", By: operator().String()})
	case "posture":
		return b.Posture.Report(ctx, broker.Posture{Subject: a.caller(), Compliant: rest == broker.PostureCompliant, At: time.Now(), Source: "case"})
	}
	for _, batch := range b.Holds.Queue(operator()) {
		for _, h := range batch.Holds {
			_, err := b.Holds.Decide(ctx, broker.HoldDecision{Hold: h.ID, Nonce: h.Nonce, Approve: verb == "approve", By: operator(), Channel: "wardertest"})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// caller is ada as the credential of this door names her: issuer, "|", subject.
func (a *act) caller() string {
	if a.door == warder.DoorStdio {
		if me, err := user.Current(); err == nil {
			return "local|" + me.Username
		}
	}
	return a.r.issuer.URL() + "|ada-" + string(a.rev)
}
