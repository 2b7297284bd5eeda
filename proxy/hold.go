package proxy

import (
	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A call that waits for a person is told to its client in the words of its era: a stateless client and
// one of 2025-11-25 that can show a link are asked to show it (elicitation in URL mode); the others get a
// text with the link. Either way the client sends the same call again when the person has decided, and the
// control that held it finds the decision by caller and call.

// holdKey is the name of Warder's own question among the inputRequests of a result.
const holdKey = "io.warder.hold"

// rpcElicitation is URLElicitationRequiredError (2025-11-25).
const rpcElicitation = -32042

// renderHold returns the message for a held call, nil if the client cannot be shown a link.
func renderHold(x *warder.Exchange, e *warder.Error, id []byte) []byte {
	if e.Code != warder.CodeHeld || e.Ask == nil || e.Ask.URL == "" || id == nil || !showsLinks(x) {
		return nil
	}
	if !x.Revision.Modern() {
		data := append([]byte(`{"elicitations":[`), elicitation(e, true)...)
		return wire.ErrorResponse(id, rpcElicitation, e.Sentence(), append(data, `]}`...))
	}
	if !asksBack(x) {
		return nil
	}
	q := wire.Question{Key: holdKey, Method: wire.MethodElicit, Params: elicitation(e, false)}
	return wire.InputRequired(id, []wire.Question{q}, "")
}

// elicitation is what the client shows. The id came with 2025-11-25 and went with 2026-07-28.
func elicitation(e *warder.Error, withID bool) []byte {
	b := append([]byte(`{"mode":"url","message":`), wire.Quote(holdMessage(e))...)
	b = append(append(b, `,"url":`...), wire.Quote(e.Ask.URL)...)
	if withID {
		b = append(append(b, `,"elicitationId":`...), wire.Quote(e.Ask.Hold)...)
	}
	return append(b, '}')
}

// holdMessage is what the person is told.
func holdMessage(e *warder.Error) string {
	if e.Ask.Message != "" {
		return e.Ask.Message
	}
	return e.Sentence()
}

// showsLinks reports whether the client declared that it can show links.
func showsLinks(x *warder.Exchange) bool {
	if x.Revision < warder.Revision20251125 || len(x.Client.Capabilities) == 0 {
		return false
	}
	return wire.Parse(x.Client.Capabilities).Get("elicitation").Get("url").Exists()
}

// asksBack reports whether the result of the request may ask the client something, and was not asked
// already. A request that goes on with a state of its own would lose it.
func asksBack(x *warder.Exchange) bool {
	switch x.Method() {
	case wire.MethodToolsCall, wire.MethodPromptsGet, wire.MethodResourcesRead:
	default:
		return false
	}
	p := x.Inbound.Params
	return !p.Get("requestState").Present() && !wire.At(x.Inbound, p.Get("inputResponses")).Get(holdKey).Exists()
}

// unheld takes the client's answer to Warder's own question out of a request: no server and no control
// has anything to do with it.
func (g *Gate) unheld(m *warder.Message) (*warder.Message, error) {
	at := m.Params.Get("inputResponses")
	if !at.Present() {
		return m, nil
	}
	answers, ours := 0, false
	for k := range wire.At(m, at).Members() {
		answers++
		ours = ours || k.Unescaped() == holdKey
	}
	switch {
	case !ours:
		return m, nil
	case answers == 1:
		return wire.Splice(m, g.limits, wire.RemoveMembers(m, m.Params, m.ParamsSpan, "inputResponses")...)
	}
	rest := []byte{'{'}
	for k, v := range wire.At(m, at).Members() {
		if name := k.Unescaped(); name != holdKey {
			rest = append(append(append(comma(rest), wire.Quote(name)...), ':'), v.Raw()...)
		}
	}
	return wire.Splice(m, g.limits, wire.Edit{At: at, New: append(rest, '}')})
}
