package access_test

import (
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func BenchmarkNothingConfigured(b *testing.B) {
	l := layerOf(b, access.Config{}, access.Deps{
		Grants: &grants{}, Plans: &plans{}, Holds: &holds{}, Risk: &scores{}, Posture: new(posture), Revoked: &gone{},
	})
	x := called(b, warder.EffectRead)
	b.ReportAllocs()
	for b.Loop() {
		for _, ic := range l.Request {
			if ic.Control() == "CVM-01" {
				continue // policy has a benchmark of its own
			}
			if d, err := ic.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(ic.Control(), d, err)
			}
		}
	}
}
