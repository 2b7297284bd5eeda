package access

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// obliged reports whether one of the obligations is of the kind.
func obliged(list []warder.Obligation, kind warder.ObligationKind) bool {
	return slices.ContainsFunc(list, func(o warder.Obligation) bool { return o.Kind == kind })
}

// stepUp meets what a permission asks for besides: a stronger or fresher login, access that was granted
// for a while. Approvals are met by HIL-01. What is asked for is the union over all that asked, so a
// further policy only tightens.
// Control CVM-03; RFC 9470 sections 3 and 4. Phase Request, after policy.
type stepUp struct{ deps Deps }

var _ warder.Interceptor = (*stepUp)(nil)

// Control returns CVM-03.
func (*stepUp) Control() warder.ControlID { return "CVM-03" }

// Intercept looks at x.Obligations.
func (s *stepUp) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if len(x.Obligations) == 0 {
		return warder.Continue(), nil
	}
	if x.Principal == nil {
		return warder.Refuse(warder.CodeUnauthenticated, "principal_missing", ""), nil
	}
	var ask warder.Ask
	for _, o := range x.Obligations {
		switch o.Kind {
		case warder.ObligationGrant:
			if x.Grant == nil {
				return noGrant("policy " + o.Policy + " asks for a grant"), nil
			}
		case warder.ObligationACR:
			if classes := strings.Fields(o.Value); !slices.Contains(classes, x.Principal.ACR) {
				ask.ACR = append(ask.ACR, classes...)
			}
		case warder.ObligationMaxAge:
			age, err := time.ParseDuration(o.Value)
			if err != nil || age <= 0 {
				return warder.Decision{}, err
			}
			if since := s.deps.Now().Sub(x.Principal.AuthTime); since > age && (ask.MaxAge == 0 || age < ask.MaxAge) {
				ask.MaxAge = age
			}
		case warder.ObligationApproval:
		default:
			return warder.Refuse(warder.CodeDenied, "obligation_unknown", string(o.Kind)), nil
		}
	}
	if len(ask.ACR) == 0 && ask.MaxAge == 0 {
		return warder.Continue(), nil
	}
	return s.challenge(x, ask), nil
}

// challenge asks for another login. The local user of a pipe has none to offer.
func (s *stepUp) challenge(x *warder.Exchange, ask warder.Ask) warder.Decision {
	if x.Door == warder.DoorStdio || s.deps.MetadataURL == nil {
		return warder.Refuse(warder.CodeDenied, "step_up_impossible", "policy asks for a stronger or fresher login, which this caller cannot bring").
			Tell("This call needs a stronger or more recent login.")
	}
	ask.Scheme, ask.Error = "Bearer", "insufficient_user_authentication"
	ask.ResourceMetadata = s.deps.MetadataURL(x.Endpoint)
	return warder.Decision{
		Verdict: warder.Challenge, Code: warder.CodeUnauthenticated, Reason: "step_up_required", Ask: &ask,
		Public: "This call needs a stronger or more recent login.",
	}
}
