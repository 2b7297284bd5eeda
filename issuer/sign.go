package issuer

import "context"

// Sign returns claims as a compact JWS of this server, with the given typ, signed with the key that signs
// now: for security events that tell others of our revocations, and for tests. Whoever can call it can be
// anybody.
func (is *Issuer) Sign(ctx context.Context, typ string, claims any) (string, error) {
	return is.keys.sign(ctx, typ, claims)
}
