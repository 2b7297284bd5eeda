package record

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

// reference encodes an event with encoding/json.
func reference(tb testing.TB, e *warder.Event) string {
	tb.Helper()
	d := document{Event: *e, TrailText: string(appendTrail(nil, e.Trail))}
	for _, x := range e.Decisions {
		d.Decided = append(d.Decided, decisionDocument{
			x.Control, x.Verdict.String(), x.Code, x.Reason, x.Detail, x.Public, x.Policies, x.Observed,
		})
	}
	b, err := json.Marshal(d)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// scramble makes an event of random fields, with text that needs every kind of escape.
func scramble(r *rand.Rand) warder.Event {
	texts := []string{
		"", "plain", `qu"ote\slash`, "<script>&amp;", "tab\tnl\ncr\rbs\bff\f", "nul\x00esc\x1bdel\x7f",
		"Umlaut äöü 漢字 🦊", "bad\xffutf\xc3", "line\u2028sep\u2029", strings.Repeat("long ", 60),
	}
	text := func() string { return texts[r.IntN(len(texts))] }
	list := func() (l []string) {
		for range r.IntN(3) {
			l = append(l, text())
		}
		return l
	}
	numbers := []float64{0, 1, 0.5, 1e-7, 1e21, 1e-9, 123456.789, math.SmallestNonzeroFloat64, math.MaxFloat64, 1e20}
	e := warder.Event{
		ID: text(), Time: time.Unix(r.Int64N(1<<32), r.Int64N(1e9)).UTC(), Type: warder.EventType(text()),
		Exchange: text(), Parent: text(), TraceID: text(), Door: warder.Door(text()), Revision: warder.Revision(text()),
		Peer: text(), Endpoint: text(), Server: text(), Method: text(), Target: text(), Digest: text(), Effect: text(),
		RequestHash: text(), Outcome: warder.Outcome(text()), Code: warder.Code(text()), Reason: warder.Reason(text()),
		Control: warder.ControlID(text()), Policies: list(), Forwarded: r.IntN(2) == 0, Messages: r.IntN(3),
		BytesIn: r.Int64N(3) - 1, BytesOut: r.Int64(), DurationUS: r.Int64N(2), ConfigDigest: text(), Detail: text(),
	}
	if r.IntN(2) == 0 {
		e.Principal = &warder.EventPrincipal{Issuer: text(), Subject: text(), Tenant: text(), Client: text(), Agent: text(), TokenID: text()}
		e.Principal.Actors, e.Principal.ACR, e.Principal.AMR, e.Principal.Transport = list(), text(), list(), text()
		e.Principal.Bound = r.IntN(2) == 0
		if r.IntN(2) == 0 {
			e.Principal.AuthTime = time.Unix(r.Int64N(1<<32), r.Int64N(1e9)).UTC()
		}
	}
	if r.IntN(2) == 0 {
		e.Circumstances = &warder.Circumstances{Zone: text(), Country: text(), Posture: text(), Purpose: text(), Risk: r.IntN(3), Trust: r.IntN(3), Labels: list()}
	}
	if e.Circumstances != nil && r.IntN(2) == 0 {
		e.Circumstances.Grant = &warder.GrantSeen{ID: text(), Purpose: text(), NotAfter: time.Unix(r.Int64N(1<<32), 0).UTC(), Plan: text(), Step: r.IntN(2)}
		e.Circumstances.Agent = &warder.AgentSeen{Name: text(), Owner: text(), Roles: list()}
	}
	for range r.IntN(3) {
		e.Obligations = append(e.Obligations, warder.Obligation{Kind: warder.ObligationKind(text()), Value: text(), Policy: text()})
	}
	e.Approval = text()
	for range r.IntN(3) {
		e.Findings = append(e.Findings, warder.Finding{
			Control: warder.ControlID(text()), Rule: text(), Severity: warder.Severity(r.IntN(5)), Pointer: text(),
			Evidence: text(), Confidence: numbers[r.IntN(len(numbers))],
		})
		e.Decisions = append(e.Decisions, warder.Decision{
			Control: warder.ControlID(text()), Verdict: warder.Verdict(r.IntN(4)), Code: warder.Code(text()),
			Reason: warder.Reason(text()), Detail: text(), Public: text(), Policies: list(), Observed: r.IntN(2) == 0,
		})
	}
	for range r.IntN(4) {
		e.Trail = append(e.Trail, warder.Step{
			Control: "GW-01", Phase: warder.Phase(r.IntN(4)), Verdict: warder.Verdict(r.IntN(4)), Took: time.Duration(r.IntN(1e6)),
		})
	}
	return e
}

func TestAppendEventEqualsEncodingJSON(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		e := scramble(r)
		got, want := string(AppendEvent(nil, &e)), reference(t, &e)
		if got != want {
			t.Fatalf("(-want +got):\n%s", cmp.Diff(want, got))
		}
	}
}

func TestParseEventReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	e := warder.Event{
		ID: "1", Time: time.Date(2026, 7, 28, 1, 2, 3, 4000, time.UTC), Type: warder.EventExchange, Policies: []string{"p"},
		Trail: []warder.Step{
			{Control: "NET-05", Phase: warder.PhaseConnect, Verdict: warder.Pass, Took: 12},
			{Control: "IAM-05", Phase: warder.PhaseConnect, Verdict: warder.Challenge, Took: 13},
			{Control: "GW-01", Phase: warder.PhaseRequest, Verdict: warder.Deny, Took: 14},
			{Control: "GW-01", Phase: warder.PhaseResponse, Verdict: warder.Hold, Took: 15},
		},
		Decisions: []warder.Decision{{
			Control: "GW-01", Verdict: warder.Deny, Code: warder.CodeDenied, Reason: "r", Detail: "d", Public: "p",
			Policies: []string{"a", "b"}, Observed: true,
		}},
		Findings: []warder.Finding{{Control: "GW-01", Rule: "x", Severity: warder.High, Confidence: 0.25}},
	}
	got, err := parseEvent(AppendEvent(nil, &e))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(e, got); d != "" {
		t.Errorf("event (-want +got):\n%s", d)
	}
}

func TestTrailIsBounded(t *testing.T) {
	t.Parallel()
	steps := make([]warder.Step, maxSteps+7)
	for i := range steps {
		steps[i] = warder.Step{Control: "OUT-03", Phase: warder.PhaseResponse, Verdict: warder.Pass, Took: 1}
	}
	text := string(appendTrail(nil, steps))
	if !strings.HasSuffix(text, ";more 7") || len(parseTrail(text)) != maxSteps {
		t.Errorf("trail ends with %q and reads back as %d steps", text[len(text)-20:], len(parseTrail(text)))
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	t.Parallel()
	fields := Fields()
	if len(fields) != len(fieldDocs()) {
		t.Errorf("%d fields, %d descriptions", len(fields), len(fieldDocs()))
	}
	for _, f := range fields {
		if f.Doc == "" {
			t.Errorf("field %s has no description", f.Name)
		}
	}
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]any
		Required   []string
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"id", "time", "type"}, schema.Required); d != "" {
		t.Errorf("required members (-want +got):\n%s", d)
	}
	r := rand.New(rand.NewPCG(3, 4))
	e := scramble(r)
	var members map[string]any
	if err := json.Unmarshal(AppendEvent(nil, &e), &members); err != nil {
		t.Fatal(err)
	}
	for k := range members {
		if schema.Properties[k] == nil {
			t.Errorf("member %s is not in the schema", k)
		}
	}
	if !strings.Contains(Table(), "| `request_hash` | string |") {
		t.Error("the table lacks a member")
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	l := &Log{}
	x := call(b, warder.EffectWrite, `{"to":"bob"}`)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var e warder.Event
		var p warder.EventPrincipal
		describe(&e, &p, x, l.marksOf(x), warder.EventExchange, x.Finished)
		conclude(&e, x)
		buf = AppendEvent(buf[:0], &e)
	}
	b.ReportMetric(float64(len(buf)), "bytes/record")
}
