package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// A flow is one exchange on its way, with what only the data plane needs to know of it.
type flow struct {
	g    *Gate
	x    *warder.Exchange // &own, but for flows that borrow the exchange of another
	own  warder.Exchange
	end  *Endpoint
	back *Backend // nil while a group fans out
	sess *session // nil when stateless
	// send delivers one judged message of the answer to the client.
	send func(ctx context.Context, m *warder.Message) error
	// judged is called when the request has passed its controls, before anything comes back; may be nil.
	judged   func()
	question question                // what the message answers; set for answers only
	seat     uint64                  // digest of the caller, for the count of its exchanges
	seated   bool                    // counted among the exchanges of its caller
	over     chan struct{}           // closed when the exchange has been recorded; nil if nobody waits for that
	cut      context.CancelCauseFunc // ends the exchange while it lasts; nil for the parts of a group's
	signals  uint64                  // how often a revocation had been signalled when it began
	live     *live                   // its place among the exchanges that last; nil before it was judged
	local    bool                    // the door is a local pipe: the session needs no id of its own
}

// carry takes a classified message down the path and every message of its answer back up.
func (f *flow) carry(ctx context.Context) (failure *warder.Error) {
	defer f.g.survive(ctx, f.x.ID, &failure)
	lost := f.route(ctx)
	if lost != nil {
		f.aim(f.end.Backends[0]) // what leads nowhere is judged too: rates count, and no other way is quicker
	}
	if f.back == nil {
		if err := f.opening(); err != nil {
			return err
		}
		end, err := f.watched()
		defer end()
		if err != nil {
			return f.abandon(err)
		}
		return f.abandon(f.fanOut(ctx))
	}
	if err := f.g.chain.Request(ctx, f.x); err != nil {
		f.declined(ctx, err)
		return err
	}
	if lost != nil {
		return lost
	}
	if err := f.opening(); err != nil {
		return err
	}
	if f.x.Request.IsAnswer() && !f.claim() {
		return unasked()
	}
	end, err := f.watched()
	defer end()
	if err != nil {
		return f.abandon(err)
	}
	if f.judged != nil {
		f.judged()
	}
	return f.abandon(f.forward(ctx))
}

// forward sends the judged message on and delivers what comes back. Questions of a call end with it.
func (f *flow) forward(ctx context.Context) *warder.Error {
	if f.sess != nil && f.x.Request.IsCall() && f.x.Request.Method != wire.MethodListen {
		defer f.sess.unask(f.x)
	}
	for m, err := range f.roundTrip(ctx) {
		if err != nil {
			return asError(ctx, err)
		}
		if e := f.deliver(ctx, m); e != nil {
			return e
		}
	}
	return nil
}

// deliver judges one message of the answer and sends it on.
func (f *flow) deliver(ctx context.Context, m *warder.Message) *warder.Error {
	out, refusal := f.g.chain.Response(ctx, f.x, m)
	if refusal != nil {
		switch {
		case m.Kind == warder.KindRequest:
			f.refuseQuestion(ctx, m.IDBytes(), refusal)
			return nil
		case m.Kind == warder.KindNotification && droppable(refusal.Code):
			return nil
		default:
			return refusal
		}
	}
	f.x.BytesOut += int64(len(out.Raw))
	if f.x.BytesOut > f.x.Budget.ResponseBytes {
		return warder.Fail(warder.CodeUpstreamFailed, "response_too_large", nil)
	}
	if err := f.send(ctx, out); err != nil {
		return asError(ctx, err)
	}
	f.x.Messages++
	return nil
}

// droppable reports whether a refused notification is left out while the exchange goes on.
func droppable(c warder.Code) bool {
	switch c {
	case warder.CodeRateLimited, warder.CodeInvalidRequest, warder.CodeUnknownMethod, warder.CodeInvalidParams,
		warder.CodeMissingCapability, warder.CodeQuarantined:
		return true
	default:
		return false
	}
}

// asError gives every failure of the way a code.
func asError(ctx context.Context, err error) *warder.Error {
	if e, ok := errors.AsType[*warder.Error](err); ok {
		return e
	}
	cause := err
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
		if e, ok := errors.AsType[*warder.Error](cause); ok {
			return e // it was cut
		}
	}
	switch {
	case errors.Is(cause, errWall), errors.Is(cause, context.DeadlineExceeded):
		return warder.Fail(warder.CodeTimeout, "call_timeout", cause)
	case errors.Is(cause, errDraining):
		return warder.Fail(warder.CodeUnavailable, "draining", cause)
	case errors.Is(cause, errSessionEnded):
		return warder.Fail(warder.CodeNoSession, "session_ended", cause)
	case errors.Is(cause, errCancelled), errors.Is(cause, context.Canceled):
		return warder.Fail(warder.CodeUpstreamFailed, "cancelled", cause)
	default:
		return warder.Fail(warder.CodeUpstreamFailed, "upstream_failed", err)
	}
}

// roundTrip forwards the judged message and yields what comes back, in the client's revision.
func (f *flow) roundTrip(ctx context.Context) iter.Seq2[*warder.Message, error] {
	switch m := f.x.Request; m.Kind {
	case warder.KindResult, warder.KindError:
		return f.done(f.question.answer(ctx, m))
	case warder.KindNotification:
		return f.done(f.notify(ctx))
	case warder.KindRequest:
		return f.call(ctx)
	default:
		return f.done(fmt.Errorf("message of kind %d", m.Kind))
	}
}

// done is an answer without messages.
func (f *flow) done(err error) iter.Seq2[*warder.Message, error] {
	return func(yield func(*warder.Message, error) bool) {
		if err != nil {
			yield(nil, err)
		}
	}
}

// one is an answer of one message that Warder gives itself.
func (f *flow) one(raw []byte) iter.Seq2[*warder.Message, error] {
	return func(yield func(*warder.Message, error) bool) {
		yield(wire.Decode(raw, f.g.limits))
	}
}

// call forwards a request.
func (f *flow) call(ctx context.Context) iter.Seq2[*warder.Message, error] {
	id := f.x.Request.IDBytes()
	switch f.x.Request.Method {
	case wire.MethodInitialize:
		return f.initialize(ctx)
	case wire.MethodListen:
		if !f.x.Revision.Modern() {
			return f.listenLegacy(ctx)
		}
	case wire.MethodPing:
		return f.one(wire.Response(id, []byte("{}")))
	}
	link, err := f.link(ctx)
	if err != nil {
		return f.done(err)
	}
	f.x.Forwarded, f.x.Upstream = true, link.Describe()
	switch modern := f.x.Revision.Modern(); {
	case modern == link.Modern():
		return f.direct(ctx, link)
	case modern:
		return f.modernOnLegacy(ctx, link)
	default:
		return f.legacyOnModern(ctx, link)
	}
}

// link opens or finds the connection to the server for this client.
func (f *flow) link(ctx context.Context) (upstream.Link, error) {
	x := f.x
	key := upstream.Key{Owner: x.Principal.Key()}
	init := upstream.Init{Revision: x.Revision, ClientInfo: []byte(clientInfo(x.Client)), Capabilities: x.Client.Capabilities, Credential: x.Attach}
	if f.sess != nil && !x.Revision.Modern() {
		key.Session, key.Capabilities = f.sess.digest, f.sess.declared()
	} else {
		init.Capabilities = x.Request.At(x.Request.Meta.Get(wire.MetaCapabilities))
		key.Capabilities = hashCapabilities(init.Capabilities)
	}
	return f.back.Up.Link(ctx, key, init)
}

// initialize answers the opening of a legacy session with what the server says of itself.
func (f *flow) initialize(ctx context.Context) iter.Seq2[*warder.Message, error] {
	link, err := f.link(ctx)
	if err != nil {
		return f.done(err)
	}
	f.x.Forwarded, f.x.Upstream = true, link.Describe()
	return f.one(wire.InitializeResult(f.x.Request.IDBytes(), link.Hello(), f.x.Revision))
}

// direct forwards between peers of one era: the same bytes both ways.
func (f *flow) direct(ctx context.Context, link upstream.Link) iter.Seq2[*warder.Message, error] {
	return func(yield func(*warder.Message, error) bool) {
		for m, err := range link.Call(ctx, f.x.Request, f.headers(link)) {
			if err == nil && !f.x.Revision.Modern() {
				if m = f.relabel(ctx, link, m); m == nil {
					continue
				}
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// relabel gives what a server with sessions says of its questions the ids that the client knows; nil if
// the message goes nowhere.
func (f *flow) relabel(ctx context.Context, link upstream.Link, m *warder.Message) *warder.Message {
	switch {
	case m.Kind == warder.KindRequest:
		return f.relay(ctx, link, m)
	case m.Method != wire.NotifyCancelled:
		return m
	case f.sess == nil:
		return nil
	}
	at := m.Params.Get("requestId")
	id := f.sess.withdraw(link, m.At(at))
	if id == nil {
		return nil // it withdraws nothing that the client was asked
	}
	out, err := wire.Splice(m, f.g.limits, wire.Edit{At: at, New: id})
	if err != nil {
		return nil
	}
	return out
}

// relay gives a server's question the id under which the client will answer it. It returns nil when
// the question cannot be asked; the server then has its refusal already.
func (f *flow) relay(ctx context.Context, link upstream.Link, m *warder.Message) *warder.Message {
	asked := bytes.Clone(m.IDBytes())
	refuse := func(public string) *warder.Message {
		f.reply(ctx, link, wire.ErrorResponse(asked, warder.RPCInvalidRequest, public, nil))
		return nil
	}
	if f.sess == nil {
		return refuse("The client cannot be asked.")
	}
	q := question{parent: f.x, link: link, serverID: asked, answer: func(ctx context.Context, answer *warder.Message) error {
		restored, err := wire.WithID(answer, asked, f.g.limits)
		if err != nil {
			return err
		}
		return link.Send(ctx, restored)
	}}
	out := f.pose(m, q)
	if out == nil {
		return refuse("Too many open questions.")
	}
	return out
}

// pose registers a question with the session and returns it as the client will see it; nil if the
// session takes no more.
func (f *flow) pose(m *warder.Message, q question) *warder.Message {
	var out *warder.Message
	ok := f.sess.ask(func(id []byte) question {
		var err error
		if out, err = wire.WithID(m, id, f.g.limits); err != nil {
			out = nil
		}
		q.asked = out
		return q
	})
	if !ok {
		return nil
	}
	return out
}

// reply sends a message of Warder's own to a server; a failure shows at the call itself.
func (f *flow) reply(ctx context.Context, link upstream.Link, raw []byte) {
	m, err := wire.Decode(raw, f.g.limits)
	if err == nil {
		err = link.Send(ctx, m)
	}
	if err != nil {
		f.g.log.DebugContext(ctx, "answer a server", attrError(err))
	}
}

// refuseQuestion tells the server that its question will not be asked.
func (f *flow) refuseQuestion(ctx context.Context, id []byte, refusal *warder.Error) {
	if f.sess == nil {
		return
	}
	if q, ok := f.sess.take(id); ok {
		f.failQuestion(ctx, q, refusal)
	}
}

// declined tells the server that the client's answer to its question was refused. An answer of somebody
// who does not own the session leaves the question open for its owner.
func (f *flow) declined(ctx context.Context, refusal *warder.Error) {
	if f.x.Request.IsAnswer() && f.question.answer != nil && f.owned() && f.claim() {
		f.failQuestion(ctx, f.question, refusal)
	}
}

// owned reports whether the caller is the one that the session of the exchange is bound to.
func (f *flow) owned() bool {
	owner, ok := f.g.sessions.Owner(f.x.Session)
	return ok && owner == f.x.Principal.Key()
}

// claim takes the question that the message answers out of its session; false if another answer was
// faster.
func (f *flow) claim() bool {
	_, ok := f.sess.take(f.x.Inbound.IDBytes())
	return ok
}

func (f *flow) failQuestion(ctx context.Context, q question, refusal *warder.Error) {
	face := refusal.Code.Face()
	m, err := wire.Decode(wire.ErrorResponse([]byte("0"), face.RPC, refusal.Sentence(), nil), f.g.limits)
	if err == nil {
		err = q.answer(ctx, m)
	}
	if err != nil {
		f.g.log.DebugContext(ctx, "refuse a question", attrError(err))
	}
}

// notify forwards a notification of the client.
func (f *flow) notify(ctx context.Context) error {
	m := f.x.Request
	switch m.Method {
	case wire.NotifyCancelled:
		if f.sess != nil {
			f.sess.cancel(m.At(m.Params.Get("requestId")))
		}
		return nil
	case wire.NotifyInitialized:
		return nil // the link has said so itself
	}
	if f.x.Revision.Modern() {
		return nil // stateless servers take no notifications of clients but cancellation
	}
	link, err := f.link(ctx)
	if err != nil || link.Modern() {
		return err
	}
	f.x.Forwarded, f.x.Upstream = true, link.Describe()
	return link.Send(ctx, m)
}
