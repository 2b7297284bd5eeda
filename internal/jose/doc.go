// Package jose reads and writes signed tokens: compact JWS (RFC 7515) that carry JWT claims
// (RFC 7519), checked as RFC 8725 and RFC 9068 ask. It is the only importer of a JOSE library.
//
// Reading is strict. A token is refused before any cryptography when it is too large, is not exactly
// three canonical base64url parts, repeats a member in its header or claims, names an algorithm that
// is symmetric, "none", or not allowed, asks for critical header extensions, or carries its own key.
// Keys come from a [KeySet] that was configured, never from the token, and each key verifies only the
// algorithms that its type and its own "alg" allow.
//
//	token, err := jose.Parse(raw)                          // nothing is trusted yet
//	key, err := source.Key(ctx, token.Header.KeyID)        // from the issuer's key set
//	err = token.Verify(key, []string{"ES256"})             // signature
//	err = token.Claims.CheckTimes(now, jose.Times{})       // exp, nbf, iat
//
// Writing is for the local issuer: one ES256 key in a file that only its owner can read.
package jose
