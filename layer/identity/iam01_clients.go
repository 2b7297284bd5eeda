package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/spiffe"
)

// certificates lets clients and workloads in whose TLS certificate is a credential of its own: one that a
// configured authority signed, for an endpoint that may be used so, from a request that carries no token.
// Control IAM-01, first part; RFC 8705 section 2.1, SPIFFE X.509-SVID. Phase Connect, before AUT-01 asks
// for a token.
type certificates struct {
	authorities []authorityRule
	cache       *cache
	ttl         time.Duration
	generation  func() uint64
	now         func() time.Time
	ask         asker
}

type authorityRule struct {
	Certificates
	issuer string
	roots  *x509.CertPool
}

var _ warder.Interceptor = (*certificates)(nil)

// caTimeout bounds how long the authorities may take to be read, at start.
const caTimeout = 10 * time.Second

func newCertificates(cfg Config, deps Deps, ask asker) (*certificates, error) {
	c := &certificates{
		cache: newCache(cfg.cacheSize()), ttl: cfg.cacheTTL(), generation: deps.Generation, now: deps.Now, ask: ask,
	}
	for _, own := range cfg.Clients.Certificates {
		ctx, cancel := context.WithTimeout(context.Background(), caTimeout)
		pem, err := own.CA.Read(ctx)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("clients.certificates %s: ca: %w", own.Name, err)
		}
		rule := authorityRule{Certificates: own, issuer: own.issuer(), roots: x509.NewCertPool()}
		if !rule.roots.AppendCertsFromPEM(pem.Bytes()) {
			return nil, fmt.Errorf("clients.certificates %s: ca: no certificate", own.Name)
		}
		c.authorities = append(c.authorities, rule)
	}
	return c, nil
}

// issuer is the issuer of the principals of an authority.
func (c Certificates) issuer() string {
	if c.TrustDomain != "" {
		return spiffe.Scheme + c.TrustDomain
	}
	return "x509:" + c.Name
}

// Control returns IAM-01.
func (*certificates) Control() warder.ControlID { return "IAM-01" }

// Intercept makes a principal of the certificate, if there is one, no token, and an authority for the endpoint.
func (c *certificates) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if len(c.authorities) == 0 || x.Door == warder.DoorStdio || x.Conn.TLS == nil ||
		len(x.Conn.TLS.PeerCertificates) == 0 || len(x.Conn.Header["Authorization"]) > 0 || !c.open(x.Endpoint) {
		return warder.Continue(), nil
	}
	now, generation := c.now(), c.generation()
	chain := x.Conn.TLS.PeerCertificates
	key := cacheKey{sum: sha256.Sum256(chain[0].Raw), resource: x.Endpoint}
	if p := c.cache.get(&key, now, generation); p != nil {
		x.Principal = p
		return warder.Continue(), nil
	}
	p, err := c.principal(chain, x.Endpoint, now)
	if err != nil {
		return c.ask.refuse(x, warder.CodeUnauthenticated, "", "certificate_not_accepted", err.Error()), nil
	}
	until := now.Add(c.ttl)
	if p.NotAfter.Before(until) {
		until = p.NotAfter
	}
	c.cache.put(key, cached{principal: p, until: until, generation: generation}, now)
	x.Principal = p
	return warder.Continue(), nil
}

func (c *certificates) open(endpoint string) bool {
	return slices.ContainsFunc(c.authorities, func(a authorityRule) bool { return a.open(endpoint) })
}

func (a *authorityRule) open(endpoint string) bool {
	return slices.Contains(a.Endpoints, endpoint) || slices.Contains(a.Endpoints, "*")
}

// errNoAuthority reports a certificate that no configured authority vouches for here.
var errNoAuthority = errors.New("no authority for this endpoint vouches for the certificate")

// principal asks the authorities in order.
func (c *certificates) principal(chain []*x509.Certificate, endpoint string, now time.Time) (*warder.Principal, error) {
	errs := []error{errNoAuthority}
	for i := range c.authorities {
		a := &c.authorities[i]
		if !a.open(endpoint) {
			continue
		}
		p, err := a.principal(chain, now)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// principal verifies the chain and names the peer. That the peer holds the key of the leaf, TLS has proved.
func (a *authorityRule) principal(chain []*x509.Certificate, now time.Time) (*warder.Principal, error) {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	leaf := chain[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, err
	}
	thumb := certThumbprint(leaf.Raw)
	p := &warder.Principal{
		Issuer: a.issuer, Transport: transportMTLS, Binding: thumb, TokenID: "x5t#S256:" + thumb,
		IssuedAt: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
	if a.TrustDomain == "" {
		if p.Subject = leaf.Subject.String(); p.Subject == "" {
			return nil, errors.New("certificate has no subject")
		}
		p.Client = p.Subject
		return p, nil
	}
	id, domain, err := spiffe.ID(leaf)
	if err != nil {
		return nil, err
	}
	if domain != a.TrustDomain {
		return nil, fmt.Errorf("certificate is of the trust domain %.100q", domain)
	}
	p.Subject, p.Client, p.Workload = id, id, id
	return p, nil
}

// strongClients refuses clients that act for themselves with nothing but a bearer token: such a client got it
// for a secret that it shares with its issuer, and whoever has the token is the client. A key (DPoP, client
// certificate) or the identity of a workload is asked for instead.
// Control IAM-01, second part; OAuth 2.1 section 2.4, RFC 9068 section 2.2 (sub of a client that acts for
// itself is the client). Phase Connect, after IAM-06.
type strongClients struct {
	bearer map[string]bool // issuers whose clients may use bearer tokens
	ask    asker
}

var _ warder.Interceptor = (*strongClients)(nil)

func newStrongClients(cfg Config, ask asker) *strongClients {
	s := &strongClients{bearer: map[string]bool{}, ask: ask}
	for _, is := range cfg.accepted() {
		s.bearer[is.URL] = is.BearerClients
	}
	return s
}

// Control returns IAM-01.
func (*strongClients) Control() warder.ControlID { return "IAM-01" }

// Intercept compares subject and client.
func (s *strongClients) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil || p.Transport != transportBearer || p.Workload != "" || !forItself(p) || s.bearer[p.Issuer] {
		return warder.Continue(), nil
	}
	d := s.ask.refuse(x, warder.CodeUnauthenticated, "invalid_token", "client_bearer",
		"a client that acts for itself must hold a key: DPoP, a client certificate, or workload identity")
	d.Ask.Algorithms = s.ask.algorithms()
	return d, nil
}

// forItself reports whether the subject is the client: by RFC 9068, or as Auth0 writes it.
func forItself(p *warder.Principal) bool {
	const auth0 = "@clients"
	return p.Client != "" && (p.Subject == p.Client || p.Subject == p.Client+auth0)
}

// trustDomainKeys are the keys of a SPIFFE trust domain: of its bundle in a file or at an address, or as the
// Workload API has them.
func trustDomainKeys(is Issuer, deps Deps) (Keys, error) {
	domain := is.URL[len(spiffe.Scheme):]
	var bundle jose.Fetch
	switch {
	case is.JWKS.WorkloadAPI != "":
		return jose.NewSource(func(ctx context.Context) ([]byte, error) {
			keys, err := spiffe.Ask(ctx, is.JWKS.WorkloadAPI, domain)
			if err != nil {
				return nil, err
			}
			return jose.EncodeKeySet(keys)
		}, jose.Refresh{MaxStale: is.JWKS.MaxStale}, deps.Now), nil
	case is.JWKS.File != "":
		bundle = jose.FromFile(is.JWKS.File)
	case deps.HTTP == nil:
		return nil, errors.New("no HTTP client to fetch the bundle with: set jwks.file or jwks.workload_api")
	default:
		var err error
		if bundle, err = jose.FromURL(deps.HTTP, is.JWKS.URL); err != nil {
			return nil, err
		}
	}
	return jose.NewSource(func(ctx context.Context) ([]byte, error) {
		doc, err := bundle(ctx)
		if err != nil {
			return nil, err
		}
		keys, err := spiffe.Keys(domain, doc)
		if err != nil {
			return nil, err
		}
		return jose.EncodeKeySet(keys)
	}, jose.Refresh{MaxStale: is.JWKS.MaxStale}, deps.Now), nil
}
