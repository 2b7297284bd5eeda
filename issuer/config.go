package issuer

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
)

// Config is the issuer section of the configuration. Without a URL there is no authorization server.
type Config struct {
	URL           string         `yaml:"url"`            // issuer identifier: https, or http on loopback, without trailing slash; its path is where the endpoints are
	Clients       []ClientConfig `yaml:"clients"`        // clients the operator registers
	CIMD          CIMD           `yaml:"cimd"`           // clients that are known by a metadata document at an https URL
	DCR           DCR            `yaml:"dcr"`            // dynamic registration (RFC 7591), for clients that know nothing better
	Lifetimes     Lifetimes      `yaml:"lifetimes"`      // how long things are good
	Trust         []Trust        `yaml:"trust"`          // foreign issuers whose assertions are taken
	Keys          KeysConfig     `yaml:"keys"`           // signing keys
	RequireDPoP   bool           `yaml:"require_dpop"`   // true refuses tokens that are not bound to a key of the client (RFC 9449)
	RequirePAR    bool           `yaml:"require_par"`    // true takes authorization requests only through the PAR endpoint (RFC 9126)
	LegacySecrets bool           `yaml:"legacy_secrets"` // true lets clients authenticate with a shared secret
	MaxActors     int            `yaml:"max_actors"`     // longest actor chain of a token; zero means 4
	Limits        Limits         `yaml:"limits"`         // how often the endpoints may be asked
}

// A ClientConfig is one client that the operator registers.
type ClientConfig struct {
	ID           string         `yaml:"id"`            // client_id
	Name         string         `yaml:"name"`          // for the consent page
	URI          string         `yaml:"uri"`           // home page, for the consent page
	RedirectURIs []string       `yaml:"redirect_uris"` // compared exactly; on loopback the port may differ for native clients
	Native       bool           `yaml:"native"`        // true: an application on the user's computer (RFC 8252)
	Grants       []string       `yaml:"grants"`        // grant types it may use; empty: authorization_code and refresh_token
	Scopes       []string       `yaml:"scopes"`        // scopes it may get; empty: any
	Servers      []string       `yaml:"servers"`       // names of the servers it may get tokens for; empty: any
	JWKS         string         `yaml:"jwks"`          // its public keys, a JWK set document, for private_key_jwt
	JWKSURI      string         `yaml:"jwks_uri"`      // or where they are
	TLS          ClientTLS      `yaml:"tls"`           // or the certificate it presents (RFC 8705)
	Secret       secret.Ref     `yaml:"secret"`        // or a shared secret; needs legacy_secrets
	Workload     WorkloadConfig `yaml:"workload"`      // or the identity its platform vouches for (RFC 7523)
	ExchangeFrom []string       `yaml:"exchange_from"` // clients whose tokens it may exchange besides its own; "*": any
	Introspect   bool           `yaml:"introspect"`    // true: it may ask about tokens of other clients
	Tenant       string         `yaml:"tenant"`        // tenant of tokens it gets for itself
	Groups       []string       `yaml:"groups"`        // groups of tokens it gets for itself
}

// ClientTLS says which certificate a client presents. Exactly one field is set.
type ClientTLS struct {
	SubjectDN  string `yaml:"subject_dn"` // tls_client_auth: the whole subject, as RFC 4514 writes it
	SANDNS     string `yaml:"san_dns"`    // tls_client_auth: one DNS name
	SANURI     string `yaml:"san_uri"`    // tls_client_auth: one URI, such as a SPIFFE id
	Thumbprint string `yaml:"thumbprint"` // self_signed_tls_client_auth: SHA-256 of the certificate, base64url
}

// A WorkloadConfig names the subject by which a platform knows the client.
type WorkloadConfig struct {
	Issuer  string `yaml:"issuer"`  // one of trust, with use workload
	Subject string `yaml:"subject"` // sub of its tokens, such as spiffe://example.com/agent or system:serviceaccount:ns:name
}

// CIMD says which client id metadata documents are taken. The zero value takes none.
type CIMD struct {
	Allow    []string      `yaml:"allow"`     // hosts: "agents.example.com", "*.example.com", or "*" for any
	Deny     []string      `yaml:"deny"`      // hosts that are refused all the same
	MaxCache time.Duration `yaml:"max_cache"` // documents are fetched again after this long at most; zero means 1h
}

// DCR switches dynamic client registration on. The zero value is off.
type DCR struct {
	Mode  string        `yaml:"mode"`  // off, token (an initial access token is needed) or open; empty: off
	Token secret.Ref    `yaml:"token"` // the initial access token
	TTL   time.Duration `yaml:"ttl"`   // how long a registration is good; zero means 720h
}

// Lifetimes of what is issued. Zero fields take the defaults given.
type Lifetimes struct {
	Access      time.Duration `yaml:"access"`       // access tokens; at most 15m; zero means 5m
	Code        time.Duration `yaml:"code"`         // authorization codes; at most 60s; zero means 60s
	Request     time.Duration `yaml:"request"`      // an authorization request, from its arrival until the person has answered; zero means 10m
	RefreshIdle time.Duration `yaml:"refresh_idle"` // a refresh token that is not used; zero means 8h
	Refresh     time.Duration `yaml:"refresh"`      // all refresh tokens that follow from one login; zero means 168h
}

// A Trust is a foreign issuer whose assertions are taken.
type Trust struct {
	Issuer      string        `yaml:"issuer"`       // issuer identifier, compared as a plain string with iss
	Use         []string      `yaml:"use"`          // id_jag (AUT-07), workload (RFC 7523), exchange (RFC 8693)
	JWKSURI     string        `yaml:"jwks_uri"`     // where its keys are
	JWKSFile    string        `yaml:"jwks_file"`    // or the file that holds them
	Audience    string        `yaml:"audience"`     // what its assertions name as audience; empty: the url of this server
	Algorithms  []string      `yaml:"algorithms"`   // empty: ES256, EdDSA, PS256 and RS256
	MaxLifetime time.Duration `yaml:"max_lifetime"` // longest exp - iat; zero means 10m for ID-JAG, 1h otherwise
	Tenant      string        `yaml:"tenant"`       // the tenant its people belong to; only servers of this tenant are granted
	Scopes      []string      `yaml:"scopes"`       // scopes it may vouch for; empty: what the assertion says
	GroupsClaim string        `yaml:"groups_claim"` // claim that holds the groups; empty: groups; "-": none
	GroupPrefix string        `yaml:"group_prefix"` // put before every group it vouches for
	// SubjectPrefix is put before every subject it vouches for. With the name of a provider of the login and
	// a colon, such as "entra:", they are the people of that provider. Empty: "ISSUER|".
	SubjectPrefix string `yaml:"subject_prefix"`
}

// KeysConfig says how signing keys live.
type KeysConfig struct {
	RotateEvery time.Duration `yaml:"rotate_every"` // a key signs for this long; at least 1h; zero means 720h
	Publish     time.Duration `yaml:"publish"`      // a new key is published this long before it signs; at least 5m; zero means 10m
	KMS         KMS           `yaml:"kms"`          // where the keys are; empty: sealed in the state store
}

// KMS is a key management system that keeps the signing keys and signs.
type KMS struct {
	Vault Vault `yaml:"vault"`
}

// Vault is the transit engine of HashiCorp Vault or OpenBao.
type Vault struct {
	Address   string     `yaml:"address"`   // https address of the server
	Mount     string     `yaml:"mount"`     // path of the engine; empty: transit
	Key       string     `yaml:"key"`       // name of a key of type ecdsa-p256
	Namespace string     `yaml:"namespace"` // X-Vault-Namespace; empty: none
	Token     secret.Ref `yaml:"token"`     // X-Vault-Token
}

// Limits bound requests per minute. Zero fields take the defaults given.
type Limits struct {
	PerAddress int `yaml:"per_address"` // of one address, on all endpoints; zero means 600
	PerClient  int `yaml:"per_client"`  // of one client, on token, PAR, introspection and revocation; zero means 600
	Register   int `yaml:"register"`    // registrations and first fetches of metadata documents, of one address; zero means 20
}

// Bounds and defaults.
const (
	defaultAccess      = 5 * time.Minute
	maxAccess          = 15 * time.Minute
	maxCode            = time.Minute
	defaultRequest     = 10 * time.Minute
	defaultRefreshIdle = 8 * time.Hour
	defaultRefresh     = 7 * 24 * time.Hour
	defaultRegistered  = 30 * 24 * time.Hour
	defaultRotate      = 30 * 24 * time.Hour
	minRotate          = time.Hour
	defaultPublish     = 10 * time.Minute
	minPublish         = 5 * time.Minute
	defaultCIMDCache   = time.Hour
	defaultActors      = 4
	maxActors          = 8
)

// Uses of a foreign issuer.
const (
	UseIDJAG    = "id_jag"
	UseWorkload = "workload"
	UseExchange = "exchange"
)

// Default returns the configuration without an authorization server; once a URL is set, clients with
// a metadata document at any public host are taken.
func Default() Config { return Config{CIMD: CIMD{Allow: []string{"*"}}} }

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	for _, f := range []struct {
		d    *time.Duration
		want time.Duration
	}{
		{&c.Lifetimes.Access, defaultAccess},
		{&c.Lifetimes.Code, maxCode},
		{&c.Lifetimes.Request, defaultRequest},
		{&c.Lifetimes.RefreshIdle, defaultRefreshIdle},
		{&c.Lifetimes.Refresh, defaultRefresh},
		{&c.Keys.RotateEvery, defaultRotate},
		{&c.Keys.Publish, defaultPublish},
		{&c.CIMD.MaxCache, defaultCIMDCache},
		{&c.DCR.TTL, defaultRegistered},
	} {
		if *f.d == 0 {
			*f.d = f.want
		}
	}
	for _, f := range []struct {
		n    *int
		want int
	}{{&c.MaxActors, defaultActors}, {&c.Limits.PerAddress, 600}, {&c.Limits.PerClient, 600}, {&c.Limits.Register, 20}} {
		if *f.n == 0 {
			*f.n = f.want
		}
	}
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	if c.URL == "" {
		return nil
	}
	errs := []error{checkIssuerURL("url", c.URL)}
	errs = append(errs, c.checkTimes()...)
	for i := range c.Clients {
		errs = append(errs, c.checkClient(i)...)
	}
	for i := range c.Trust {
		errs = append(errs, c.checkTrust(i)...)
	}
	switch c.DCR.Mode {
	case "", "off", "open":
	case "token":
		if err := c.DCR.Token.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("dcr.token: %w", err))
		}
	default:
		errs = append(errs, fmt.Errorf("dcr.mode: %q is not off, token or open", c.DCR.Mode))
	}
	for _, host := range slices.Concat(c.CIMD.Allow, c.CIMD.Deny) {
		if !hostPattern(host) {
			errs = append(errs, fmt.Errorf("cimd: %q is not a host, *.host or *", host))
		}
	}
	if v := c.Keys.KMS.Vault; v.set() {
		errs = append(errs, v.check()...)
	}
	return errors.Join(errs...)
}

func (c Config) checkTimes() []error {
	var errs []error
	c = c.withDefaults()
	for _, f := range []struct {
		name     string
		d        time.Duration
		min, max time.Duration
	}{
		{"lifetimes.access", c.Lifetimes.Access, 10 * time.Second, maxAccess},
		{"lifetimes.code", c.Lifetimes.Code, time.Second, maxCode},
		{"lifetimes.request", c.Lifetimes.Request, time.Minute, time.Hour},
		{"lifetimes.refresh_idle", c.Lifetimes.RefreshIdle, time.Minute, 30 * 24 * time.Hour},
		{"lifetimes.refresh", c.Lifetimes.Refresh, c.Lifetimes.RefreshIdle, 90 * 24 * time.Hour},
		{"keys.rotate_every", c.Keys.RotateEvery, minRotate, 366 * 24 * time.Hour},
		{"keys.publish", c.Keys.Publish, minPublish, minRotate},
		{"cimd.max_cache", c.CIMD.MaxCache, time.Second, 24 * time.Hour},
		{"dcr.ttl", c.DCR.TTL, time.Minute, 366 * 24 * time.Hour},
	} {
		if f.d < f.min || f.d > f.max {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", f.name, f.d, f.min, f.max))
		}
	}
	if c.MaxActors < 1 || c.MaxActors > maxActors {
		errs = append(errs, fmt.Errorf("max_actors: %d is not between 1 and %d", c.MaxActors, maxActors))
	}
	if c.Limits.PerAddress < 0 || c.Limits.PerClient < 0 || c.Limits.Register < 0 {
		errs = append(errs, errors.New("limits: negative"))
	}
	return errs
}

func (c Config) checkClient(i int) []error {
	k := c.Clients[i]
	where := fmt.Sprintf("clients[%d]", i)
	var errs []error
	if k.ID == "" || strings.ContainsAny(k.ID, " |\x1f") || strings.HasPrefix(k.ID, "https://") {
		errs = append(errs, fmt.Errorf("%s.id: %q is not a client id; https URLs are for metadata documents", where, k.ID))
	}
	if slices.ContainsFunc(c.Clients[:i], func(o ClientConfig) bool { return o.ID == k.ID }) {
		errs = append(errs, fmt.Errorf("%s.id: %q is used twice", where, k.ID))
	}
	if _, err := k.registration(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", where, err))
	}
	if !k.Secret.IsZero() && !c.LegacySecrets {
		errs = append(errs, fmt.Errorf("%s.secret: needs legacy_secrets", where))
	}
	if w := k.Workload; w != (WorkloadConfig{}) && (w.Subject == "" || !slices.ContainsFunc(c.Trust, func(t Trust) bool {
		return t.Issuer == w.Issuer && slices.Contains(t.Use, UseWorkload)
	})) {
		errs = append(errs, fmt.Errorf("%s.workload: want a subject, and an issuer of trust with use workload", where))
	}
	return errs
}

func (c Config) checkTrust(i int) []error {
	t := c.Trust[i]
	where := fmt.Sprintf("trust[%d]", i)
	var errs []error
	if t.Issuer == "" || t.Issuer == c.URL {
		errs = append(errs, fmt.Errorf("%s.issuer: want another issuer than this one", where))
	}
	if slices.ContainsFunc(c.Trust[:i], func(o Trust) bool { return o.Issuer == t.Issuer }) {
		errs = append(errs, fmt.Errorf("%s.issuer: %q is used twice", where, t.Issuer))
	}
	if p := t.SubjectPrefix; p != "" && (!subjectPrefix(p) || slices.ContainsFunc(c.Trust[:i], func(o Trust) bool { return o.SubjectPrefix == p })) {
		errs = append(errs, fmt.Errorf("%s.subject_prefix: %q: want a name of its own and a colon, such as \"entra:\"; local: is taken", where, p))
	}
	if len(t.Use) == 0 {
		errs = append(errs, fmt.Errorf("%s.use: empty", where))
	}
	for _, use := range t.Use {
		if use != UseIDJAG && use != UseWorkload && use != UseExchange {
			errs = append(errs, fmt.Errorf("%s.use: %q is not id_jag, workload or exchange", where, use))
		}
	}
	if (t.JWKSURI == "") == (t.JWKSFile == "") {
		errs = append(errs, fmt.Errorf("%s: set exactly one of jwks_uri and jwks_file", where))
	}
	if t.JWKSURI != "" {
		if u, err := url.Parse(t.JWKSURI); err != nil || !jose.SecureURL(u) {
			errs = append(errs, fmt.Errorf("%s.jwks_uri: want https, or http on loopback", where))
		}
	}
	for _, alg := range t.Algorithms {
		if !slices.Contains(jose.Algorithms(), alg) {
			errs = append(errs, fmt.Errorf("%s.algorithms: %q is not one of %v", where, alg, jose.Algorithms()))
		}
	}
	if t.MaxLifetime < 0 || t.MaxLifetime > 24*time.Hour {
		errs = append(errs, fmt.Errorf("%s.max_lifetime: %v is not between 0 and 24h", where, t.MaxLifetime))
	}
	return errs
}

func (v Vault) set() bool { return v.Address != "" || v.Key != "" || v.Mount != "" }

func (v Vault) check() []error {
	var errs []error
	if u, err := url.Parse(v.Address); err != nil || !jose.SecureURL(u) || u.Host == "" {
		errs = append(errs, errors.New("keys.kms.vault.address: want https, or http on loopback"))
	}
	if v.Key == "" || strings.ContainsAny(v.Key+v.Mount, "?#%\\ ") || strings.Contains(v.Key, "/") {
		errs = append(errs, errors.New("keys.kms.vault: key and mount must be plain names"))
	}
	if err := v.Token.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("keys.kms.vault.token: %w", err))
	}
	return errs
}

func checkIssuerURL(name, text string) error {
	u, err := url.Parse(text)
	if err != nil || !jose.SecureURL(u) || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(text, "/") {
		return fmt.Errorf("%s: %q: want https, or http on loopback, without query, fragment or trailing slash", name, text)
	}
	return nil
}

// subjectPrefix reports whether the text is a lower-case name and a colon, so that no prefix and subject
// of one issuer together read as those of another. Local accounts have theirs for themselves.
func subjectPrefix(p string) bool {
	name, ok := strings.CutSuffix(p, ":")
	return ok && name != "" && name != "local" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// hostPattern reports whether the text is "*", a lower-case host name, or one after "*.".
func hostPattern(text string) bool {
	host := strings.TrimPrefix(text, "*.")
	return text == "*" || host != "" && host == strings.ToLower(host) && !strings.ContainsAny(host, "*/:@ ")
}

// hostMatches reports whether a host fits a pattern: "*", the host itself, or "*.parent".
func hostMatches(pattern, host string) bool {
	parent, wide := strings.CutPrefix(pattern, "*.")
	switch {
	case pattern == "*":
		return true
	case wide:
		return strings.HasSuffix(host, "."+parent)
	default:
		return pattern == host
	}
}
