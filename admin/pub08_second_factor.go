package admin

import (
	"slices"
	"time"

	"github.com/warder-mcp/warder"
)

// A secondFactor decides whether the login behind a request was phishing-resistant and recent. Without
// one, a destructive operation is not carried out, and the answer asks for it (RFC 9470), so that the
// client can bring the person back to the browser.
//
// Control PUB-08. It stands outside the path of calls: its place is [API.serve], after the role and the
// body are known and before anything is done.
type secondFactor struct {
	acr, amr []string
	maxAge   time.Duration
	mtls     bool
	now      func() time.Time
}

func newSecondFactor(cfg *Factor, now func() time.Time) *secondFactor {
	f := &secondFactor{acr: cfg.ACR, amr: cfg.AMR, maxAge: cfg.MaxAge, mtls: cfg.MTLS, now: now}
	if f.acr == nil {
		f.acr = []string{"phr", "phrh"}
	}
	if f.amr == nil {
		f.amr = []string{"hwk", "fido"}
	}
	if f.maxAge <= 0 || f.maxAge > maxFactorAge {
		f.maxAge = maxFactorAge
	}
	return f
}

// Control implements the marker of controls.
func (*secondFactor) Control() warder.ControlID { return "PUB-08" }

// clockSkew is how far in the future a login may lie because two clocks differ.
const clockSkew = 30 * time.Second

// of names the factor of a verified login; empty: it has none that counts, or is too old, or its time is
// unknown.
func (f *secondFactor) of(p *warder.Principal) string {
	age := f.now().Sub(p.AuthTime)
	if p.AuthTime.IsZero() || age > f.maxAge || age < -clockSkew {
		return ""
	}
	if p.ACR != "" && slices.Contains(f.acr, p.ACR) {
		return "acr:" + p.ACR
	}
	for _, method := range p.AMR {
		if method != "" && slices.Contains(f.amr, method) {
			return "amr:" + method
		}
	}
	if f.mtls && p.Transport == "mtls" && p.Binding != "" {
		return "mtls"
	}
	return ""
}

// ask is what a client without the factor must bring.
func (f *secondFactor) ask(metadata string) *warder.Ask {
	return &warder.Ask{Scheme: "Bearer", Error: codeStepUp, ACR: f.acr, MaxAge: f.maxAge, ResourceMetadata: metadata}
}

// needed reports whether a request needs the factor. What cannot be decided needs it.
func needed(r *rule, asked bool, err error) bool {
	switch r.factor {
	case NeedNever:
		return false
	case NeedSometimes:
		return asked || err != nil
	case NeedAlways:
		return true
	default:
		return true
	}
}
