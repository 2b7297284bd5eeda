// Package oauth is Warder as an OAuth 2.1 client: towards the authorization servers of the MCP servers
// behind it, and for "warder connect" and "warder login" on a person's computer.
//
// The life of a credential that a person grants:
//
//	target, err := c.Discover(ctx, serverURL, challenges)      // RFC 9728, then RFC 8414 or OpenID Connect
//	reg, err := c.Register(ctx, target.Server)                 // pre-registered, else document, else RFC 7591
//	flow, address, err := c.Begin(ctx, target, reg, scopes)    // PKCE S256, resource, PAR where offered
//	...                                                        // a browser opens address and comes back
//	tokens, err := c.Finish(ctx, target, reg, flow, query)     // state, RFC 9207 iss, code
//	tokens, err = c.Refresh(ctx, target, reg, tokens)
//
// Without a person: [Client.ClientCredentials] (RFC 6749 section 4.4), [Client.Exchange] (RFC 8693),
// [Client.Assert] (RFC 7523), and the two together for enterprise-managed authorization
// ([Client.IdentityGrant]). Every request for a token names the resource (RFC 8707) and, where asked for,
// carries a DPoP proof (RFC 9449).
//
// Everything that is read is bounded, is strict JSON without repeated members, and is judged before it is
// used: by control AUT-03 (who is the authorization server, and is it the one that answered) and by
// control AUT-10 (is this URL fit to be fetched, opened or shown). Connections are the caller's: the
// client takes an [http.Client] of package safedial.
package oauth
