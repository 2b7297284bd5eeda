package record

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

// known is an exchange of which everything is known that policy can be told.
func known(tb testing.TB) *warder.Exchange {
	tb.Helper()
	x := call(tb, warder.EffectRead, `{}`)
	login := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	x.Principal = &warder.Principal{
		Issuer: "https://idp.example", Subject: "ana", Transport: "dpop", Binding: "thumbprint-of-a-device", ACR: "mfa", AMR: []string{"hwk"},
		AuthTime: login, Actors: []string{"bot"}, Workload: "spiffe://example/device/7", Session: "session-secret",
		Registered: &warder.Agent{Name: "reporter", Owner: "ana@example.com", Roles: []string{"reports"}, Clients: []string{"app"}},
	}
	x.Around = warder.Surroundings{
		Asked: true, Zone: "office", Country: "DE", Posture: "compliant", Purpose: "audit", Trust: 3,
		Grant: &warder.Grant{ID: "g1", Purpose: "audit", NotAfter: login.Add(time.Hour), Plan: "p1", Step: 2},
	}
	x.Risk = 6.5
	x.Labels = []string{"pii"}
	x.Approval = "h1"
	x.Obligations = []warder.Obligation{{Kind: warder.ObligationApproval, Value: "group:ops", Policy: "p"}}
	return x
}

func recorded(x *warder.Exchange) []byte {
	var e warder.Event
	var p warder.EventPrincipal
	describe(&e, &p, x, marks{}, warder.EventExchange, time.Unix(0, 0))
	conclude(&e, x)
	witness(&e, x)
	return AppendEvent(nil, &e)
}

func TestRecordKeepsWhatPolicySaw(t *testing.T) {
	t.Parallel()
	line := recorded(known(t))
	got, err := parseEvent(line)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	want := &warder.Circumstances{
		Zone: "office", Country: "DE", Posture: "compliant", Purpose: "audit", Risk: 7, Trust: 3, Labels: []string{"pii"},
		Grant: &warder.GrantSeen{ID: "g1", Purpose: "audit", NotAfter: end, Plan: "p1", Step: 2},
		Agent: &warder.AgentSeen{Name: "reporter", Owner: "ana@example.com", Roles: []string{"reports"}},
	}
	if diff := cmp.Diff(want, got.Circumstances); diff != "" {
		t.Errorf("circumstances (-want +got):\n%s", diff)
	}
	principal := &warder.EventPrincipal{
		Issuer: "https://idp.example", Subject: "ana", Actors: []string{"bot"}, ACR: "mfa", AMR: []string{"hwk"},
		AuthTime: end.Add(-time.Hour), Transport: "dpop", Bound: true,
	}
	if diff := cmp.Diff(principal, got.Principal); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}
	if got.Approval != "h1" || len(got.Obligations) != 1 || got.Obligations[0].Value != "group:ops" {
		t.Errorf("approval %q, obligations %v", got.Approval, got.Obligations)
	}
	for _, private := range []string{"thumbprint", "spiffe://", "session-secret"} {
		if strings.Contains(string(line), private) {
			t.Errorf("the record names %q", private)
		}
	}
}

func TestRecordIsSilentWherePolicyWasNotAsked(t *testing.T) {
	t.Parallel()
	x := known(t)
	x.Around, x.Risk = warder.Surroundings{}, 0
	if line := string(recorded(x)); strings.Contains(line, "circumstances") {
		t.Errorf("record: %s", line)
	}
}

func TestWitnessAllocatesNothingWhereNothingIsTold(t *testing.T) {
	x := known(t)
	x.Around, x.Risk = warder.Surroundings{}, 0
	var e warder.Event
	if n := testing.AllocsPerRun(100, func() { witness(&e, x) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkWitness is what the circumstances add to one record: everything known, and nothing asked.
func BenchmarkWitness(b *testing.B) {
	full, empty := known(b), known(b)
	empty.Around, empty.Obligations, empty.Approval, empty.Risk = warder.Surroundings{Asked: true}, nil, "", 0
	empty.Principal.Registered, empty.Labels = nil, nil
	for name, x := range map[string]*warder.Exchange{"full": full, "plain": empty} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 1<<16)
			for b.Loop() {
				e := warder.Event{}
				witness(&e, x)
				w := encoder{b: append(buf[:0], '{')}
				w.circumstances(e.Circumstances)
				w.obligations(e.Obligations)
				w.text("approval", e.Approval, false)
			}
		})
	}
}
