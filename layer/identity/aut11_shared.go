package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
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
	Ref    secret.Ref
}

// errShared reports one credential behind several servers.
var errShared = errors.New("servers share a credential")

// CheckShared reports every reference that two servers use, unless the configuration names who answers for it:
// a server that is taken over could act at the other, and nobody could tell them apart there. It compares
// references, not the secrets behind them, which it never reads. Part of control AUT-11.
func (c Config) CheckShared(uses []CredentialUse) error {
	answered := map[string]bool{}
	for _, s := range c.SharedCredentials {
		answered[nameOf(s.Ref)] = s.Owner != ""
	}
	users := map[string][]string{}
	for _, u := range uses {
		if u.Ref.IsZero() {
			continue
		}
		name := nameOf(u.Ref)
		if !slices.Contains(users[name], u.Server) {
			users[name] = append(users[name], u.Server)
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(users)) {
		if len(users[name]) > 1 && !answered[name] {
			errs = append(errs, fmt.Errorf("%w: %s use %s", errShared, strings.Join(users[name], " and "), name))
		}
	}
	return errors.Join(errs...)
}

// nameOf writes a reference as text: where the secret is, never the secret.
func nameOf(ref secret.Ref) string {
	raw, err := json.Marshal(ref)
	if err != nil {
		return "a reference that cannot be written" // equal to others of its kind, so it is refused
	}
	return string(raw)
}
