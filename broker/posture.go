package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// What is known of the device or workload a call comes from.
const (
	PostureCompliant    = "compliant"
	PostureNotCompliant = "not_compliant"
	PostureStale        = "stale" // it was compliant when it last reported, which is too long ago
)

// A Posture is a report about a device, workload or principal.
type Posture struct {
	Subject   string    `json:"subject"` // "issuer|subject", a SPIFFE id, or the thumbprint of the device's key
	Compliant bool      `json:"compliant"`
	At        time.Time `json:"at"`
	Source    string    `json:"source"` // who reported it
}

// Postures are the reports about devices, as signals bring them (CAEP device-compliance-change). It is
// safe for concurrent use.
type Postures struct {
	b  *Broker
	by atomic.Pointer[map[string]Posture] // replaced, never changed

	mu  sync.Mutex
	seq map[string]int64
}

func newPostures(b *Broker) *Postures {
	p := &Postures{b: b, seq: map[string]int64{}}
	p.by.Store(&map[string]Posture{})
	return p
}

// Of returns the worst of what is known of the principal, its workload and its key; empty if nothing is.
func (p *Postures) Of(who *warder.Principal) string {
	known := *p.by.Load()
	if len(known) == 0 || who == nil {
		return ""
	}
	now, fresh := p.b.deps.Now(), p.b.config.Load().Risk.Fresh
	word := ""
	for _, key := range [...]string{who.Issuer + "|" + who.Subject, who.Workload, who.Binding} {
		r, ok := known[key]
		switch {
		case !ok || key == "":
		case !r.Compliant:
			return PostureNotCompliant
		case now.Sub(r.At) >= fresh:
			word = PostureStale
		case word == "":
			word = PostureCompliant
		}
	}
	return word
}

// Report takes over a report, on every replica. An older one than that known is ignored. A device that is
// no longer compliant raises the risk of the principal. Errors are ErrInvalid and those of store and trail.
func (p *Postures) Report(ctx context.Context, r Posture) error {
	if r.Subject == "" || len(r.Subject) > 4*maxWord || r.At.IsZero() {
		return fmt.Errorf("posture: %w: no subject or time", ErrInvalid)
	}
	now := p.b.deps.Now()
	if r.At.After(now) {
		r.At = now // a report from the future would outlive its time
	}
	word := warder.Reason("posture_" + PostureCompliant)
	if !r.Compliant {
		word = "posture_" + PostureNotCompliant
	}
	err := p.b.record(ctx, warder.Event{Type: warder.EventRevocation, Reason: word, Detail: fmt.Sprintf("device or workload %.200q, reported by %.100q", r.Subject, r.Source)})
	if err != nil {
		return err
	}
	if err := p.write(ctx, r); err != nil {
		return fmt.Errorf("posture: %w", err)
	}
	if !r.Compliant {
		p.b.Risk.Signal(SignalPostureLost, Risky{Principal: r.Subject})
	}
	return nil
}

func (p *Postures) write(ctx context.Context, r Posture) error {
	body, err := encode(r)
	if err != nil {
		return err
	}
	d := state.Doc{Kind: kindPosture, ID: r.Subject, Body: body}
	if r.Compliant { // that a device is bad is not forgotten
		d.NotAfter = r.At.Add(31 * 24 * time.Hour)
	}
	for range tries {
		there, err := p.b.deps.State.Get(ctx, kindPosture, r.Subject)
		d.Version = 0
		switch {
		case err == nil:
			var was Posture
			if json.Unmarshal(there.Body, &was) == nil && was.At.After(r.At) {
				return nil
			}
			d.Version = there.Version
		case !errors.Is(err, state.ErrNotFound):
			return err
		}
		err = p.b.put(ctx, d)
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	return state.ErrConflict
}

// replace makes the snapshot anew of all reports there are.
func (p *Postures) replace(docs []state.Doc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[string]Posture, len(docs))
	p.seq = make(map[string]int64, len(docs))
	for i := range docs {
		next[docs[i].ID], p.seq[docs[i].ID] = p.read(&docs[i]), docs[i].Seq
	}
	p.by.Store(&next)
}

// read decodes a report; one that cannot be read is not compliant until somebody says otherwise.
func (p *Postures) read(d *state.Doc) Posture {
	var r Posture
	if err := json.Unmarshal(d.Body, &r); err != nil {
		p.b.deps.Log.Error("a posture cannot be read", slog.String("subject", d.ID))
		return Posture{Subject: d.ID}
	}
	return r
}

func (p *Postures) apply(d *state.Doc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seq[d.ID] >= d.Seq {
		return
	}
	next := maps.Clone(*p.by.Load())
	if d.Deleted {
		delete(next, d.ID)
		delete(p.seq, d.ID)
		p.by.Store(&next)
		return
	}
	next[d.ID], p.seq[d.ID] = p.read(d), d.Seq
	p.by.Store(&next)
}
