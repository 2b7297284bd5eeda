package proxy

import (
	"context"
	"iter"
	"net/http"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/proxy/upstream"
	"github.com/warder-mcp/warder/wire"
)

// nosy is a link to a server that asks something before it lists, and waits for the answer.
type nosy struct {
	upstream.Link

	answered chan struct{}
}

func (*nosy) Modern() bool { return false }

func (n *nosy) Call(ctx context.Context, req *warder.Message, _ http.Header) iter.Seq2[*warder.Message, error] {
	return func(yield func(*warder.Message, error) bool) {
		question, err := wire.Decode(wire.Request([]byte("7"), wire.MethodRootsList, nil), wire.DefaultLimits())
		if !yield(question, err) {
			return
		}
		select {
		case <-n.answered:
			yield(wire.Decode(wire.Response(req.IDBytes(), []byte(`{"tools":[]}`)), wire.DefaultLimits()))
		case <-ctx.Done():
			yield(nil, ctx.Err())
		}
	}
}

func (n *nosy) Send(context.Context, *warder.Message) error {
	close(n.answered)
	return nil
}

func TestListAnswersTheServersQuestion(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil)
	f := &flow{g: g, x: &warder.Exchange{Revision: warder.Revision20251125}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	m, err := f.listPage(ctx, &nosy{answered: make(chan struct{})}, wire.MethodToolsList, nil)
	if err != nil || m.Kind != warder.KindResult {
		t.Errorf("got %v, %v, want the list", m, err)
	}
}
