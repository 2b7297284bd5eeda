// Package broker keeps what is decided about access while Warder runs: grants that end (JIT-01), plans
// whose steps are granted one after the other (JIT-05), calls that wait for a person (HIL-01, HIL-02),
// registered agents (REG-01), and how risky a caller is at the moment (CVM-04).
//
// Everything but the running risk score is documents in a [state.Store], so that it survives a restart
// and is the same on every replica. A broker answers the questions of the hot path from snapshots in
// memory that follow the store's change feed; what must happen once, such as the use of a bounded grant
// or of an approval, is a compare-and-swap in the store before the call is forwarded.
//
//	b, err := broker.New(ctx, cfg, broker.Deps{State: store, Box: box, Record: record})
//	g, err := b.Grants.Request(ctx, broker.GrantRequest{…})
//	g, err = b.Grants.Approve(ctx, g.ID, broker.Person{Issuer: "operator", Subject: "bob", Operator: true}, "cli")
//	found, err := b.Grants.Find(&broker.Need{Principal: p, Server: "files", Tool: "delete"})
//	err = b.Grants.Use(ctx, found)
//
// Every change a person makes is in the audit trail before it takes effect; when the trail cannot be
// written, nothing changes. When the store cannot be asked, the answer is an error, which denies.
package broker
