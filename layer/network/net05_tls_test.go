package network

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/warder-mcp/warder"
)

func TestNET05(t *testing.T) {
	t.Parallel()
	const far, near, gate = "192.0.2.7:40000", "127.0.0.1:40000", "127.0.0.1:8080"
	state := func(version, suite uint16) *tls.ConnectionState {
		return &tls.ConnectionState{HandshakeComplete: true, Version: version, CipherSuite: suite}
	}
	strong, weak := tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA
	tests := []struct {
		name        string
		cfg         posture
		peer, local string
		tls         *tls.ConnectionState
		want        warder.Reason
	}{
		{"pass/tls 1.3", posture{}, far, "198.51.100.1:443", state(tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256), ""},
		{"pass/plaintext on loopback", posture{}, near, gate, nil, ""},
		{"pass/plaintext on IPv6 loopback", posture{}, "[::1]:40000", "[::1]:8080", nil, ""},
		{"pass/plaintext where it is named", posture{plaintext: true}, far, "198.51.100.1:80", nil, ""},
		{"near_miss/tls 1.2 by option with a strong suite", posture{allow12: true}, far, "198.51.100.1:443", state(tls.VersionTLS12, strong), ""},
		{"deny/tls 1.2 without the option", posture{}, far, "198.51.100.1:443", state(tls.VersionTLS12, strong), "tls_version"},
		{"deny/tls 1.2 with a weak suite", posture{allow12: true}, far, "198.51.100.1:443", state(tls.VersionTLS12, weak), "tls_suite"},
		{"deny/tls 1.1", posture{allow12: true}, far, "198.51.100.1:443", state(tls.VersionTLS11, strong), "tls_version"},
		{"deny/tls 1.0", posture{allow12: true}, far, "198.51.100.1:443", state(tls.VersionTLS10, strong), "tls_version"},
		{"deny/plaintext from another machine", posture{}, far, "198.51.100.1:80", nil, "tls_required"},
		{"deny/plaintext from another machine to loopback", posture{}, far, gate, nil, "tls_required"},
		{"deny/weak tls where plaintext is named", posture{plaintext: true}, far, "198.51.100.1:443", state(tls.VersionTLS11, strong), "tls_version"},
		{"dependency_killed/unfinished handshake", posture{}, far, "198.51.100.1:443", &tls.ConnectionState{Version: tls.VersionTLS13}, "tls_incomplete"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := overTCP(tt.peer, tt.local)
			x.Conn.TLS = tt.tls
			check(t, &tt.cfg, x, warder.CodeDenied, tt.want)
		})
	}
	for name, hop := range map[string]string{"pass/a proxy on this machine speaks for another": near, "deny/a proxy elsewhere speaks for this machine": far} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, want := overTCP(far, gate), warder.Reason("")
			if hop == far {
				x, want = overTCP(near, gate), "tls_required"
			}
			x.Conn.Hop = netip.MustParseAddrPort(hop)
			check(t, &posture{}, x, map[bool]warder.Code{true: warder.CodeDenied}[want != ""], want)
		})
	}
	t.Run("pass/stdio has no connection", func(t *testing.T) {
		t.Parallel()
		check(t, &posture{}, &warder.Exchange{Door: warder.DoorStdio}, "", "")
	})
	t.Run("dependency_killed/unknown addresses are not loopback", func(t *testing.T) {
		t.Parallel()
		check(t, &posture{}, &warder.Exchange{Door: warder.DoorHTTP}, warder.CodeDenied, "tls_required")
	})
}
