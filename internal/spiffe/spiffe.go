// Package spiffe reads what SPIFFE says of workloads: ids in certificates and tokens, and the bundles with
// the keys of a trust domain, out of a document or from the Workload API of an agent such as SPIRE's.
//
// It is the only importer of go-spiffe. Tokens of workloads are verified by package jose like any other;
// certificates by crypto/x509.
//
//	id, domain, err := spiffe.ID(cert)                           // spiffe://example.org/ns/prod/sa/mail
//	keys, err := spiffe.Keys("example.org", document)             // of a bundle
//	keys, err := spiffe.Ask(ctx, "unix:///run/agent.sock", "example.org")
package spiffe

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Scheme begins every SPIFFE id.
const Scheme = "spiffe://"

// errID reports a certificate that is no X.509-SVID.
var errID = errors.New("certificate names no SPIFFE id")

// TrustDomain returns the trust domain of the SPIFFE id of a workload, false if the text is none.
func TrustDomain(id string) (string, bool) {
	if !strings.HasPrefix(id, Scheme) {
		return "", false
	}
	parsed, err := spiffeid.FromString(id)
	if err != nil || parsed.Path() == "" {
		return "", false
	}
	return parsed.TrustDomain().Name(), true
}

// ID returns the SPIFFE id of a certificate and its trust domain. A certificate of a workload has exactly one
// URI as alternative name, is no authority, and may sign (SPIFFE X.509-SVID sections 2, 4 and 5.2).
func ID(cert *x509.Certificate) (id, domain string, err error) {
	switch {
	case len(cert.URIs) != 1:
		return "", "", fmt.Errorf("%w: it has %d URIs", errID, len(cert.URIs))
	case cert.IsCA || cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return "", "", fmt.Errorf("%w: it is an authority", errID)
	case cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return "", "", fmt.Errorf("%w: its key must not sign", errID)
	}
	parsed, err := spiffeid.FromURI(cert.URIs[0])
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errID, err)
	}
	if parsed.Path() == "" {
		return "", "", fmt.Errorf("%w: it names a trust domain, not a workload", errID)
	}
	return parsed.String(), parsed.TrustDomain().Name(), nil
}

// CheckDomain reports an error unless the text is the name of a trust domain, without scheme.
func CheckDomain(name string) error {
	td, err := spiffeid.TrustDomainFromString(name)
	if err == nil && td.Name() != name {
		err = errors.New("want the name alone")
	}
	if err != nil {
		return fmt.Errorf("trust domain %.100q: %w", name, err)
	}
	return nil
}

// Keys returns the keys that verify JWT-SVIDs of the trust domain, by key id, out of its bundle (SPIFFE Trust
// Domain and Bundle section 4).
func Keys(domain string, bundle []byte) (map[string]crypto.PublicKey, error) {
	td, err := spiffeid.TrustDomainFromString(domain)
	if err != nil {
		return nil, fmt.Errorf("trust domain: %w", err)
	}
	b, err := spiffebundle.Parse(td, bundle)
	if err != nil {
		return nil, fmt.Errorf("bundle of %s: %w", domain, err)
	}
	return b.JWTAuthorities(), nil
}

// Ask returns the same keys as the Workload API at address has them. It connects to that socket only.
func Ask(ctx context.Context, address, domain string) (map[string]crypto.PublicKey, error) {
	td, err := spiffeid.TrustDomainFromString(domain)
	if err != nil {
		return nil, fmt.Errorf("trust domain: %w", err)
	}
	set, err := workloadapi.FetchJWTBundles(ctx, workloadapi.WithAddr(address))
	if err != nil {
		return nil, fmt.Errorf("ask the workload api for bundles: %w", err)
	}
	b, ok := set.Get(td)
	if !ok {
		return nil, fmt.Errorf("the workload api has no bundle of %s", domain)
	}
	return b.JWTAuthorities(), nil
}
