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
	Session   string    // login session at our own authorization server or sid of the issuer; empty if unknown
	TokenID   string    // jti, or a digest of the token when it has none
	IssuedAt  time.Time // when the credential was issued; zero if unknown
	NotAfter  time.Time // when the credential ends
	Transport string    // "bearer", "stdio", "dpop", "mtls"
	Workload  string    // SPIFFE id of a calling workload; empty for people
	Purpose   string    // purpose the credential was issued for; empty if none was stated
	Details   []Detail  // authorization details the credential carries (RFC 9396); empty: not narrowed

	Chain  []Actor // the actor chain with what each hop was given, nearest first; as long as Actors
	MayAct *Actor  // the only actor the issuer lets act for the subject (RFC 8693 section 4.4); nil: not stated

	Registered *Agent // the agent as it is registered; nil if it is not. Never changed.
}

// An Actor is one hop of a delegation chain (RFC 8693 section 4.1). Scopes and Details are what the
// actor held when it acted, where the issuer states it; nil says that it does not.
type Actor struct {
	Issuer  string // issuer of the actor's identity; empty: that of the token
	Subject string
	Client  string // OAuth client id, if stated
	Scopes  []string
	Details []Detail
}

// A Detail is one authorization detail of type "mcp" (RFC 9396 section 2): what a credential narrows
// its holder to. Empty fields do not narrow.
type Detail struct {
	Server    string   // server name
	Tools     []string // tool names
	Arguments []Bound  // every one must hold
	Purpose   string   // declared purpose
	MaxCalls  int      // calls the credential is good for; 0: not bounded
}

// A Bound limits one argument of a call. Exactly one of Equals, OneOf, Prefix, and Min or Max is set.
type Bound struct {
	Pointer  string   // RFC 6901 pointer into the arguments object; an absent value breaks the bound
	Equals   []byte   // the value must be this JSON value
	OneOf    [][]byte // or one of these JSON values
	Prefix   string   // or a string that begins so
	Min, Max *float64 // or a number within these
}

// An Agent is a registered agent: software that acts for people or on its own (control REG-01).
type Agent struct {
	Name     string   // unique; the OAuth client id or actor subject it is known by is in Clients
	Owner    string   // who answers for it
	Roles    []string // groups it is in
	Clients  []string // OAuth client ids, actor subjects and SPIFFE ids that are this agent
	Tools    []string // "server/tool" patterns it may use at most; "*" as server or tool name matches any; empty: none
	NotAfter time.Time
	Disabled bool
}

// A Grant is time-limited access to tools (control JIT-01). It is immutable once found.
type Grant struct {
	ID        string
	Principal string   // key of the principal, or "group:NAME"
	Agent     string   // registered agent; empty: any of the principal's
	Server    string   // server name
	Tools     []string // tool names; empty: every tool of the server
	Arguments []Bound  // every one must hold
	Purpose   string   // declared purpose
	NotBefore time.Time
	NotAfter  time.Time
	Uses      int    // calls it is good for; 0: not bounded
	Left      int    // calls left when it was found; meaningless when Uses is 0
	Approval  string // id of the approval that made it
	Plan      string // workflow plan it is a step of (control JIT-05); empty if none
	Step      int    // step of the plan, from 1
}

// Key names the principal for maps, rate limits and bindings: tenant, issuer, subject, client and
// agent. Two principals with equal keys are the same caller.
func (p *Principal) Key() string {
	if p == nil {
		return ""
	}
	return p.Tenant + "\x1f" + p.Issuer + "\x1f" + p.Subject + "\x1f" + p.Client + "\x1f" + p.Agent
}
