package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
)

// ErrRequest is wrapped by errors that say a decision was asked for in a wrong way.
var ErrRequest = errors.New("decision not acceptable")

// ErrTampered says that a definition in the store is not the one its digest names.
var ErrTampered = errors.New("stored definition does not match its digest")

// A Request asks for a decision about one definition that was seen.
type Request struct {
	Key
	Who    string        // who decides; must not be empty
	Effect warder.Effect // what calling the tool may change; the zero value counts as destructive
	Labels []string      // data labels: lower-case letters, digits and "._:-", at most 32
	Note   string        // why, at most 1024 bytes
	Keep   bool          // leave approvals of other digests of the same name in force
}

const (
	maxLabels = 32
	maxNote   = 1024
	maxWho    = 256
)

// Approve lets exactly this definition be used. The definition must have been seen and must be
// usable. Other definitions of the same name are revoked unless the request says to keep them. The
// decision is durable, and in force in this process, when Approve returns; others follow within
// their Config.Poll. It is written to the audit trail first: what cannot be recorded is not approved.
func (r *Registry) Approve(ctx context.Context, req Request) error {
	if err := req.check(); err != nil {
		return fmt.Errorf("approve %s: %w", req.Subject(), err)
	}
	definition, err := r.definition(ctx, req.Key)
	if err != nil {
		return fmt.Errorf("approve %s: %w", req.Subject(), err)
	}
	if _, err := Build(req.Server, req.Kind, definition.Canonical); err != nil {
		return fmt.Errorf("approve %s: %w", req.Subject(), err)
	}
	if err := r.decide(ctx, req, warder.Approved, !req.Keep); err != nil {
		return fmt.Errorf("approve %s: %w", req.Subject(), err)
	}
	return nil
}

// Revoke takes an approval back, or refuses a definition that was never approved. Effect, labels and
// Keep of the request are not used. It is durable and in force as [Registry.Approve] says. A
// revocation is carried out even when it cannot be recorded; the error then says so.
func (r *Registry) Revoke(ctx context.Context, req Request) error {
	req.Effect, req.Labels, req.Keep = warder.EffectUnknown, nil, true
	if err := req.check(); err != nil {
		return fmt.Errorf("revoke %s: %w", req.Subject(), err)
	}
	if err := r.decide(ctx, req, warder.Revoked, false); err != nil {
		return fmt.Errorf("revoke %s: %w", req.Subject(), err)
	}
	return nil
}

func (r *Registry) decide(ctx context.Context, req Request, state warder.State, supersede bool) error {
	at := r.now().UTC()
	recorded := r.record(ctx, warder.Event{
		Time: at, Type: warder.EventApproval, Server: req.Server, Target: cutTarget(req.Kind + " " + req.Name),
		Digest: hex.EncodeToString(req.Digest[:]), Effect: req.Effect.String(),
		Principal: &warder.EventPrincipal{Subject: req.Who}, Detail: state.String() + ": " + Visible(req.Note),
	})
	if recorded != nil && state == warder.Approved {
		return fmt.Errorf("record: %w", recorded)
	}
	if err := r.Flush(ctx); err != nil {
		r.log.WarnContext(ctx, "sightings not recorded", slog.String("error", err.Error()))
	}
	err := r.store.Decide(ctx, Approval{
		Key: req.Key, State: state, Effect: req.Effect, Labels: req.Labels,
		By: req.Who, At: at, Note: req.Note,
	}, supersede)
	if err != nil {
		return err
	}
	return errors.Join(recorded, r.load(ctx))
}

func (req *Request) check() error {
	label := regexp.MustCompile(`^[a-z0-9][a-z0-9._:-]{0,63}$`)
	switch {
	case strings.TrimSpace(req.Who) == "" || len(req.Who) > maxWho || Visible(req.Who) != req.Who:
		return fmt.Errorf("%w: who decides must be named, with at most %d visible bytes", ErrRequest, maxWho)
	case len(req.Note) > maxNote:
		return fmt.Errorf("%w: note of %d bytes, at most %d", ErrRequest, len(req.Note), maxNote)
	case len(req.Labels) > maxLabels:
		return fmt.Errorf("%w: %d labels, at most %d", ErrRequest, len(req.Labels), maxLabels)
	case req.Effect > warder.EffectDestructive:
		return fmt.Errorf("%w: unknown effect %d", ErrRequest, req.Effect)
	}
	for _, l := range req.Labels {
		if !label.MatchString(l) {
			return fmt.Errorf("%w: label %q", ErrRequest, l)
		}
	}
	slices.Sort(req.Labels)
	req.Labels = slices.Compact(req.Labels)
	return nil
}

// definition reads a definition and proves that the store kept it as it was seen.
func (r *Registry) definition(ctx context.Context, key Key) (Definition, error) {
	if err := r.Flush(ctx); err != nil {
		return Definition{}, err
	}
	d, err := r.store.Definition(ctx, key)
	if err != nil {
		return Definition{}, err
	}
	if sha256.Sum256(d.Canonical) != key.Digest {
		return Definition{}, ErrTampered
	}
	return d, nil
}

// Pin approves those definitions about whose name nobody ever decided, as [FirstUse], durably. It
// serves servers that are trusted at first sight; a later change is quarantined as always. A
// definition that cannot be used is not pinned.
func (r *Registry) Pin(ctx context.Context, tools []*warder.Tool) error {
	now := r.now()
	usable := make([]Definition, 0, len(tools))
	for _, tool := range tools {
		if _, err := compile(tool, r.schemas.Compile); err == nil {
			usable = append(usable, seenNow(tool, now))
		}
	}
	if len(usable) == 0 {
		return nil
	}
	pinned, err := r.store.Pin(ctx, usable, FirstUse, now.UTC())
	if err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	if err := r.load(ctx); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	return r.recordAll(ctx, pinned, func(key Key) warder.Event {
		return warder.Event{
			Time: now.UTC(), Type: warder.EventApproval, Server: key.Server, Target: cutTarget(key.Kind + " " + key.Name),
			Digest: hex.EncodeToString(key.Digest[:]), Effect: warder.EffectUnknown.String(),
			Principal: &warder.EventPrincipal{Subject: FirstUse}, Detail: "approved: pinned at first sight",
		}
	})
}

// String names the subject for people, such as "tool notes/search".
func (s Subject) String() string { return s.Kind + " " + s.Server + "/" + Visible(s.Name) }

// ParseEffect reads the word of an effect, as [warder.Effect] writes it.
func ParseEffect(word string) (warder.Effect, error) {
	for e := warder.EffectUnknown; e <= warder.EffectDestructive; e++ {
		if e.String() == word {
			return e, nil
		}
	}
	return warder.EffectUnknown, fmt.Errorf("unknown effect %q: want unknown, read, write or destructive", word)
}
