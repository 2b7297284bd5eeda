package network

import (
	"context"
	"crypto/tls"
	"net/netip"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/tlsconf"
)

// posture refuses a connection that is not protected as configuration demands.
// Control NET-05; RFC 9325 sections 3.1 and 4.2. Phase Connect.
type posture struct {
	allow12   bool
	plaintext bool
}

var _ warder.Interceptor = (*posture)(nil)

// Control returns "NET-05".
func (*posture) Control() warder.ControlID { return "NET-05" }

// Intercept judges what the connection negotiated.
func (p *posture) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorStdio {
		return warder.Continue(), nil
	}
	s := x.Conn.TLS
	switch {
	case s == nil && (p.plaintext || overLoopback(&x.Conn)):
		return warder.Continue(), nil
	case s == nil:
		return refuse("tls_required", "plaintext from "+connected(&x.Conn).String()), nil
	case !s.HandshakeComplete:
		return refuse("tls_incomplete", "handshake not complete"), nil
	case s.Version >= tls.VersionTLS13:
		return warder.Continue(), nil
	case s.Version != tls.VersionTLS12 || !p.allow12:
		return refuse("tls_version", tls.VersionName(s.Version)), nil
	case !tlsconf.StrongSuite(s.CipherSuite):
		return refuse("tls_suite", tls.CipherSuiteName(s.CipherSuite)), nil
	default:
		return warder.Continue(), nil
	}
}

func refuse(reason warder.Reason, detail string) warder.Decision {
	return warder.Refuse(warder.CodeDenied, reason, detail).Tell("The connection is not protected as this gateway requires.")
}

// connected is the other end of the connection: the peer, or the proxy that speaks for it.
func connected(c *warder.Conn) netip.Addr {
	if c.Hop.IsValid() {
		return c.Hop.Addr()
	}
	return c.Peer.Addr()
}

// overLoopback reports whether the bytes never leave the machine: both ends are loopback addresses.
func overLoopback(c *warder.Conn) bool {
	return connected(c).Unmap().IsLoopback() && c.Local.Addr().Unmap().IsLoopback()
}
