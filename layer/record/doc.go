// Package record is the layer that writes it down, always.
//
// The life of an exchange through it:
//
//   - Connect, early on the path (layer "trace"): GW-05 reads the caller's W3C trace context or begins
//     a trace.
//   - Request, early: GW-05 lets the context in _meta take part and removes baggage that is not on the
//     allow-list.
//   - Request, last: LOG-04 makes the record of what is about to happen durable before it happens. A
//     call that changes nothing is let through at once when the trail is in order.
//   - Response: GW-05 removes trace context that a server put into its messages.
//   - Complete: LOG-01 writes the finished exchange: who, what, every control that ran, every decision,
//     and how it ended. It runs after a refusal, a failure and a disconnect too.
//
// [New] builds the layer "record" (LOG-04, LOG-01) and [NewTrace] the layer "trace" (GW-05); both use
// one [Log], which lives as long as the process.
//
// The trail on disk is a write-ahead file (package wal) whose records are committed to by a signed
// Merkle tree (package tlog). [Open] reads it, [Verify] checks it offline and says where it was
// changed. A record never holds argument values, results, or credentials: requests are hashed with a
// salt of the data folder, other foreign text is redacted, quoted and cut.
//
// Segments of the trail are kept for ever; retention classes and legal hold are not part of this
// package yet.
package record
