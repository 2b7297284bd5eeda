package identity

import (
	"context"
	"fmt"

	"github.com/warder-mcp/warder"
)

// localUser gives exchanges of the stdio door the operating system's user as principal. Nothing else
// about the place a peer calls from makes a principal.
// Control ZTA-01, first part. Phase Connect, before tokens are looked at.
type localUser struct {
	principal *warder.Principal
	err       error
}

var _ warder.Interceptor = (*localUser)(nil)

// newLocalUser asks for the user once: it does not change while the process runs.
func newLocalUser(name func() (string, error)) *localUser {
	subject, err := name()
	if err == nil && subject == "" {
		err = fmt.Errorf("the local user has no name")
	}
	if err != nil {
		return &localUser{err: err}
	}
	return &localUser{principal: &warder.Principal{Issuer: "local", Subject: subject, Transport: "stdio"}}
}

// Control returns ZTA-01.
func (*localUser) Control() warder.ControlID { return "ZTA-01" }

// Intercept sets the principal of the stdio door only.
func (l *localUser) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door != warder.DoorStdio {
		return warder.Continue(), nil
	}
	if l.err != nil {
		return warder.Decision{}, l.err // the runner denies
	}
	x.Principal = l.principal
	return warder.Continue(), nil
}

// noImplicitTrust is the last word of the layer: no principal, no entry, wherever the peer is. It
// looks at no address, so no address can be trusted by mistake. With a principal, an endpoint that
// does not exist is "not found".
// Control ZTA-01, second part; NIST SP 800-207 section 2.1 tenets 2 and 6. Phase Connect, last.
type noImplicitTrust struct {
	resource func(endpoint string) (string, bool)
	ask      asker
}

var _ warder.Interceptor = (*noImplicitTrust)(nil)

// Control returns ZTA-01.
func (*noImplicitTrust) Control() warder.ControlID { return "ZTA-01" }

// Intercept refuses exchanges without principal and exchanges with endpoints that do not exist.
func (n *noImplicitTrust) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Principal == nil {
		return n.ask.refuse(x, warder.CodeUnauthenticated, "", "principal_missing", ""), nil
	}
	if x.Server != nil {
		return warder.Continue(), nil
	}
	if _, ok := n.resource(x.Endpoint); !ok {
		return warder.Refuse(warder.CodeNotFound, "not_found", "no such endpoint"), nil
	}
	return warder.Continue(), nil
}
