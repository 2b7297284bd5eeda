// Package issuer is Warder's own authorization server: OAuth 2.1 for agents, where every token is good
// for exactly one MCP server, for minutes, and bound to the client's key if the client has one.
//
// It stands beside the path, not in it: clients get tokens here, and layer/identity verifies them with
// [Issuer.Keys]. Who a person is, [Login] says, and whether a person trusts a client, [Consent] says;
// both are in issuer/login. What is remembered is in state.Store, so any number of replicas serve one
// issuer.
//
//	is, err := issuer.New(ctx, cfg, issuer.Deps{State: store, Replays: store, Box: box, Record: trail.Emit, …})
//	go is.Run(ctx)              // keys rotate, other replicas are followed
//	handler, err := is.Handler() // under the path of cfg.URL, and at the well-known places
//
// The life of a token: a client is found (registration, control AUT-02), the person logs in and
// consents, a code is issued (authorize.go), the code is redeemed once (code.go), refresh tokens follow
// each other (refresh.go), agents exchange the token for less (exchange.go), a company's identity
// provider vouches for people instead (control AUT-07), keys rotate underneath (control IAM-07).
//
// Rules that hold everywhere here: no error is redirected before client and redirect URI are known to be
// right; whatever is good once is one compare-and-swap or one take in the store; secrets are stored as
// SHA-256 of at least 128 random bits; what is given or refused is recorded before the answer leaves;
// a dependency that cannot answer makes 503 and temporarily_unavailable, never a token.
package issuer
