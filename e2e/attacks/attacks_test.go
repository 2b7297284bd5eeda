package attacks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// A tally counts attacks.
type tally struct{ tried, refused int }

// TestAttacks runs every theme, and says at the end how the attacks fared.
func TestAttacks(t *testing.T) {
	var n tally
	for _, theme := range []struct {
		name string
		run  func(*testing.T, *tally)
	}{
		{"tokens", testTokens},
		{"proofs", testProofs},
		{"codes", testCodes},
		{"delegation", testDelegation},
		{"admin", testAdmin},
		{"approvals", testApprovals},
		{"flood", testFlood},
		{"grants", testGrants},
		{"revoked", testRevoked},
		{"pages", testPages},
		{"mix-up", testMixUp},
		{"federation", testFederation},
		{"ssrf", testSSRF},
		{"other names", testOtherNames},
	} {
		t.Run(theme.name, func(t *testing.T) { theme.run(t, &n) })
	}
	fmt.Printf("attacks: %d attacks, %d refused at the named step\n", n.tried, n.refused)
	if n.tried != n.refused {
		t.Errorf("%d attacks did not fail where they should", n.tried-n.refused)
	}
}

// An attack is one variation of a flow that passes without it.
type attack struct {
	name  string
	do    func(w *world) answer
	want  step
	shows string // what the answer must hold beside the refusal
}

// A trace is an attack that was refused and must be in the trail.
type trace struct {
	name       string
	want       step
	began, end time.Time
}

// try runs the flow without the attack, each attack, and the flow once more: what is refused is refused for
// the attack alone. Nothing of an attack may reach a server, and each has its own record.
func (w *world) try(flow func(w *world) answer, passed func(answer) bool, attacks []attack) {
	w.t.Helper()
	near := func(when string) {
		w.t.Helper()
		w.peers.Add(1)
		if got := flow(w); !passed(got) {
			w.t.Errorf("near miss %s the attacks: %s", when, got)
		}
	}
	near("before")
	var traces []trace
	for _, a := range attacks {
		if tr, ok := w.attack(a, passed); ok {
			traces = append(traces, tr)
		}
	}
	near("after")
	w.recorded(traces)
}

// attack runs one attack and judges how it failed.
func (w *world) attack(a attack, passed func(answer) bool) (tr trace, ok bool) {
	w.t.Helper()
	outer := w.t
	outer.Run(a.name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = outer }()
		w.tally.tried++
		w.peers.Add(1)
		reached := w.calls.Load()
		tr = trace{name: a.name, want: a.want, began: time.Now()}
		got := a.do(w)
		tr.end = time.Now()
		switch {
		case passed(got):
			t.Errorf("the attack succeeds: %s", got)
		case w.calls.Load() != reached:
			t.Errorf("the attack reached a server: %s", got)
		case a.shows != "" && !strings.Contains(got.String(), a.shows):
			t.Errorf("the answer lacks %q: %s", a.shows, got)
		default:
			ok = true
		}
	})
	return tr, ok
}

// recorded waits until the trail has the record of every attack: of the named step, in the time of the attack.
func (w *world) recorded(traces []trace) {
	w.t.Helper()
	used := map[int]bool{} // events that are the record of an attack already
	for limit := time.Now().Add(5 * time.Second); len(traces) > 0; time.Sleep(100 * time.Millisecond) {
		events := w.refusals()
		var missing []trace
		for _, tr := range traces {
			if tr.in(events, used) {
				w.tally.refused++
			} else {
				missing = append(missing, tr)
			}
		}
		if traces = missing; time.Now().After(limit) {
			for _, tr := range traces {
				w.t.Errorf("%s: no record of %s; the trail has %s", tr.name, tr.want, tr.shown(events))
			}
			return
		}
	}
}

// slack is what may lie between an attack and the time its record names, where clocks are set meanwhile.
const slack = 20 * time.Millisecond

func (tr *trace) covers(e *warder.Event, slack time.Duration) bool {
	return !e.Time.Before(tr.began.Add(-slack)) && !e.Time.After(tr.end.Add(slack))
}

// in looks for the record of the attack: in its own time first, and then close to it. Each record counts once.
func (tr *trace) in(events []warder.Event, used map[int]bool) bool {
	for _, within := range []time.Duration{time.Millisecond, slack} {
		for i := range events {
			if e := &events[i]; tr.covers(e, within) && tr.want == (step{e.Control, e.Reason}) && !used[i] {
				used[i] = true
				return true
			}
		}
	}
	return false
}

// shown lists what was refused in the time of the attack.
func (tr *trace) shown(events []warder.Event) string {
	var out []string
	for i := range events {
		if e := &events[i]; tr.covers(e, slack) && len(out) < 4 {
			out = append(out, fmt.Sprintf("%s %s (%.100s)", e.Type, step{e.Control, e.Reason}, e.Detail))
		}
	}
	return fmt.Sprintf("%q", out)
}
