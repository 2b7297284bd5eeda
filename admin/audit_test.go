package admin

import (
	"context"
	"testing"

	"github.com/warder-mcp/warder"
)

// TestTighteningDoesNotWait proves that what only takes rights away is written down without waiting for the
// signed tree, and that nothing else is.
func TestTighteningDoesNotWait(t *testing.T) {
	c := newClock()
	for id, row := range newRig(t, c).api.rules {
		rig := newRig(t, c)
		var waited, noted int
		rig.deps.Record = func(context.Context, warder.Event) error { waited++; return nil }
		rig.deps.Note = func(context.Context, warder.Event) error { noted++; return nil }
		api := testAPI(t, rig.cfg, rig.deps)
		for i := range api.operations {
			o := &api.operations[i]
			if o.id != id || o.method == "GET" {
				continue
			}
			if err := api.intend(t.Context(), &call{op: o, by: &Operator{Principal: &warder.Principal{}}, path: func(string) string { return "x" }}, &row, nil); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			if tight := noted == 1 && waited == 0; tight != row.tightens || noted+waited != 1 {
				t.Errorf("%s: waited %d times and noted %d times, tightens = %v", id, waited, noted, row.tightens)
			}
		}
	}
}
