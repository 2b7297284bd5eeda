package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
)

// An authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM of the certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, "CERTIFICATE", der)
	return &authority{cert, key, file}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes a certificate for name and its key into dir and returns the certificate.
func (a *authority) issue(t *testing.T, dir, name string, notAfter time.Time) (Server, *x509.Certificate) {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := Server{Cert: secret.Ref{File: filepath.Join(dir, "tls.crt")}, Key: secret.Ref{File: filepath.Join(dir, "tls.key")}}
	writePEM(t, s.Cert.File, "CERTIFICATE", der)
	writePEM(t, s.Key.File, "EC PRIVATE KEY", keyDER)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return s, cert
}

// handshake runs one TLS handshake over loopback TCP and returns the client's view and both errors.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		done <- tls.Server(conn, server).HandshakeContext(t.Context())
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	cli := tls.Client(conn, client)
	clientErr = cli.HandshakeContext(t.Context())
	if clientErr == nil && client.MaxVersion != tls.VersionTLS12 {
		_, clientErr = cli.Read(make([]byte, 1)) // a TLS 1.3 server refuses after the client is done
		if errors.Is(clientErr, io.EOF) {
			clientErr = nil
		}
	}
	conn.Close()
	return cli.ConnectionState(), clientErr, <-done
}

func mustServer(t *testing.T, cfg Server) *tls.Config {
	t.Helper()
	c, err := ServerConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustClient(t *testing.T, cfg Client) *tls.Config {
	t.Helper()
	c, err := ClientConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHandshakeDefaults(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg, _ := ca.issue(t, t.TempDir(), "gate.test", time.Now().Add(time.Hour))
	state, cerr, serr := handshake(t, mustServer(t, cfg), mustClient(t, Client{CAFile: ca.file, ServerName: "gate.test"}))
	if cerr != nil || serr != nil {
		t.Fatalf("handshake: client %v, server %v", cerr, serr)
	}
	if state.Version != tls.VersionTLS13 {
		t.Errorf("version = %s, want TLS 1.3", tls.VersionName(state.Version))
	}
	if state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("key agreement = %v, want X25519MLKEM768", state.CurveID)
	}
	if state.NegotiatedProtocol != "h2" {
		t.Errorf("protocol = %q, want h2", state.NegotiatedProtocol)
	}
}

func TestServerRefusesOldVersionsAndWeakSuites(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg, _ := ca.issue(t, t.TempDir(), "gate.test", time.Now().Add(time.Hour))
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	weak := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}
	tests := []struct {
		name       string
		allow12    bool
		minV, maxV uint16
		suites     []uint16
		wantErr    bool
		want       uint16
	}{
		{"tls 1.0", true, tls.VersionTLS10, tls.VersionTLS10, nil, true, 0},
		{"tls 1.1", true, tls.VersionTLS11, tls.VersionTLS11, nil, true, 0},
		{"tls 1.2 without the option", false, tls.VersionTLS12, tls.VersionTLS12, nil, true, 0},
		{"tls 1.2 by option", true, tls.VersionTLS12, tls.VersionTLS12, nil, false, tls.VersionTLS12},
		{"tls 1.2 by option, weak suites only", true, tls.VersionTLS12, tls.VersionTLS12, weak, true, 0},
		{"1.3 is still preferred", true, tls.VersionTLS12, tls.VersionTLS13, nil, false, tls.VersionTLS13},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			cfg.AllowTLS12 = tt.allow12
			client := &tls.Config{RootCAs: roots, ServerName: "gate.test", MinVersion: tt.minV, MaxVersion: tt.maxV, CipherSuites: tt.suites}
			state, cerr, serr := handshake(t, mustServer(t, cfg), client)
			if got := cerr != nil || serr != nil; got != tt.wantErr {
				t.Fatalf("refused = %v (client %v, server %v), want %v", got, cerr, serr, tt.wantErr)
			}
			if !tt.wantErr && state.Version != tt.want {
				t.Errorf("version = %s, want %s", tls.VersionName(state.Version), tls.VersionName(tt.want))
			}
		})
	}
}

func TestClientRefusesBadPeers(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	good, leaf := ca.issue(t, t.TempDir(), "up.test", time.Now().Add(time.Hour))
	other, _ := ca.issue(t, t.TempDir(), "other.test", time.Now().Add(time.Hour))
	old, _ := ca.issue(t, t.TempDir(), "up.test", time.Now().Add(-time.Hour))
	oldPair, err := tls.LoadX509KeyPair(old.Cert.File, old.Key.File)
	if err != nil {
		t.Fatal(err)
	}
	strayPin := Pin(foreign.cert)
	// The peer appends a certificate that bears a pinned key but is not part of the verified chain.
	appended, err := tls.LoadX509KeyPair(good.Cert.File, good.Key.File)
	if err != nil {
		t.Fatal(err)
	}
	appended.Certificate = append(appended.Certificate, foreign.cert.Raw)
	tests := []struct {
		name    string
		server  *tls.Config
		client  Client
		wantErr bool
		is      error
	}{
		{"right name", mustServer(t, good), Client{CAFile: ca.file}, false, nil},
		{"expired", &tls.Config{Certificates: []tls.Certificate{oldPair}}, Client{CAFile: ca.file}, true, nil},
		{"wrong host", mustServer(t, other), Client{CAFile: ca.file}, true, nil},
		{"unknown authority", mustServer(t, good), Client{CAFile: foreign.file}, true, nil},
		{"unpinned", mustServer(t, good), Client{CAFile: ca.file, Pins: []string{strayPin}}, true, ErrUnpinned},
		{"pinned key appended, not verified", &tls.Config{Certificates: []tls.Certificate{appended}}, Client{CAFile: ca.file, Pins: []string{strayPin}}, true, ErrUnpinned},
		{"leaf pinned", mustServer(t, good), Client{CAFile: ca.file, Pins: []string{Pin(leaf)}}, false, nil},
		{"leaf pinned, without prefix", mustServer(t, good), Client{CAFile: ca.file, Pins: []string{Pin(leaf)[len("sha256/"):]}}, false, nil},
		{"authority pinned", mustServer(t, good), Client{CAFile: ca.file, Pins: []string{Pin(ca.cert)}}, false, nil},
		{"plain tls 1.2 peer", &tls.Config{Certificates: appendedPair(t, good), MaxVersion: tls.VersionTLS12}, Client{CAFile: ca.file}, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.client.ServerName = "up.test"
			_, cerr, _ := handshake(t, tt.server, mustClient(t, tt.client))
			if got := cerr != nil; got != tt.wantErr {
				t.Fatalf("refused = %v (%v), want %v", got, cerr, tt.wantErr)
			}
			if tt.is != nil && !errors.Is(cerr, tt.is) {
				t.Errorf("error = %v, want %v", cerr, tt.is)
			}
		})
	}
}

func TestServerDemandsClientCertificates(t *testing.T) {
	t.Parallel()
	ca, clients := newAuthority(t), newAuthority(t)
	cfg, _ := ca.issue(t, t.TempDir(), "gate.test", time.Now().Add(time.Hour))
	cfg.ClientCA = secret.Ref{File: clients.file}
	own, _ := clients.issue(t, t.TempDir(), "client", time.Now().Add(time.Hour))
	foreign, _ := ca.issue(t, t.TempDir(), "client", time.Now().Add(time.Hour))
	for _, tt := range []struct {
		name    string
		certs   []tls.Certificate
		wantErr bool
	}{
		{"certificate of the authority", appendedPair(t, own), false},
		{"no certificate", nil, true},
		{"certificate of another authority", appendedPair(t, foreign), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := mustClient(t, Client{CAFile: ca.file, ServerName: "gate.test"})
			client.Certificates = tt.certs
			if _, cerr, serr := handshake(t, mustServer(t, cfg), client); (cerr != nil || serr != nil) != tt.wantErr {
				t.Errorf("client %v, server %v; want refused %t", cerr, serr, tt.wantErr)
			}
		})
	}
}

// TestClientShowsCertificate lets the configuration of the client bring the certificate, from files that
// come later than the configuration.
func TestClientShowsCertificate(t *testing.T) {
	t.Parallel()
	ca, clients := newAuthority(t), newAuthority(t)
	cfg, _ := ca.issue(t, t.TempDir(), "gate.test", time.Now().Add(time.Hour))
	cfg.ClientCA = secret.Ref{File: clients.file}
	server := mustServer(t, cfg)
	dir := t.TempDir()
	own, _ := clients.issue(t, dir, "client", time.Now().Add(time.Hour))
	client := mustClient(t, Client{CAFile: ca.file, ServerName: "gate.test", Cert: own.Cert, Key: own.Key})
	if _, cerr, serr := handshake(t, server, client); cerr != nil || serr != nil {
		t.Errorf("client %v, server %v", cerr, serr)
	}
	gone := secret.Ref{File: own.Cert.File + ".gone"}
	client = mustClient(t, Client{CAFile: ca.file, ServerName: "gate.test", Cert: gone, Key: own.Key})
	if _, cerr, _ := handshake(t, server, client); cerr == nil {
		t.Error("a handshake without the certificate that was configured")
	}
	if _, err := ClientConfig(Client{Cert: own.Cert}); err == nil {
		t.Error("a certificate without a key was accepted")
	}
}

func appendedPair(t *testing.T, s Server) []tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(s.Cert.File, s.Key.File)
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{pair}
}

// A rotation: the client lists the old and the new pin, the server swaps its files while running,
// and no handshake fails before, during or after.
func TestRotationWithTwoPins(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	cfg, oldCert := ca.issue(t, dir, "up.test", time.Now().Add(time.Hour))
	newDir := t.TempDir()
	next, newCert := ca.issue(t, newDir, "up.test", time.Now().Add(time.Hour))

	now := time.Now()
	k, err := newKeeper(cfg.Cert, cfg.Key, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	server := base(false)
	server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.get(), nil }
	client := mustClient(t, Client{CAFile: ca.file, ServerName: "up.test", Pins: []string{Pin(oldCert), Pin(newCert)}})
	served := func() string {
		t.Helper()
		state, cerr, serr := handshake(t, server, client)
		if cerr != nil || serr != nil {
			t.Fatalf("handshake: client %v, server %v", cerr, serr)
		}
		return Pin(state.PeerCertificates[0])
	}

	if got := served(); got != Pin(oldCert) {
		t.Fatalf("before rotation: served %s, want the old certificate", got)
	}
	copyFile(t, next.Cert.File, cfg.Cert.File) // half done: new certificate, old key
	now = now.Add(2 * recheck)
	if got := served(); got != Pin(oldCert) {
		t.Fatalf("half rotated: served %s, want the old certificate", got)
	}
	copyFile(t, next.Key.File, cfg.Key.File)
	if got := served(); got != Pin(oldCert) {
		t.Fatalf("within the recheck interval: served %s, want the old certificate", got)
	}
	now = now.Add(2 * recheck)
	if got := served(); got != Pin(newCert) {
		t.Fatalf("after rotation: served %s, want the new certificate", got)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute) // the stamp must differ even on coarse clocks
	if err := os.Chtimes(to, later, later); err != nil {
		t.Fatal(err)
	}
}

func TestConstructorsRefuse(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	expired, _ := ca.issue(t, t.TempDir(), "gate.test", time.Now().Add(-time.Hour))
	a, _ := ca.issue(t, t.TempDir(), "gate.test", time.Now().Add(time.Hour))
	b, _ := ca.issue(t, t.TempDir(), "gate.test", time.Now().Add(time.Hour))
	for name, cfg := range map[string]Server{
		"nothing":                                {},
		"expired":                                expired,
		"client authorities without certificate": {Cert: a.Cert, Key: a.Key, ClientCA: a.Key},
		"client authorities missing":             {Cert: a.Cert, Key: a.Key, ClientCA: secret.Ref{File: "/nonexistent.pem"}},
		"foreign key":                            {Cert: a.Cert, Key: b.Key},
		"missing files":                          {Cert: secret.Ref{File: "/nonexistent.crt"}, Key: secret.Ref{File: "/nonexistent.key"}},
	} {
		if _, err := ServerConfig(cfg); err == nil {
			t.Errorf("ServerConfig(%s) passed", name)
		}
	}
	for name, cfg := range map[string]Client{
		"short pin":         {Pins: []string{"sha256/AAAA"}},
		"pin of other hash": {Pins: []string{"sha512/" + Pin(ca.cert)[7:]}},
		"no authorities":    {CAFile: a.Key.File},
		"missing file":      {CAFile: "/nonexistent.pem"},
	} {
		if _, err := ClientConfig(cfg); err == nil {
			t.Errorf("ClientConfig(%s) passed", name)
		}
	}
}

func TestCheckPlaintext(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1:8080": true, "[::1]:8080": true, "localhost:8080": true, "127.8.9.1:0": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "192.0.2.1:80": false,
		"localhost.example.com:80": false, "gate.example.com:443": false, "": false, "127.0.0.1": false,
	} {
		if err := CheckPlaintext(address, false); (err == nil) != want {
			t.Errorf("CheckPlaintext(%q) = %v, want allowed %v", address, err, want)
		}
		if err := CheckPlaintext(address, true); err != nil {
			t.Errorf("CheckPlaintext(%q, insecure) = %v", address, err)
		}
	}
}
