package oauth

import (
	"errors"
	"fmt"
)

// Errors. Each wraps into more detail for operators; none repeats a token, a code or a body.
var (
	ErrNoMetadata   = errors.New("oauth: no metadata")
	ErrMetadata     = errors.New("oauth: metadata is not acceptable")
	ErrResource     = errors.New("oauth: metadata is about another resource")
	ErrMixUp        = errors.New("oauth: another authorization server than expected")
	ErrPKCE         = errors.New("oauth: the authorization server does not promise PKCE with S256")
	ErrURL          = errors.New("oauth: url is not acceptable")
	ErrState        = errors.New("oauth: state does not belong to this flow")
	ErrResponse     = errors.New("oauth: response is not acceptable")
	ErrRegistration = errors.New("oauth: no client registration is to be had")
	ErrUnbound      = errors.New("oauth: the token is not bound to our key")
	ErrNoRefresh    = errors.New("oauth: there is no refresh token")
)

// An Error is an error response of an authorization server (RFC 6749 sections 4.1.2.1 and 5.2). The
// description it came with is not kept: it is text of another party.
type Error struct {
	Endpoint string // "authorization", "token", "registration", "par"
	Status   int    // HTTP status; 0 for the authorization endpoint
	Code     string // error code; "unspecified" when the response held none that is well formed
}

// Error names the endpoint and the code.
func (r *Error) Error() string {
	return fmt.Sprintf("oauth: %s endpoint answered %s (status %d)", r.Endpoint, r.Code, r.Status)
}

// Final reports whether asking again with the same grant cannot help.
func (r *Error) Final() bool {
	return r.Status < 500 && r.Code != "temporarily_unavailable" && r.Code != "slow_down" && r.Status != 429
}

// code returns a well-formed error code (RFC 6749 section 5.2), or "unspecified".
func code(s string) string {
	if s == "" || len(s) > 64 {
		return "unspecified"
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return "unspecified"
		}
	}
	return s
}
