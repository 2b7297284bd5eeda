package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// A Signal is something that makes a caller riskier.
type Signal string

// The signals. Others may be configured; their weight is 10.
const (
	SignalRefused     Signal = "refused"      // a control refused a call
	SignalFinding     Signal = "finding"      // a detector found something of high severity
	SignalCritical    Signal = "critical"     // or of critical severity
	SignalPostureLost Signal = "posture_lost" // the device is not compliant any more
	SignalRevoked     Signal = "revoked"      // something of this caller was revoked
	SignalReplay      Signal = "replay"       // a credential, proof or approval was used twice
	SignalBehaviour   Signal = "behaviour"    // it behaves unlike before
)

// DefaultWeights are the points that signals add.
func DefaultWeights() map[string]int {
	return map[string]int{
		string(SignalRefused): 4, string(SignalFinding): 20, string(SignalCritical): 40, string(SignalPostureLost): 50,
		string(SignalRevoked): 30, string(SignalReplay): 40, string(SignalBehaviour): 20,
	}
}

// A Risky names who a score is about. Exactly one of the three is set.
type Risky struct {
	Principal string // "issuer|subject"
	Agent     string // registered agent, or as the credential names it
	Trace     [16]byte
}

func (r Risky) zero() bool { return r == Risky{} }

// id names the document of a score.
func (r Risky) id() string {
	switch {
	case r.Principal != "":
		return "principal:" + r.Principal
	case r.Agent != "":
		return "agent:" + r.Agent
	default:
		return fmt.Sprintf("trace:%x", r.Trace)
	}
}

// who is what the table is searched with; it spares the joined text.
type who struct {
	issuer, subject, agent string
	trace                  [16]byte
}

func (r Risky) who() who {
	if r.Principal != "" {
		h, _, err := holderOf(r.Principal)
		if err == nil {
			return who{issuer: h.issuer, subject: h.subject}
		}
	}
	return who{agent: r.Agent, trace: r.Trace}
}

// Size of the table of scores: entries, and how many of them compete for one key.
const (
	scores    = 1 << 14
	scoreWays = 8
)

// Risk is a score from 0 to 100 for principals, agents and traces: signals add points, which decay by
// half in every half-life. The score of a call is the highest of the three. A score that rises is told to
// the other replicas through the store. Memory is bounded; when it is full, the lowest of a few scores
// gives way, so a flood of small ones does not wash out a high one. It is safe for concurrent use.
type Risk struct {
	b     *Broker
	seed  maphash.Seed
	slots []atomic.Pointer[score]
	known atomic.Int64 // entries ever made; zero means that every score is zero
	rises chan rise
}

type score struct {
	who    who
	points float64
	at     int64   // Unix time in nanoseconds at which it had these points
	told   float64 // points the other replicas were told of
}

type rise struct {
	about  Risky
	points float64
	at     time.Time
}

// A riskDoc is a score in the store.
type riskDoc struct {
	About  Risky     `json:"about"`
	Points float64   `json:"points"`
	At     time.Time `json:"at"`
}

func newRisk(b *Broker) *Risk {
	return &Risk{b: b, seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[score], scores), rises: make(chan rise, 256)}
}

// Score is the risk of a call of the principal within a trace.
func (r *Risk) Score(p *warder.Principal, trace [16]byte) float64 {
	if r.known.Load() == 0 || p == nil {
		return 0
	}
	now := r.b.deps.Now().UnixNano()
	high := max(r.of(who{issuer: p.Issuer, subject: p.Subject}, now), r.of(who{trace: trace}, now))
	if p.Registered != nil {
		high = max(high, r.of(who{agent: p.Registered.Name}, now))
	}
	if p.Agent != "" {
		high = max(high, r.of(who{agent: p.Agent}, now))
	}
	return high
}

func (r *Risk) of(w who, now int64) float64 {
	if w == (who{}) {
		return 0
	}
	for i, at := 0, r.place(w); i < scoreWays; i++ {
		if s := r.slots[at+i].Load(); s != nil && s.who == w {
			return r.decayed(s, now)
		}
	}
	return 0
}

func (r *Risk) place(w who) int {
	return int(maphash.Comparable(r.seed, w)&(scores-1)) &^ (scoreWays - 1)
}

func (r *Risk) decayed(s *score, now int64) float64 {
	age := float64(now - s.at)
	if age <= 0 {
		return s.points
	}
	return s.points * math.Exp2(-age/float64(r.b.config.Load().Risk.HalfLife))
}

// Signal adds the points of a signal to each of the scores named.
func (r *Risk) Signal(signal Signal, about ...Risky) {
	cfg := r.b.config.Load()
	points, ok := cfg.Risk.Weights[string(signal)]
	if !ok {
		if points, ok = DefaultWeights()[string(signal)]; !ok {
			points = 10
		}
	}
	now := r.b.deps.Now()
	for _, a := range about {
		if a.zero() || points <= 0 {
			continue
		}
		after, told := r.add(a.who(), float64(points), now.UnixNano(), cfg.Risk.Share)
		if told {
			select {
			case r.rises <- rise{a, after, now}:
			default: // the others learn of it with the next rise
			}
		}
	}
}

// Note raises the scores of a call's principal, agent and trace.
func (r *Risk) Note(signal string, p *warder.Principal, trace [16]byte) {
	r.Signal(Signal(signal), About(p, trace)...)
}

// add raises one score and says whether the others should be told: it passed the configured score, and
// rose by a tenth of the scale since they last were.
func (r *Risk) add(w who, points float64, now int64, share float64) (after float64, tell bool) {
	r.known.Add(1)
	for {
		slot, old := r.slot(w, now)
		next := &score{who: w, at: now, points: min(100, points)}
		if old != nil && old.who == w {
			next.points = min(100, r.decayed(old, now)+points)
			next.told = min(old.told, r.decayed(old, now))
		}
		tell = next.points >= share && next.points-next.told >= 10
		if tell {
			next.told = next.points
		}
		if slot.CompareAndSwap(old, next) {
			return next.points, tell
		}
	}
}

// slot finds the entry of a key, or a free one, or that with the lowest score.
func (r *Risk) slot(w who, now int64) (*atomic.Pointer[score], *score) {
	var lowest *atomic.Pointer[score]
	var lowestScore *score
	var free *atomic.Pointer[score]
	for i, at := 0, r.place(w); i < scoreWays; i++ {
		p := &r.slots[at+i]
		s := p.Load()
		switch {
		case s == nil:
			if free == nil {
				free = p
			}
		case s.who == w:
			return p, s
		case lowest == nil || r.decayed(s, now) < r.decayed(lowestScore, now):
			lowest, lowestScore = p, s
		}
	}
	if free != nil {
		return free, nil
	}
	return lowest, lowestScore
}

// tell writes a score that rose to the store. It belongs to the follower.
func (r *Risk) tell(ctx context.Context, up rise) {
	body, err := encode(riskDoc{up.about, up.points, up.at})
	if err != nil {
		return
	}
	d := state.Doc{Kind: kindRisk, ID: up.about.id(), Body: body, NotAfter: up.at.Add(8 * r.b.config.Load().Risk.HalfLife)}
	for range tries {
		there, err := r.b.deps.State.Get(ctx, kindRisk, d.ID)
		d.Version = 0
		if err == nil {
			d.Version = there.Version
		}
		_, err = r.b.deps.State.Put(ctx, d)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		if err != nil && ctx.Err() == nil {
			r.b.deps.Log.WarnContext(ctx, "the risk of a caller cannot be told to other replicas", slog.Any("error", err))
		}
		return
	}
}

// apply takes over a score of another replica, if it is higher than the own.
func (r *Risk) apply(d *state.Doc) {
	var doc riskDoc
	if d.Deleted || json.Unmarshal(d.Body, &doc) != nil || doc.About.zero() || doc.Points != min(100, max(0, doc.Points)) {
		return
	}
	w, at := doc.About.who(), doc.At.UnixNano()
	now := r.b.deps.Now().UnixNano()
	other := &score{who: w, points: doc.Points, at: min(at, now), told: doc.Points}
	r.known.Add(1)
	for {
		slot, old := r.slot(w, now)
		if old != nil && r.decayed(old, now) >= r.decayed(other, now) {
			return
		}
		if slot.CompareAndSwap(old, other) {
			return
		}
	}
}

// About names the scores that a call of the principal counts for.
func About(p *warder.Principal, trace [16]byte) []Risky {
	out := make([]Risky, 0, 3)
	if p != nil {
		out = append(out, Risky{Principal: p.Issuer + "|" + p.Subject})
		name := p.Agent
		if p.Registered != nil {
			name = cmp.Or(p.Registered.Name, name)
		}
		if name != "" {
			out = append(out, Risky{Agent: name})
		}
	}
	if trace != [16]byte{} {
		out = append(out, Risky{Trace: trace})
	}
	return out
}
