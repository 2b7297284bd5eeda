package parity

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/record"
)

// A trail is the audit trail of all runs.
type trail struct {
	events   []warder.Event
	byID     map[string]warder.Event
	children map[string][]warder.Event
	byTrace  map[string][]warder.Event

	connect, request, response []warder.ControlID
}

func readTrail(t *testing.T, w *world) *trail {
	t.Helper()
	r, err := record.Open(filepath.Join(w.dir, "data", "audit"))
	if err != nil {
		t.Fatal(err)
	}
	tr := &trail{
		byID: make(map[string]warder.Event), children: make(map[string][]warder.Event), byTrace: make(map[string][]warder.Event),
		connect: w.app.Controls(warder.PhaseConnect), request: w.app.Controls(warder.PhaseRequest), response: w.app.Controls(warder.PhaseResponse),
	}
	for e, err := range r.Events(record.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != warder.EventExchange {
			continue
		}
		tr.events = append(tr.events, e)
		tr.byID[e.Exchange] = e
		tr.byTrace[e.TraceID] = append(tr.byTrace[e.TraceID], e)
		if e.Parent != "" {
			tr.children[e.Parent] = append(tr.children[e.Parent], e)
		}
	}
	if len(tr.connect) == 0 || len(tr.request) == 0 || len(tr.response) == 0 || len(tr.events) == 0 {
		t.Fatalf("%d events, controls %v %v %v", len(tr.events), tr.connect, tr.request, tr.response)
	}
	return tr
}

// A walk is one event's trail, cut at the phases.
type walk struct {
	connect, request []warder.Step
	rounds           [][]warder.Step // one for each message of the answer
}

func (tr *trail) walk(e *warder.Event) walk {
	var out walk
	for _, s := range e.Trail {
		switch s.Phase {
		case warder.PhaseConnect:
			out.connect = append(out.connect, s)
		case warder.PhaseRequest:
			out.request = append(out.request, s)
		case warder.PhaseResponse:
			last := len(out.rounds) - 1
			if last < 0 || over(out.rounds[last], tr.response) {
				out.rounds = append(out.rounds, nil)
				last++
			}
			out.rounds[last] = append(out.rounds[last], s)
		case warder.PhaseReview, warder.PhaseComplete:
		}
	}
	return out
}

// over reports whether a phase has ended: every control ran, or one refused.
func over(steps []warder.Step, all []warder.ControlID) bool {
	return len(steps) == len(all) || len(steps) > 0 && steps[len(steps)-1].Verdict != warder.Pass
}

func passed(steps []warder.Step, all []warder.ControlID) bool {
	return len(steps) == len(all) && (len(steps) == 0 || steps[len(steps)-1].Verdict == warder.Pass)
}

// inOrder reports whether the steps are the first controls of the phase, in order, and all but the last
// passed.
func inOrder(steps []warder.Step, all []warder.ControlID) bool {
	for i, s := range steps {
		if i >= len(all) || s.Control != all[i] || s.Verdict != warder.Pass && i != len(steps)-1 {
			return false
		}
	}
	return true
}

// shapes holds every exchange against the path: nothing left out, nothing out of order, nothing
// forwarded unjudged, nothing delivered unjudged.
func (tr *trail) shapes(t *testing.T) {
	t.Helper()
	for i := range tr.events {
		e := &tr.events[i]
		if len(e.Trail) == 0 && e.Messages == 0 && !e.Forwarded && e.Reason == "draining" {
			continue // the gate was closing: nothing is judged any more, and nothing passes
		}
		k := tr.walk(e)
		bad := func(why string) {
			t.Errorf("%s: %s %s %s %s %q code %s/%s by %s, forwarded %v, %d messages\n  trail %v", why, e.Exchange, e.Door, e.Endpoint, e.Revision, e.Method, e.Code, e.Reason, e.Control, e.Forwarded, e.Messages, e.Trail)
		}
		if !inOrder(k.connect, tr.connect) || !inOrder(k.request, tr.request) || !over(k.connect, tr.connect) {
			bad("path out of order")
		}
		judged := passed(k.connect, tr.connect) && passed(k.request, tr.request)
		if e.Forwarded && !judged {
			bad("forwarded unjudged")
		}
		good := 0
		for _, r := range k.rounds[:min(len(k.rounds), tr.complete(e))] {
			if !inOrder(r, tr.response) || !over(r, tr.response) {
				bad("answer judged out of order")
			}
			if passed(r, tr.response) {
				good++
			}
		}
		parts := tr.children[e.Exchange]
		if e.Messages > good && len(e.Trail) < maxSteps && (k.request != nil || !tr.composed(parts)) {
			bad("delivered unjudged")
		}
		if e.Messages > 0 && !judged && !tr.composed(parts) {
			bad("answered unjudged")
		}
	}
}

// maxSteps is how many steps of a long stream a record keeps.
const maxSteps = 512

// complete is how many rounds of an event's trail are whole: all, but the last of a trail that was cut.
func (tr *trail) complete(e *warder.Event) int {
	n := len(tr.walk(e).rounds)
	if len(e.Trail) >= maxSteps {
		n--
	}
	return n
}

// composed reports whether the parts of a fanned-out exchange were judged, both ways, where they
// delivered anything.
func (tr *trail) composed(parts []warder.Event) bool {
	for i := range parts {
		k := tr.walk(&parts[i])
		if passed(k.request, tr.request) && slices.ContainsFunc(k.rounds, func(r []warder.Step) bool { return passed(r, tr.response) }) {
			return true
		}
	}
	return false
}

// ofWarder are the methods that Warder calls for itself.
func ofWarder() []string {
	return []string{
		"initialize", "notifications/initialized", "server/discover", "tools/list", "prompts/list",
		"logging/setLevel", "resources/subscribe", "notifications/cancelled", "subscriptions/listen",
	}
}

// upstream holds what the servers got against the trail: what carries the trace of a client was
// forwarded by an exchange that was judged; everything else is Warder's own.
func (tr *trail) upstream(t *testing.T, w *world) {
	t.Helper()
	got := slices.Clone(w.got)
	if f, err := os.Open(w.notes()); err != nil {
		t.Error(err)
	} else {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			got = append(got, bytes.Clone(lines.Bytes()))
		}
	}
	forwarded, own := 0, 0
	for _, raw := range got {
		m := parse(raw)
		if m.Method == "" {
			continue // answers to questions; counted by compare
		}
		id, ok := strings.CutPrefix(m.Params.Meta.Parent, "00-")
		if !ok {
			if !slices.Contains(ofWarder(), m.Method) {
				t.Errorf("a server got a message of no exchange: %.300s", raw)
			}
			own++
			continue
		}
		forwarded++
		if !slices.ContainsFunc(tr.byTrace[id[:32]], func(e warder.Event) bool {
			k := tr.walk(&e)
			return e.Forwarded && passed(k.connect, tr.connect) && passed(k.request, tr.request)
		}) {
			t.Errorf("a server got a message that no exchange forwarded: %.300s", raw)
		}
	}
	if forwarded < 100 || own == 0 {
		t.Errorf("servers got %d forwarded messages and %d of Warder", forwarded, own)
	}
	t.Logf("servers got %d forwarded messages and %d of Warder's own", forwarded, own)
}

// delivered holds what a client got against the trail: every message was counted by an exchange, whose
// shape has been checked. Refusals are Warder's own words and name their exchange.
func (tr *trail) delivered(t *testing.T, r *run) {
	t.Helper()
	want, kept := 0, 0
	for i := range tr.events {
		e := &tr.events[i]
		if e.Door != r.door || e.Endpoint != r.endpoint || e.Revision != r.rev {
			continue
		}
		parent, isPart := tr.byID[e.Parent]
		switch {
		case !isPart || parent.Method != e.Method && e.Method != "":
			want += e.Messages
		case e.Method == "subscriptions/listen":
			want += max(0, e.Messages-modernAck(r)) // the group acknowledges once
			if r.kind == "connect" && e.Server == "connect" && r.rev.Modern() {
				kept += 3 // the answer with which the Warder behind ends its stream stays with the group
			}
		case parent.Messages == 0 && parent.Code == "":
			want += e.Messages
		}
	}
	got, refusals := 0, 0
	for _, raw := range r.client.received {
		if id := exchangeOf(raw); id != "" && tr.byID[id].Exchange == "" {
			t.Errorf("%s: refusal of an exchange that is not in the trail: %.300s", r, raw)
		} else if id != "" && tr.byID[id].Endpoint == r.endpoint { // others come from the Warder behind
			refusals++
			continue
		}
		if bytes.Contains(raw, []byte(`"supported":[`)) {
			continue // UnsupportedProtocolVersionError, whose data has no room
		}
		got++
	}
	if got > want || got < want-kept {
		t.Errorf("%s: the client got %d messages beside %d refusals, the trail tells of %d", r, got, refusals, want)
	}
}

func modernAck(r *run) int {
	if r.rev.Modern() {
		return 1
	}
	return 0
}

func exchangeOf(raw []byte) string {
	for _, mark := range []string{`"exchange":"`, `, exchange `} {
		if _, after, ok := bytes.Cut(raw, []byte(mark)); ok {
			return string(after[:min(26, len(after))])
		}
	}
	return ""
}

// signature says which controls an exchange passed on its way, and which one ended it.
func (tr *trail) signature(e *warder.Event) string {
	k := tr.walk(e)
	var b strings.Builder
	for _, s := range slices.Concat(k.connect, k.request) {
		b.WriteString(string(s.Control))
		if s.Verdict != warder.Pass {
			b.WriteString("!" + s.Verdict.String())
		}
		b.WriteByte(' ')
	}
	if e.Control != "" && !passed(k.request, tr.request) {
		fmt.Fprintf(&b, "→ %s %s/%s", e.Control, e.Code, e.Reason)
	}
	return b.String()
}

// answers says how each message of the answer was judged.
func (tr *trail) answers(e *warder.Event) []string {
	var out []string
	for _, r := range tr.walk(e).rounds {
		last := r[len(r)-1]
		if last.Verdict == warder.Pass {
			out = append(out, "passed")
			continue
		}
		out = append(out, "refused by "+string(last.Control))
	}
	return out
}

// compare holds the runs against each other: for one revision, direction and method the same controls
// ran in the same order, whatever the door, the mode and the upstream; and what one kind of upstream
// answered was judged alike behind every door and mode. It returns how many combinations it compared.
func (tr *trail) compare(t *testing.T, all []*run) int {
	t.Helper()
	down, up := make(map[string]map[string][]string), make(map[string]map[string][]string)
	n := 0
	for _, r := range all {
		for _, st := range r.steps {
			n++
			exchanges := tr.exchanges(r, st)
			if len(exchanges) == 0 {
				t.Errorf("%s: %s left no trace in the trail", r, st.name)
			}
			for round, e := range exchanges {
				place := fmt.Sprintf("%s, %s, round %d", r.rev, st.name, round+1)
				note(down, place, tr.signature(&e), r)
				if what, during := strings.CutPrefix(st.name, "server "); during && what != "notifications/cancelled" {
					note(up, place+" in front of "+r.kind, strings.Join(tr.answers(&e), ", "), r)
				}
			}
		}
	}
	differ(t, down)
	differ(t, up)
	return n
}

func note(seen map[string]map[string][]string, place, what string, r *run) {
	if seen[place] == nil {
		seen[place] = make(map[string][]string)
	}
	seen[place][what] = append(seen[place][what], r.String())
}

// differ reports every place at which not all runs took the same path.
func differ(t *testing.T, seen map[string]map[string][]string) {
	t.Helper()
	for _, place := range slices.Sorted(maps.Keys(seen)) {
		if len(seen[place]) == 1 {
			continue
		}
		var b strings.Builder
		for what, where := range seen[place] {
			fmt.Fprintf(&b, "\n  %d runs: %s\n    such as %s", len(where), what, strings.Join(where[:min(3, len(where))], "; "))
		}
		t.Errorf("%s: different paths:%s", place, b.String())
	}
}

// exchanges are those of a step, in order, without the parts of other servers and without the exchange
// that only gathers its parts.
func (tr *trail) exchanges(r *run, st step) []warder.Event {
	var out []warder.Event
	for _, e := range tr.byTrace[st.trace] {
		if e.Endpoint != r.endpoint || e.Parent != "" && e.Server == "other" {
			continue
		}
		if parent, ok := tr.byID[e.Parent]; ok && parent.Method == e.Method && e.Method == "" {
			continue
		}
		if e.Method != st.method {
			continue // an answer or a part of another kind
		}
		if parts := tr.children[e.Exchange]; r.group && slices.ContainsFunc(parts, func(p warder.Event) bool { return p.Method == e.Method }) && e.Server == "" {
			continue
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b warder.Event) int { // an answer after the call that asked, whatever their clock says
		switch {
		case a.Parent == b.Exchange:
			return 1
		case b.Parent == a.Exchange:
			return -1
		default:
			return cmp.Compare(a.Exchange, b.Exchange)
		}
	})
	return out
}
