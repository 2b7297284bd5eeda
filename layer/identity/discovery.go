package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
)

// Bounds of discovery.
const (
	maxMetadata  = 256 << 10 // bytes of one metadata document
	metadataTTL  = time.Hour // a document is read again after this
	metadataWait = 5 * time.Second
)

// errMetadata reports that no acceptable metadata could be had. Until then the issuer's tokens are refused.
var errMetadata = errors.New("issuer metadata is unavailable")

// A provider is an issuer known by its URL alone: its metadata says where its keys are (RFC 8414, OpenID
// Connect Discovery 1.0). It is safe for concurrent use.
type provider struct {
	issuer string
	client *http.Client
	now    func() time.Time

	mu    sync.Mutex
	found authServer
	until time.Time // found is used until then
}

// An authServer is what Warder uses of an issuer's metadata (RFC 8414 section 2).
type authServer struct {
	Issuer        string `json:"issuer"`
	Keys          string `json:"jwks_uri"`
	Introspection string `json:"introspection_endpoint"`
}

// fetchKeys is the [jose.Fetch] of the key set that the metadata names. The source around it bounds how
// often it runs, waits longer after every failure, and keeps keys for a while when it fails.
func (p *provider) fetchKeys(ctx context.Context) ([]byte, error) {
	meta, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	fetch, err := jose.FromURL(p.client, meta.Keys)
	if err != nil {
		return nil, err
	}
	doc, err := fetch(ctx)
	if err != nil {
		p.forget() // perhaps the keys have moved
	}
	return doc, err
}

// introspection returns the introspection endpoint that the metadata names.
func (p *provider) introspection(ctx context.Context) (string, error) {
	meta, err := p.metadata(ctx)
	if err != nil {
		return "", err
	}
	if meta.Introspection == "" {
		return "", fmt.Errorf("%w: it names no introspection_endpoint", errMetadata)
	}
	return meta.Introspection, p.samePolicy("introspection_endpoint", meta.Introspection)
}

func (p *provider) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Time{}
}

// metadata returns the issuer's metadata, at most an hour old.
func (p *provider) metadata(ctx context.Context) (authServer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Before(p.until) {
		return p.found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, metadataWait)
	defer cancel()
	var errs []error
	for _, place := range metadataPlaces(p.issuer) {
		doc, err := p.read(ctx, place)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.found, p.until = doc, now.Add(metadataTTL)
		return doc, nil
	}
	return authServer{}, fmt.Errorf("%w: %w", errMetadata, errors.Join(errs...))
}

// read fetches one document and refuses it unless it is about exactly this issuer (RFC 8414 section 3.3).
func (p *provider) read(ctx context.Context, place string) (authServer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, http.NoBody)
	if err != nil {
		return authServer{}, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return authServer{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return authServer{}, fmt.Errorf("%s answered status %d", place, resp.StatusCode)
	}
	body, err := safedial.ReadAll(resp.Body, maxMetadata)
	if err != nil {
		return authServer{}, err
	}
	var doc authServer
	if err := json.Unmarshal(body, &doc); err != nil {
		return authServer{}, fmt.Errorf("%s: parse metadata: %w", place, err)
	}
	if doc.Issuer != p.issuer {
		return authServer{}, fmt.Errorf("%s is the metadata of another issuer, %.200q", place, doc.Issuer)
	}
	return doc, p.samePolicy("jwks_uri", doc.Keys)
}

// samePolicy refuses an address that is weaker than the issuer's own: plain http is for issuers that are
// themselves at a loopback address over http.
func (p *provider) samePolicy(name, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("metadata of %s: %s %.200q is not an address", p.issuer, name, address)
	}
	if u.Scheme == "https" || strings.HasPrefix(p.issuer, "http://") && jose.SecureURL(u) {
		return nil
	}
	return fmt.Errorf("metadata of %s: %s %.200q is not https", p.issuer, name, address)
}

// metadataPlaces lists where the metadata of an issuer may be, in the order that MCP authorization gives:
// three places for an issuer with a path, two for one without.
func metadataPlaces(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	host, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	const oauth, oidc = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	if path == "" {
		return []string{host + oauth, host + oidc}
	}
	return []string{host + oauth + path, host + oidc + path, host + path + oidc}
}
