// Package identity answers who is calling, and what the credential they show narrows them to. Most of it works
// in phase Connect, on headers only, before a body is read; it is the only layer that sets the exchange's
// Principal.
//
// Life of an exchange through [New], control by control:
//
//	ZTA-01  on the stdio door the caller is the operating system's user; no other place in the
//	        network earns anything, not even loopback
//	IAM-01  a client certificate that a configured authority signed is a credential of its own
//	AUT-01  no token, or a token in the wrong place: the client is told where to get one
//	        (RFC 6750, RFC 9728)
//	IAM-05  the token is one of a configured issuer, signed or active by introspection, in time, and
//	        issued for exactly this server (RFC 8707, RFC 9068, RFC 7662); the principal is made from it
//	IAM-03  it does not live longer than an hour
//	IAM-06  whoever shows a token that is bound to a key shows the key (RFC 9449, RFC 8705)
//	IAM-01  a client that acts for itself holds one
//	AUT-11  the account is not a shared one
//	ZTA-01  whoever has no principal by now is refused; an endpoint that does not exist looks like one
//	        that is not yours
//	AUT-09  who acts for whom, narrowing with every step
//	REG-01  which registered agent it is
//	SGN-01  messages are signed, where that is required
//
// [NewAuthority] builds the layer that judges in phase Request, on the final arguments: IAM-03 scopes for tools,
// REG-01 tools of the agent, AUT-06 scopes, IAM-04 authorization details, IAM-02 strength of the login.
//
// [Metadata] serves the protected-resource metadata that AUT-01's challenges point to.
//
// A verified token is remembered, by its hash, for at most a minute in a bounded cache, so that a session's next
// message costs one hash and one lookup; Deps.Generation empties the cache at once when something is revoked. A
// proof of possession is never remembered as good: each costs one signature verification.
package identity
