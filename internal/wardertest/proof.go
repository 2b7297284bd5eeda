package wardertest

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
)

// A proofSpec is the proof section: what the messages of the case say instead of the truth. What opens a
// session always has a good proof.
type proofSpec struct {
	Method, URL, Token string // instead of those of the request
	Age                string // how long ago the proof was made; negative: in the future
	Key                string // "other": signed with another key than the token is bound to
	Scheme             string // of the Authorization header; default DPoP
	Count              *int   // how many proofs; default 1
	Again              bool   // the same proof with every message
	Nonce              bool   // the client repeats a message with the nonce it was given
}

// A holder is a client that holds a key.
type holder struct {
	t     testing.TB
	spec  proofSpec
	key   *jose.Signer
	nonce string
	first []string // the first proofs of the case's own messages
}

// holder reads the proof section; nil if there is none.
func (r *runner) holder() *holder {
	r.t.Helper()
	text, ok := r.c.sections["proof"]
	if !ok {
		return nil
	}
	h := &holder{t: r.t}
	if strings.TrimSpace(text) != "" {
		if err := json.Unmarshal([]byte(text), &h.spec); err != nil {
			r.t.Fatalf("proof section: %v", err)
		}
	}
	h.key = newSigner(r.t)
	return h
}

func newSigner(tb testing.TB) *jose.Signer {
	tb.Helper()
	s, err := jose.NewSigner()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// sign sets the credential of one request; own says that it is one of the case's own messages.
func (h *holder) sign(header http.Header, method, address, token string, own bool) {
	h.t.Helper()
	spec, key, now := h.spec, h.key, time.Now
	if !own {
		spec = proofSpec{}
	}
	if spec.Key == "other" {
		key = newSigner(h.t)
	}
	if spec.Age != "" {
		age, err := time.ParseDuration(spec.Age)
		if err != nil {
			h.t.Fatalf("proof section: %v", err)
		}
		now = func() time.Time { return time.Now().Add(-age) }
	}
	count := 1
	if spec.Count != nil {
		count = *spec.Count
	}
	var proofs []string
	for range count {
		p, err := jose.ProverOf(key, now).Proof(cmp.Or(spec.Method, method), cmp.Or(spec.URL, address), cmp.Or(spec.Token, token), h.nonce)
		if err != nil {
			h.t.Fatal(err)
		}
		proofs = append(proofs, p)
	}
	if spec.Again && h.first != nil {
		proofs = h.first
	}
	if own {
		h.first = proofs
	}
	header["Authorization"] = []string{cmp.Or(spec.Scheme, "DPoP") + " " + token}
	header["Dpop"] = proofs
}

// An authority signs the certificates of a case.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the case"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &authority{key: key, cert: certify(tb, template, template, key, key)}
}

func certify(tb testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// issue makes a client certificate for a SPIFFE id or a common name.
func (a *authority) issue(tb testing.TB, name string) *tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		template.URIs = []*url.URL{u}
	} else {
		template.Subject = pkix.Name{CommonName: name}
	}
	cert := certify(tb, template, a.cert, key, a.key)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// certificate is what the client of the case shows, and the file with the authority that %CA% stands for.
func (c *testCase) certificate(tb testing.TB) (shown *tls.Certificate, file string) {
	tb.Helper()
	name := c.key("certificate", "")
	if name == "" {
		return nil, ""
	}
	ca := newAuthority(tb)
	file = filepath.Join(tb.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		tb.Fatal(err)
	}
	switch name {
	case "none":
		return nil, file
	case "foreign":
		return newAuthority(tb).issue(tb, "spiffe://example.org/foreign"), file
	}
	return ca.issue(tb, name), file
}

// confirmation is the cnf claim of a token that is bound to the key or to the certificate of the client.
func (r *runner) confirmation(h *holder, toCertificate string) map[string]any {
	switch {
	case h != nil:
		return map[string]any{"jkt": h.key.KeyID()}
	case toCertificate == "own" && r.shown != nil:
		return map[string]any{"x5t#S256": thumbprint(r.shown.Leaf.Raw)}
	case toCertificate != "":
		return map[string]any{"x5t#S256": thumbprint([]byte(toCertificate))}
	default:
		return nil
	}
}

func thumbprint(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
