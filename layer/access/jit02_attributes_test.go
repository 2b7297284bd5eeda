package access_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// TestJIT02 begins with a call that everything speaks for, and takes one circumstance away at a time.
func TestJIT02(t *testing.T) {
	t.Parallel()
	const policy = `@id("good") permit(principal, action, resource) when {
		context.zone == "office" && context.country == "DE" && context.hours.contains("work") && context.hour == 13 && context.weekday == "fri" &&
		context.posture == "compliant" && context.risk < 50 && context.trust >= 80 && context has purpose && context.purpose == "report" &&
		context has agent && context.agent.name == "bot" && context.agent.roles.contains("bots") };`
	type world struct {
		x       *warder.Exchange
		cfg     *access.Config
		posture *posture
		risk    *scores
		trust   *int
		now     *time.Time
	}
	policyDenies := judged{"CVM-01", warder.Deny, "no_permit"}
	unknown := judged{"CVM-01", warder.Deny, "policy_error"}
	tests := []struct {
		name   string
		change func(world)
		want   judged
	}{
		{"pass everything is as it should be", func(world) {}, passes()},
		{"near_miss another address of the place", func(w world) { w.x.Conn.Peer = netip.MustParseAddrPort("192.0.2.250:1") }, passes()},
		{"near_miss the last minute", func(w world) { *w.now = w.now.Add(59 * time.Minute) }, passes()},
		{"near_miss the address written as IPv6", func(w world) { w.x.Conn.Peer = netip.MustParseAddrPort("[::ffff:192.0.2.7]:1") }, passes()},
		{"deny another place", func(w world) { w.x.Conn.Peer = netip.MustParseAddrPort("192.0.3.7:1") }, policyDenies},
		{"deny unknown place", func(w world) { w.x.Conn.Peer = netip.MustParseAddrPort("203.0.113.7:1") }, unknown},
		{"deny no address", func(w world) { w.x.Conn.Peer = netip.AddrPort{} }, unknown},
		{"deny another country", func(w world) { w.cfg.Countries = map[string][]string{"FR": {"192.0.2.0/24"}} }, policyDenies},
		{"deny unknown country", func(w world) { w.cfg.Countries = nil }, unknown},
		{"deny after hours", func(w world) { *w.now = w.now.Add(8 * time.Hour) }, policyDenies},
		{"deny another hour", func(w world) { *w.now = w.now.Add(time.Hour) }, policyDenies},
		{"deny another day", func(w world) { *w.now = w.now.Add(-24 * time.Hour) }, policyDenies},
		{"deny device lost", func(w world) { *w.posture = "not_compliant" }, policyDenies},
		{"deny device unknown", func(w world) { *w.posture = "" }, unknown},
		{"deny device silent", func(w world) { *w.posture = "stale" }, policyDenies},
		{"deny risky", func(w world) { w.risk.now = 50 }, policyDenies},
		{"deny tool without trust", func(w world) { *w.trust = 79 }, policyDenies},
		{"deny another purpose", func(w world) { w.x.Purpose = "fun" }, policyDenies},
		{"deny no purpose", func(w world) { w.x.Purpose = "" }, policyDenies},
		{"deny no agent", func(w world) { w.x.Principal.Registered = nil }, policyDenies},
		{"deny another agent", func(w world) { w.x.Principal.Registered = &warder.Agent{Name: "other"} }, policyDenies},
		{"deny agent without the role", func(w world) { w.x.Principal.Registered = &warder.Agent{Name: "bot"} }, policyDenies},
		{"deny a required circumstance is unknown", func(w world) {
			w.cfg.Attributes.Require = map[string][]string{"read": {"zone", "posture"}}
			*w.posture = ""
		}, judged{"JIT-02", warder.Deny, "attribute_posture"}},
		{"near_miss required for another effect", func(w world) {
			w.cfg.Attributes.Require = map[string][]string{"write": {"country", "hours"}}
		}, passes()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := called(t, warder.EffectRead)
			x.Conn.Peer = netip.MustParseAddrPort("192.0.2.7:1234")
			x.Purpose = "report"
			x.Principal.Registered = &warder.Agent{Name: "bot", Owner: "team", Roles: []string{"bots"}}
			cfg := access.Config{
				Inline: policy,
				Zones:  map[string][]string{"office": {"192.0.2.0/24"}, "vpn": {"192.0.0.0/16"}},
				Hours: access.HoursConfig{
					Location: "Europe/Berlin", Windows: map[string][]string{"work": {"mon-fri 08:00-18:00"}},
				},
				Countries: map[string][]string{"DE": {"192.0.0.0/16"}},
			}
			p, s, trust, now := posture("compliant"), scores{now: 49}, 80, start()
			tt.change(world{x, &cfg, &p, &s, &trust, &now})
			l := layerOf(t, cfg, access.Deps{
				Posture: &p, Risk: &s, Trust: func(string, string) int { return trust }, Now: func() time.Time { return now },
			})
			if diff := cmp.Diff(tt.want, judge(t, l, x)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("dependency_killed nobody knows the device", func(t *testing.T) {
		t.Parallel()
		cfg := access.Config{Attributes: access.AttributeConfig{Require: map[string][]string{"read": {"posture"}}}}
		want := judged{"JIT-02", warder.Deny, "attribute_posture"}
		if diff := cmp.Diff(want, judge(t, layerOf(t, cfg, access.Deps{}), called(t, warder.EffectRead))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
}

func TestHours(t *testing.T) {
	t.Parallel()
	for window, want := range map[string]map[string]bool{ // local times of the week to whether the window is open
		"mon-fri 08:00-18:00":     {"2026-11-20T08:00": true, "2026-11-20T17:59": true, "2026-11-20T18:00": false, "2026-11-21T12:00": false},
		"fri 22:00-06:00":         {"2026-11-20T22:00": true, "2026-11-21T05:59": true, "2026-11-21T06:00": false, "2026-11-20T05:00": false},
		"sat,sun 00:00-24:00":     {"2026-11-21T00:00": true, "2026-11-22T23:59": true, "2026-11-23T00:00": false},
		"fri-mon 10:00-11:00":     {"2026-11-22T10:30": true, "2026-11-24T10:30": false},
		"thu,fri-sat 10:00-11:00": {"2026-11-19T10:30": true, "2026-11-21T10:30": true, "2026-11-18T10:30": false},
	} {
		for text, open := range want {
			at, err := time.Parse("2006-01-02T15:04", text)
			if err != nil {
				t.Fatal(err)
			}
			cfg := access.Config{
				Hours:      access.HoursConfig{Windows: map[string][]string{"w": {window}}},
				Attributes: access.AttributeConfig{Require: map[string][]string{"read": {"hours"}}},
			}
			l := layerOf(t, cfg, access.Deps{Now: func() time.Time { return at }})
			if got := judge(t, l, called(t, warder.EffectRead)).Verdict == warder.Pass; got != open {
				t.Errorf("%s at %s: open = %v, want %v", window, text, got, open)
			}
		}
	}
	for _, bad := range []string{"", "mon", "mon 8:00-18:00", "mon 08:00-08:00", "mon 24:00-06:00", "mo 08:00-18:00", "mon-fri 08:00", "mon 08:00-25:00"} {
		cfg := access.Config{Hours: access.HoursConfig{Windows: map[string][]string{"w": {bad}}}}
		if cfg.Validate() == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
