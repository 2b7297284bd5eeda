package warder

import "time"

// A Verdict is what one control says about one exchange.
type Verdict uint8

// The verdicts. The zero value denies, so a forgotten verdict denies.
const (
	Deny      Verdict = iota
	Pass              // no objection; the next control decides
	Challenge         // the client must bring more: token, proof, scope, stronger login
	Hold              // a person must approve; bound to principal, message digest, single use
)

// String returns the verdict's word in audit records and explanations.
func (v Verdict) String() string {
	switch v {
	case Pass:
		return "pass"
	case Challenge:
		return "challenge"
	case Hold:
		return "hold"
	default:
		return "deny"
	}
}

// A Reason is a stable machine code in snake_case, such as "audience_mismatch". It is safe to show.
type Reason string

// A Decision is one control's verdict with its reasons.
type Decision struct {
	Control  ControlID // set by the runner
	Verdict  Verdict
	Code     Code      // public class of a refusal; zero means CodeDenied
	Reason   Reason    // stable machine code, safe to show
	Detail   string    // for operators; never leaves the gateway
	Public   string    // what the client may read; empty: the code's default sentence
	Ask      *Ask      // what Challenge or Hold asks for
	Findings []Finding // evidence, by JSON pointer, redacted
	Policies []string  // ids of the policies that decided, if any
	Observed bool      // the control is in monitor mode: the verdict was recorded, not enforced; set by the runner
}

// An Ask says what the client must bring before the exchange can pass.
type Ask struct {
	Scheme           string   // authentication scheme of the challenge, such as "Bearer"
	Error            string   // RFC 6750 section 3.1 error code, empty when no credentials were sent
	Scopes           []string // every scope this one operation needs
	ResourceMetadata string   // RFC 9728 section 5.1 metadata URL

	// ACR and MaxAge ask for a stronger or fresher login (RFC 9470 section 3).
	ACR    []string
	MaxAge time.Duration // 0: any age
	// Algorithms are the DPoP proof algorithms accepted, for the DPoP scheme (RFC 9449 section 7.1), and
	// Nonce the value that the next proof must carry (section 9).
	Algorithms []string
	Nonce      string
	// Hold is the id of the pending approval, URL where a person decides on it, and Message what the
	// person is told; Verdict Hold only. URL may be empty.
	Hold    string
	URL     string
	Message string

	// RetryAfter is when a rate-limited client may try again (RFC 9110 section 10.2.3); 0 if unknown.
	RetryAfter time.Duration
}

// Continue is the verdict of a control that has no objection.
func Continue() Decision { return Decision{Verdict: Pass} }

// Observe passes with findings for the record.
func Observe(findings ...Finding) Decision { return Decision{Verdict: Pass, Findings: findings} }

// Refuse denies with a public code, a stable reason, and a detail that only operators see.
func Refuse(code Code, reason Reason, detail string) Decision {
	return Decision{Verdict: Deny, Code: code, Reason: reason, Detail: detail}
}

// Tell returns the decision with a sentence the client may read.
func (d Decision) Tell(public string) Decision {
	d.Public = public
	return d
}

// An Obligation is what must be done besides, so that a call that policy permits may pass: it only
// tightens.
type Obligation struct {
	Kind   ObligationKind `json:"kind"`
	Value  string         `json:"value,omitempty"`  // of an approval: who may give it; of acr: the class; of max_age: a duration; otherwise empty
	Policy string         `json:"policy,omitempty"` // id of the policy that asks for it, or the control
}

// An ObligationKind says what must be done.
type ObligationKind string

// The kinds of obligations.
const (
	ObligationApproval ObligationKind = "approval" // a person must approve exactly this call
	ObligationGrant    ObligationKind = "grant"    // access must have been granted for a while
	ObligationACR      ObligationKind = "acr"      // the login must be of this class (RFC 9470)
	ObligationMaxAge   ObligationKind = "max_age"  // the login must not be older (RFC 9470)
)

// A Severity grades a finding.
type Severity uint8

// Severities, from noise to emergency.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

// String returns the severity's word in audit records.
func (s Severity) String() string {
	return [...]string{"info", "low", "medium", "high", "critical"}[min(s, Critical)]
}

// A Finding is one piece of evidence about one place of one message.
type Finding struct {
	Control    ControlID `json:"control,omitempty"`    // set by the runner
	Rule       string    `json:"rule"`                 // stable rule id within the control
	Severity   Severity  `json:"severity"`             //
	Pointer    string    `json:"pointer,omitempty"`    // RFC 6901 pointer into the message
	Evidence   string    `json:"evidence,omitempty"`   // redacted, cut, quoted
	Confidence float64   `json:"confidence,omitempty"` // 0 to 1; 0 means a certain rule
}
