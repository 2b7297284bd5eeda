// Package registry knows every definition that servers sent and what people decided about it.
//
// A definition is a tool, a prompt or the instructions of a server. It is known by the SHA-256 of its
// complete canonical form (RFC 8785), so a change of any byte that means something makes another
// definition, and a decision about one says nothing about the other. What nobody approved is
// quarantined.
//
//	reg, err := registry.New(ctx, registry.Config{}, registry.Deps{Store: db.Registry()})
//	tool, err := reg.Resolve("notes", registry.KindTool, raw) // as it came in tools/list
//	now, why, err := reg.Current("notes", registry.KindTool, tool.Name, tool.Digest)
//	if now.State != warder.Approved { … } // and why says why
//
// Decisions are read from an immutable snapshot behind an atomic pointer: a call costs one map
// look-up and no lock. A goroutine watches the store, so that what another process decides
// (`warder tools approve` beside a running gateway) takes effect within [Config.Poll]. When the store
// cannot be read for longer than [Config.MaxStale], nothing is known any more and every look-up fails:
// a revocation must not be missed because the disk is gone.
package registry
