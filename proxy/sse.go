package proxy

import (
	"context"
	"net/http"
	"sync"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// LegacySSE returns the HTTP+SSE front door of 2024-11-05: GET /mcp/{endpoint}/sse opens the stream
// and names the path for messages; the client posts there. It is deprecated and off by default.
func (g *Gate) LegacySSE() http.Handler {
	d := &sseDoor{g: g, pipes: make(map[string]*pipe)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /mcp/{endpoint}/sse", d.open)
	mux.HandleFunc("POST /mcp/{endpoint}/messages", d.post)
	return mux
}

type sseDoor struct {
	g     *Gate
	mu    sync.Mutex
	pipes map[string]*pipe // by session id
}

// open serves the stream of one client until it leaves.
func (d *sseDoor) open(w http.ResponseWriter, r *http.Request) {
	g := d.g
	f := g.begin(warder.DoorSSE, r.PathValue("endpoint"), connOf(r))
	out := &reply{g: g, w: w, r: r, x: f.x, stream: true}
	failure := f.connect(r.Context())
	var s *session
	if failure == nil {
		s, failure = g.sessions.open(f.x.Principal.Key(), f.x.Endpoint)
	}
	if failure != nil {
		out.fail(f, failure)
		f.finish(r.Context(), failure)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(errSessionEnded)
	release := context.AfterFunc(g.stop, func() { cancel(errDraining) })
	defer release()
	p := g.newPipe(ctx, warder.DoorSSE, f.x.Endpoint, func() warder.Conn { return f.x.Conn })
	p.sess = s
	p.write = out.event
	d.add(s.id, p)
	out.open()
	endpoint := wire.AppendEvent(nil, wire.Event{Name: "endpoint", Retry: -1, Data: []byte("/mcp/" + f.x.Endpoint + "/messages?session=" + s.id)})
	if err := out.raw(endpoint); err == nil {
		<-ctx.Done()
	}
	cancel(errSessionEnded)
	d.remove(s.id)
	p.leave() // what is still posted finds no stream
	p.endStreams(errSessionEnded)
	g.sessions.close(s) // nobody can fetch the answers of running calls: they end too
	p.calls.Wait()
	f.finish(r.Context(), nil)
	out.close()
}

func (d *sseDoor) add(id string, p *pipe) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pipes[id] = p
}

func (d *sseDoor) remove(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pipes, id)
}

// post takes one message; its answer goes to the stream.
func (d *sseDoor) post(w http.ResponseWriter, r *http.Request) {
	g := d.g
	f := g.begin(warder.DoorSSE, r.PathValue("endpoint"), connOf(r))
	out := &reply{g: g, w: w, r: r, x: f.x}
	body, failure := g.receive(w, r, f)
	id := r.URL.Query().Get("session")
	d.mu.Lock()
	p := d.pipes[id]
	d.mu.Unlock()
	if s, ok := g.sessions.find(id, f.x.Endpoint); failure == nil && (p == nil || !ok || s.owner != f.x.Principal.Key()) {
		failure = &warder.Error{Code: warder.CodeNoSession, Reason: "unknown_session", Control: "PRT-06"}
	}
	if failure != nil {
		out.fail(f, failure)
		f.finish(r.Context(), failure)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	p.accept(context.WithoutCancel(r.Context()), f, body)
}
