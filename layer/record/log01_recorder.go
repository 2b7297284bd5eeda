package record

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
)

// recorder writes one typed event for every finished exchange, whatever its outcome, and one for
// every authentication: refused, or accepted for the first time. Control LOG-01; phase Complete.
type recorder struct {
	log    *Log
	digest string // of the configuration
	now    func() time.Time
	seen   *credentials
}

var _ warder.Recorder = (*recorder)(nil)

// Control returns the id in the catalogue.
func (*recorder) Control() warder.ControlID { return "LOG-01" }

// Record writes the events of x. It does not wait for the disk.
func (r *recorder) Record(ctx context.Context, x *warder.Exchange) error {
	m, known := r.log.late.end(x)
	at := r.now()
	if x.Principal == nil && x.Outcome == warder.OutcomeRefused && !r.log.quiet.allow(at) {
		return nil // counted; see refusals_suppressed
	}
	if !known {
		m = r.log.marksOf(x)
	}
	var e warder.Event
	var p warder.EventPrincipal
	describe(&e, &p, x, m, warder.EventExchange, at)
	conclude(&e, x)
	witness(&e, x)
	e.ConfigDigest = r.digest
	buf := r.log.buffer()
	defer r.log.release(buf)
	*buf = AppendEvent((*buf)[:0], &e)
	if err := r.log.write(*buf); err != nil {
		return r.log.logged(ctx, err)
	}
	if !r.authentication(&e, x) {
		return nil
	}
	e.ID, e.Type = warder.NewID(at), warder.EventAuth
	e.Decisions, e.Trail, e.Findings, e.Policies = nil, nil, nil, nil
	e.RequestHash, e.Digest, e.Effect, e.DurationUS = "", "", "", 0
	*buf = AppendEvent((*buf)[:0], &e)
	if err := r.log.write(*buf); err != nil {
		return r.log.logged(ctx, err)
	}
	return nil
}

// authentication reports whether x tells something about authentication that is an event of its own,
// and sets the outcome of that event.
func (r *recorder) authentication(e *warder.Event, x *warder.Exchange) bool {
	if e.Code == warder.CodeUnauthenticated || e.Code == warder.CodeInsufficientScope {
		e.Outcome = warder.OutcomeRefused
		return true
	}
	if x.Principal == nil || !r.seen.first(x.Principal) {
		return false
	}
	e.Outcome, e.Code, e.Reason, e.Control, e.Detail = warder.OutcomeAllowed, "", "", "", ""
	return true
}

// credentials remembers which were seen, within a bound: when it is full it forgets all, and known
// credentials are recorded as accepted once more.
type credentials struct {
	seed  maphash.Seed
	mu    sync.Mutex
	known map[uint64]struct{}
}

const maxCredentials = 1 << 16

func newCredentials() *credentials {
	return &credentials{seed: maphash.MakeSeed(), known: map[uint64]struct{}{}}
}

func (c *credentials) first(p *warder.Principal) bool {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, s := range [...]string{p.Tenant, p.Issuer, p.Subject, p.Client, p.Agent, p.TokenID} {
		_, _ = h.WriteString(s) // never fails
		_ = h.WriteByte(0)      // never fails
	}
	sum := h.Sum64()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[sum]; ok {
		return false
	}
	if len(c.known) >= maxCredentials {
		clear(c.known)
	}
	c.known[sum] = struct{}{}
	return true
}
