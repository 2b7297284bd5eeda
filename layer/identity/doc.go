// Package identity answers who is calling. It works in phase Connect, on headers only, before a body
// is read, and it is the only layer that sets the exchange's Principal.
//
// Life of an exchange through it, control by control:
//
//	ZTA-01  on the stdio door the caller is the operating system's user; no other place in the
//	        network earns anything, not even loopback
//	AUT-01  no token, or a token in the wrong place: the client is told where to get one
//	        (RFC 6750, RFC 9728)
//	IAM-05  the bearer token is one of a configured issuer, signed, in time, and issued for exactly
//	        this server (RFC 8707, RFC 9068); the principal is made from its claims
//	ZTA-01  whoever has no principal by now is refused; an endpoint that does not exist looks like one
//	        that is not yours
//
// [Metadata] serves the protected-resource metadata that AUT-01's challenges point to.
//
// A verified token is remembered for at most a minute in a bounded cache, so that a session's next
// message costs one hash and one lookup; Deps.Generation empties the cache at once when something is
// revoked.
package identity
