package upstream

import (
	"io"
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

// mint names the call n at the server and returns what to send.
func mint(m *warder.Message, n int64) (names, payload) {
	out := keep(m)
	out.sent = strconv.AppendInt(make([]byte, 0, 20), n, 10)
	if out.token == nil {
		return out, pieces(m.Raw, m.ID, warder.Span{}, out.sent)
	}
	out.sentToken = out.sent
	return out, pieces(m.Raw, m.ID, m.Meta.Get(wire.MetaProgressToken), out.sent)
}

// A payload is one message to send, in pieces that are written one behind the other, so that a
// large message is not copied for the sake of its id.
type payload [5][]byte

// whole is a payload of one piece.
func whole(raw []byte) payload { return payload{raw} }

// pieces replaces one or two spans by the same value. The spans come from the strict decoder and the
// value is an integer or the server's own id, so the outcome is as valid as the input; nobody judges
// it again.
func pieces(raw []byte, a, b warder.Span, value []byte) payload {
	if !b.Present() {
		return payload{raw[:a.Start], value, raw[a.End:]}
	}
	if b.Start < a.Start {
		a, b = b, a
	}
	return payload{raw[:a.Start], value, raw[a.End:b.Start], value, raw[b.End:]}
}

func (p *payload) size() (n int) {
	for _, piece := range p {
		n += len(piece)
	}
	return n
}

func (p *payload) appendTo(dst []byte) []byte {
	for _, piece := range p {
		dst = append(dst, piece...)
	}
	return dst
}

// A reader reads a payload as the body of a request.
type reader struct {
	left payload
	at   int
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (n int, err error) {
	for n < len(b) && r.at < len(r.left) {
		k := copy(b[n:], r.left[r.at])
		n += k
		if r.left[r.at] = r.left[r.at][k:]; len(r.left[r.at]) == 0 {
			r.at++
		}
	}
	if n == 0 && r.at == len(r.left) {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (*reader) Close() error { return nil }

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
	return n.subscription(restore(m, m.ID, n.id), lim)
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

// restore is relocate for a message that nobody else has seen yet: if the id shrinks, as ids of our
// own do, the shorter side of the message moves up to it and nothing is copied.
func restore(m *warder.Message, at warder.Span, id []byte) *warder.Message {
	shrink := at.End - at.Start - len(id)
	if shrink < 0 {
		return relocate(m, at, id)
	}
	if string(m.At(at)) == string(id) {
		return m
	}
	if at.Start <= len(m.Raw)-at.End {
		copy(m.Raw[shrink:], m.Raw[:at.Start])
		m.Raw = m.Raw[shrink:]
		copy(m.Raw[at.Start:], id)
	} else {
		copy(m.Raw[at.Start:], id)
		copy(m.Raw[at.Start+len(id):], m.Raw[at.End:])
		m.Raw = m.Raw[:len(m.Raw)-shrink]
	}
	mv := mover{at: at, by: -shrink}
	mv.spans(m)
	for _, o := range [...]warder.Object{m.Envelope, m.Params, m.Meta, m.Result, m.Failure} {
		for i := range o {
			o[i].Name, o[i].Value = mv.span(o[i].Name), mv.span(o[i].Value)
		}
	}
	return m
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
	mv.spans(&out)
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

func (mv *mover) spans(m *warder.Message) {
	m.ID = mv.span(m.ID)
	m.ParamsSpan, m.ResultSpan, m.ErrorSpan = mv.span(m.ParamsSpan), mv.span(m.ResultSpan), mv.span(m.ErrorSpan)
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
