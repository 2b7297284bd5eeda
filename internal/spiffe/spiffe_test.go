package spiffe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
)

func TestTrustDomain(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"spiffe://example.org/a/b":  "example.org",
		"spiffe://Example.org/a":    "",
		"spiffe://example.org":      "",
		"spiffe://example.org/":     "",
		"spiffe://example.org/a/":   "",
		"spiffe://example.org/../a": "",
		"spiffe://example.org:1/a":  "",
		"spiffe://u@example.org/a":  "",
		"spiffe://example.org/a?b":  "",
		"spiffe:///a":               "",
		"https://example.org/a":     "",
		"":                          "",
	} {
		if got, ok := TrustDomain(id); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", id, got, ok, want)
		}
	}
	for name, ok := range map[string]bool{"example.org": true, "spiffe://example.org": false, "": false, "a/b": false, "A": false} {
		if err := CheckDomain(name); (err == nil) != ok {
			t.Errorf("domain %q: %v", name, err)
		}
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	cert := func(usage x509.KeyUsage, ca bool, uris ...string) *x509.Certificate {
		c := &x509.Certificate{KeyUsage: usage, IsCA: ca}
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		return c
	}
	const sign = x509.KeyUsageDigitalSignature
	id, domain, err := ID(cert(sign, false, "spiffe://example.org/a"))
	if id != "spiffe://example.org/a" || domain != "example.org" || err != nil {
		t.Errorf("%q, %q, %v", id, domain, err)
	}
	for name, c := range map[string]*x509.Certificate{
		"no id":               cert(sign, false),
		"two ids":             cert(sign, false, "spiffe://example.org/a", "spiffe://example.org/b"),
		"an address":          cert(sign, false, "https://example.org/a"),
		"a trust domain":      cert(sign, false, "spiffe://example.org"),
		"an authority":        cert(sign, true, "spiffe://example.org/a"),
		"may sign others":     cert(sign|x509.KeyUsageCertSign, false, "spiffe://example.org/a"),
		"must not sign":       cert(x509.KeyUsageKeyEncipherment, false, "spiffe://example.org/a"),
		"may sign revocation": cert(sign|x509.KeyUsageCRLSign, false, "spiffe://example.org/a"),
	} {
		if id, _, err := ID(c); err == nil {
			t.Errorf("%s: %q, want an error", name, id)
		}
	}
}

// document is a bundle with one key for JWT-SVIDs.
func document(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	return fmt.Appendf(nil, `{"keys":[{"kty":"EC","use":"jwt-svid","kid":"k1","crv":"P-256","x":%q,"y":%q}]}`, enc.EncodeToString(b[1:33]), enc.EncodeToString(b[33:]))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	keys, err := Keys("example.org", document(t))
	if err != nil || len(keys) != 1 || keys["k1"] == nil {
		t.Errorf("keys = %v, %v", keys, err)
	}
	if _, err := Keys("example.org", []byte(`{"keys":`)); err == nil {
		t.Error("half a document was read")
	}
	if _, err := Keys("not a domain", document(t)); err == nil {
		t.Error("a bundle of no trust domain was read")
	}
}

// agent is a Workload API that knows one trust domain.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	bundle []byte
}

// FetchJWTBundles implements the Workload API.
func (a *agent) FetchJWTBundles(_ *workload.JWTBundlesRequest, s grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return s.Send(&workload.JWTBundlesResponse{Bundles: map[string][]byte{"spiffe://example.org": a.bundle}})
}

func TestAsk(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(srv, &agent{bundle: document(t)})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	keys, err := Ask(ctx, "unix://"+socket, "example.org")
	if err != nil || len(keys) != 1 || keys["k1"] == nil {
		t.Errorf("keys = %v, %v", keys, err)
	}
	if _, err := Ask(ctx, "unix://"+socket, "evil.example"); err == nil {
		t.Error("the agent has keys of a trust domain that it does not know")
	}
	short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := Ask(short, "unix://"+socket+".gone", "example.org"); err == nil {
		t.Error("an agent that is not there answered")
	}
}
