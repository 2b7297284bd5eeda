package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/servicetest"
	"github.com/warder-mcp/warder/internal/tlsconf"
)

// certificate writes a key and a certificate for 127.0.0.1, which is its own authority, where a service
// can read them.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // the service may run as another user
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestRedisTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	other, _ := certificate(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	servicetest.RedisServer(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	db := open(t, file(t))
	if err := db.UseRedis(t.Context(), RedisConfig{Address: address, TLS: &tlsconf.Client{CAFile: other}}); err == nil {
		t.Error("UseRedis trusted an unknown authority")
	}
	if err := db.UseRedis(t.Context(), RedisConfig{Address: address, TLS: &tlsconf.Client{CAFile: cert, ServerName: "redis.example"}}); err == nil {
		t.Error("UseRedis accepted another name")
	}
	if err := db.UseRedis(t.Context(), RedisConfig{Address: address}); err == nil {
		t.Error("UseRedis spoke plaintext to a TLS port")
	}
	if err := db.UseRedis(t.Context(), RedisConfig{Address: address, TLS: &tlsconf.Client{CAFile: cert}}); err != nil {
		t.Fatalf("UseRedis: %v", err)
	}
	waitFresh(t, db.Replays())
}
