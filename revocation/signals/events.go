package signals

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/revocation"
)

// Event types.
const (
	caep   = "https://schemas.openid.net/secevent/caep/event-type/"
	risc   = "https://schemas.openid.net/secevent/risc/event-type/"
	ssf    = "https://schemas.openid.net/secevent/ssf/event-type/"
	logout = "http://schemas.openid.net/event/backchannel-logout"
)

// A failureError is an error of ours: the transmitter is asked to try again.
type failureError struct{ err error }

func (f *failureError) Error() string { return f.err.Error() }
func (f *failureError) Unwrap() error { return f.err }

// An effect is what an event asks for.
type effect int

const (
	none    effect = iota // nothing that concerns access
	session               // the session, or all sessions of the person so far, are over
	renew                 // credentials issued so far are out of date
	disable               // the person has no access until enable
	enable
	device
)

// effectOf says what an event asks for; known is false for event types that Warder does not know. An
// event that says too little asks for the most it could mean.
func effectOf(uri string, event jose.Claims) (e effect, known bool, err error) {
	switch uri {
	case caep + "session-revoked", risc + "sessions-revoked", risc + "credential-compromise", risc + "account-credential-change-required":
		return session, true, nil
	case caep + "credential-change":
		change, err := event.Text("change_type")
		if change == "create" { // a further passkey takes nothing away
			return none, true, err
		}
		return session, true, err
	case caep + "token-claims-change":
		return renew, true, nil
	case caep + "assurance-level-change":
		direction, err := event.Text("change_direction")
		if direction == "increase" {
			return none, true, err
		}
		return renew, true, err
	case caep + "device-compliance-change":
		return device, true, nil
	case risc + "account-disabled", risc + "account-purged":
		return disable, true, nil
	case risc + "account-enabled":
		return enable, true, nil
	case ssf + "verification", ssf + "stream-updated", caep + "session-established", caep + "session-presented",
		risc + "identifier-changed", risc + "identifier-recycled", risc + "opt-in", risc + "opt-out-initiated",
		risc + "opt-out-cancelled", risc + "opt-out-effective", risc + "recovery-activated", risc + "recovery-information-changed":
		return none, true, nil
	default:
		return none, false, nil
	}
}

// act does what an event asks for.
func (r *Inbox) act(ctx context.Context, t *transmitter, s *set, uri string, event jose.Claims) error {
	what, known, err := effectOf(uri, event)
	if err != nil {
		return err
	}
	if what == none {
		if !known {
			return r.note(ctx, t, "unknown event ignored: "+uri)
		}
		return nil
	}
	at, err := event.Time("event_timestamp")
	if err != nil {
		return err
	}
	if at.IsZero() || at.After(s.issued) || s.issued.Sub(at) > t.Keep {
		at = s.issued
	}
	c, err := s.subject(event)
	if err != nil {
		return err
	}
	bare := "user"
	if uri == caep+"session-revoked" {
		bare = "session"
	}
	if what == device {
		bare = "device"
	}
	sub, err := r.subject(ctx, t, c, bare)
	if err != nil {
		return err
	}
	if what == device {
		return r.device(ctx, t, sub, event, at, uri)
	}
	return r.apply(ctx, t, what, sub, at, uri)
}

// device tells of a device, or ends the sessions of its person.
func (r *Inbox) device(ctx context.Context, t *transmitter, sub *subject, event jose.Claims, at time.Time, uri string) error {
	status, err := event.Text("current_status")
	if err != nil {
		return err
	}
	if r.deps.Device == nil {
		switch {
		case status == "compliant":
			return nil
		case !sub.person:
			return fmt.Errorf("%w: no person is named, and devices are not known here", errFormat)
		default:
			return r.apply(ctx, t, session, &subject{principals: sub.principals, person: true}, at, uri)
		}
	}
	d := Device{Issuer: t.Issuer, ID: sub.device, Compliant: status == "compliant", At: at}
	people := sub.principals
	if len(people) == 0 {
		people = []string{""}
	}
	for _, p := range people {
		d.Principal = p
		if err := r.deps.Device(ctx, d); err != nil {
			return &failureError{err}
		}
	}
	return nil
}

// apply revokes or restores. Doing it twice is doing it once.
func (r *Inbox) apply(ctx context.Context, t *transmitter, what effect, sub *subject, at time.Time, uri string) error {
	reason := uri[strings.LastIndexByte(uri, '/')+1:]
	keep := r.deps.Now().Add(t.Keep)
	e := revocation.Entry{Kind: revocation.KindPrincipal, Reason: reason, By: t.name()}
	switch what {
	case disable, enable:
		if !sub.person || sub.session != "" || sub.token != "" {
			return fmt.Errorf("%w: want an account", errFormat)
		}
	case session, renew:
		switch { // the narrowest that is named
		case sub.token != "":
			return r.revoke(ctx, revocation.Entry{Kind: revocation.KindToken, Value: sub.token, NotAfter: keep, Reason: reason, By: t.name()})
		case sub.session != "" && what == session:
			return r.revoke(ctx, revocation.Entry{Kind: revocation.KindSession, Value: sub.session, NotAfter: keep, Reason: reason, By: t.name()})
		case !sub.person:
			return fmt.Errorf("%w: no person is named", errFormat)
		}
		e.NotAfter, e.Before, e.Renewed = keep, at, what == renew
	default:
		return fmt.Errorf("%w: nothing to do", errFormat)
	}
	for _, p := range sub.principals {
		e.Value = p
		if what == enable {
			if err := r.lift(ctx, t, p); err != nil {
				return err
			}
			continue
		}
		if err := r.revoke(ctx, e); err != nil {
			return err
		}
	}
	if len(sub.principals) == 0 {
		return r.note(ctx, t, reason+": nobody here is meant")
	}
	return nil
}

// lift restores what this transmitter disabled, and nothing that somebody else revoked.
func (r *Inbox) lift(ctx context.Context, t *transmitter, principal string) error {
	e, revoked := r.deps.Revocations.Find(revocation.KindPrincipal, principal)
	if !revoked || e.By != t.name() || !e.Before.IsZero() {
		return nil
	}
	err := r.deps.Revocations.Lift(ctx, revocation.KindPrincipal, principal, t.name())
	if err != nil && !errors.Is(err, revocation.ErrNotRevoked) {
		return &failureError{err}
	}
	return nil
}

func (r *Inbox) revoke(ctx context.Context, e revocation.Entry) error {
	err := r.deps.Revocations.Revoke(ctx, e)
	if err == nil || errors.Is(err, revocation.ErrValue) {
		return err
	}
	return &failureError{err}
}

// note records what was received and has no effect.
func (r *Inbox) note(ctx context.Context, t *transmitter, text string) error {
	if len(text) > maxNote {
		text = strings.ToValidUTF8(text[:maxNote], "")
	}
	if err := r.deps.Record(ctx, warder.Event{
		Type: warder.EventRevocation, Control: "JIT-04", Detail: text, Principal: &warder.EventPrincipal{Issuer: t.Issuer},
	}); err != nil {
		return &failureError{err}
	}
	return nil
}
