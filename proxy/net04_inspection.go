package proxy

import (
	"errors"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// inspection reads the messages of clients for every door: strictly, whole, and before anything else
// looks at them. What two readers could understand differently goes no further.
// Control NET-04; RFC 8259 section 4 (names should be unique), RFC 7493 (I-JSON), JSON-RPC 2.0.
//
// Messages of servers, single or on streams, pass the same decoder in proxy/upstream before a link
// yields them. It is no step of the chain, since the chain judges decoded messages only: it cannot be
// switched off.
type inspection struct{ limits wire.Limits }

// Control returns "NET-04".
func (inspection) Control() warder.ControlID { return "NET-04" }

// read decodes one message of a client.
func (i inspection) read(raw []byte) (*warder.Message, *warder.Error) {
	m, err := wire.Decode(raw, i.limits)
	if err == nil {
		return m, nil
	}
	refusal := warder.Error{Code: warder.CodeInternal, Reason: "decode_failed", Err: err}
	if e := (*warder.Error)(nil); errors.As(err, &e) {
		refusal = *e
	}
	refusal.Control = i.Control()
	return nil, &refusal
}

// inspection is that of what clients send.
func (g *Gate) inspection() inspection {
	lim := g.limits
	lim.Bytes = int64(g.cfg.RequestBytes)
	return inspection{lim}
}
