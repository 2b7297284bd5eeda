package identity

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/spiffe"
)

func checkPolicy(field, policy string) error {
	switch policy {
	case "", PolicyRequired, PolicyOptional:
		return nil
	default:
		return fmt.Errorf("%s: %q: want required or optional", field, policy)
	}
}

func (d DPoP) validate() []error {
	errs := []error{checkPolicy("dpop.policy", d.Policy)}
	for _, name := range slices.Sorted(maps.Keys(d.Endpoints)) {
		if d.Endpoints[name] == "" {
			errs = append(errs, fmt.Errorf("dpop.endpoints.%s: empty: want required or optional", name))
		}
		errs = append(errs, checkPolicy("dpop.endpoints."+name, d.Endpoints[name]))
	}
	for _, a := range d.Algorithms {
		if !slices.Contains(jose.ProofAlgorithms(), a) {
			errs = append(errs, fmt.Errorf("dpop.algorithms: %q is not an accepted asymmetric algorithm", a))
		}
	}
	if d.Window < 0 || d.Window > jose.DefaultWindow {
		errs = append(errs, fmt.Errorf("dpop.window: %v is not between 0 and %v", d.Window, jose.DefaultWindow))
	}
	return errs
}

func (c Clients) validate() []error {
	var errs []error
	seen := map[string]bool{}
	for i, own := range c.Certificates {
		at := fmt.Sprintf("clients.certificates[%d]", i)
		if !endpointName.MatchString(own.Name) {
			errs = append(errs, fmt.Errorf("%s.name: %q: want lower-case letters, digits and hyphens", at, own.Name))
		}
		if seen[own.issuer()] {
			errs = append(errs, fmt.Errorf("%s: %s is configured twice", at, own.issuer()))
		}
		seen[own.issuer()] = true
		if err := own.CA.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.ca: %w", at, err))
		}
		if own.TrustDomain != "" {
			if err := spiffe.CheckDomain(own.TrustDomain); err != nil {
				errs = append(errs, fmt.Errorf("%s.trust_domain: %w", at, err))
			}
		}
		if len(own.Endpoints) == 0 {
			errs = append(errs, fmt.Errorf("%s.endpoints: empty: nothing could be used with these certificates", at))
		}
	}
	return errs
}

// validateNames checks what is told to clients, and the accounts that are refused.
func (c Config) validateNames() []error {
	var errs []error
	if c.Documentation != "" {
		if u, err := url.Parse(c.Documentation); err != nil || u.Host == "" || u.User != nil || !jose.SecureURL(u) {
			errs = append(errs, fmt.Errorf("documentation: %q: want an https address", c.Documentation))
		}
	}
	for _, s := range c.SharedAccounts {
		if issuer, name, ok := strings.Cut(s, "|"); !ok || issuer == "" || name == "" {
			errs = append(errs, fmt.Errorf("shared_accounts: %q: want issuer|subject", s))
		}
	}
	return errs
}

func (j JWKS) validate(trustDomain bool) error {
	set := 0
	for _, s := range []string{j.File, j.URL, j.WorkloadAPI} {
		if s != "" {
			set++
		}
	}
	switch {
	case set > 1:
		return errors.New("jwks: set one of file, url and workload_api")
	case trustDomain && set == 0:
		return errors.New("jwks: a trust domain needs file, url or workload_api")
	case !trustDomain && j.WorkloadAPI != "":
		return errors.New("jwks.workload_api: for trust domains only")
	case j.WorkloadAPI != "" && !strings.HasPrefix(j.WorkloadAPI, "unix:") && !strings.HasPrefix(j.WorkloadAPI, "tcp://127.0.0.1:"):
		return fmt.Errorf("jwks.workload_api: %q: want unix:///path or tcp://127.0.0.1:port", j.WorkloadAPI)
	case j.MaxStale < 0 || j.MaxStale > maxStale:
		return fmt.Errorf("jwks.max_stale: %v is not between 0 and %v", j.MaxStale, maxStale)
	}
	return nil
}

func (i Introspection) validate(trustDomain bool) []error {
	var errs []error
	if i.Cache < 0 || i.Cache > maxIntrospect {
		errs = append(errs, fmt.Errorf("introspection.cache: %v is not between 0 and %v", i.Cache, maxIntrospect))
	}
	if !slices.Contains([]string{"", TokensOpaque, TokensJWT, TokensAll}, i.Tokens) {
		errs = append(errs, fmt.Errorf("introspection.tokens: %q: want opaque, jwt or all", i.Tokens))
	}
	switch {
	case !i.On():
		if i.URL != "" || i.Key != "" || !i.ClientSecret.IsZero() || i.Tokens != "" {
			errs = append(errs, errors.New("introspection.client_id: empty, so nothing else of introspection applies"))
		}
		return errs
	case trustDomain:
		errs = append(errs, errors.New("introspection: a trust domain has none"))
	case i.Key != "" && !i.ClientSecret.IsZero():
		errs = append(errs, errors.New("introspection: set client_secret or key, not both"))
	case i.Key == "":
		if err := i.ClientSecret.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("introspection.client_secret: %w", err))
		}
	}
	if i.URL != "" {
		if u, err := url.Parse(i.URL); err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !jose.SecureURL(u) {
			errs = append(errs, fmt.Errorf("introspection.url: %q: want https, or http to a loopback address", i.URL))
		}
	}
	return errs
}

// oneOpaque refuses a second issuer of opaque tokens: such a token does not say whose it is, and would have to
// be shown to both.
func oneOpaque(issuers []Issuer) []error {
	var errs []error
	first := ""
	for _, is := range issuers {
		if !is.Introspection.On() || is.Introspection.Tokens == TokensJWT {
			continue
		}
		if first != "" {
			errs = append(errs, fmt.Errorf("introspection: %s and %s both have opaque tokens, which do not say whose they are; set tokens: jwt for one", first, is.URL))
		}
		first = is.URL
	}
	return errs
}
