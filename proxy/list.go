package proxy

import (
	"bytes"
	"context"
	"strconv"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// list reads every page of a list from one server over the link of this client.
func (g *Gate) list(ctx context.Context, f *flow, b *Backend, method string) ([][]byte, error) {
	sub := *f
	sub.back = b
	if f.x.Attach.Kind == "" {
		if err := g.attach(ctx, &sub, b); err != nil {
			return nil, err
		}
	}
	link, err := sub.link(ctx)
	if err != nil {
		return nil, err
	}
	key := wire.ListMember(method)
	var items [][]byte
	var cursor []byte
	var size int64
	for range maxListPages {
		answer, err := sub.listPage(ctx, link, method, cursor)
		if err != nil {
			return nil, err
		}
		if size += int64(len(answer.Raw)); size > g.budget.ResponseBytes {
			return nil, warder.Fail(warder.CodeUpstreamFailed, "list_too_large", nil)
		}
		for _, item := range wire.At(answer, answer.Result.Get(key)).Elements() {
			items = append(items, item.Raw())
		}
		next := answer.At(answer.Result.Get("nextCursor"))
		if next == nil || bytes.Equal(next, cursor) {
			return items, nil
		}
		cursor = next
	}
	return nil, warder.Fail(warder.CodeUpstreamFailed, "too_many_pages", nil)
}

// attach chooses the credential for a list that a control wants before the exchange has come so far.
func (g *Gate) attach(ctx context.Context, f *flow, b *Backend) error {
	x := *f.x
	x.Server, x.Trail, x.Decisions = b.Server, nil, nil
	f.x = &x
	if err := g.chain.Attach(ctx, &x); err != nil {
		return err
	}
	return nil
}

// listPage reads one page.
func (f *flow) listPage(ctx context.Context, link upstream.Link, method string, cursor []byte) (*warder.Message, error) {
	params := []byte("{}")
	if cursor != nil {
		params = append(append([]byte(`{"cursor":`), cursor...), '}')
	}
	id := strconv.AppendQuote(nil, "warder-list-"+strconv.FormatUint(f.g.routes.nextID(), 10))
	req, err := wire.Decode(wire.Request(id, method, params), f.g.limits)
	if err == nil && link.Modern() {
		req, err = wire.RequestToModern(req, f.ownMeta(link), f.g.limits)
	}
	if err != nil {
		return nil, err
	}
	for m, err := range link.Call(ctx, req, nil) {
		switch {
		case err != nil:
			return nil, err
		case m.Kind == warder.KindResult:
			return m, nil
		case m.Kind == warder.KindError:
			return nil, warder.Fail(warder.CodeUpstreamFailed, "list_refused", nil)
		case m.Kind == warder.KindRequest: // the list is Warder's own: a server that waits for an answer must not hold it up
			f.reply(ctx, link, wire.ErrorResponse(m.IDBytes(), warder.RPCMethodNotFound, "The client cannot be asked here.", nil))
		}
	}
	return nil, warder.Fail(warder.CodeUpstreamFailed, "upstream_closed", nil)
}

// ownMeta is what Warder's own requests to a stateless server say.
func (f *flow) ownMeta(link upstream.Link) wire.ModernMeta {
	caps := f.x.Client.Capabilities
	if f.x.Revision.Modern() && f.x.Request != nil {
		caps = f.x.Request.At(f.x.Request.Meta.Get(wire.MetaCapabilities))
	}
	if len(caps) == 0 {
		caps = []byte("{}")
	}
	return wire.ModernMeta{Version: link.Hello().Revision, ClientInfo: []byte(clientInfo(f.x.Client)), Capabilities: caps}
}
