// Package network is the first line of defence: who may connect, and how.
//
// An exchange meets it in Connect, before its body is read and before anything is known but the
// connection and the HTTP headers. Both controls are pure checks of what the peer sent: no state, no
// allocation on the way through.
//
//	NET-05  posture: TLS 1.3 (1.2 by option, strong suites), plaintext on loopback only
//	PRT-03  Host and Origin allow-lists, against DNS rebinding and cross-site requests
//
// The listener itself already refuses weak handshakes (internal/tlsconf); NET-05 judges what was
// negotiated, so that a listener built otherwise cannot slip past. Exchanges of the stdio door have
// no connection and pass.
package network

import (
	"fmt"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/forwarded"
)

// Config is the section "network" of the configuration. The zero value is the strict one.
type Config struct {
	AllowedHosts      []string `yaml:"allowed_hosts"`      // names a client may use in Host: "gate.example.com" (any port) or "gate.example.com:8443"; the loopback names are always allowed to those who connect over loopback
	AllowedOrigins    []string `yaml:"allowed_origins"`    // web origins that may call, compared exactly: "https://console.example.com"; the origin of an allowed Host itself is always allowed
	AllowTLS12        bool     `yaml:"allow_tls12"`        // also accept TLS 1.2, with strong suites only
	InsecurePlaintext bool     `yaml:"insecure_plaintext"` // accept plaintext from other machines, such as a proxy that ends TLS; weakens NET-05
	TrustedProxies    []string `yaml:"trusted_proxies"`    // networks or addresses of reverse proxies that are believed whose requests they pass on: "10.0.0.0/24"; none by default, and nobody else's headers are read
	ProxyHeader       string   `yaml:"proxy_header"`       // header in which they say it: x_forwarded_for (X-Forwarded-For) or forwarded (RFC 7239); empty: x_forwarded_for. The other is ignored
}

// Proxies are the reverse proxies that are believed; nil if there are none.
func (c Config) Proxies() (*forwarded.Proxies, error) {
	p, err := forwarded.New(c.TrustedProxies, c.ProxyHeader)
	if err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	return p, nil
}

// Validate reports what makes no sense in the section.
func (c Config) Validate() error {
	_, err := c.Proxies()
	return err
}

// New builds the layer. An entry of the lists that is not a host or an origin is an error.
func New(cfg Config) (warder.Layer, error) {
	origin, err := newOrigins(cfg.AllowedHosts, cfg.AllowedOrigins)
	if err != nil {
		return warder.Layer{}, err
	}
	return warder.Layer{
		Name: "network",
		Connect: []warder.Interceptor{
			&posture{allow12: cfg.AllowTLS12, plaintext: cfg.InsecurePlaintext},
			origin,
		},
	}, nil
}
