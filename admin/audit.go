package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/warder-mcp/warder"
)

// errUnavailable says that something the answer depends on could not be asked.
var errUnavailable = problem(http.StatusServiceUnavailable, codeUnavailable, "the audit trail or the store is unavailable; nothing was done")

// intend writes an operation to the audit trail before it is carried out: what cannot be written down is
// not done, unless it only takes rights away. That does not wait for the next signed checkpoint either, which
// may be an hour away.
func (a *API) intend(ctx context.Context, c *call, row *rule, in any) error {
	if c.op.method == http.MethodGet || c.op.open {
		return nil
	}
	write := a.deps.Record
	if row.tightens {
		write = a.deps.Note
	}
	err := write(ctx, a.event(c, in, ""))
	if err == nil {
		return nil
	}
	a.deps.Log.ErrorContext(ctx, "record admin operation", slog.String("operation", c.op.id), slog.Any("error", err))
	if row.tightens {
		return nil
	}
	return errUnavailable
}

// refused writes down that somebody was not allowed to do something.
func (a *API) refused(ctx context.Context, c *call, code string) {
	a.note(ctx, c, a.event(c, nil, code))
}

// failed writes down that an operation that was begun did not succeed.
func (a *API) failed(ctx context.Context, c *call, in any, code string) {
	a.note(ctx, c, a.event(c, in, code))
}

// note writes an entry that changes nothing any more.
func (a *API) note(ctx context.Context, c *call, e warder.Event) {
	if err := a.deps.Record(ctx, e); err != nil {
		a.deps.Log.ErrorContext(ctx, "record admin operation", slog.String("operation", c.op.id), slog.Any("error", err))
	}
}

// event describes an operation: who, with which roles and which factor, what.
func (a *API) event(c *call, in any, code string) warder.Event {
	now := a.deps.Now().UTC()
	p := c.by.Principal
	e := warder.Event{
		ID: warder.NewID(now), Time: now, Type: warder.EventAdmin, Method: c.op.id, Peer: c.by.Address, Target: cut(target(c, in)),
		Principal: &warder.EventPrincipal{
			Issuer: p.Issuer, Subject: p.Subject, Tenant: p.Tenant, Client: p.Client, Agent: p.Agent, TokenID: p.TokenID, Groups: p.Groups, Scopes: p.Scopes,
		},
		Detail: fmt.Sprintf("operation=%s roles=%s factor=%s", c.op.id, strings.ReplaceAll(words(c.by.Roles), ", ", ","), orNone(c.by.Factor)),
	}
	if reason := reasonOf(in); reason != "" {
		e.Detail += fmt.Sprintf(" reason=%q", cut(reason))
	}
	if code != "" {
		e.Reason = warder.Reason(code)
		e.Detail += " refused=" + code
		if code == codeStepUp {
			e.Control = a.Control()
		}
	}
	return e
}

// target names what an operation is about.
func target(c *call, in any) string {
	var parts []string
	for _, name := range []string{"id", "name"} {
		if v := c.path(name); v != "" {
			parts = append(parts, v)
		}
	}
	switch in := in.(type) {
	case RevocationRequest:
		parts = append(parts, in.Kind, in.Value)
	case RevocationTarget:
		parts = append(parts, in.Kind, in.Value)
	case GrantRequest:
		parts = append(parts, in.Principal, in.Server+"/"+strings.Join(in.Tools, ","))
	case PlanRequest:
		parts = append(parts, in.Principal)
	case DefinitionDecision:
		parts = append(parts, in.Kind, in.Server+"/"+in.Name+"@"+in.Digest)
	case LinkRequest:
		parts = append(parts, in.User)
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

// reasonOf is the reason a request gives, if its kind of request has one.
func reasonOf(in any) string {
	switch in := in.(type) {
	case Reason:
		return in.Reason
	case RevocationRequest:
		return in.Reason
	case RevocationTarget:
		return in.Reason
	case HoldDecision:
		return in.Comment
	case GrantRequest:
		return in.Reason
	case PlanRequest:
		return in.Reason
	case GlassRequest:
		return in.Reason
	default:
		return ""
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// maxSaid bounds what an event says of a request, in bytes.
const maxSaid = 256

// cut shortens what a client said.
func cut(s string) string {
	if len(s) > maxSaid {
		return strings.ToValidUTF8(s[:maxSaid], "")
	}
	return s
}

// encode writes a value that is made of strings, numbers and times.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b, nil
}
