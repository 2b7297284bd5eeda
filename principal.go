package warder

import "time"

// A Principal is who is calling, through whom, and with what authority. Set by identity from
// verified credentials only.
type Principal struct {
	Issuer    string    // canonical issuer of the credential; "local" for a peer of the operating system
	Subject   string    // unique within the issuer
	Tenant    string    // empty in single-tenant deployments
	Client    string    // OAuth client id that obtained the token
	Agent     string    // agent acting for the subject, if stated by the issuer
	Actors    []string  // actor chain, nearest first (RFC 8693 section 4.1)
	Scopes    []string  // granted scopes
	Groups    []string  // groups or roles the issuer vouches for
	ACR       string    // authentication context class
	AMR       []string  // authentication methods
	AuthTime  time.Time // when the user authenticated; zero if unknown
	Binding   string    // thumbprint of the key the token is bound to; empty for a bearer token
	TokenID   string    // jti, or a digest of the token when it has none
	NotAfter  time.Time // when the credential ends
	Transport string    // "bearer", "stdio", "dpop", "mtls"
}

// Key names the principal for maps, rate limits and bindings: tenant, issuer, subject, client and
// agent. Two principals with equal keys are the same caller.
func (p *Principal) Key() string {
	if p == nil {
		return ""
	}
	return p.Tenant + "\x1f" + p.Issuer + "\x1f" + p.Subject + "\x1f" + p.Client + "\x1f" + p.Agent
}
