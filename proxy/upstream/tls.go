package upstream

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
)

// ClientTLS says how a server proves who it is. The zero value trusts the system's authorities with
// TLS 1.2 or newer.
type ClientTLS struct {
	// CAFile is a PEM file of the only authorities that may vouch for the server.
	CAFile string `yaml:"ca_file,omitempty"`
	// Pins are base64 SHA-256 digests of public keys (SPKI, RFC 7469 section 2.4), one of which must
	// stand in the verified chain. Name two for rotation.
	Pins []string `yaml:"pins,omitempty"`
	// ServerName is the name the certificate must carry (default: the host of the URL).
	ServerName string `yaml:"server_name,omitempty"`
}

func (t ClientTLS) validate() error {
	var errs []error
	for _, pin := range t.Pins {
		if b, err := base64.StdEncoding.DecodeString(pin); err != nil || len(b) != sha256.Size {
			errs = append(errs, fmt.Errorf("tls: pin %q: want the base64 of a SHA-256 digest", pin))
		}
	}
	return errors.Join(errs...)
}

// config builds the TLS configuration; it reads the file of authorities.
func (t ClientTLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls: read authorities: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: %s holds no certificate", t.CAFile)
		}
	}
	if len(t.Pins) > 0 {
		pins := slices.Clone(t.Pins)
		cfg.VerifyConnection = func(cs tls.ConnectionState) error { return checkPins(cs, pins) }
	}
	return cfg, nil
}

// checkPins looks for a pinned key in the verified chains. It runs on resumed connections as well.
func checkPins(cs tls.ConnectionState, pins []string) error {
	for _, chain := range cs.VerifiedChains {
		for _, cert := range chain {
			sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
			if slices.Contains(pins, base64.StdEncoding.EncodeToString(sum[:])) {
				return nil
			}
		}
	}
	return errors.New("tls: no pinned key in the server's certificate chain")
}
