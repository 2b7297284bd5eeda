package identity

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
)

func newAuthority(tb testing.TB) *testCA {
	tb.Helper()
	a := &testCA{key: newKey(tb)}
	now := newClock().now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
	}, a.key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// A leaf says what certificate to issue.
type leaf struct {
	name   string
	uris   []string
	usage  x509.ExtKeyUsage // 0: client authentication
	until  time.Duration    // 0: one hour
	noSign bool
	isCA   bool
}

func (a *testCA) issue(tb testing.TB, l leaf) *x509.Certificate {
	tb.Helper()
	now := newClock().now()
	if l.until == 0 {
		l.until = time.Hour
	}
	usage := x509.ExtKeyUsageClientAuth
	if l.usage != 0 {
		usage = l.usage
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: l.name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(l.until),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true, IsCA: l.isCA,
	}
	if l.name == "" {
		t.Subject = pkix.Name{}
	}
	if l.noSign {
		t.KeyUsage = x509.KeyUsageKeyEncipherment
	}
	for _, s := range l.uris {
		u, err := url.Parse(s)
		if err != nil {
			tb.Fatal(err)
		}
		t.URIs = append(t.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, newKey(tb).Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// file writes bytes into a file of the test.
func file(tb testing.TB, name string, data []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// peer is a message without token from a peer with these certificates.
func peer(chain ...*x509.Certificate) *warder.Exchange {
	x := exchange()
	delete(x.Conn.Header, "Authorization")
	x.Conn.TLS = &tls.ConnectionState{PeerCertificates: chain}
	return x
}

const workloadID = "spiffe://example.org/ns/prod/sa/mailer"

func TestIAM01(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	trusts := func(c *Config, _ *Deps) {
		c.Clients.Certificates = []Certificates{
			{Name: "mesh", CA: secret.Ref{File: file(t, "mesh.pem", ca.pem)}, TrustDomain: "example.org", Endpoints: []string{"files"}},
			{Name: "corp", CA: secret.Ref{File: file(t, "corp.pem", ca.pem)}, Endpoints: []string{"mail"}},
		}
	}
	svid := func(uris ...string) *x509.Certificate { return ca.issue(t, leaf{uris: uris}) }
	notAccepted := outcome{"IAM-01", warder.Challenge, warder.CodeUnauthenticated, "certificate_not_accepted", ""}
	missing := outcome{"AUT-01", warder.Challenge, warder.CodeUnauthenticated, "token_missing", ""}
	asItself := outcome{"IAM-01", warder.Challenge, warder.CodeUnauthenticated, "client_bearer", "invalid_token"}
	client := map[string]any{"sub": "batch", "client_id": "batch"}
	tests := []struct {
		name   string
		change func(*Config, *Deps)
		x      func(*bench) *warder.Exchange
		want   outcome
	}{
		{"pass workload with its certificate", trusts, func(*bench) *warder.Exchange { return peer(svid(workloadID)) }, passed()},
		{"pass client with its certificate", trusts, func(*bench) *warder.Exchange {
			return at(peer(ca.issue(t, leaf{name: "batch"})), "mail")
		}, passed()},
		{"pass user with a bearer token", nil, func(b *bench) *warder.Exchange {
			return exchange("Bearer " + with(map[string]any{"client_id": "app"})(b))
		}, passed()},
		{"pass client with a bound token", nil, func(b *bench) *warder.Exchange {
			p, err := jose.NewProver(b.clock.now)
			if err != nil {
				t.Fatal(err)
			}
			token := with(map[string]any{"sub": "batch", "client_id": "batch", "cnf": map[string]any{"jkt": p.Thumbprint()}})(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, passed()},
		{
			"pass client with a bearer token where that is accepted", func(c *Config, _ *Deps) { c.Issuers[1].BearerClients = true },
			func(b *bench) *warder.Exchange { return exchange("Bearer " + with(client)(b)) }, passed(),
		},
		{"deny client with a bearer token", nil, func(b *bench) *warder.Exchange { return exchange("Bearer " + with(client)(b)) }, asItself},
		{"near_miss client as another provider writes it", nil, func(b *bench) *warder.Exchange {
			return exchange("Bearer " + with(map[string]any{"sub": "batch@clients", "azp": "batch"})(b))
		}, asItself},
		{"deny certificate of another authority", trusts, func(*bench) *warder.Exchange {
			return peer(stranger.issue(t, leaf{uris: []string{workloadID}}))
		}, notAccepted},
		{"deny expired certificate", trusts, func(b *bench) *warder.Exchange {
			cert := ca.issue(t, leaf{uris: []string{workloadID}, until: time.Minute})
			b.clock.advance(2 * time.Minute)
			return peer(cert)
		}, notAccepted},
		{"deny certificate of a server", trusts, func(*bench) *warder.Exchange {
			return peer(ca.issue(t, leaf{uris: []string{workloadID}, usage: x509.ExtKeyUsageServerAuth}))
		}, notAccepted},
		{"deny another trust domain", trusts, func(*bench) *warder.Exchange { return peer(svid("spiffe://evil.example/ns/prod")) }, notAccepted},
		{"near_miss trust domain that begins alike", trusts, func(*bench) *warder.Exchange { return peer(svid("spiffe://example.org.evil/x")) }, notAccepted},
		{"near_miss two ids", trusts, func(*bench) *warder.Exchange { return peer(svid(workloadID, "spiffe://example.org/admin")) }, notAccepted},
		{"near_miss the trust domain itself", trusts, func(*bench) *warder.Exchange { return peer(svid("spiffe://example.org")) }, notAccepted},
		{"near_miss an authority's certificate", trusts, func(*bench) *warder.Exchange {
			return peer(ca.issue(t, leaf{uris: []string{workloadID}, isCA: true}))
		}, notAccepted},
		{"near_miss a key that must not sign", trusts, func(*bench) *warder.Exchange {
			return peer(ca.issue(t, leaf{uris: []string{workloadID}, noSign: true}))
		}, notAccepted},
		{"near_miss no SPIFFE id", trusts, func(*bench) *warder.Exchange { return peer(ca.issue(t, leaf{name: "batch"})) }, notAccepted},
		{"near_miss endpoint that is not open for certificates", trusts, func(*bench) *warder.Exchange { return at(peer(svid(workloadID)), "office") }, missing},
		{"near_miss no authority is configured", nil, func(*bench) *warder.Exchange { return peer(svid(workloadID)) }, missing},
		{"near_miss no certificate", trusts, func(*bench) *warder.Exchange { return peer() }, missing},
		{"near_miss a bad token beside a good certificate", trusts, func(*bench) *warder.Exchange {
			x := peer(svid(workloadID))
			x.Conn.Header["Authorization"] = []string{"Bearer a.b.c"}
			return x
		}, invalid("token_malformed")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.change)
			x := tt.x(b)
			for range 2 { // the second time it is remembered
				d := b.connect(x)
				if strings.HasPrefix(tt.name, "pass client with a bound") && d.Reason == "proof_replayed" {
					continue
				}
				if diff := cmp.Diff(tt.want, outcomeOf(d)); diff != "" {
					t.Errorf("outcome (-want +got):\n%s\ndetail: %s", diff, d.Detail)
				}
			}
		})
	}
	t.Run("dependency_killed authorities cannot be read", func(t *testing.T) {
		t.Parallel()
		cfg := Config{BaseURL: base, Clients: Clients{Certificates: []Certificates{
			{Name: "mesh", CA: secret.Ref{File: filepath.Join(t.TempDir(), "gone.pem")}, Endpoints: []string{"files"}},
		}}}
		if _, err := New(cfg, Deps{Resource: resource}); err == nil {
			t.Error("the layer was built without its authorities")
		}
	})
	t.Run("principal", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, trusts)
		cert := svid(workloadID)
		x := peer(cert)
		if d := b.connect(x); d.Verdict != warder.Pass {
			t.Fatal(d)
		}
		thumb := certThumbprint(cert.Raw)
		want := &warder.Principal{
			Issuer: "spiffe://example.org", Subject: workloadID, Client: workloadID, Workload: workloadID, Transport: "mtls",
			Binding: thumb, TokenID: "x5t#S256:" + thumb, IssuedAt: cert.NotBefore, NotAfter: cert.NotAfter,
		}
		if diff := cmp.Diff(want, x.Principal); diff != "" {
			t.Errorf("principal (-want +got):\n%s", diff)
		}
		x = at(peer(ca.issue(t, leaf{name: "batch"})), "mail")
		if d := b.connect(x); d.Verdict != warder.Pass || x.Principal.Subject != "CN=batch" || x.Principal.Issuer != "x509:corp" || x.Principal.Workload != "" {
			t.Errorf("client: %+v, %+v", d, x.Principal)
		}
	})
}

// bundle is the SPIFFE bundle of a trust domain with the signer's key.
func bundle(tb testing.TB, s *jose.Signer) []byte {
	tb.Helper()
	doc, err := s.KeySet()
	if err != nil {
		tb.Fatal(err)
	}
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(doc, &set); err != nil {
		tb.Fatal(err)
	}
	for _, k := range set.Keys {
		k["use"] = "jwt-svid"
	}
	return jsonOf(tb, map[string]any{"keys": set.Keys, "spiffe_sequence": 1})
}

func TestWorkloadTokens(t *testing.T) {
	t.Parallel()
	signer, err := jose.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, "bundle.json", bundle(t, signer))
	b := newBench(t, func(c *Config, _ *Deps) {
		c.Issuers = append(c.Issuers, Issuer{URL: "spiffe://example.org", JWKS: JWKS{File: path}, GroupPrefix: "spiffe/"})
		c.Issuers[1].Workload = true
	})
	now := b.clock.now().Unix()
	sign := func(s *jose.Signer, typ string, change map[string]any) string {
		c := map[string]any{"sub": workloadID, "aud": []string{filesURI}, "exp": now + 300}
		maps.Copy(c, change)
		token, err := s.Sign(typ, c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, tt := range []struct {
		name, token string
		want        warder.Reason
	}{
		{"pass as SPIRE signs it", sign(signer, "JWT", map[string]any{"iat": now}), ""},
		{"pass without iat", sign(signer, "JWT", nil), ""},
		{"pass with an issuer of its own", sign(signer, "JWT", map[string]any{"iss": "https://spire.example"}), ""},
		{"deny another trust domain", sign(signer, "JWT", map[string]any{"sub": "spiffe://evil.example/x"}), "issuer_unknown"},
		{"deny key of a configured issuer", sign(b.signer, "JWT", nil), "key_unknown"},
		{"deny for another server", sign(signer, "JWT", map[string]any{"aud": []string{mailURI}}), "audience_mismatch"},
		{"deny for two servers", sign(signer, "JWT", map[string]any{"aud": []string{mailURI, filesURI}}), "audience_not_alone"},
		{"deny expired", sign(signer, "JWT", map[string]any{"exp": now - 1}), "token_expired"},
		{"deny what lives for two hours more", sign(signer, "JWT", map[string]any{"exp": now + 7200}), "token_lifetime"},
		{"near_miss id without a path", sign(signer, "JWT", map[string]any{"sub": "spiffe://example.org"}), "issuer_unknown"},
		{"near_miss no SPIFFE id", sign(signer, "JWT", map[string]any{"sub": "mailer"}), "issuer_unknown"},
		{"near_miss issuer that is the trust domain", sign(signer, "JWT", map[string]any{"iss": "spiffe://example.org"}), ""},
	} {
		x := exchange("Bearer " + tt.token)
		d := b.connect(x)
		if d.Reason != tt.want {
			t.Errorf("%s: %+v, want %q", tt.name, d, tt.want)
		}
		if tt.want == "" && (x.Principal.Issuer != "spiffe://example.org" || x.Principal.Workload != x.Principal.Subject || x.Principal.Client != x.Principal.Subject) {
			t.Errorf("%s: principal = %+v", tt.name, x.Principal)
		}
	}
	x := exchange("Bearer " + with(map[string]any{"sub": "system:serviceaccount:prod:mailer"})(b))
	if d := b.connect(x); d.Verdict != warder.Pass || x.Principal.Workload != "system:serviceaccount:prod:mailer" {
		t.Errorf("token of a cluster: %+v, %+v", d, x.Principal)
	}
}
