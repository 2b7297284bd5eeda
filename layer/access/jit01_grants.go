package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/warder-mcp/warder"
)

// granted finds what allows a call for a limited time.
// Control JIT-01; NIST SP 800-207 section 2.1 tenet 3. Phase Request.
type granted struct {
	deps Deps
	cfg  FreshnessConfig
}

var _ warder.Interceptor = (*granted)(nil)

// Control returns JIT-01.
func (*granted) Control() warder.ControlID { return "JIT-01" }

// Intercept sets x.Grant.
func (g *granted) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if g.deps.Grants == nil || x.Principal == nil || !callsTool(x) {
		return warder.Continue(), nil
	}
	if id := x.Continues.Grant; id != "" {
		x.Grant = g.deps.Grants.Resume(x, id)
	} else {
		purpose, _ := purposeOf(x)
		x.Grant = g.deps.Grants.Lookup(x, purpose)
	}
	if x.Grant == nil {
		return warder.Continue(), nil
	}
	if age := g.deps.Grants.Age(g.deps.Now()); age > g.cfg.limit(x) {
		return warder.Decision{}, fmt.Errorf("grants are not known well enough: the state is %v old", age)
	}
	return warder.Continue(), nil
}

// standing refuses a call whose effect needs a grant and has none, whatever policy says: there is no
// standing access to such tools.
// Control JIT-01. Phase Request, before policy.
type standing struct{ needed effects }

var _ warder.Interceptor = (*standing)(nil)

// Control returns JIT-01.
func (*standing) Control() warder.ControlID { return "JIT-01" }

// Intercept looks for x.Grant.
func (s *standing) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Grant == nil && callsTool(x) && s.needed.has(effectOf(x)) {
		return noGrant("no grant covers this call"), nil
	}
	return warder.Continue(), nil
}

func noGrant(detail string) warder.Decision {
	return warder.Refuse(warder.CodeDenied, "grant_required", detail).
		Tell("This tool needs access that is granted for a while. Ask for a grant.")
}

// spent counts the use of the grant, in the store, as the last thing before the call is forwarded.
// Control JIT-01. Phase Request, last.
type spent struct{ deps Deps }

var _ warder.Interceptor = (*spent)(nil)

// Control returns JIT-01.
func (*spent) Control() warder.ControlID { return "JIT-01" }

// Intercept uses x.Grant up.
func (s *spent) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Grant == nil || x.Grant.ID == x.Continues.Grant { // the first leg spent it
		return warder.Continue(), nil
	}
	if s.deps.Grants == nil {
		return noGrant("nothing keeps grants"), nil
	}
	if err := s.deps.Grants.Use(ctx, x.Grant); err != nil {
		if errors.Is(err, ErrSpent) {
			return noGrant(err.Error()), nil
		}
		return warder.Decision{}, err // the runner denies
	}
	return warder.Continue(), nil
}

// ErrSpent is what Grants.Use wraps when the grant has ended or is used up; other errors mean that
// nobody could be asked.
var ErrSpent = errors.New("the grant is spent")
