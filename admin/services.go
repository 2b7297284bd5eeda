package admin

import (
	"context"
	"errors"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/registry"
)

// Errors that services wrap so that the API answers with the right problem. The text of an error that
// wraps ErrInvalid or ErrRefused is shown to the operator; of any other error nothing is.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed by another")
	ErrInvalid  = errors.New("not acceptable")
	ErrRefused  = errors.New("the gateway refused the decision")
)

// An Operator is who is asking, as the door established it.
type Operator struct {
	Principal *warder.Principal // of issuer "local" for the user at the socket and for break-glass; never nil
	Roles     []Role
	Factor    string // what was accepted as second factor: "local", "break-glass", "acr:…", "amr:…", "mtls"; empty: none
	Address   string // where from; "socket" for the socket
}

// Name names the operator in decisions: "issuer|subject", such as "local|ana".
func (o *Operator) Name() string { return o.Principal.Issuer + "|" + o.Principal.Subject }

// who names the operator beside decisions about definitions: the local user by name alone.
func (o *Operator) who() string {
	if o.Principal.Issuer == localIssuer {
		return o.Principal.Subject
	}
	return o.Name()
}

// localIssuer is the issuer of principals that the operating system names.
const localIssuer = "local"

// Grants decides about time-limited access (control JIT-01).
type Grants interface {
	Request(ctx context.Context, by *Operator, r GrantRequest) (Grant, error)
	Approve(ctx context.Context, by *Operator, id string) (Grant, error)
	Deny(ctx context.Context, by *Operator, id, reason string) (Grant, error)
	Revoke(ctx context.Context, by *Operator, id, reason string) (Grant, error)
	Get(ctx context.Context, id string) (Grant, error)
	List(ctx context.Context, q GrantQuery) (Page[Grant], error)
}

// Holds decides about calls that wait for a person (control HIL-01).
type Holds interface {
	Decide(ctx context.Context, by *Operator, id string, approve bool, d HoldDecision) (Hold, error)
	// Show returns the call with its parameters, to somebody who may decide on it.
	Show(ctx context.Context, by *Operator, id string) (Hold, error)
	// Get returns it without.
	Get(ctx context.Context, id string) (Hold, error)
	List(ctx context.Context, q HoldQuery) (Page[Hold], error)
}

// Plans decides about workflows (control JIT-05).
type Plans interface {
	Request(ctx context.Context, by *Operator, r PlanRequest) (Plan, error)
	Approve(ctx context.Context, by *Operator, id string) (Plan, error)
	Deny(ctx context.Context, by *Operator, id, reason string) (Plan, error)
	Revoke(ctx context.Context, by *Operator, id, reason string) (Plan, error)
	Get(ctx context.Context, id string) (Plan, error)
	List(ctx context.Context, q PlanQuery) (Page[Plan], error)
}

// Revocations takes rights away on every replica at once (control JIT-04).
type Revocations interface {
	Revoke(ctx context.Context, by *Operator, r RevocationRequest) (Revocation, error)
	Lift(ctx context.Context, by *Operator, kind, value string) error
	List(ctx context.Context, q RevocationQuery) (Page[Revocation], error)
}

// Agents registers agents (control REG-01).
type Agents interface {
	// Register adds an agent or replaces the one of the same name.
	Register(ctx context.Context, by *Operator, a Agent) (Agent, error)
	// Disable stops an agent from acting, or lets it act again.
	Disable(ctx context.Context, by *Operator, name string, disabled bool) (Agent, error)
	Get(ctx context.Context, name string) (Agent, error)
	List(ctx context.Context, q AgentQuery) (Page[Agent], error)
}

// Definitions decides about definitions of servers (controls TDP-04, REG-04); package registry has one.
type Definitions interface {
	List(ctx context.Context, f registry.Filter) ([]registry.Entry, error)
	Registry
}

// A Registry decides about definitions.
type Registry interface {
	Approve(ctx context.Context, req registry.Request) error
	Revoke(ctx context.Context, req registry.Request) error
}

// Sessions are logins at Warder's own authorization server.
type Sessions interface {
	List(ctx context.Context, q SessionQuery) (Page[Session], error)
	End(ctx context.Context, by *Operator, id, reason string) error
}

// Consents are what users allowed clients (control AUT-05).
type Consents interface {
	List(ctx context.Context, q ConsentQuery) (Page[Consent], error)
	Revoke(ctx context.Context, by *Operator, id string) error
}

// Keys are the signing keys of Warder's own authorization server (control IAM-07).
type Keys interface {
	List(ctx context.Context) ([]Key, error)
	Rotate(ctx context.Context, by *Operator) ([]Key, error)
	// Emergency makes a new key and stops trusting every other one at once.
	Emergency(ctx context.Context, by *Operator, reason string) ([]Key, error)
}

// Credentials are what Warder shows to servers for its callers (control AUT-04). Values never leave.
type Credentials interface {
	List(ctx context.Context, q CredentialQuery) (Page[Credential], error)
	Remove(ctx context.Context, by *Operator, id string) error
}

// Links makes one-time links with which the owner of a local account logs in and registers a passkey.
type Links interface {
	Create(ctx context.Context, by *Operator, r LinkRequest) (Link, error)
}
