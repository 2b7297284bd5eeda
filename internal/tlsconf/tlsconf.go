// Package tlsconf builds the TLS configurations of every listener and every outgoing connection in
// one place: TLS 1.3 by default, TLS 1.2 by option with ephemeral AEAD suites only, hybrid
// post-quantum key agreement first, certificates that reload while running, and public-key pins.
//
//	cfg, err := tlsconf.ServerConfig(tlsconf.Server{Cert: secret.Ref{File: "tls.crt"}, Key: secret.Ref{File: "tls.key"}})
//	listener := tls.NewListener(plain, cfg)
package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// StrongSuites lists the TLS 1.2 suites Warder speaks when TLS 1.2 is allowed: ephemeral key
// agreement with authenticated encryption (RFC 9325 section 4.2). TLS 1.3 suites are all strong and
// not configurable.
func StrongSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// StrongSuite reports whether a TLS 1.2 suite is one of [StrongSuites].
func StrongSuite(id uint16) bool {
	switch id {
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	default:
		return false
	}
}

// curves prefers the hybrid key agreement, which stays secret when either half is broken.
func curves() []tls.CurveID {
	return []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}
}

// base is what server and client configurations share.
func base(allowTLS12 bool) *tls.Config {
	cfg := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: curves(),
	}
	if allowTLS12 {
		cfg.MinVersion = tls.VersionTLS12
		cfg.CipherSuites = StrongSuites()
	}
	return cfg
}

// ErrPlaintext says that a listener would speak plaintext beyond this machine.
var ErrPlaintext = errors.New("plaintext outside loopback")

// CheckPlaintext reports whether a listener may do without TLS: the address names a loopback IP
// address and a port, or insecure is set. A host name is refused, because what it resolves to can
// change; so is an empty host, which listens on every interface.
func CheckPlaintext(address string, insecure bool) error {
	if insecure {
		return nil
	}
	if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().Unmap().IsLoopback() {
		return nil
	}
	if host, ok := cutPort(address); ok && host == "localhost" {
		return nil // RFC 6761 section 6.3: always the loopback interface
	}
	return fmt.Errorf("listen on %q: %w: configure tls, or name insecure_plaintext", address, ErrPlaintext)
}

func cutPort(address string) (string, bool) {
	i := slices.Index([]byte(address), ':')
	if i < 0 {
		return "", false
	}
	return address[:i], true
}
