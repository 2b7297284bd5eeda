package access_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestHIL02(t *testing.T) {
	t.Parallel()
	cfg := access.Config{Approval: access.ApprovalConfig{Require: []string{"read"}}}
	for _, tt := range []struct {
		name  string
		cfg   access.Config
		holds *holds
		want  judged
	}{
		{"pass there is room", cfg, &holds{decide: access.HoldApproved}, passes()},
		{"near_miss a call that needs nobody", access.Config{}, &holds{flood: access.ErrFlood}, passes()},
		{"deny a flood", cfg, &holds{flood: access.ErrFlood}, judged{"HIL-02", warder.Deny, "approval_flood"}},
		{"dependency_killed nobody knows how many wait", cfg, &holds{flood: errKilled}, judged{"HIL-02", warder.Deny, "control_unavailable"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := layerOf(t, tt.cfg, access.Deps{Holds: tt.holds})
			if diff := cmp.Diff(tt.want, judge(t, l, called(t, warder.EffectRead))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if tt.want.Control == "HIL-02" && len(tt.holds.opened) > 0 {
				t.Error("people were asked")
			}
		})
	}
}
