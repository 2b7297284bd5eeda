package warder

import "time"

// An EventType names a kind of audit event. The list is closed; its documentation is generated.
type EventType string

// Event types of LOG-01.
const (
	EventExchange   EventType = "exchange"   // one finished exchange
	EventIntent     EventType = "intent"     // write-ahead: a call with effect is about to be forwarded
	EventDefinition EventType = "definition" // a definition was seen, changed, quarantined
	EventApproval   EventType = "approval"   // a definition was approved or revoked
	EventConfig     EventType = "config"     // configuration loaded, reloaded or rejected
	EventLifecycle  EventType = "lifecycle"  // start, stop, drain, server start and exit
	EventAuth       EventType = "auth"       // authentication accepted or refused
	EventLogin      EventType = "login"      // a person logged in, consented, registered a passkey, or failed to
	EventToken      EventType = "token"      // a token was issued, exchanged, refreshed or refused by our own authorization server
	EventKey        EventType = "key"        // a signing key was made, rotated or retired
	EventGrant      EventType = "grant"      // access was requested, granted, used up or ended
	EventHold       EventType = "hold"       // a call waits for a person, or a person decided on it
	EventRevocation EventType = "revocation" // something was revoked or restored
	EventAgent      EventType = "agent"      // an agent was registered, changed or disabled
	EventAdmin      EventType = "admin"      // an operator did something else, break-glass included
	EventCredential EventType = "credential" // a credential for a server was obtained, renewed or refused
	EventEgress     EventType = "egress"     // a connection that Warder was to open was refused
)

// An Event is one entry of the audit trail. Values that came from a client or a server are hashed,
// cut or redacted before they get here.
type Event struct {
	ID       string    `json:"id"`                 // sortable by time
	Time     time.Time `json:"time"`               // UTC
	Type     EventType `json:"type"`               //
	Exchange string    `json:"exchange,omitempty"` // exchange id
	Parent   string    `json:"parent,omitempty"`   // exchange id of the parent
	TraceID  string    `json:"trace_id,omitempty"` // W3C trace id, hex
	Door     Door      `json:"door,omitempty"`     //
	Revision Revision  `json:"revision,omitempty"` //
	Peer     string    `json:"peer,omitempty"`     // address without port

	Principal *EventPrincipal `json:"principal,omitempty"`
	Endpoint  string          `json:"endpoint,omitempty"`
	Server    string          `json:"server,omitempty"`
	Method    string          `json:"method,omitempty"`
	Target    string          `json:"target,omitempty"` // tool, prompt or resource; cut to 256 bytes
	Digest    string          `json:"digest,omitempty"` // of the approved definition, hex
	Effect    string          `json:"effect,omitempty"` //

	Circumstances *Circumstances `json:"circumstances,omitempty"` // what policy was told besides; nil if it was not asked and the caller had no risk
	Obligations   []Obligation   `json:"obligations,omitempty"`   // what an allowed call needed besides
	Approval      string         `json:"approval,omitempty"`      // id of the person's approval that was used

	RequestHash  string     `json:"request_hash,omitempty"` // salted SHA-256 of the request bytes
	Outcome      Outcome    `json:"outcome,omitempty"`
	Code         Code       `json:"code,omitempty"`
	Reason       Reason     `json:"reason,omitempty"`
	Control      ControlID  `json:"control,omitempty"` // the control that decided a refusal
	Trail        []Step     `json:"-"`                 // every control that ran; encoded by layer/record
	Decisions    []Decision `json:"-"`                 // every decision that was not a plain pass; encoded by layer/record
	Findings     []Finding  `json:"findings,omitempty"`
	Policies     []string   `json:"policies,omitempty"`
	Forwarded    bool       `json:"forwarded,omitempty"`
	Messages     int        `json:"messages,omitempty"`
	BytesIn      int64      `json:"bytes_in,omitempty"`
	BytesOut     int64      `json:"bytes_out,omitempty"`
	DurationUS   int64      `json:"duration_us,omitempty"`
	ConfigDigest string     `json:"config_digest,omitempty"` // which configuration decided
	Detail       string     `json:"detail,omitempty"`        // for operators; redacted
}

// An EventPrincipal is the part of a principal that the trail keeps.
type EventPrincipal struct {
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	Client  string `json:"client,omitempty"`
	Agent   string `json:"agent,omitempty"`
	TokenID string `json:"token_id,omitempty"`

	Groups []string `json:"groups,omitempty"` // what the issuer vouched for: policy decided on it
	Scopes []string `json:"scopes,omitempty"`

	Actors    []string  `json:"actors,omitempty"`    // nearest first
	ACR       string    `json:"acr,omitempty"`       // how strongly the person logged in
	AMR       []string  `json:"amr,omitempty"`       // by which means
	AuthTime  time.Time `json:"auth_time,omitzero"`  // when
	Transport string    `json:"transport,omitempty"` // how the credential was shown; empty in records of versions that did not keep what policy saw
	Bound     bool      `json:"bound,omitempty"`     // the credential is bound to a key; which one is not kept
}

// Circumstances are what policy was told of an exchange besides the caller and the message. Empty members
// were not known then.
type Circumstances struct {
	Zone    string     `json:"zone,omitempty"`
	Country string     `json:"country,omitempty"`
	Posture string     `json:"posture,omitempty"`
	Purpose string     `json:"purpose,omitempty"` // redacted
	Risk    int        `json:"risk,omitempty"`
	Trust   int        `json:"trust,omitempty"`
	Labels  []string   `json:"labels,omitempty"` // data labels met so far
	Grant   *GrantSeen `json:"grant,omitempty"`
	Agent   *AgentSeen `json:"agent,omitempty"`
}

// A GrantSeen is the part of a grant that policy sees.
type GrantSeen struct {
	ID       string    `json:"id"`
	Purpose  string    `json:"purpose,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Plan     string    `json:"plan,omitempty"`
	Step     int       `json:"step,omitempty"`
}

// An AgentSeen is the part of a registered agent that policy sees.
type AgentSeen struct {
	Name  string   `json:"name"`
	Owner string   `json:"owner,omitempty"`
	Roles []string `json:"roles,omitempty"`
}
