package broker

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// A HoldStatus says where a call that waits for a person stands.
type HoldStatus string

// The statuses. Only an approved hold lets its call through, once.
const (
	HoldPending  HoldStatus = "pending"
	HoldApproved HoldStatus = "approved"
	HoldDenied   HoldStatus = "denied"
	HoldExpired  HoldStatus = "expired"  // nobody decided, or nobody used the approval, in time
	HoldConsumed HoldStatus = "consumed" // the approved call was let through
)

// A Rule says who decides on a call. Empty fields take the configuration's.
type Rule struct {
	All    [][]string // of each list somebody must agree: "group:NAME" or "issuer|subject"; an empty list stands for the configured one
	Needed int        // how many people must agree
}

// A Call is what waits for a person: exactly this request of exactly this principal.
type Call struct {
	Principal  string   // key of the principal
	Agent      string   // registered agent, for display
	Server     string   // server name
	Tool       string   // tool name
	Method     string   // method, such as "tools/call"
	Digest     [32]byte // wire.RequestDigest of the request
	Context    [32]byte // digest of the circumstances the approval is bound to
	Parameters []byte   // canonical JSON of the parameters, in full; at most MaxParameters
	Effect     warder.Effect
	Purpose    string
	Risk       float64
	Why        string // which rules and policies ask for a person, for display
	Exchange   string // id of the exchange that asked
	Rule       Rule
}

// MaxParameters bounds what can be shown to a person, in bytes. A larger call cannot be approved.
const MaxParameters = 24 << 10

// A Hold is a call that waits, as people and programs see it.
type Hold struct {
	ID        string        `json:"id"`
	Nonce     string        `json:"nonce"` // a decision names it, so that it is about this asking and no other
	Status    HoldStatus    `json:"status"`
	Principal string        `json:"principal"`
	Agent     string        `json:"agent,omitempty"`
	Server    string        `json:"server"`
	Tool      string        `json:"tool"`
	Method    string        `json:"method"`
	Digest    string        `json:"digest"`  // hex
	Context   string        `json:"context"` // hex
	Effect    warder.Effect `json:"effect"`
	Purpose   string        `json:"purpose,omitempty"`
	Risk      float64       `json:"risk"`
	Urgency   int           `json:"urgency"`       // 0 to 100: risk and effect together; orders the queue
	Why       string        `json:"why,omitempty"` // which rules and policies ask for a person
	Exchange  string        `json:"exchange,omitempty"`
	Approvers []string      `json:"approvers"` // everybody who may decide
	All       [][]string    `json:"all"`       // of each list, somebody must agree
	Needed    int           `json:"needed"`
	OpenedAt  time.Time     `json:"opened_at"`
	Expires   time.Time     `json:"expires"`         // a decision must come, or the approval be used, before then
	Votes     []Vote        `json:"votes,omitempty"` // those who agreed
	DeniedBy  string        `json:"denied_by,omitempty"`
	DecidedAt time.Time     `json:"decided_at,omitzero"`
	Comment   string        `json:"comment,omitempty"` // of the one who decided

	// Parameters are the canonical parameters of the call; set by Show only.
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// Reversible says in a word what can be undone: "yes" for reads, "maybe" for writes, "no" otherwise.
func (h *Hold) Reversible() string {
	switch h.Effect {
	case warder.EffectRead:
		return "yes"
	case warder.EffectWrite:
		return "maybe"
	case warder.EffectUnknown, warder.EffectDestructive:
	}
	return "no"
}

// Reason is why the hold does not let its call through, as a stable code.
func (h *Hold) Reason() warder.Reason {
	return warder.Reason("approval_" + string(h.Status))
}

// A holdBody is what the store keeps.
type holdBody struct {
	Hold
	Sealed string    `json:"sealed,omitempty"` // the parameters
	Keep   time.Time `json:"keep"`             // when the store forgets it
}

// at returns the hold with what time has done to it.
func (h Hold) at(now time.Time) Hold {
	if (h.Status == HoldPending || h.Status == HoldApproved) && !now.Before(h.Expires) {
		h.Status = HoldExpired
	}
	return h
}

func (b *holdBody) doc(version int64) (state.Doc, error) {
	body, err := encode(b)
	return state.Doc{
		Kind: kindHold, ID: b.ID, Owner: b.Principal, Topic: b.Digest, Body: body, NotAfter: b.Keep, Version: version,
	}, err
}

func decodeHold(d *state.Doc) (holdBody, error) {
	var b holdBody
	if err := json.Unmarshal(d.Body, &b); err != nil {
		return b, fmt.Errorf("hold %q: decode: %w", d.ID, err)
	}
	return b, nil
}

func (h *Hold) event(what string, who *warder.EventPrincipal, why string) warder.Event {
	detail := fmt.Sprintf("hold %s of %q, digest %s, urgency %d", h.ID, personOf(h.Principal), h.Digest[:min(16, len(h.Digest))], h.Urgency)
	if why != "" {
		detail += fmt.Sprintf(": %.200q", why)
	}
	return warder.Event{
		Type: warder.EventHold, Principal: who, Server: h.Server, Target: h.Tool[:min(len(h.Tool), maxWord)], Method: h.Method,
		Effect: h.Effect.String(), Exchange: h.Exchange, Reason: warder.Reason(what), Detail: detail,
	}
}

// urgency orders the queue: what may not be undone and what comes from a risky caller stands first.
func urgency(c *Call) int {
	points := 0
	switch c.Effect {
	case warder.EffectUnknown, warder.EffectDestructive:
		points = 30
	case warder.EffectWrite:
		points = 10
	case warder.EffectRead:
	}
	return min(100, points+int(max(0, c.Risk)))
}

// A callKey finds the hold of a call: who, exactly what, and under which circumstances.
type callKey struct {
	principal       string
	digest, context [32]byte
}

func (c *Call) key() callKey { return callKey{c.Principal, c.Digest, c.Context} }

func (h *Hold) key() (k callKey, ok bool) {
	k.principal = h.Principal
	n, err := hex.Decode(k.digest[:], []byte(h.Digest[:min(64, len(h.Digest))]))
	if err != nil || n != len(k.digest) {
		return k, false
	}
	n, err = hex.Decode(k.context[:], []byte(h.Context[:min(64, len(h.Context))]))
	return k, err == nil && n == len(k.context)
}
