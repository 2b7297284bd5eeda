package broker

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// Errors that callers act on. Any other error means that the store or the trail could not be asked.
var (
	ErrNotFound  = errors.New("not there")
	ErrInvalid   = errors.New("not acceptable")
	ErrForbidden = errors.New("this person may not decide on it")
	ErrDecided   = errors.New("it was decided already")
	ErrEnded     = errors.New("it has ended")
	ErrUsedUp    = errors.New("it is used up")
	ErrNonce     = errors.New("the decision was made about another asking")
	ErrStale     = errors.New("the state of this replica is too old to decide on")
)

// A Person decides: an operator of the admin plane, or a user who logged in.
type Person struct {
	Issuer  string
	Subject string
	Groups  []string // what the issuer vouches for

	// Operator says that the admin plane, or the system behind the webhook, admitted the person to decide.
	// Where no approvers are configured, only such people may.
	Operator bool
}

// String is "issuer|subject".
func (p Person) String() string { return p.Issuer + "|" + p.Subject }

// may reports whether one of the rules lets the person decide: "group:NAME", "issuer|subject", or "*" for
// every operator.
func (p Person) may(rules []string) bool {
	if p.Subject == "" {
		return false
	}
	return slices.ContainsFunc(rules, func(rule string) bool {
		if group, ok := strings.CutPrefix(rule, "group:"); ok {
			return slices.Contains(p.Groups, group)
		}
		return rule == "*" && p.Operator || rule == p.String()
	})
}

// orOperators is the rule when the configuration names nobody.
func orOperators(rules []string) []string {
	if len(rules) == 0 {
		return []string{"*"}
	}
	return rules
}

// A Vote is one person's yes.
type Vote struct {
	By      string    `json:"by"` // issuer, "|", subject
	Channel string    `json:"channel"`
	At      time.Time `json:"at"`
	Lists   []int     `json:"lists,omitempty"` // which lists of approvers the person is on; calls that wait only
}

// A holder is who a grant or hold belongs to, as maps know them. client and agent are not part of it: a
// person does not become another by changing the program.
type holder struct{ issuer, subject, group string }

// keyParts splits a principal key (tenant, issuer, subject, client, agent).
func keyParts(key string) (parts [5]string, ok bool) {
	for i := range 4 {
		part, rest, found := strings.Cut(key, "\x1f")
		if !found {
			return parts, false
		}
		parts[i], key = part, rest
	}
	parts[4] = key
	return parts, !strings.Contains(key, "\x1f")
}

// personOf is "issuer|subject" of a principal key; other forms are returned as they are.
func personOf(key string) string {
	if parts, ok := keyParts(key); ok {
		return parts[1] + "|" + parts[2]
	}
	return key
}

// holderOf reads a grant's principal: a principal key, "group:NAME" or "issuer|subject".
func holderOf(principal string) (h holder, exact bool, err error) {
	if parts, ok := keyParts(principal); ok {
		return holder{issuer: parts[1], subject: parts[2]}, true, nil
	}
	if group, ok := strings.CutPrefix(principal, "group:"); ok && group != "" {
		return holder{group: group}, false, nil
	}
	i := strings.IndexByte(principal, '|')
	if i <= 0 || i == len(principal)-1 || strings.ContainsRune(principal, '\x1f') {
		return holder{}, false, errors.New("principal: want issuer|subject, group:NAME or the key of a principal")
	}
	return holder{issuer: principal[:i], subject: principal[i+1:]}, false, nil
}

func eventPrincipal(p Person) *warder.EventPrincipal {
	return &warder.EventPrincipal{Issuer: p.Issuer, Subject: p.Subject}
}

// subjectEvent names the holder of a grant or hold in the trail.
func subjectEvent(key string) *warder.EventPrincipal {
	if parts, ok := keyParts(key); ok {
		return &warder.EventPrincipal{Tenant: parts[0], Issuer: parts[1], Subject: parts[2], Client: parts[3], Agent: parts[4]}
	}
	return &warder.EventPrincipal{Subject: key}
}
