package wire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warder-mcp/warder"
)

// DefaultFloor is the oldest revision spoken when no floor is configured: the first whose servers
// are OAuth resource servers and which has no batches.
const DefaultFloor = warder.Revision20250618

// ExtensionTasks is the extension that carries tasks from 2026-07-28 on.
const ExtensionTasks = "io.modelcontextprotocol/tasks"

// Reasons of PRT-01.
const (
	ReasonUnknownRevision warder.Reason = "unknown_revision" // not a revision that Warder speaks
	ReasonBelowFloor      warder.Reason = "below_floor"      // older than the floor, or past its sunset
)

// Admit says whether messages of a revision are accepted above a floor. An empty floor means
// DefaultFloor. The error is a *warder.Error of CodeUnsupported with the supported revisions in Data.
func Admit(rev, floor warder.Revision) error {
	floor, err := checkFloor(floor)
	if err != nil {
		return err
	}
	if !rev.Known() {
		return unsupported(ReasonUnknownRevision, rev, floor)
	}
	if rev < floor {
		return unsupported(ReasonBelowFloor, rev, floor)
	}
	return nil
}

// Negotiate answers the revision that a client offers in initialize: the offered one when Warder
// speaks it, else the newest stateful one, as the specification's lifecycle section asks. An offer of
// a known revision below the floor is refused rather than raised, so that a downgrade is seen; so is
// every initialize when the floor leaves no stateful revision. Errors are those of Admit.
func Negotiate(offered, floor warder.Revision) (warder.Revision, error) {
	floor, err := checkFloor(floor)
	if err != nil {
		return "", err
	}
	if floor.Modern() || offered.Known() && offered < floor {
		return "", unsupported(ReasonBelowFloor, offered, floor)
	}
	if !offered.Known() || offered.Modern() {
		return warder.Revision20251125, nil
	}
	return offered, nil
}

// Supported lists the revisions at or above a floor, oldest first; none when the floor is unknown.
func Supported(floor warder.Revision) []warder.Revision {
	floor, err := checkFloor(floor)
	if err != nil {
		return nil
	}
	all := warder.Revisions()
	for len(all) > 0 && all[0] < floor {
		all = all[1:]
	}
	return all
}

func checkFloor(floor warder.Revision) (warder.Revision, error) {
	if floor == "" {
		return DefaultFloor, nil
	}
	if !floor.Known() {
		return "", warder.Fail(warder.CodeInternal, ReasonUnknownRevision, fmt.Errorf("revision floor %q: unknown", floor))
	}
	return floor, nil
}

func unsupported(reason warder.Reason, requested, floor warder.Revision) error {
	e := warder.Fail(warder.CodeUnsupported, reason, nil)
	e.Data = UnsupportedData(requested, Supported(floor))
	return e
}

// UnsupportedData returns the data of an unsupported-version error (2026-07-28,
// UnsupportedProtocolVersionError). The requested revision is cut to 32 bytes.
func UnsupportedData(requested warder.Revision, supported []warder.Revision) []byte {
	b := appendRevisions([]byte(`{"supported":`), supported)
	b = AppendQuote(append(b, `,"requested":`...), string(requested[:min(len(requested), 32)]))
	return append(b, '}')
}

func appendRevisions(b []byte, revisions []warder.Revision) []byte {
	b = append(b, '[')
	for i, r := range revisions {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendQuote(b, string(r))
	}
	return append(b, ']')
}

// A RevisionConfig says which revisions are spoken.
type RevisionConfig struct {
	Floor  warder.Revision            `yaml:"floor"`  // oldest revision accepted; empty means 2025-06-18
	Sunset map[warder.Revision]string `yaml:"sunset"` // day from which a revision is refused, such as "2027-07-28"
}

// Floor is control PRT-01: it refuses revisions below the floor or past their sunset. It is safe for concurrent use.
type Floor struct {
	floor  warder.Revision
	sunset map[warder.Revision]time.Time
	now    func() time.Time
}

var _ warder.Interceptor = (*Floor)(nil)

// NewFloor builds the control. A floor or sunset that names an unknown revision is an error, and so
// is a sunset that is not a day; now may be nil for the system clock.
func NewFloor(cfg RevisionConfig, now func() time.Time) (*Floor, error) {
	floor, err := checkFloor(cfg.Floor)
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	f := &Floor{floor: floor, now: now, sunset: make(map[warder.Revision]time.Time, len(cfg.Sunset))}
	for rev, day := range cfg.Sunset {
		if !rev.Known() {
			return nil, fmt.Errorf("revision sunset %q: unknown revision", rev)
		}
		if f.sunset[rev], err = time.Parse(time.DateOnly, day); err != nil {
			return nil, fmt.Errorf("revision sunset %q: %w", rev, err)
		}
	}
	return f, nil
}

// Current returns the floor as of now: the oldest revision of those at or above the configured floor
// that is not past its sunset. A revision older than one past its sunset is not spoken either. It is
// empty when none is left.
func (f *Floor) Current() warder.Revision {
	current := warder.Revision("")
	for _, rev := range Supported(f.floor) {
		end, ends := f.sunset[rev]
		switch {
		case ends && !f.now().Before(end):
			current = ""
		case current == "":
			current = rev
		}
	}
	return current
}

// Admit is the function Admit above the current floor.
func (f *Floor) Admit(rev warder.Revision) error {
	floor := f.Current()
	if floor == "" {
		return warder.Fail(warder.CodeUnsupported, ReasonBelowFloor, errors.New("every revision is past its sunset"))
	}
	return Admit(rev, floor)
}

// Negotiate is the function Negotiate above the current floor.
func (f *Floor) Negotiate(offered warder.Revision) (warder.Revision, error) {
	floor := f.Current()
	if floor == "" {
		return "", warder.Fail(warder.CodeUnsupported, ReasonBelowFloor, errors.New("every revision is past its sunset"))
	}
	rev, err := Negotiate(offered, floor)
	if err != nil {
		return "", err
	}
	return rev, f.Admit(rev)
}

// Supported lists the revisions spoken now, oldest first.
func (f *Floor) Supported() []warder.Revision {
	floor := f.Current()
	if floor == "" {
		return nil
	}
	return Supported(floor)
}

// Control names the control.
func (*Floor) Control() warder.ControlID { return "PRT-01" }

// Intercept judges the revision of an exchange; which methods it has is judged by GW-01. An initialize is judged by the
// negotiated revision, which proxy puts into the exchange.
func (f *Floor) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Request == nil {
		return warder.Decision{}, errors.New("judge revision: no message")
	}
	if err := f.Admit(x.Revision); err != nil {
		var refusal *warder.Error
		if !errors.As(err, &refusal) || refusal.Code != warder.CodeUnsupported {
			return warder.Decision{}, err
		}
		return warder.Refuse(refusal.Code, refusal.Reason, "revision is not spoken here"), nil
	}
	return warder.Continue(), nil
}
