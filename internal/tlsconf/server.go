package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
)

// recheck is how long a loaded certificate is served before its files are looked at again.
const recheck = time.Second

// Server configures TLS of one listener.
type Server struct {
	Cert       secret.Ref `yaml:"cert"`        // certificate chain in PEM, leaf first
	Key        secret.Ref `yaml:"key"`         // private key of the leaf in PEM
	ClientCA   secret.Ref `yaml:"client_ca"`   // authorities in PEM; when set, every client must present a certificate that one of them vouches for
	AskClient  bool       `yaml:"-"`           // ask clients for a certificate, but neither demand nor judge one; ClientCA goes first
	AllowTLS12 bool       `yaml:"allow_tls12"` // also accept TLS 1.2, with strong suites only
}

// ServerConfig returns the configuration of a listener. It speaks HTTP/2 and HTTP/1.1 (ALPN) and
// refuses an expired certificate. With ClientCA it also demands a certificate of every client. When certificate and key are files, a change of either is picked
// up within a second; a pair that cannot be loaded, or does not match, leaves the old one in place.
// The result is safe for concurrent use.
func ServerConfig(cfg Server) (*tls.Config, error) {
	k, err := newKeeper(cfg.Cert, cfg.Key, time.Now)
	if err != nil {
		return nil, err
	}
	c := base(cfg.AllowTLS12)
	c.NextProtos = []string{"h2", "http/1.1"}
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.get(), nil }
	if cfg.AskClient {
		c.ClientAuth = tls.RequestClientCert
	}
	if !cfg.ClientCA.IsZero() {
		if c.ClientCAs, err = readClientCAs(cfg.ClientCA); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// loadTimeout bounds how long a secret may take to be read.
const loadTimeout = 10 * time.Second

func readClientCAs(ref secret.Ref) (*x509.CertPool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	pem, err := ref.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("tls client authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem.Bytes()) {
		return nil, errors.New("tls client authorities: no certificate")
	}
	return pool, nil
}

// A keeper holds a certificate and loads it again when its files change.
type keeper struct {
	cert, key secret.Ref
	now       func() time.Time
	current   atomic.Pointer[tls.Certificate]
	looked    atomic.Int64 // Unix nanoseconds of the last look at the files

	mu    sync.Mutex // held while loading
	stamp [2]stamp
}

// A stamp tells one version of a file from another.
type stamp struct {
	mtime time.Time
	size  int64
}

func newKeeper(cert, key secret.Ref, now func() time.Time) (*keeper, error) {
	k := &keeper{cert: cert, key: key, now: now}
	k.stamp = k.stamps()
	if err := k.load(); err != nil {
		return nil, err
	}
	k.looked.Store(now().UnixNano())
	return k, nil
}

// get returns the certificate to serve, after a look at the files if the last one is old.
func (k *keeper) get() *tls.Certificate {
	now, last := k.now().UnixNano(), k.looked.Load()
	if now-last >= int64(recheck) && k.looked.CompareAndSwap(last, now) {
		k.refresh()
	}
	return k.current.Load()
}

// refresh loads the pair again if a file changed. Failure keeps the old pair and the old stamps, so
// the next look tries again: a rotation that replaces two files is seen half done at times.
func (k *keeper) refresh() {
	k.mu.Lock()
	defer k.mu.Unlock()
	stamps := k.stamps()
	if stamps == k.stamp {
		return
	}
	if k.load() == nil {
		k.stamp = stamps
	}
}

func (k *keeper) stamps() [2]stamp {
	var out [2]stamp
	for i, name := range []string{k.cert.File, k.key.File} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			out[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return out
}

func (k *keeper) load() error {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	cert, err := k.cert.Read(ctx)
	if err != nil {
		return fmt.Errorf("tls certificate: %w", err)
	}
	key, err := k.key.Read(ctx)
	if err != nil {
		return fmt.Errorf("tls key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert.Bytes(), key.Bytes())
	if err != nil {
		return fmt.Errorf("tls certificate and key: %w", err)
	}
	if pair.Leaf == nil {
		return errors.New("tls certificate: no leaf")
	}
	if k.now().After(pair.Leaf.NotAfter) {
		return fmt.Errorf("tls certificate: expired %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	k.current.Store(&pair)
	return nil
}
