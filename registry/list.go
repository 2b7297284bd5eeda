package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
)

// An Entry is one definition with what was decided about it.
type Entry struct {
	Definition
	State    warder.State
	Reason   warder.Reason // why it may not be used; empty if it may
	Approval *Approval     // the last decision about exactly this definition; nil if nobody decided
	Latest   bool          // no other definition of the same name was seen later
}

// A Filter selects entries. Zero fields select everything.
type Filter struct {
	Server string
	Kind   string
	Name   string
	State  *warder.State
}

// List returns the entries that a filter selects, ordered by server, kind, name and first sighting.
// It reads the store, so that it tells what every process decided.
func (r *Registry) List(ctx context.Context, f Filter) ([]Entry, error) {
	if err := errors.Join(r.Flush(ctx), r.load(ctx)); err != nil {
		return nil, fmt.Errorf("list definitions: %w", err)
	}
	definitions, err := r.store.Definitions(ctx, f.Server)
	if err != nil {
		return nil, fmt.Errorf("list definitions: %w", err)
	}
	s := r.decided.Load()
	latest := map[Subject]Key{}
	lastSeen := map[Subject]Definition{}
	for i := range definitions {
		d := definitions[i]
		if have, ok := lastSeen[d.Subject()]; !ok || seenLater(d, have) {
			lastSeen[d.Subject()], latest[d.Subject()] = d, d.Key
		}
	}
	var entries []Entry
	for i := range definitions {
		d := definitions[i]
		e := Entry{Definition: d, State: warder.Quarantined, Reason: s.why(d.Key), Latest: latest[d.Subject()] == d.Key}
		if decided, ok := s.byKey[d.Key]; ok {
			a := decided.Approval
			e.State, e.Approval = a.State, &a
		}
		if f.selects(&e) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// seenLater reports whether a was seen later than b, by the first sighting if both were seen lately.
func seenLater(a, b Definition) bool {
	return cmp.Or(a.LastSeen.Compare(b.LastSeen), a.FirstSeen.Compare(b.FirstSeen)) > 0
}

func (f *Filter) selects(e *Entry) bool {
	return (f.Kind == "" || f.Kind == e.Kind) && (f.Name == "" || f.Name == e.Name) &&
		(f.State == nil || *f.State == e.State)
}

// Show returns every definition of one subject, that which was seen last first. An error wraps
// [ErrUnknown] if there is none, and [ErrTampered] if the store does not hold what was seen.
func (r *Registry) Show(ctx context.Context, subject Subject) ([]Entry, error) {
	entries, err := r.List(ctx, Filter{Server: subject.Server, Kind: subject.Kind, Name: subject.Name})
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("show %s: %w", subject, ErrUnknown)
	}
	for i := range entries {
		if sha256.Sum256(entries[i].Canonical) != entries[i].Digest {
			return nil, fmt.Errorf("show %s: %w", subject, ErrTampered)
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		if seenLater(a.Definition, b.Definition) {
			return -1
		}
		return 1
	})
	return entries, nil
}

// Find returns the one definition of a subject whose digest, in hexadecimal, begins with prefix; the
// empty prefix means the one that was seen last. Two definitions that fit are an error.
func (r *Registry) Find(ctx context.Context, subject Subject, prefix string) (Entry, error) {
	entries, err := r.Show(ctx, subject)
	if err != nil {
		return Entry{}, err
	}
	if prefix == "" {
		return entries[0], nil
	}
	var found []Entry
	for _, e := range entries {
		if strings.HasPrefix(hex.EncodeToString(e.Digest[:]), strings.ToLower(prefix)) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return Entry{}, fmt.Errorf("find %s with digest %s: %w", subject, Visible(prefix), ErrUnknown)
	case 1:
		return found[0], nil
	default:
		return Entry{}, fmt.Errorf("find %s: %w: %d digests begin with %s", subject, ErrRequest, len(found), Visible(prefix))
	}
}

// Diff returns how the definition that was seen last differs from the one that was approved last,
// even if that approval was revoked since. Without any decision, old has no digest and everything is
// an addition.
func (r *Registry) Diff(ctx context.Context, subject Subject) (changes []Change, old, now Entry, err error) {
	entries, err := r.Show(ctx, subject)
	if err != nil {
		return nil, old, now, err
	}
	now = entries[0]
	for _, e := range entries {
		if e.Approval == nil {
			continue
		}
		if old.Approval == nil || preferred(e.Approval, old.Approval) {
			old = e
		}
	}
	var before []byte
	if old.Approval != nil {
		before = old.Canonical
	}
	changes, err = Compare(before, now.Canonical)
	if err != nil {
		return nil, old, now, fmt.Errorf("compare %s: %w", subject, err)
	}
	return changes, old, now, nil
}

// preferred reports whether a is what a reader means by "the approved one" rather than b.
func preferred(a, b *Approval) bool {
	if a.State != b.State {
		return a.State == warder.Approved
	}
	return a.At.After(b.At)
}
