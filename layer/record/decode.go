package record

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// A document is the form of an event in the trail.
type document struct {
	warder.Event
	TrailText string             `json:"trail,omitempty"`     // every control that ran: phase, id:nanoseconds[:verdict]
	Decided   []decisionDocument `json:"decisions,omitempty"` // every decision that was not a plain pass
}

// A decisionDocument is one decision in the trail.
type decisionDocument struct {
	Control  warder.ControlID `json:"control"`
	Verdict  string           `json:"verdict"`            // deny, pass, challenge, hold
	Code     warder.Code      `json:"code,omitempty"`     //
	Reason   warder.Reason    `json:"reason,omitempty"`   //
	Detail   string           `json:"detail,omitempty"`   // for operators; redacted
	Public   string           `json:"public,omitempty"`   // what the client was told, if not the default
	Policies []string         `json:"policies,omitempty"` // ids of the policies that decided
	Observed bool             `json:"observed,omitempty"` // monitor mode: recorded, not enforced
}

// parseEvent reads what AppendEvent wrote.
func parseEvent(b []byte) (warder.Event, error) {
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return warder.Event{}, fmt.Errorf("decode record: %w", err)
	}
	e := d.Event
	e.Trail = parseTrail(d.TrailText)
	for _, p := range d.Decided {
		e.Decisions = append(e.Decisions, warder.Decision{
			Control: p.Control, Verdict: parseVerdict(p.Verdict), Code: p.Code, Reason: p.Reason,
			Detail: p.Detail, Public: p.Public, Policies: p.Policies, Observed: p.Observed,
		})
	}
	return e, nil
}

func parseVerdict(s string) warder.Verdict {
	for v := range warder.Hold + 1 {
		if v.String() == s {
			return v
		}
	}
	return warder.Deny
}

// parseTrail reads a trail; steps it does not understand are left out.
func parseTrail(s string) []warder.Step {
	var steps []warder.Step
	for part := range strings.SplitSeq(s, ";") {
		word, rest, _ := strings.Cut(part, " ")
		phase := warder.PhaseConnect
		for ; phase <= warder.PhaseReview && phase.String() != word; phase++ {
		}
		if phase > warder.PhaseReview {
			continue
		}
		for field := range strings.FieldsSeq(rest) {
			f := strings.Split(field, ":")
			ns, err := strconv.ParseInt(f[min(1, len(f)-1)], 10, 64)
			if len(f) < 2 || err != nil {
				continue
			}
			step := warder.Step{Control: warder.ControlID(f[0]), Phase: phase, Verdict: warder.Pass, Took: time.Duration(ns)}
			if len(f) > 2 {
				step.Verdict = parseVerdict(f[2])
			}
			steps = append(steps, step)
		}
	}
	return steps
}
