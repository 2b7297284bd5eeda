package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/warder-mcp/warder/internal/jose"
)

// bearerAssertion is the jwt-bearer grant (RFC 7523 section 2.1). An assertion is either the identity
// assertion of an enterprise (control AUT-07), or the token by which a platform vouches for a workload.
func (is *Issuer) bearerAssertion(ctx context.Context, who *caller, p parameters) (*award, *fault) {
	bad := func(err error) *fault {
		return refuse(errGrant, "The assertion is not acceptable.").because("assertion_refused", err.Error())
	}
	token, err := jose.Parse(p["assertion"])
	if err != nil {
		return nil, bad(err)
	}
	if token.Header.Type == typeIDJAG {
		return is.enterprise.redeem(ctx, who, p)
	}
	k := who.client.meta.config
	if k == nil || k.Workload == (WorkloadConfig{}) || !is.foreign[k.Workload.Issuer].used(UseWorkload) {
		return nil, refuse(errUnauthorized, "The client may not use this grant type.").because("workload_unknown", "")
	}
	if f := is.workloadToken(ctx, k, p["assertion"]); f != nil {
		return nil, f.as(errGrant)
	}
	a, f := is.awardClient(who, p)
	if f != nil {
		return nil, f
	}
	a.detail = fmt.Sprintf("workload %.120q", k.Workload.Subject)
	return a, nil
}

// rawClaim returns a claim as JSON.
func rawClaim(c jose.Claims, name string) (raw []byte, given bool, err error) {
	v, given := c[name]
	if !given {
		return nil, false, nil
	}
	raw, err = json.Marshal(v)
	if err != nil {
		return nil, true, errors.New(name + " cannot be read")
	}
	return raw, true, nil
}
