// Package upstream is Warder as the client of MCP servers: it finds out which era of the protocol a
// server speaks, opens sessions or starts child processes, carries calls to it, and hands back every
// message after the strict decoder has accepted it.
//
// A [Server] is one configured server. It owns connections, children, the circuit breaker and what
// was learnt about the era. A [Link] is one conversation with it, found by its [Key]: a Streamable
// HTTP session, an HTTP+SSE connection, a child process on stdin and stdout, or the stateless
// endpoint, which has no conversation at all.
//
//	s, err := upstream.New("files", cfg, upstream.Options{Logger: log})
//	link, err := s.Link(ctx, upstream.Key{Owner: principal.Key()}, upstream.Init{Revision: x.Revision})
//	for m, err := range link.Call(ctx, x.Request, nil) { … } // the last message is the answer
//
// What the package promises whatever a server does: a call ends, by its answer or by an error with a
// reason, at the latest when Config.MaxCall is over; what is not acceptable to package wire is never
// handed out; an answer is handed out to the call that asked, once; memory, processes, goroutines
// and descriptors are bounded and are gone after [Server.Close]. What a server sends beyond that is
// dropped, counted in [Stats] and reported through Options.OnLifecycle.
//
// Where several clients share a link, their request ids, progress tokens and subscription ids are
// replaced by integers of Warder's own on the way out and restored on the way back; everything else
// travels byte for byte. Who may ask what is decided before a message comes here.
package upstream
