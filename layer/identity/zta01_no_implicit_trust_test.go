package identity

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/wardertest/issuer"
)

func TestZTA01(t *testing.T) {
	t.Parallel()
	from := func(peer string) func(*bench) *warder.Exchange {
		return func(*bench) *warder.Exchange {
			x := exchange()
			x.Conn.Peer = netip.MustParseAddrPort(peer)
			x.Conn.Header.Set("X-Forwarded-For", "127.0.0.1")
			x.Conn.Header.Set("X-Forwarded-User", "root")
			return x
		}
	}
	refused := outcome{"ZTA-01", warder.Challenge, warder.CodeUnauthenticated, "principal_missing", ""}
	tests := []struct {
		name   string
		change func(*Config, *Deps)
		x      func(*bench) *warder.Exchange
		want   outcome
	}{
		{"pass with a token from anywhere", nil, func(b *bench) *warder.Exchange {
			x := exchange("Bearer " + good(b))
			x.Conn.Peer = netip.MustParseAddrPort("203.0.113.9:1")
			return x
		}, passed()},
		{"pass stdio as the local user", nil, stdio, passed()},
		{"deny loopback", nil, from("127.0.0.1:1"), refused},
		{"deny loopback of version 6", nil, from("[::1]:1"), refused},
		{"deny private network", nil, from("10.0.0.8:1"), refused},
		{"deny link-local", nil, from("[fe80::1]:1"), refused},
		{"near_miss header of a proxy names a user", nil, from("192.168.1.1:1"), refused},
		{"deny endpoint that does not exist", nil, func(b *bench) *warder.Exchange {
			return at(exchange("Bearer "+b.mint(issuer.Claims{Audience: base + "/mcp/nowhere"})), "nowhere")
		}, outcome{Control: "ZTA-01", Verdict: warder.Deny, Code: warder.CodeNotFound, Reason: "not_found"}},
		{"near_miss token of another server at an endpoint that does not exist", nil, func(b *bench) *warder.Exchange {
			return at(exchange("Bearer "+good(b)), "nowhere")
		}, invalid("audience_mismatch")},
		{"dependency_killed the local user is unknown", func(_ *Config, d *Deps) {
			d.User = func() (string, error) { return "", errors.New("no passwd") }
		}, stdio, outcome{Control: "ZTA-01", Code: warder.CodeUnavailable, Reason: "control_unavailable"}},
		{
			"dependency_killed no issuers", func(c *Config, _ *Deps) { c.Issuers = nil },
			func(b *bench) *warder.Exchange { return exchange("Bearer " + good(b)) }, invalid("issuer_unknown"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.change)
			if tt.want == refused { // AUT-01 stands before; the last line must hold without it
				b.without("AUT-01")
			}
			x := tt.x(b)
			d := b.connect(x)
			if diff := cmp.Diff(tt.want, outcomeOf(d)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if d.Verdict == warder.Pass && x.Door == warder.DoorStdio {
				want := &warder.Principal{Issuer: "local", Subject: "ada", Transport: "stdio"}
				if diff := cmp.Diff(want, x.Principal); diff != "" {
					t.Errorf("principal (-want +got):\n%s", diff)
				}
			}
		})
	}
	t.Run("near_miss a token cannot claim to be local", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		x := exchange("Bearer " + b.sign("at+jwt", b.claims(map[string]any{"iss": "local"})))
		if diff := cmp.Diff(invalid("issuer_unknown"), outcomeOf(b.connect(x))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
}

func stdio(*bench) *warder.Exchange {
	return &warder.Exchange{Door: warder.DoorStdio, Endpoint: "files", Server: servers()["files"]}
}
