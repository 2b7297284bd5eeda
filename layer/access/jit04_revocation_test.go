package access_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

func TestJIT04(t *testing.T) {
	t.Parallel()
	metadata := func(e string) string { return "https://gate.example/.well-known/oauth-protected-resource/mcp/" + e }
	grant := &warder.Grant{ID: "g", Principal: "alice", Server: "files", NotAfter: start().Add(time.Hour)}
	tests := []struct {
		name   string
		effect warder.Effect
		gone   gone
		want   judged
	}{
		{"pass", warder.EffectRead, gone{}, passes()},
		{"near_miss another tool", warder.EffectRead, gone{tool: "mail/read"}, passes()},
		{"near_miss known well enough for a read", warder.EffectRead, gone{behind: time.Minute}, passes()},
		{"near_miss known well enough for a write", warder.EffectWrite, gone{behind: 5 * time.Second}, passes()},
		{"deny principal", warder.EffectRead, gone{subject: "alice"}, judged{"JIT-04", warder.Deny, "revoked"}},
		{"deny credential", warder.EffectRead, gone{subject: "alice", credential: true}, judged{"JIT-04", warder.Challenge, "revoked"}},
		{"deny tool", warder.EffectRead, gone{tool: "files/read"}, judged{"JIT-04", warder.Deny, "revoked"}},
		{"deny grant", warder.EffectDestructive, gone{grant: "g"}, judged{"JIT-04", warder.Deny, "revoked"}},
		{"dependency_killed too old for a write", warder.EffectWrite, gone{behind: 6 * time.Second}, judged{"JIT-04", warder.Deny, "revocation_stale"}},
		{"dependency_killed too old for an unknown effect", warder.EffectUnknown, gone{behind: 6 * time.Second}, judged{"JIT-04", warder.Deny, "revocation_stale"}},
		{"dependency_killed too old for a read", warder.EffectRead, gone{behind: 61 * time.Second}, judged{"JIT-04", warder.Deny, "revocation_stale"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := called(t, tt.effect)
			l := layerOf(t, access.Config{}, access.Deps{Revoked: &tt.gone, MetadataURL: metadata, Grants: &grants{list: []*warder.Grant{grant}}})
			if diff := cmp.Diff(tt.want, judge(t, l, x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
	// What is revoked while the exchange lasts ends it in every later phase.
	for name, list := range map[string]func(warder.Layer) []warder.Interceptor{
		"connect":  func(l warder.Layer) []warder.Interceptor { return l.Connect },
		"response": func(l warder.Layer) []warder.Interceptor { return l.Response },
		"review":   func(l warder.Layer) []warder.Interceptor { return l.Review },
	} {
		t.Run("deny in phase "+name, func(t *testing.T) {
			t.Parallel()
			revoked := gone{}
			l := layerOf(t, access.Config{}, access.Deps{Revoked: &revoked, MetadataURL: metadata})
			x := called(t, warder.EffectRead)
			ic := control(t, list(l), "JIT-04")
			if got := run(t, ic, x); got.Verdict != warder.Pass {
				t.Errorf("before: %+v", got)
			}
			revoked.subject = "alice"
			if got := run(t, ic, x); got.Reason != "revoked" {
				t.Errorf("after: %+v, want revoked", got)
			}
		})
	}
	t.Run("deny a call that runs is not challenged", func(t *testing.T) {
		t.Parallel()
		l := layerOf(t, access.Config{}, access.Deps{Revoked: &gone{subject: "alice", credential: true}, MetadataURL: metadata})
		x := called(t, warder.EffectRead)
		x.Forwarded = true
		if got := run(t, control(t, l.Review, "JIT-04"), x); got.Verdict != warder.Deny || got.Reason != "revoked" {
			t.Errorf("while it runs: %+v, want it refused", got)
		}
	})
}
