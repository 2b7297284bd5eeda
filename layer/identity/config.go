package identity

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/spiffe"
)

// Config is the identity section of the configuration. Without issuers nobody can enter over HTTP.
type Config struct {
	BaseURL           string             `yaml:"base_url"`           // public address of Warder, without trailing slash, such as https://gate.example.com; servers are at BASE/mcp/NAME
	Issuers           []Issuer           `yaml:"issuers"`            // authorization servers whose tokens are accepted
	LocalIssuer       string             `yaml:"-"`                  // issuer identifier of Warder's own authorization server; set by the application, empty: none
	ScopesSupported   []string           `yaml:"scopes_supported"`   // minimal scopes a client asks for at first; also in the metadata document
	CacheTTL          time.Duration      `yaml:"cache_ttl"`          // how long a verified token is remembered, at most 60s; zero means 60s
	CacheSize         int                `yaml:"cache_size"`         // how many verified tokens are remembered; zero means 10000
	DPoP              DPoP               `yaml:"dpop"`               // which callers must prove that they hold the key of their token, and how
	Clients           Clients            `yaml:"clients"`            // clients and workloads that show a certificate instead of a token
	SharedAccounts    []string           `yaml:"shared_accounts"`    // accounts that several people or services use, as "issuer|subject"; they are refused
	SharedCredentials []SharedCredential `yaml:"shared_credentials"` // credentials that several servers may be shown, and who answers for that
	Documentation     string             `yaml:"documentation"`      // address of a page for developers of clients, shown in the metadata document; empty: none

	AuthorityConfig `yaml:",inline"`
}

// A SharedCredential is a credential that more than one server is shown (control AUT-11).
type SharedCredential struct {
	Ref   secret.Ref `yaml:"ref"`   // the reference, exactly as the servers have it
	Owner string     `yaml:"owner"` // who answers for sharing it
}

// A DPoP says where a token must be bound to a key, and how strictly proofs are judged (control IAM-06).
type DPoP struct {
	Policy        string            `yaml:"policy"`         // "required": only tokens that are bound to a key, by DPoP or by a client certificate, are accepted; "optional": bound tokens need their proof, others pass; empty means optional
	Endpoints     map[string]string `yaml:"endpoints"`      // endpoint name to "required" or "optional", over the policy of the issuer and of the gateway
	Algorithms    []string          `yaml:"algorithms"`     // signature algorithms of proofs; empty: ES256, EdDSA, ES384, ES512, PS256 and RS256
	Window        time.Duration     `yaml:"window"`         // how far the time of a proof may be from ours, at most 5m; zero means 5m
	Nonce         bool              `yaml:"nonce"`          // true demands a nonce of ours in every proof, which ends proofs that were made in advance
	ContentDigest bool              `yaml:"content_digest"` // true demands that a proof states the digest of the body; few clients can
}

// Values of DPoP.Policy.
const (
	PolicyRequired = "required"
	PolicyOptional = "optional"
)

// Clients says which clients and workloads may come without a token (control IAM-01).
type Clients struct {
	Certificates []Certificates `yaml:"certificates"` // authorities whose client certificates are credentials of their own
}

// Certificates is one authority of client certificates.
type Certificates struct {
	Name        string     `yaml:"name"`         // issuer of its principals is "x509:NAME", or the trust domain if there is one
	CA          secret.Ref `yaml:"ca"`           // authorities in PEM
	TrustDomain string     `yaml:"trust_domain"` // SPIFFE trust domain: the certificate must name an id in it, which is the subject; empty: the subject is the distinguished name
	Endpoints   []string   `yaml:"endpoints"`    // endpoints that may be used so; empty: none
}

// An Issuer is one authorization server.
type Issuer struct {
	URL         string        `yaml:"url"`          // issuer identifier, compared as a plain string with the iss claim
	Audience    Audience      `yaml:"audience"`     // what the token must name as its audience; empty: exactly the server's canonical URI
	JWKS        JWKS          `yaml:"jwks"`         // where the issuer's public keys are
	Algorithms  []string      `yaml:"algorithms"`   // signature algorithms accepted; empty: ES256, EdDSA, PS256 and RS256
	Types       []string      `yaml:"types"`        // typ headers accepted; empty: at+jwt and JWT; add "" for issuers that send none
	MaxLifetime time.Duration `yaml:"max_lifetime"` // longest life of a token, exp - iat; zero means 1h, at most 24h
	Leeway      time.Duration `yaml:"leeway"`       // clock skew tolerated, at most 60s; zero means none
	Claims      ClaimNames    `yaml:"claims"`       // names of the claims that make the principal
	GroupPrefix string        `yaml:"group_prefix"` // put before every group this issuer vouches for; must differ between issuers

	DPoP           string        `yaml:"dpop"`            // "required" or "optional", over identity.dpop.policy; empty: that one
	Workload       bool          `yaml:"workload"`        // true: subjects are workloads, not people; an url such as spiffe://example.org is a SPIFFE trust domain
	BearerClients  bool          `yaml:"bearer_clients"`  // true accepts bearer tokens of clients that act for themselves: whoever has such a token is the client
	Introspection  Introspection `yaml:"introspection"`   // asking the issuer whether a token is still good (RFC 7662); needed for opaque tokens
	PrivateNetwork bool          `yaml:"private_network"` // true lets Warder reach this issuer at a private address
}

// An Introspection says how an issuer is asked about tokens. The zero value asks nothing.
type Introspection struct {
	ClientID     string        `yaml:"client_id"`     // who Warder is at the issuer; setting it turns introspection on
	ClientSecret secret.Ref    `yaml:"client_secret"` // its secret, for HTTP Basic
	Key          string        `yaml:"key"`           // file with its P-256 private key in PEM, for private_key_jwt, instead of a secret
	URL          string        `yaml:"url"`           // introspection endpoint; empty: the one that the issuer's metadata names
	Tokens       string        `yaml:"tokens"`        // "opaque": tokens that are no JWTs; "jwt": JWTs, so that whoever is removed at the issuer is out at once; "all": both; empty means opaque
	Cache        time.Duration `yaml:"cache"`         // how long an answer is good, at most 60s; zero: every message asks
}

// Values of Introspection.Tokens.
const (
	TokensOpaque = "opaque"
	TokensJWT    = "jwt"
	TokensAll    = "all"
)

// On reports whether the issuer is asked about tokens.
func (i Introspection) On() bool { return i.ClientID != "" }

// An Audience says how a token is bound to one server. The zero value is the strict rule: aud is
// exactly the canonical URI of the server, alone.
type Audience struct {
	AllowOthers  bool              `yaml:"allow_others"`  // true accepts an aud array that names other audiences too
	Claim        string            `yaml:"claim"`         // claim that carries the audience instead of aud, for issuers without RFC 8707
	Servers      map[string]string `yaml:"servers"`       // endpoint name to the audience this issuer uses for it, for issuers without RFC 8707
	SharedUnsafe string            `yaml:"shared_unsafe"` // one audience for every server: a token for one server is then good for all; last resort
}

// A JWKS says where an issuer's keys are. At most one of file, url and workload_api is set; none: the
// issuer's metadata names the place (RFC 8414, OpenID Connect Discovery).
type JWKS struct {
	File        string        `yaml:"file"`         // JWK set document, or SPIFFE bundle of a trust domain
	URL         string        `yaml:"url"`          // https address of one
	WorkloadAPI string        `yaml:"workload_api"` // address of the SPIFFE Workload API, such as unix:///run/spire/agent.sock; trust domains only
	MaxStale    time.Duration `yaml:"max_stale"`    // how long keys are used when they cannot be renewed; zero means 24h, at most 7d
}

// ClaimNames name the claims of the principal. Empty names take the default given; "-" reads none.
type ClaimNames struct {
	Groups string `yaml:"groups"` // array of strings; default "groups"
	Tenant string `yaml:"tenant"` // string; default none; for Warder's own authorization server tenant
	Client string `yaml:"client"` // string; default client_id, else azp
	Agent  string `yaml:"agent"`  // string; default the sub of act (RFC 8693)
	Scopes string `yaml:"scopes"` // words or array; default scope, else scp
}

// Bounds and defaults.
const (
	maxCacheTTL     = time.Minute
	defaultCache    = 10_000
	defaultLifetime = time.Hour      // the ceiling of the CIS probe for MCP
	maxLifetime     = 24 * time.Hour // whatever is configured
	maxStale        = 7 * 24 * time.Hour
	maxIntrospect   = time.Minute
	pathPrefix      = "/mcp/"
	metadataPrefix  = "/.well-known/oauth-protected-resource"
)

func defaultAlgorithms() []string { return []string{"ES256", "EdDSA", "PS256", "RS256"} }
func defaultTypes() []string      { return []string{"at+jwt", "JWT"} }

// cacheTTL is how long a verified credential is remembered.
func (c Config) cacheTTL() time.Duration {
	if c.CacheTTL == 0 {
		return maxCacheTTL
	}
	return c.CacheTTL
}

// cacheSize is how many verified credentials are remembered.
func (c Config) cacheSize() int {
	if c.CacheSize == 0 {
		return defaultCache
	}
	return c.CacheSize
}

// boundOnly reports whether every token must be bound to a key at an endpoint, whatever its issuer.
func (c Config) boundOnly(endpoint string) bool {
	if policy, ok := c.DPoP.Endpoints[endpoint]; ok {
		return policy == PolicyRequired
	}
	issuers := c.accepted()
	loose := func(is Issuer) bool { return cmp.Or(is.DPoP, c.DPoP.Policy) != PolicyRequired }
	return len(issuers) > 0 && !slices.ContainsFunc(issuers, loose)
}

// trustDomain reports whether the issuer is a SPIFFE trust domain.
func (is Issuer) trustDomain() bool { return strings.HasPrefix(is.URL, spiffe.Scheme) }

// Default returns the configuration without issuers: nobody enters over HTTP.
func Default() Config { return Config{CacheTTL: maxCacheTTL, CacheSize: defaultCache} }

// accepted lists the issuers whose tokens are accepted, the local one included, which names tenants in a
// claim of its own.
func (c Config) accepted() []Issuer {
	if c.LocalIssuer == "" {
		return c.Issuers
	}
	own := Issuer{URL: c.LocalIssuer}
	out := slices.Clone(c.Issuers)
	i := slices.IndexFunc(out, func(is Issuer) bool { return is.URL == c.LocalIssuer })
	if i < 0 {
		i, out = len(out), append(out, own)
	}
	out[i].Claims.Tenant = cmp.Or(out[i].Claims.Tenant, "tenant")
	return out
}

// Resource is the canonical URI of the server or group at an endpoint (RFC 8707 section 2): no
// trailing slash, no query, no fragment.
func (c Config) Resource(endpoint string) string { return c.BaseURL + pathPrefix + endpoint }

// MetadataURL is where the protected-resource metadata of an endpoint is (RFC 9728 section 3.1).
func (c Config) MetadataURL(endpoint string) string {
	u, err := url.Parse(c.BaseURL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + metadataPrefix + u.EscapedPath() + pathPrefix + endpoint
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	errs := c.checkAuthority()
	issuers := c.accepted()
	if c.BaseURL != "" || len(issuers) > 0 {
		errs = append(errs, checkURL("base_url", c.BaseURL))
	}
	if c.CacheTTL < 0 || c.CacheTTL > maxCacheTTL {
		errs = append(errs, fmt.Errorf("cache_ttl: %v is not between 0 and %v", c.CacheTTL, maxCacheTTL))
	}
	if c.CacheSize < 0 {
		errs = append(errs, errors.New("cache_size: negative"))
	}
	errs = append(errs, c.DPoP.validate()...)
	errs = append(errs, c.Clients.validate()...)
	errs = append(errs, c.validateNames()...)
	for _, s := range c.ScopesSupported {
		if s == "offline_access" { // MCP authorization, "Scope Selection": refresh is not the resource server's business
			errs = append(errs, errors.New("scopes_supported: offline_access must not be listed"))
		}
		if s == "" || strings.ContainsAny(s, " \"\\") {
			errs = append(errs, fmt.Errorf("scopes_supported: %q is not a scope", s))
		}
	}
	errs = append(errs, oneOpaque(issuers)...)
	prefixes := map[string]string{}
	for i, is := range issuers {
		at := fmt.Sprintf("issuers[%d]", i)
		if i >= len(c.Issuers) {
			at = "the issuer of this gateway"
		}
		for _, err := range is.validate() {
			if err == nil {
				continue
			}
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
		if slices.ContainsFunc(issuers[:i], func(o Issuer) bool { return o.URL == is.URL }) {
			errs = append(errs, fmt.Errorf("%s.url: %q is configured twice", at, is.URL))
		}
		if is.Claims.Groups == "-" {
			continue
		}
		if other, taken := prefixes[is.GroupPrefix]; taken {
			errs = append(errs, fmt.Errorf("%s.group_prefix: same as that of %s: a group of one issuer would be the group of the other", at, other))
		}
		prefixes[is.GroupPrefix] = is.URL
	}
	return errors.Join(errs...)
}

func (is Issuer) validate() []error {
	errs := []error{is.JWKS.validate(is.trustDomain()), checkPolicy("dpop", is.DPoP)}
	if is.trustDomain() {
		errs = append(errs, spiffe.CheckDomain(is.URL[len(spiffe.Scheme):]))
	} else {
		errs = append(errs, checkURL("url", strings.TrimSuffix(is.URL, "/"))) // some issuers do end in a slash
	}
	errs = append(errs, is.Introspection.validate(is.trustDomain())...)
	for _, a := range is.Algorithms {
		if !slices.Contains(jose.Algorithms(), a) {
			errs = append(errs, fmt.Errorf("algorithms: %q is not an accepted asymmetric algorithm", a))
		}
	}
	if is.MaxLifetime < 0 || is.MaxLifetime > maxLifetime {
		errs = append(errs, fmt.Errorf("max_lifetime: %v is not between 0 and %v", is.MaxLifetime, maxLifetime))
	}
	if is.Leeway < 0 || is.Leeway > time.Minute {
		errs = append(errs, fmt.Errorf("leeway: %v is not between 0 and 1m", is.Leeway))
	}
	if is.Audience.SharedUnsafe != "" && len(is.Audience.Servers) > 0 {
		errs = append(errs, errors.New("audience: set servers or shared_unsafe, not both"))
	}
	for name, aud := range is.Audience.Servers {
		if aud == "" {
			errs = append(errs, fmt.Errorf("audience.servers.%s: empty", name))
		}
	}
	return append(errs, is.duplicateAudiences()...)
}

// duplicateAudiences refuses a map that gives two servers one audience: that is shared_unsafe.
func (is Issuer) duplicateAudiences() []error {
	seen := map[string]string{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(is.Audience.Servers)) {
		aud := is.Audience.Servers[name]
		if other, taken := seen[aud]; taken && aud != "" {
			errs = append(errs, fmt.Errorf("audience.servers: %s and %s share the audience %q", other, name, aud))
		}
		seen[aud] = name
	}
	return errs
}

func checkURL(field, s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", field, err)
	case u.Host == "" || !jose.SecureURL(u):
		return fmt.Errorf("%s: %q: want https, or http to a loopback address", field, s)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "/") || strings.HasSuffix(s, "#"):
		return fmt.Errorf("%s: %q: no user, query, fragment or trailing slash", field, s)
	}
	return nil
}

// DialRules are the exceptions that the HTTP client of Deps needs to reach the configured issuers: those at
// loopback addresses, for development, and those that say private_network.
func (c Config) DialRules() []safedial.Rule {
	var rules []safedial.Rule
	for _, is := range c.accepted() {
		for _, address := range []string{is.URL, is.JWKS.URL, is.Introspection.URL} {
			u, err := url.Parse(address)
			if address == "" || err != nil || u.Host == "" {
				continue
			}
			switch {
			case is.PrivateNetwork:
				rules = append(rules, safedial.Rule{Host: u.Hostname(), Private: true})
			case isLoopback(u):
				rules = append(rules, safedial.Rule{Host: u.Hostname(), Loopback: true})
			}
		}
	}
	return rules
}

// isLoopback reports whether the URL names this host.
func isLoopback(u *url.URL) bool {
	return jose.SecureURL(&url.URL{Scheme: "http", Host: u.Host})
}
