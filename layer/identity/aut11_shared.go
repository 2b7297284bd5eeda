package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
)

// notShared refuses accounts that the configuration lists as shared: used by several people or services, so
// that nobody can say who acted. That no inbound token is kept is how the rest of the layer is built: what
// remembers a token remembers its hash.
// Control AUT-11; CIS controls for MCP 3.3.3, OWASP AISVS 10.2.3. Phase Connect, after IAM-05.
type notShared struct {
	accounts map[[2]string]bool // issuer and subject, or issuer and client
	ask      asker
}

var _ warder.Interceptor = (*notShared)(nil)

func newNotShared(cfg Config, ask asker) *notShared {
	n := &notShared{accounts: map[[2]string]bool{}, ask: ask}
	for _, s := range cfg.SharedAccounts {
		issuer, name, _ := strings.Cut(s, "|")
		n.accounts[[2]string{issuer, name}] = true
	}
	return n
}

// Control returns AUT-11.
func (*notShared) Control() warder.ControlID { return "AUT-11" }

// Intercept looks the principal up by subject and by client.
func (n *notShared) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil || len(n.accounts) == 0 {
		return warder.Continue(), nil
	}
	if n.accounts[[2]string{p.Issuer, p.Subject}] || n.accounts[[2]string{p.Issuer, p.Client}] {
		return warder.Refuse(warder.CodeDenied, "account_shared", "the account is listed as shared: it names nobody"), nil
	}
	return warder.Continue(), nil
}

// A CredentialUse says that a server is shown the credential behind a reference.
type CredentialUse struct {
	Server string // name of the server
	Ref    string // the reference as configured, such as "env:TOKEN"; not the value
	Owner  string // who answers for sharing it with other servers; empty: nobody
}

// errShared reports one credential behind several servers.
var errShared = errors.New("servers share a credential")

// CheckShared reports every reference that two servers use without an owner for each use: a server that is
// taken over could act at the other. Part of control AUT-11.
func CheckShared(uses []CredentialUse) error {
	uses = slices.Clone(uses)
	slices.SortFunc(uses, func(a, b CredentialUse) int {
		return cmp.Or(cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Server, b.Server))
	})
	var errs []error
	for i := 1; i < len(uses); i++ {
		a, b := uses[i-1], uses[i]
		if a.Ref == "" || a.Ref != b.Ref || a.Server == b.Server || a.Owner != "" && b.Owner != "" {
			continue
		}
		errs = append(errs, fmt.Errorf("%w: %s and %s both use %s; give each its own, or name who answers for it", errShared, a.Server, b.Server, a.Ref))
	}
	return errors.Join(errs...)
}
