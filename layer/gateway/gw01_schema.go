package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
	"github.com/warder-mcp/warder/wire/shape"
)

// schemaRequest refuses what a client may not send: methods that its revision does not have in this
// direction, requests sent as notifications and the other way round, answers nobody waits for, and
// params or answers that have not the published form.
// Control GW-01; the JSON Schemas of the five revisions, basic "Messages". Phase Request.
type schemaRequest struct{ rules *shape.Set }

// schemaResponse does the same for what a server sends. A list loses the definitions that are not in
// form and keeps the others.
// Control GW-01. Phase Response.
type schemaResponse struct{ rules *shape.Set }

var (
	_ warder.Interceptor = (*schemaRequest)(nil)
	_ warder.Interceptor = (*schemaResponse)(nil)
)

// newSchema loads the tables of package shape for both phases. An error means a broken build.
func newSchema() (request, response warder.Interceptor, err error) {
	rules, err := shape.Load()
	if err != nil {
		return nil, nil, fmt.Errorf("load message forms: %w", err)
	}
	return &schemaRequest{rules}, &schemaResponse{rules}, nil
}

// Control names the control.
func (*schemaRequest) Control() warder.ControlID { return "GW-01" }

// Control names the control.
func (*schemaResponse) Control() warder.ControlID { return "GW-01" }

// Intercept judges the message of the client.
func (s *schemaRequest) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Request
	if m == nil || s.rules == nil {
		return warder.Decision{}, errors.New("judge form: no message or no rules")
	}
	if m.IsAnswer() {
		return s.answer(x, m), nil
	}
	if x.From == warder.FromServer && !x.Revision.Modern() && m.Method == wire.MethodListen {
		return warder.Continue(), nil // proxy's own: it stands for the stream that a session opens
	}
	if d := form(s.rules, x.Revision, warder.FromClient, m); d.Verdict != warder.Pass {
		return d, nil
	}
	q := shape.Query{Revision: x.Revision, From: warder.FromClient, Method: m.Method}
	v, ok := s.rules.CheckMessage(q, m)
	if !ok {
		return misshapen(warder.CodeInvalidParams, "params_form", v), nil
	}
	return warder.Continue(), nil
}

// answer judges the answer of a client to a question that the server asked.
func (s *schemaRequest) answer(x *warder.Exchange, m *warder.Message) warder.Decision {
	if x.Revision.Modern() {
		return warder.Refuse(warder.CodeInvalidRequest, "answer_not_expected", "stateless revisions carry no answers from clients")
	}
	if x.Question == nil {
		return warder.Refuse(warder.CodeInvalidRequest, "answer_not_expected", "no question of the server waits for this answer")
	}
	q := shape.Query{Revision: x.Revision, From: warder.FromServer, Method: x.Question.Method, Part: shape.Result}
	v, ok := s.rules.CheckMessage(q, m)
	if !ok {
		return misshapen(warder.CodeInvalidRequest, "answer_form", v)
	}
	return warder.Continue()
}

// form refuses methods that do not exist for this side, and the wrong kind of message.
func form(rules *shape.Set, rev warder.Revision, from warder.Direction, m *warder.Message) warder.Decision {
	switch rules.Lookup(rev, from, m.Method) {
	case shape.Request:
		if m.Kind != warder.KindRequest {
			return warder.Refuse(warder.CodeInvalidRequest, "request_without_id", "a request was sent as a notification")
		}
	case shape.Notification:
		if m.Kind != warder.KindNotification {
			return warder.Refuse(warder.CodeInvalidRequest, "notification_with_id", "a notification was sent as a request")
		}
	case shape.Unknown:
		return warder.Refuse(warder.CodeUnknownMethod, "unknown_method",
			"the revision has no method "+quote(m.Method)+" in this direction")
	}
	return warder.Continue()
}

// misshapen is the refusal for a violation. Place and expectation are safe to show; the value is not
// part of them.
func misshapen(code warder.Code, reason warder.Reason, v shape.Violation) warder.Decision {
	d := warder.Refuse(code, reason, v.String())
	d.Findings = []warder.Finding{{
		Rule: "form." + v.Keyword, Severity: warder.Medium, Pointer: v.Pointer, Evidence: "want " + v.Want,
	}}
	return d.Tell("The message does not have the form its revision publishes: at " + quote(v.Pointer) +
		", keyword " + v.Keyword + ", want " + v.Want + ".")
}

// Intercept judges one message of the answer.
func (s *schemaResponse) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if m == nil || s.rules == nil {
		return warder.Decision{}, errors.New("judge form: no message or no rules")
	}
	if m.IsAnswer() {
		return s.answer(x, m)
	}
	d := form(s.rules, x.Revision, warder.FromServer, m)
	if d.Verdict != warder.Pass {
		d.Code = warder.CodeUpstreamFailed
		return d, nil
	}
	v, ok := s.rules.CheckMessage(shape.Query{Revision: x.Revision, From: warder.FromServer, Method: m.Method}, m)
	if !ok {
		return misshapen(warder.CodeUpstreamFailed, "question_form", v), nil
	}
	return warder.Continue(), nil
}

// answer judges the server's answer to what the client asked.
func (s *schemaResponse) answer(x *warder.Exchange, m *warder.Message) (warder.Decision, error) {
	if x.Request == nil || !x.Request.IsCall() {
		return warder.Refuse(warder.CodeUpstreamFailed, "answer_not_expected", "the server answered what was not asked"), nil
	}
	q := shape.Query{Revision: x.Revision, From: warder.FromClient, Method: x.Request.Method, Part: shape.Result}
	v, ok := s.rules.CheckMessage(q, m)
	if ok {
		return warder.Continue(), nil
	}
	if list := wire.ListMember(x.Request.Method); list != "" && m.Kind == warder.KindResult && strings.HasPrefix(v.Pointer, "/result/"+list+"/") {
		if d, done, err := s.repair(x, q, list); done || err != nil {
			return d, err
		}
	}
	return misshapen(warder.CodeUpstreamFailed, "result_form", v), nil
}

// repair leaves the definitions out of a list that are not in form. done is false if the list is
// not what is wrong with the result.
func (s *schemaResponse) repair(x *warder.Exchange, q shape.Query, list string) (d warder.Decision, done bool, err error) {
	m := x.Response
	bad, ok := s.rules.BadElements(q, m, list)
	if !ok || len(bad) == 0 {
		return warder.Decision{}, false, nil
	}
	elements := wire.At(m, m.Result.Get(list))
	kept := []byte{'['}
	for i, element := range elements.Elements() {
		if _, isBad := slices.BinarySearch(bad, i); isBad {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, element.Raw()...)
	}
	limits := wire.DefaultLimits()
	limits.Bytes = max(limits.Bytes, int64(len(m.Raw)))
	repaired, err := wire.Splice(m, limits, wire.Edit{At: elements.Span(), New: append(kept, ']')})
	if err != nil {
		return warder.Decision{}, false, fmt.Errorf("leave out definitions: %w", err)
	}
	if _, ok := s.rules.CheckMessage(q, repaired); !ok {
		return warder.Decision{}, false, nil
	}
	x.Response = repaired
	findings := make([]warder.Finding, 0, min(len(bad), 16))
	for _, i := range bad[:min(len(bad), 16)] {
		findings = append(findings, warder.Finding{
			Rule: "form.definition_left_out", Severity: warder.Medium, Pointer: "/result/" + list + "/" + strconv.Itoa(i),
		})
	}
	return warder.Observe(findings...), true, nil
}
