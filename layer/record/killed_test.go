package record_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/warder-mcp/warder/internal/wardertest"
)

// TestDependencyKilled takes the folder of the trail away: nothing is forwarded that could not be
// written down, whether it changes something or not. For LOG-04 and LOG-01 this takes the place of
// cases with a mutation check: what they do is to write, and only a trail that cannot be written
// refuses.
func TestDependencyKilled(t *testing.T) {
	t.Parallel()
	const call = `send {"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}` + "\n"
	for effect, script := range map[string]string{
		// The record of a read follows it, so the first one may still pass.
		"read":  "-- script --\n" + call + "wait 500ms\n" + call,
		"write": "forwarded: no\n-- script --\n" + call,
	} {
		t.Run("LOG-04 no trail, "+effect, func(t *testing.T) {
			t.Parallel()
			wardertest.Killed(t, "LOG-04", `kind: deny
reason: audit_unavailable
revisions: 2026-07-28
doors: http
effect: `+effect+`
`+script+``, func(g *wardertest.Gateway) {
				wal := filepath.Join(g.Data, "audit", "wal")
				if err := os.Rename(wal, wal+".away"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
