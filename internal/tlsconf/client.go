package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
)

// maxCAFile bounds a bundle of authorities; the system bundle has about 250 KiB.
const maxCAFile = 4 << 20

// Client configures TLS of outgoing connections.
type Client struct {
	CAFile     string   `yaml:"ca_file"`     // authorities in PEM; empty: those of the system
	Pins       []string `yaml:"pins"`        // SHA-256 digests of public keys (SPKI, RFC 7469 section 2.4) in Base64, "sha256/" in front allowed, one of which must be in the verified chain; list old and new while rotating
	ServerName string   `yaml:"server_name"` // name the certificate must bear; empty: the name dialled
	AllowTLS12 bool     `yaml:"allow_tls12"` // also accept TLS 1.2, with strong suites only

	Cert secret.Ref `yaml:"cert,omitempty"` // certificate chain in PEM that we show, leaf first; empty: none is shown
	Key  secret.Ref `yaml:"key,omitempty"`  // private key of the leaf in PEM
}

// ErrUnpinned says that no certificate of the verified chain bears a pinned key.
var ErrUnpinned = errors.New("no pinned key in the verified chain")

// ClientConfig returns the configuration of outgoing connections. The chain and the name are always
// verified; pins are checked in addition, on resumed sessions too, against verified chains only: a
// pinned certificate that the peer merely appends does not help it.
func ClientConfig(cfg Client) (*tls.Config, error) {
	pins, err := parsePins(cfg.Pins)
	if err != nil {
		return nil, err
	}
	c := base(cfg.AllowTLS12)
	c.ServerName = cfg.ServerName
	c.NextProtos = []string{"h2", "http/1.1"}
	if cfg.CAFile != "" {
		if c.RootCAs, err = readCAs(cfg.CAFile); err != nil {
			return nil, err
		}
	}
	if !cfg.Cert.IsZero() || !cfg.Key.IsZero() {
		if err := errors.Join(cfg.Cert.Validate(), cfg.Key.Validate()); err != nil {
			return nil, fmt.Errorf("tls client certificate: set cert and key: %w", err)
		}
		c.GetClientCertificate = (&shown{cert: cfg.Cert, key: cfg.Key}).get
	}
	if len(pins) > 0 {
		c.VerifyConnection = func(s tls.ConnectionState) error { return checkPins(s.VerifiedChains, pins) }
	}
	return c, nil
}

// shown is the certificate that we show. It is read at the first handshake, and again when its files
// change; without it there is no handshake.
type shown struct {
	cert, key secret.Ref

	mu   sync.Mutex
	pair *keeper
}

func (s *shown) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pair == nil {
		k, err := newKeeper(s.cert, s.key, time.Now)
		if err != nil {
			return nil, err
		}
		s.pair = k
	}
	return s.pair.get(), nil
}

// Pin returns the pin of a certificate's public key as [Client] lists it.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

func checkPins(chains [][]*x509.Certificate, pins map[[sha256.Size]byte]bool) error {
	for _, chain := range chains {
		for _, cert := range chain {
			if pins[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] {
				return nil
			}
		}
	}
	return ErrUnpinned
}

func parsePins(texts []string) (map[[sha256.Size]byte]bool, error) {
	pins := make(map[[sha256.Size]byte]bool, len(texts))
	for _, text := range texts {
		raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(text, "sha256/"))
		if err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("pin %q: want the Base64 of a SHA-256 digest, with or without sha256/ in front", text)
		}
		pins[[sha256.Size]byte(raw)] = true
	}
	return pins, nil
}

func readCAs(name string) (*x509.CertPool, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("tls authorities: %w", err)
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("tls authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls authorities: %s holds no certificate", name)
	}
	return pool, nil
}
