package jose

import "errors"

// Errors of reading tokens and keys. Each wraps into more detail for operators; none repeats the token.
var (
	ErrMalformed    = errors.New("token is not a strict compact JWS with JSON claims")
	ErrTooLarge     = errors.New("token is too large")
	ErrDuplicate    = errors.New("token repeats a member name")
	ErrAlgorithm    = errors.New("token algorithm is not allowed")
	ErrCritical     = errors.New("token asks for critical header extensions")
	ErrEmbeddedKey  = errors.New("token carries its own key")
	ErrType         = errors.New("token type is not allowed")
	ErrUnknownKey   = errors.New("token names a key that the issuer does not publish")
	ErrSignature    = errors.New("token signature does not verify")
	ErrExpired      = errors.New("token has expired")
	ErrNotYetValid  = errors.New("token is not valid yet")
	ErrFutureIssue  = errors.New("token was issued in the future")
	ErrLifetime     = errors.New("token lives longer than allowed")
	ErrClaim        = errors.New("token claim is missing or has the wrong type")
	ErrKey          = errors.New("key is not usable")
	ErrKeysUnavail  = errors.New("issuer keys are unavailable")
	ErrKeyFileMode  = errors.New("key file is readable by others")
	ErrKeyFileShape = errors.New("key file does not hold one P-256 private key")
)
