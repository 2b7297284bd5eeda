package upstream

import (
	"slices"
	"strconv"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// names is how one call is named on both sides: the client's id and progress token, and those that
// stand for them at the server. On a dedicated connection they are the same.
type names struct {
	id, token   []byte // as the client wrote them; token is nil if it gave none
	sent        []byte // the id sent to the server
	sentToken   []byte // the token sent to the server; nil if none
	subscribing bool   // a subscription: messages of the server carry its id
}

// keep names the call as the client does.
func keep(m *warder.Message) names {
	id, token := m.IDBytes(), m.At(m.Meta.Get(wire.MetaProgressToken))
	return names{id: id, token: token, sent: id, sentToken: token, subscribing: m.Method == wire.MethodListen}
}

// mint names the call n at the server and returns the bytes to send.
func mint(m *warder.Message, n int64) (names, []byte) {
	out := keep(m)
	out.sent = strconv.AppendInt(nil, n, 10)
	edits := [2]wire.Edit{{At: m.ID, New: out.sent}}
	count := 1
	if out.token != nil {
		out.sentToken = out.sent
		edits[1] = wire.Edit{At: m.Meta.Get(wire.MetaProgressToken), New: out.sent}
		count = 2
	}
	return out, patch(m.Raw, edits[:count])
}

// patch applies edits that do not overlap. The spans come from the strict decoder and the new values
// are integers, so the outcome is as valid as the input; nobody judges it again.
func patch(raw []byte, edits []wire.Edit) []byte {
	slices.SortFunc(edits, func(a, b wire.Edit) int { return a.At.Start - b.At.Start })
	size := len(raw)
	for _, e := range edits {
		size += len(e.New) - (e.At.End - e.At.Start)
	}
	out, pos := make([]byte, 0, size), 0
	for _, e := range edits {
		out = append(append(out, raw[pos:e.At.Start]...), e.New...)
		pos = e.At.End
	}
	return append(out, raw[pos:]...)
}

// sameID reports whether two ids mean the same, however strings are escaped.
func sameID(a, b []byte) bool {
	if string(a) == string(b) {
		return len(a) > 0
	}
	if len(a) == 0 || len(b) == 0 || a[0] != '"' || b[0] != '"' {
		return false
	}
	return wire.IDKey(a) == wire.IDKey(b)
}

// answer gives an answer of the server the client's id, byte for byte.
func (n *names) answer(m *warder.Message, lim wire.Limits) (*warder.Message, error) {
	if !m.ID.Present() { // an error response may lack it
		return wire.WithID(m, n.id, lim)
	}
	return n.subscription(relocate(m, m.ID, n.id), lim)
}

// notification gives a notification of the server the client's token and subscription id.
func (n *names) notification(m *warder.Message, lim wire.Limits) (*warder.Message, error) {
	if m.Method == wire.NotifyProgress && n.token != nil {
		at := m.Params.Get("progressToken")
		if !sameID(m.At(at), n.sentToken) {
			return m, nil
		}
		return replace(m, at, n.token, lim)
	}
	if m.Method == wire.NotifyCancelled && n.subscribing {
		at := m.Params.Get("requestId")
		if sameID(m.At(at), n.sent) {
			return replace(m, at, n.id, lim)
		}
	}
	return n.subscription(m, lim)
}

// subscription restores the id that a message of a subscription carries (2026-07-28).
func (n *names) subscription(m *warder.Message, lim wire.Limits) (*warder.Message, error) {
	if !n.subscribing {
		return m, nil
	}
	at := m.Meta.Get(wire.MetaSubscription)
	if !sameSubscription(m.At(at), n.sent) {
		return m, nil
	}
	return replace(m, at, n.id, lim)
}

// sameSubscription compares a subscription id with a request id. Servers that keep ids as text
// write the integer 7 as "7".
func sameSubscription(got, sent []byte) bool {
	if sameID(got, sent) {
		return true
	}
	if len(got) < 2 || got[0] != '"' || len(sent) == 0 || sent[0] == '"' {
		return false
	}
	return string(got[1:len(got)-1]) == string(sent)
}

// replace puts value at a span inside the message. Nested spans move, so it is decoded again.
func replace(m *warder.Message, at warder.Span, value []byte, lim wire.Limits) (*warder.Message, error) {
	if string(m.At(at)) == string(value) {
		return m, nil
	}
	return wire.Splice(m, lim, wire.Edit{At: at, New: value})
}

// relocate replaces the id of a decoded message and moves every span behind it, which costs a copy
// instead of another pass. The id is a member of the envelope, so no span contains it, and one valid
// id in the place of another cannot change what the rest of the message means. A test holds the
// outcome against the decoder's.
func relocate(m *warder.Message, at warder.Span, id []byte) *warder.Message {
	if string(m.At(at)) == string(id) {
		return m
	}
	out := *m
	out.Raw = make([]byte, 0, len(m.Raw)+len(id)-(at.End-at.Start))
	out.Raw = append(append(append(out.Raw, m.Raw[:at.Start]...), id...), m.Raw[at.End:]...)
	mv := mover{at: at, by: len(id) - (at.End - at.Start)}
	mv.all = make([]warder.Member, 0, len(m.Envelope)+len(m.Params)+len(m.Meta)+len(m.Result)+len(m.Failure))
	out.ID = mv.span(m.ID)
	out.ParamsSpan, out.ResultSpan, out.ErrorSpan = mv.span(m.ParamsSpan), mv.span(m.ResultSpan), mv.span(m.ErrorSpan)
	out.Envelope, out.Params, out.Meta = mv.object(m.Envelope), mv.object(m.Params), mv.object(m.Meta)
	out.Result, out.Failure = mv.object(m.Result), mv.object(m.Failure)
	return &out
}

// A mover moves spans behind an edit.
type mover struct {
	at  warder.Span
	by  int
	all []warder.Member // backing of all objects
}

func (mv *mover) span(s warder.Span) warder.Span {
	switch {
	case !s.Present() || s.End <= mv.at.Start:
		return s
	case s == mv.at:
		return warder.Span{Start: s.Start, End: s.End + mv.by}
	default:
		return warder.Span{Start: s.Start + mv.by, End: s.End + mv.by}
	}
}

func (mv *mover) object(o warder.Object) warder.Object {
	if o == nil {
		return nil
	}
	start := len(mv.all)
	for i := range o {
		mv.all = append(mv.all, warder.Member{Key: o[i].Key, Name: mv.span(o[i].Name), Value: mv.span(o[i].Value)})
	}
	return warder.Object(mv.all[start:len(mv.all):len(mv.all)])
}
