package access_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestHIL01(t *testing.T) {
	t.Parallel()
	cfg := access.Config{Approval: access.ApprovalConfig{Require: []string{"read"}, Approvers: []string{"group:ops"}}}
	of := func(v warder.Verdict, reason warder.Reason) judged { return judged{"HIL-01", v, reason} }
	pending := of(warder.Hold, "approval_pending")
	for _, tt := range []struct {
		name  string
		holds *holds
		cfg   access.Config
		want  judged
	}{
		{"pass approved while it waits", &holds{decide: access.HoldApproved}, cfg, passes()},
		{"near_miss another tool", &holds{}, access.Config{Approval: access.ApprovalConfig{Tools: []string{"files/write", "mail/*"}}}, passes()},
		{"near_miss another effect", &holds{}, access.Config{Approval: access.ApprovalConfig{Require: []string{"write", "destructive"}}}, passes()},
		{"deny nobody decided", &holds{}, cfg, pending},
		{"deny by pattern", &holds{}, access.Config{Approval: access.ApprovalConfig{Tools: []string{"*/read"}}}, pending},
		{"deny denied", &holds{decide: access.HoldDenied}, cfg, of(warder.Deny, "approval_denied")},
		{"deny timed out", &holds{decide: access.HoldExpired}, cfg, of(warder.Deny, "approval_timeout")},
		{"deny too large to be judged", &holds{err: access.ErrTooLarge}, cfg, of(warder.Deny, "approval_too_large")},
		{"dependency_killed the store", &holds{err: errKilled}, cfg, of(warder.Deny, "control_unavailable")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := layerOf(t, tt.cfg, access.Deps{Holds: tt.holds})
			x := called(t, warder.EffectRead)
			if diff := cmp.Diff(tt.want, judge(t, l, x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if (x.Approval != "") != (tt.want.Verdict == warder.Pass && tt.holds.decide == access.HoldApproved) {
				t.Errorf("approval %q", x.Approval)
			}
		})
	}
	t.Run("pass the answer to a question about an approved call", func(t *testing.T) {
		t.Parallel()
		h := &holds{spent: map[string]bool{"hold-9": true}, flood: access.ErrFlood}
		x := called(t, warder.EffectRead)
		x.Continues.Approval = "hold-9"
		if diff := cmp.Diff(passes(), judge(t, layerOf(t, cfg, access.Deps{Holds: h}), x)); diff != "" || x.Approval != "hold-9" || len(h.opened) > 0 {
			t.Errorf("approval %q, %d asked, outcome (-want +got):\n%s", x.Approval, len(h.opened), diff)
		}
	})
	t.Run("deny an answer under an approval of something else", func(t *testing.T) {
		t.Parallel()
		x := called(t, warder.EffectRead)
		x.Continues.Approval = "hold-9"
		want := of(warder.Deny, "approval_not_continued")
		if diff := cmp.Diff(want, judge(t, layerOf(t, cfg, access.Deps{Holds: &holds{}}), x)); diff != "" || x.Approval != "" {
			t.Errorf("approval %q, outcome (-want +got):\n%s", x.Approval, diff)
		}
	})
	t.Run("dependency_killed nothing puts calls to people", func(t *testing.T) {
		t.Parallel()
		want := of(warder.Deny, "approval_unavailable")
		if diff := cmp.Diff(want, judge(t, layerOf(t, cfg, access.Deps{}), called(t, warder.EffectRead))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
	t.Run("deny what a person saw and what is sent", func(t *testing.T) {
		t.Parallel()
		h := &holds{}
		l := layerOf(t, cfg, access.Deps{Holds: h, ApprovalURL: func(id string) string { return "https://gate.example/approve/" + id }})
		x := called(t, warder.EffectRead)
		d, err := control(t, l.Request, "HIL-01").Intercept(t.Context(), x)
		if err != nil || d.Ask == nil || d.Ask.Hold != "hold-1" || d.Ask.URL != "https://gate.example/approve/hold-1" {
			t.Fatalf("decision %+v, %v", d, err)
		}
		if got := string(h.opened[0].Parameters); got != `{"arguments":{"path":"/srv/a"},"name":"read"}` {
			t.Errorf("a person sees %s", got)
		}
		if diff := cmp.Diff([][]string{{"group:ops"}}, h.opened[0].Approvers); diff != "" {
			t.Errorf("approvers (-want +got):\n%s", diff)
		}
	})
	approvalIsBound(t, cfg)
}

// approvalIsBound changes one thing between the approval and the call that would use it.
func approvalIsBound(t *testing.T, cfg access.Config) {
	t.Helper()
	raw := func(s string) func(*testing.T, *warder.Exchange) {
		return func(t *testing.T, x *warder.Exchange) {
			t.Helper()
			x.Request = message(t, s)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *warder.Exchange)
		pass   bool
	}{
		{"pass the same call", func(*testing.T, *warder.Exchange) {}, true},
		{"pass the same call written differently", raw(`{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"arguments":{"p\u0061th":"\/srv\/a"},"name":"read","_meta":{"x":1}}}`), true},
		{"near_miss of another trace", func(_ *testing.T, x *warder.Exchange) { x.Trace.TraceID[0]++ }, true},
		{"deny another argument", raw(callOf(`{"path":"/srv/b"}`)), false},
		{"deny a further argument", raw(callOf(`{"path":"/srv/a","force":true}`)), false},
		{"deny another principal", func(_ *testing.T, x *warder.Exchange) { x.Principal.Subject = "bob" }, false},
		{"deny another client", func(_ *testing.T, x *warder.Exchange) { x.Principal.Client = "other" }, false},
		{"deny another key", func(_ *testing.T, x *warder.Exchange) { x.Principal.Binding = "thumb" }, false},
		{"deny another definition of the tool", func(_ *testing.T, x *warder.Exchange) { x.Tool.Digest[0]++ }, false},
		{"deny another server", func(_ *testing.T, x *warder.Exchange) { x.Server = &warder.Server{Name: "mail"} }, false},
		{"deny another agent", func(_ *testing.T, x *warder.Exchange) { x.Principal.Registered = &warder.Agent{Name: "bot"} }, false},
		{"deny another purpose", func(_ *testing.T, x *warder.Exchange) { x.Purpose = "fun" }, false},
	} {
		t.Run("bound "+tt.name, func(t *testing.T) {
			t.Parallel()
			h := &holds{}
			l := layerOf(t, cfg, access.Deps{Holds: h})
			if got := judge(t, l, called(t, warder.EffectRead)); got.Reason != "approval_pending" {
				t.Fatalf("first %+v", got)
			}
			for k, held := range h.states {
				h.states[k] = access.Held{ID: held.ID, State: access.HoldApproved}
			}
			again := called(t, warder.EffectRead)
			tt.change(t, again)
			if got := judge(t, l, again); (got.Verdict == warder.Pass) != tt.pass {
				t.Errorf("again %+v, want passing %v", got, tt.pass)
			}
			if tt.pass {
				if got := judge(t, l, called(t, warder.EffectRead)); got.Reason != "approval_pending" {
					t.Errorf("replay %+v", got)
				}
			}
		})
	}
}
