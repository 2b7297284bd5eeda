package admin

import (
	"encoding/json"
	"time"
)

// A Page is one part of a list.
type Page[T any] struct {
	Items []T    `json:"items" doc:"in the order of their ids"`
	Next  string `json:"next,omitempty" doc:"value of after for the next page; absent: this is the last"`
}

// A Paging selects a part of a list.
type Paging struct {
	After string `query:"after" doc:"what next of the page before said"`
	Limit int    `query:"limit" doc:"most items to return, 1 to 500; 100 if absent"`
}

// A Bound limits one argument of a call: exactly one of equals, one_of, prefix, and min or max.
type Bound struct {
	Pointer string            `json:"pointer" doc:"RFC 6901 pointer into the arguments object; an absent value breaks the bound"`
	Equals  json.RawMessage   `json:"equals,omitempty" doc:"the value must be this JSON value"`
	OneOf   []json.RawMessage `json:"one_of,omitempty" doc:"or one of these JSON values"`
	Prefix  string            `json:"prefix,omitempty" doc:"or a string that begins so"`
	Min     *float64          `json:"min,omitempty" doc:"or a number that is not smaller"`
	Max     *float64          `json:"max,omitempty" doc:"and not larger"`
}

// A GrantRequest asks for time-limited access.
type GrantRequest struct {
	Principal  string   `json:"principal,omitempty" doc:"who shall have it: issuer|subject, or group:NAME; absent: whoever asks"`
	Agent      string   `json:"agent,omitempty" doc:"registered agent; absent: any of the principal's"`
	Server     string   `json:"server" doc:"name of the server"`
	Tools      []string `json:"tools,omitempty" doc:"names of tools; absent: every tool of the server"`
	Arguments  []Bound  `json:"arguments,omitempty" doc:"bounds on arguments, all of which must hold"`
	Purpose    string   `json:"purpose,omitempty" doc:"the purpose calls must declare; absent: any"`
	TTLSeconds int64    `json:"ttl_seconds" doc:"how long it shall be good from its approval"`
	Uses       int      `json:"uses,omitempty" doc:"calls it shall be good for; absent: not bounded"`
	Reason     string   `json:"reason,omitempty" doc:"why it is needed, for the one who decides"`
}

// A Vote is one person's yes.
type Vote struct {
	By      string    `json:"by" doc:"issuer|subject"`
	Channel string    `json:"channel,omitempty" doc:"where it was given"`
	At      time.Time `json:"at"`
}

// A Grant is time-limited access, as asked for or as given.
type Grant struct {
	ID          string    `json:"id"`
	Status      string    `json:"status" enum:"pending,active,denied,revoked,used_up,collapsed,ended"`
	Principal   string    `json:"principal" doc:"issuer|subject, group:NAME, or both with client and agent"`
	Agent       string    `json:"agent,omitempty"`
	Server      string    `json:"server"`
	Tools       []string  `json:"tools,omitempty" doc:"absent: every tool of the server"`
	Arguments   []Bound   `json:"arguments,omitempty"`
	Purpose     string    `json:"purpose,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	RequestedBy string    `json:"requested_by,omitempty" doc:"issuer|subject"`
	RequestedAt time.Time `json:"requested_at,omitzero"`
	TTLSeconds  int64     `json:"ttl_seconds" doc:"how long it is good from its approval"`
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Uses        int       `json:"uses,omitempty" doc:"calls it is good for; absent: not bounded"`
	Used        int       `json:"used,omitempty" doc:"calls it was used for; of a grant that is not bounded, whether it was used"`
	Votes       []Vote    `json:"votes,omitempty"`
	EndedBy     string    `json:"ended_by,omitempty"`
	EndedAt     time.Time `json:"ended_at,omitzero"`
	Plan        string    `json:"plan,omitempty" doc:"workflow it is a step of"`
	Step        int       `json:"step,omitempty"`
}

// A GrantQuery selects grants.
type GrantQuery struct {
	Paging
	Status    string `query:"status" enum:"pending,active,denied,revoked,used_up,collapsed,ended" doc:"only those"`
	Principal string `query:"principal" doc:"only those of this principal"`
	Server    string `query:"server" doc:"only those for this server"`
}

// A Hold is a call that waits for a person.
type Hold struct {
	ID         string          `json:"id"`
	Nonce      string          `json:"nonce,omitempty" doc:"a decision names it, so that it is about this asking and no other"`
	Status     string          `json:"status" enum:"pending,approved,denied,expired,consumed"`
	Principal  string          `json:"principal"`
	Agent      string          `json:"agent,omitempty"`
	Server     string          `json:"server"`
	Tool       string          `json:"tool,omitempty"`
	Method     string          `json:"method,omitempty"`
	Digest     string          `json:"digest,omitempty" doc:"SHA-256 of method and parameters, hexadecimal: what an approval is bound to"`
	Effect     string          `json:"effect,omitempty" doc:"what the call may change, as the registry says"`
	Reversible string          `json:"reversible,omitempty" doc:"what can be undone: yes, maybe, no"`
	Purpose    string          `json:"purpose,omitempty"`
	Risk       float64         `json:"risk,omitempty" doc:"0 to 100"`
	Urgency    int             `json:"urgency,omitempty" doc:"0 to 100: risk and effect together"`
	Why        string          `json:"why,omitempty" doc:"which rules and policies ask for a person"`
	Exchange   string          `json:"exchange,omitempty"`
	Approvers  []string        `json:"approvers,omitempty" doc:"who may decide"`
	Needed     int             `json:"needed,omitempty" doc:"people who must approve"`
	Opened     time.Time       `json:"opened_at"`
	Expires    time.Time       `json:"expires" doc:"when it is denied by itself"`
	Votes      []Vote          `json:"votes,omitempty"`
	DeniedBy   string          `json:"denied_by,omitempty"`
	DecidedAt  time.Time       `json:"decided_at,omitzero"`
	Comment    string          `json:"comment,omitempty"`
	Parameters json.RawMessage `json:"parameters,omitempty" doc:"the complete canonical parameters; absent in lists"`
}

// A HoldQuery selects held calls.
type HoldQuery struct {
	Paging
	Status string `query:"status" enum:"pending,approved,denied,expired,consumed" doc:"only those"`
}

// A HoldDecision says yes or no to exactly the call that was looked at.
type HoldDecision struct {
	Nonce   string `json:"nonce" doc:"nonce of the asking that was looked at"`
	Comment string `json:"comment,omitempty" doc:"why, for the record"`
}

// A Step is one step of a workflow: a call of any of its tools completes it.
type Step struct {
	Server    string   `json:"server"`
	Tools     []string `json:"tools"`
	Arguments []Bound  `json:"arguments,omitempty"`
	Purpose   string   `json:"purpose,omitempty"`
}

// A PlanRequest asks for a workflow.
type PlanRequest struct {
	Principal  string `json:"principal,omitempty" doc:"issuer|subject or group:NAME; absent: whoever asks"`
	Agent      string `json:"agent,omitempty"`
	Steps      []Step `json:"steps"`
	TTLSeconds int64  `json:"ttl_seconds" doc:"for the whole workflow, from its approval"`
	Reason     string `json:"reason,omitempty" doc:"why it is needed, for the one who decides"`
}

// A Plan is a workflow, as asked for or as approved.
type Plan struct {
	ID          string    `json:"id"`
	Status      string    `json:"status" enum:"pending,active,done,denied,revoked,failed,ended"`
	Principal   string    `json:"principal"`
	Agent       string    `json:"agent,omitempty"`
	Steps       []Step    `json:"steps"`
	At          int       `json:"at,omitempty" doc:"the step that is granted now, from 1"`
	Failures    int       `json:"failures,omitempty" doc:"of this step"`
	Grant       string    `json:"grant,omitempty" doc:"id of the grant of this step"`
	TTLSeconds  int64     `json:"ttl_seconds"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Reason      string    `json:"reason,omitempty"`
	RequestedBy string    `json:"requested_by,omitempty"`
	RequestedAt time.Time `json:"requested_at,omitzero"`
	Votes       []Vote    `json:"votes,omitempty"`
	EndedBy     string    `json:"ended_by,omitempty"`
}

// A PlanQuery selects plans.
type PlanQuery struct{ Paging }

// A RevocationRequest takes rights away.
type RevocationRequest struct {
	Kind       string `json:"kind" enum:"token,session,principal,agent,client,grant,server,tool,tenant,issuer,all"`
	Value      string `json:"value" doc:"token: issuer|jti; session: issuer|sid; principal: issuer|subject; agent, client, grant, server, tenant, issuer: its name or id; tool: server/name; all: *"`
	Reason     string `json:"reason,omitempty" doc:"why, for the record"`
	TTLSeconds int64  `json:"ttl_seconds,omitempty" doc:"how long; absent: until it is lifted"`
}

// A Revocation is what is revoked.
type Revocation struct {
	Kind     string    `json:"kind" enum:"token,session,principal,agent,client,grant,server,tool,tenant,issuer,all"`
	Value    string    `json:"value"`
	At       time.Time `json:"at"`
	NotAfter time.Time `json:"not_after,omitzero" doc:"absent: until it is lifted"`
	Reason   string    `json:"reason,omitempty"`
	By       string    `json:"by,omitempty"`
}

// A RevocationTarget names a revocation to lift.
type RevocationTarget struct {
	Kind   string `json:"kind" enum:"token,session,principal,agent,client,grant,server,tool,tenant,issuer,all"`
	Value  string `json:"value"`
	Reason string `json:"reason,omitempty" doc:"why, for the record"`
}

// A RevocationQuery selects revocations.
type RevocationQuery struct {
	Paging
	Kind string `query:"kind" enum:"token,session,principal,agent,client,grant,server,tool,tenant,issuer,all" doc:"only those"`
}

// An Agent is a registered agent.
type Agent struct {
	Name     string    `json:"name" doc:"unique"`
	Owner    string    `json:"owner" doc:"who answers for it"`
	Roles    []string  `json:"roles,omitempty" doc:"groups it is in"`
	Clients  []string  `json:"clients,omitempty" doc:"OAuth client ids, actor subjects and SPIFFE ids that are this agent"`
	Tools    []string  `json:"tools,omitempty" doc:"server/tool patterns it may use at most; * as server or tool matches any"`
	NotAfter time.Time `json:"not_after,omitzero" doc:"when the registration ends"`
	Disabled bool      `json:"disabled,omitempty"`
}

// An AgentRegistration is an agent as it shall be; its name is in the path.
type AgentRegistration struct {
	Owner    string    `json:"owner" doc:"who answers for it"`
	Roles    []string  `json:"roles,omitempty" doc:"groups it is in"`
	Clients  []string  `json:"clients,omitempty" doc:"OAuth client ids, actor subjects and SPIFFE ids that are this agent"`
	Tools    []string  `json:"tools,omitempty" doc:"server/tool patterns it may use at most; * as server or tool matches any"`
	NotAfter time.Time `json:"not_after,omitzero" doc:"when the registration ends"`
}

// An AgentQuery selects agents.
type AgentQuery struct {
	Paging
	Owner string `query:"owner" doc:"only those of this owner"`
}

// A Definition is what a server offers, and what was decided about it.
type Definition struct {
	Server    string    `json:"server"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	Digest    string    `json:"digest" doc:"SHA-256 of the canonical definition, hexadecimal"`
	State     string    `json:"state" enum:"quarantined,approved,revoked"`
	Why       string    `json:"why,omitempty" doc:"why it may not be used"`
	Effect    string    `json:"effect,omitempty"`
	Labels    []string  `json:"labels,omitempty"`
	DecidedBy string    `json:"decided_by,omitempty"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	Latest    bool      `json:"latest" doc:"no other definition of the name was seen later"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
}

// A DefinitionQuery selects definitions.
type DefinitionQuery struct {
	Paging
	Server string `query:"server" doc:"only of this server"`
	State  string `query:"state" enum:"quarantined,approved,revoked" doc:"only those"`
}

// A DefinitionDecision is a decision about exactly one definition.
type DefinitionDecision struct {
	Server string   `json:"server"`
	Kind   string   `json:"kind" enum:"tool,prompt,instructions"`
	Name   string   `json:"name"`
	Digest string   `json:"digest" doc:"SHA-256 of the canonical definition, hexadecimal"`
	Effect string   `json:"effect,omitempty" enum:"unknown,read,write,destructive" doc:"what calling it may change; absent and unknown count as destructive"`
	Labels []string `json:"labels,omitempty" doc:"data labels of what it returns"`
	Note   string   `json:"note,omitempty" doc:"why, for the record"`
	Keep   bool     `json:"keep,omitempty" doc:"leave approvals of other definitions of the name in force"`
}

// A Session is a login at Warder's own authorization server.
type Session struct {
	ID        string    `json:"id"`
	Principal string    `json:"principal" doc:"issuer|subject"`
	Name      string    `json:"name,omitempty"`
	ACR       string    `json:"acr,omitempty"`
	AMR       []string  `json:"amr,omitempty"`
	AuthTime  time.Time `json:"auth_time,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
}

// A SessionQuery selects sessions.
type SessionQuery struct {
	Paging
	Principal string `query:"principal" doc:"only those of issuer|subject"`
}

// A Consent is what a user allowed a client.
type Consent struct {
	ID        string    `json:"id"`
	Principal string    `json:"principal" doc:"issuer|subject"`
	Client    string    `json:"client"`
	Resource  string    `json:"resource,omitempty"`
	Scopes    []string  `json:"scopes,omitempty"`
	At        time.Time `json:"at,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
}

// A ConsentQuery selects consents.
type ConsentQuery struct {
	Paging
	Principal string `query:"principal" doc:"only those of issuer|subject"`
}

// A Key is a signing key of Warder's own authorization server, without its private part.
type Key struct {
	ID        string    `json:"id"`
	Algorithm string    `json:"algorithm"`
	State     string    `json:"state" doc:"what it is used for: next, active, retired"`
	Created   time.Time `json:"created,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
}

// A KeyList is every key.
type KeyList struct {
	Items []Key `json:"items"`
}

// A Credential is what Warder shows to a server for somebody, without its value.
type Credential struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind,omitempty"`
	Server   string    `json:"server"`
	Owner    string    `json:"owner,omitempty" doc:"whose it is; absent: the server's own, shared by callers"`
	Scopes   []string  `json:"scopes,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
}

// A CredentialQuery selects credentials.
type CredentialQuery struct {
	Paging
	Server string `query:"server" doc:"only for this server"`
}

// A LinkRequest names a local account.
type LinkRequest struct {
	User   string   `json:"user" doc:"name of the account; it is made if there is none"`
	Groups []string `json:"groups,omitempty" doc:"groups of the account from now on; absent: as they are"`
}

// A Link logs in once.
type Link struct {
	URL      string    `json:"url"`
	NotAfter time.Time `json:"not_after"`
}

// A Reason is why something is done.
type Reason struct {
	Reason string `json:"reason,omitempty" doc:"why, for the record"`
}

// A GlassRequest asks for access with a recovery code.
type GlassRequest struct {
	Code       string `json:"code" doc:"a recovery code that was not used yet"`
	Reason     string `json:"reason" doc:"why, in words; required"`
	TTLSeconds int64  `json:"ttl_seconds,omitempty" doc:"how long; absent: 900; at most 3600"`
}

// A GlassSession is access by break-glass.
type GlassSession struct {
	ID       string    `json:"id"`
	Token    string    `json:"token,omitempty" doc:"bearer token; only in the answer that opens the session"`
	Reason   string    `json:"reason"`
	From     string    `json:"from" doc:"where it was opened from"`
	At       time.Time `json:"at"`
	NotAfter time.Time `json:"not_after"`
}

// RecoveryCodes are shown once.
type RecoveryCodes struct {
	Codes []string `json:"codes" doc:"each is good for one use; they are not shown again"`
}

// A Me is how the API sees the caller.
type Me struct {
	Name   string `json:"name"`
	Roles  []Role `json:"roles"`
	Factor string `json:"factor,omitempty" doc:"the second factor of this request; absent: none"`
	From   string `json:"from"`
}

// A Status is what an operator should know at a glance.
type Status struct {
	Version      string            `json:"version,omitempty"`
	Started      time.Time         `json:"started,omitzero"`
	Config       string            `json:"config,omitempty" doc:"digest of the configuration in force"`
	Servers      []string          `json:"servers,omitempty"`
	Weakened     map[string]string `json:"weakened,omitempty" doc:"controls that do not enforce, with their mode"`
	Revocations  int               `json:"revocations" doc:"how much is revoked"`
	PendingHolds int               `json:"pending_holds" doc:"calls that wait for a person"`
	BreakGlass   []GlassSession    `json:"break_glass,omitempty" doc:"break-glass sessions that are open NOW"`
	Recovery     int               `json:"recovery_codes" doc:"recovery codes that are left"`
	Warnings     []string          `json:"warnings,omitempty"`
}
