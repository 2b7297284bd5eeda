// Package upstream chooses what a server behind Warder is shown in place of the caller's credential. It
// works in phase Request, after everything that may refuse the call, never changes the message, and is
// the only layer that sets the exchange's Attach.
//
// Life of an exchange through it, control by control:
//
//	MSH-03  the server is shown a secret: it is fetched from its place when it is needed, and kept no
//	        longer than its lease
//	AUT-04  the server is shown a token that was issued to Warder for exactly this server: one the person
//	        granted, one exchanged for an assertion of ours, or one of Warder's own. When the person has
//	        not granted one, the call is held and the person is shown where to do so
//
// The caller's own credential is not available here: nothing in this package reads the headers of the
// client, and what is sent as the subject of an exchange is an assertion that Warder mints for it.
//
// A [Keeper] holds what outlives one call: discovered authorization servers, tokens (sealed in the store,
// one for each person and server, shared by all replicas), and the pages at which a person authorizes
// Warder ([Keeper.Handler]). Tokens are renewed ahead of their end, beside the calls; a call whose token
// is there costs one lookup.
package upstream
