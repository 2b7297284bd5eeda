package access

import (
	"context"
	"errors"
	"time"

	"github.com/warder-mcp/warder"
)

// Deps are what the layer needs from outside. What is nil knows nothing: a call that needs it is refused.
type Deps struct {
	// Authorizer decides. Required.
	Authorizer Authorizer
	// MetadataURL is where a client learns how to get a token for an endpoint (RFC 9728 section 3.1); it
	// goes into the challenge when only scopes are missing. Nil means such a refusal is a plain denial.
	MetadataURL func(endpoint string) string
	// Revoked knows what was revoked. Nil: nothing is.
	Revoked Revoked
	// Grants are the grants of access for a while, Plans the workflows that make them. Nil: there are none.
	Grants Grants
	Plans  Plans
	// Holds are the calls that wait for a person. Nil: a call that needs approval is refused.
	Holds Holds
	// Risk is the running score of callers. Nil: it is zero.
	Risk Risk
	// Posture is what is known of the caller's device or workload. Nil: nothing.
	Posture Posture
	// Trust is the trust score, 0 to 100, of a tool. Nil: 0, as it is while nothing gives scores.
	Trust func(server, tool string) int
	// ApprovalURL is where a person decides on a held call. Nil: nowhere in a browser.
	ApprovalURL func(hold string) string
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Revoked answers from memory. It is safe for concurrent use.
type Revoked interface {
	// Check says what of the call was revoked, and whether only the credential was, so that whoever signs
	// in again is not affected; grant may be nil, and server and tool empty.
	Check(p *warder.Principal, server, tool string, grant *warder.Grant) (what string, credential, revoked bool)
	// Age is how long ago the answer was last known to be current.
	Age(now time.Time) time.Duration
}

// Grants finds and spends grants. It is safe for concurrent use.
type Grants interface {
	// Lookup answers from memory what allows the call of a tool, its arguments included; nil if nothing does.
	// A grant for another purpose does not, unless none is stated.
	Lookup(x *warder.Exchange, purpose string) *warder.Grant
	// Resume answers from memory for a request that goes on: the grant of which its first leg spent a use,
	// used up or not; nil if it ended, was revoked, or does not cover the call.
	Resume(x *warder.Exchange, id string) *warder.Grant
	// Use counts a use, once over all replicas. An error denies.
	Use(ctx context.Context, g *warder.Grant) error
	// Age is how long ago the answers of Lookup were last known to be current.
	Age(now time.Time) time.Duration
}

// Plans are workflows whose steps are granted one after the other. It is safe for concurrent use.
type Plans interface {
	// Active reports whether the grant is that of the step at which its plan stands.
	Active(g *warder.Grant) bool
	// Later returns the plan in which the tool stands in another step than the current one, empty if none.
	Later(p *warder.Principal, server, tool string) string
	// Settle says how the call of a step ended. Success grants the next.
	Settle(ctx context.Context, g *warder.Grant, success bool) error
}

// A Pending is a call that needs a person: exactly this request of this principal.
type Pending struct {
	Principal  string   // key of the principal
	Agent      string   // registered agent, for display
	Server     string   //
	Tool       string   //
	Method     string   //
	Digest     [32]byte // wire.RequestDigest of the request
	Context    [32]byte // of the circumstances that an approval is bound to
	Parameters []byte   // canonical JSON of the parameters; set for Open only
	Effect     warder.Effect
	Purpose    string
	Risk       float64
	Why        string // which rules and policies ask for a person
	Exchange   string
	Approvers  [][]string // of each list, somebody must agree; an empty list stands for the configured approvers
}

// A HoldState says where a call that waits for a person stands.
type HoldState uint8

// The states. The zero value lets nothing through.
const (
	HoldNone     HoldState = iota // nothing waits
	HoldPending                   // nobody decided yet
	HoldApproved                  // may be used once
	HoldDenied                    // a person said no, a moment ago
	HoldExpired                   // nobody decided in time
)

// A Held is a call that waits.
type Held struct {
	ID    string
	State HoldState
}

// Errors of Holds.Admit and Holds.Open that tell the caller why.
var (
	ErrFlood    = errors.New("too many calls wait for approval")
	ErrTooLarge = errors.New("the parameters are too large for a person to judge")
)

// Holds are the calls that wait for a person. It is safe for concurrent use.
type Holds interface {
	// Find answers from memory.
	Find(c *Pending) Held
	// Admit decides whether the call may be put to people; ErrFlood if too many were.
	Admit(c *Pending) error
	// Open puts the call to people, or finds that it has been.
	Open(ctx context.Context, c *Pending) (Held, error)
	// Wait returns when there is a decision, at the latest after most.
	Wait(ctx context.Context, id string, most time.Duration) (Held, error)
	// Spent reports from memory whether the approval was used by exactly this call, for a request that goes on.
	Spent(id string, c *Pending) bool
	// Consume spends the approval of the call, once over all replicas. An error denies.
	Consume(ctx context.Context, id string, c *Pending) error
}

// Risk is the running score of callers. It is safe for concurrent use.
type Risk interface {
	// Score is the highest of the scores of the principal, its agent and the trace, 0 to 100.
	Score(p *warder.Principal, trace [16]byte) float64
	// Note raises them by the weight of a signal.
	Note(signal string, p *warder.Principal, trace [16]byte)
}

// Posture is what is known of devices and workloads. It is safe for concurrent use.
type Posture interface {
	// Of is "compliant", "not_compliant", "stale", or empty when nothing is known.
	Of(p *warder.Principal) string
}

func (d *Deps) fill() error {
	if d.Authorizer == nil {
		return errors.New("access: no authorizer")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return nil
}
