package login

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/secret"
)

// Config says how people log in. Without providers and without local accounts nobody can.
type Config struct {
	Providers []Provider    `yaml:"providers"` // OpenID Connect providers that people log in through
	Local     Local         `yaml:"local"`     // accounts of this gateway itself, for the quick start and small teams
	Session   Session       `yaml:"session"`   // how long a login lasts
	Recheck   time.Duration `yaml:"recheck"`   // how often the provider of a login is asked whether the person still has access; from 5s to 1h; zero means 30s
	Grace     time.Duration `yaml:"grace"`     // how long a login lives on while its provider cannot be reached; at most 24h; zero means 15m
	Consent   Consents      `yaml:"consent"`   // what people agree to, per client
	Approval  Approval      `yaml:"approval"`  // what the login of whoever decides on a call must be
	Approvers []string      `yaml:"approvers"` // who may decide on calls that name no approver: "group:NAME" or "user:SUBJECT"; empty: only those a call names
}

// A Provider is an OpenID Connect provider, such as Entra ID, Okta, Keycloak, Dex or Google.
type Provider struct {
	Name         string            `yaml:"name"`          // word in addresses and subjects, such as corp; never change it: subjects begin with it
	Title        string            `yaml:"title"`         // what the button says; empty: the name
	Issuer       string            `yaml:"issuer"`        // issuer identifier; its discovery document must say exactly the same
	ClientID     string            `yaml:"client_id"`     // the client that the provider knows Warder as
	ClientSecret secret.Ref        `yaml:"client_secret"` // its secret; leave out for private_key
	PrivateKey   secret.Ref        `yaml:"private_key"`   // PKCS #8 PEM of a P-256 key for private_key_jwt (RFC 7523), instead of a secret; its kid is its RFC 7638 thumbprint
	Scopes       []string          `yaml:"scopes"`        // scopes to ask for; empty: openid, profile, email, and offline_access where the provider has it
	Parameters   map[string]string `yaml:"parameters"`    // further parameters of the authorization request, such as access_type: offline for Google
	Claims       Claims            `yaml:"claims"`        // which claims make the user
	GroupPrefix  string            `yaml:"group_prefix"`  // put before every group of this provider
	Roles        map[string]string `yaml:"roles"`         // group of the provider to group of Warder; when set, groups that are not in it are dropped
	Domains      []string          `yaml:"domains"`       // domains of verified e-mail addresses that may log in; empty: any
	Tenants      []string          `yaml:"tenants"`       // values of the tenant claim that may log in; empty: any
	Private      bool              `yaml:"private"`       // true: the provider may be at a private or loopback address
}

// Claims name the claims of ID tokens. Empty names take the default given; "-" reads none.
type Claims struct {
	Subject string `yaml:"subject"` // unique and never given to another person; default sub
	Groups  string `yaml:"groups"`  // array of strings; default groups
	Tenant  string `yaml:"tenant"`  // string; default none. Entra ID: tid, Google: hd
	Name    string `yaml:"name"`    // string; default name
	Email   string `yaml:"email"`   // string, counted only when email_verified is true; default email
}

// Local configures accounts of this gateway.
type Local struct {
	Enabled bool `yaml:"enabled"` // true: accounts that begin with a one-time link and log in with passkeys
}

// Session configures login sessions.
type Session struct {
	Idle time.Duration `yaml:"idle"` // a session that is not used for so long ends; zero means 8h
	Max  time.Duration `yaml:"max"`  // a session ends after so long in any case; at most 30 days; zero means 24h
}

// Consents configures what people agree to (control AUT-05).
type Consents struct {
	Trusted []string      `yaml:"trusted"` // client ids of pre-registered clients of the operator, for which nobody is asked
	Keep    time.Duration `yaml:"keep"`    // how long an answer is good for; at most 366 days; zero means 90 days
}

// Approval says what the login must be of people who decide on calls, where a call does not say it.
type Approval struct {
	ACR    []string      `yaml:"acr"`     // any one of these authentication context classes; phr is a passkey; empty: any
	MaxAge time.Duration `yaml:"max_age"` // the login is at most this old; zero means any age
}

const (
	day = 24 * time.Hour

	defaultRecheck = 30 * time.Second
	defaultGrace   = 15 * time.Minute
	defaultIdle    = 8 * time.Hour
	defaultMax     = day
	defaultKeep    = 90 * day
	maxProviders   = 16
)

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.Recheck, defaultRecheck)
	set(&c.Grace, defaultGrace)
	set(&c.Session.Idle, defaultIdle)
	set(&c.Session.Max, defaultMax)
	set(&c.Consent.Keep, defaultKeep)
	c.Providers = slices.Clone(c.Providers)
	for i := range c.Providers {
		c.Providers[i].Claims = c.Providers[i].Claims.withDefaults()
		if c.Providers[i].Title == "" {
			c.Providers[i].Title = c.Providers[i].Name
		}
	}
	return c
}

func (c Claims) withDefaults() Claims {
	set := func(s *string, to string) {
		switch *s {
		case "":
			*s = to
		case "-":
			*s = ""
		}
	}
	set(&c.Subject, "sub")
	set(&c.Groups, "groups")
	set(&c.Tenant, "")
	set(&c.Name, "name")
	set(&c.Email, "email")
	return c
}

// Enabled reports whether anybody can log in.
func (c Config) Enabled() bool { return c.Local.Enabled || len(c.Providers) > 0 }

// Allow lists the hosts of providers that may be at private addresses, for the dialer of outgoing fetches.
func (c Config) Allow() []safedial.Rule {
	var rules []safedial.Rule
	for _, p := range c.Providers {
		if u, err := url.Parse(p.Issuer); p.Private && err == nil {
			rules = append(rules, safedial.Rule{Host: u.Hostname(), Private: true, Loopback: true})
		}
	}
	return rules
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	within := func(name string, d, least, most time.Duration) {
		if d != 0 && (d < least || d > most) {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", name, d, least, most))
		}
	}
	within("recheck", c.Recheck, 5*time.Second, time.Hour)
	within("grace", c.Grace, time.Second, day)
	within("session.idle", c.Session.Idle, time.Minute, 30*day)
	within("session.max", c.Session.Max, time.Minute, 30*day)
	within("approval.max_age", c.Approval.MaxAge, 10*time.Second, 30*day)
	within("consent.keep", c.Consent.Keep, time.Minute, 366*day)
	if len(c.Providers) > maxProviders {
		errs = append(errs, fmt.Errorf("providers: %d, at most %d", len(c.Providers), maxProviders))
	}
	seen := map[string]bool{}
	for i, p := range c.Providers {
		for _, err := range p.faults() {
			errs = append(errs, fmt.Errorf("providers[%d].%w", i, err))
		}
		if seen[p.Name] {
			errs = append(errs, fmt.Errorf("providers[%d].name: %q is there twice", i, p.Name))
		}
		seen[p.Name] = true
	}
	for i, a := range c.Approvers {
		if kind, name, ok := strings.Cut(a, ":"); !ok || name == "" || kind != "group" && kind != "user" {
			errs = append(errs, fmt.Errorf("approvers[%d]: %q: want group:NAME or user:SUBJECT", i, a))
		}
	}
	return errors.Join(errs...)
}

// faults lists what is wrong with a provider.
func (p Provider) faults() []error {
	var errs []error
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`).MatchString(p.Name) || p.Name == localProvider {
		errs = append(errs, fmt.Errorf("name: %q: want a lower-case word other than %q", p.Name, localProvider))
	}
	u, err := url.Parse(p.Issuer)
	if err != nil || u.Host == "" || !jose.SecureURL(u) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, fmt.Errorf("issuer: %q: want https, or http to a loopback address, without query and fragment", p.Issuer))
	}
	if p.ClientID == "" {
		errs = append(errs, errors.New("client_id: missing"))
	}
	if p.ClientSecret.IsZero() == p.PrivateKey.IsZero() {
		errs = append(errs, errors.New("client_secret: set it or private_key, one of them"))
	}
	for name, ref := range map[string]secret.Ref{"client_secret": p.ClientSecret, "private_key": p.PrivateKey} {
		if err := ref.Validate(); !ref.IsZero() && err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for name := range p.Parameters {
		if slices.Contains(ownParameters(), name) {
			errs = append(errs, fmt.Errorf("parameters.%s: Warder sets it", name))
		}
	}
	if len(p.Tenants) > 0 && (p.Claims.Tenant == "" || p.Claims.Tenant == "-") {
		errs = append(errs, errors.New("tenants: name the claim in claims.tenant"))
	}
	if len(p.Domains) > 0 && p.Claims.Email == "-" {
		errs = append(errs, errors.New("domains: claims.email is switched off"))
	}
	return errs
}

// ownParameters are those of the authorization request that Warder decides on.
func ownParameters() []string {
	return []string{
		"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge",
		"code_challenge_method", "acr_values", "max_age", "request", "request_uri", "client_secret",
	}
}
