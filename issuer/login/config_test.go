package login

import (
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/secret"
)

func good() Provider {
	return Provider{Name: "corp", Issuer: "https://idp.example", ClientID: "c", ClientSecret: secret.Ref{Env: "X"}}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		change func(*Config)
		want   string // part of the error; empty: none
	}{
		{"zero", func(c *Config) { c.Providers = nil }, ""},
		{"good", func(*Config) {}, ""},
		{"private_key", func(c *Config) {
			c.Providers[0].ClientSecret, c.Providers[0].PrivateKey = secret.Ref{}, secret.Ref{File: "k"}
		}, ""},
		{"name", func(c *Config) { c.Providers[0].Name = "Corp/x" }, "providers[0].name"},
		{"name_of_local_accounts", func(c *Config) { c.Providers[0].Name = "local" }, "providers[0].name"},
		{"twice", func(c *Config) { c.Providers = append(c.Providers, good()) }, "is there twice"},
		{"plain_http", func(c *Config) { c.Providers[0].Issuer = "http://idp.example" }, "providers[0].issuer"},
		{"issuer_with_query", func(c *Config) { c.Providers[0].Issuer = "https://idp.example?x" }, "providers[0].issuer"},
		{"no_client", func(c *Config) { c.Providers[0].ClientID = "" }, "client_id"},
		{"no_secret", func(c *Config) { c.Providers[0].ClientSecret = secret.Ref{} }, "client_secret"},
		{"two_secrets", func(c *Config) { c.Providers[0].PrivateKey = secret.Ref{File: "k"} }, "client_secret"},
		{"own_parameter", func(c *Config) { c.Providers[0].Parameters = map[string]string{"redirect_uri": "x"} }, "parameters.redirect_uri"},
		{"tenants_without_claim", func(c *Config) { c.Providers[0].Tenants = []string{"t"} }, "tenants"},
		{"domains_without_claim", func(c *Config) { c.Providers[0].Domains, c.Providers[0].Claims.Email = []string{"d"}, "-" }, "domains"},
		{"approver", func(c *Config) { c.Approvers = []string{"everybody"} }, "approvers[0]"},
		{"recheck", func(c *Config) { c.Recheck = time.Second }, "recheck"},
		{"grace", func(c *Config) { c.Grace = 48 * time.Hour }, "grace"},
		{"session", func(c *Config) { c.Session.Max = 31 * day }, "session.max"},
		{"consent", func(c *Config) { c.Consent.Keep = -time.Hour }, "consent.keep"},
		{"approval", func(c *Config) { c.Approval.MaxAge = time.Second }, "approval.max_age"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Providers: []Provider{good()}}
			c.change(&cfg)
			err := cfg.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := Config{Providers: []Provider{good()}}
	c.Providers[0].Claims = Claims{Groups: "-", Tenant: "tid"}
	d := c.WithDefaults()
	if want := (Claims{Subject: "sub", Tenant: "tid", Name: "name", Email: "email"}); d.Providers[0].Claims != want {
		t.Errorf("claims %+v, want %+v", d.Providers[0].Claims, want)
	}
	if d.Recheck != 30*time.Second || d.Session.Idle != 8*time.Hour || d.Session.Max != 24*time.Hour || d.Providers[0].Title != "corp" {
		t.Errorf("defaults %+v", d)
	}
	if c.Providers[0].Title != "" {
		t.Error("WithDefaults changed its receiver")
	}
	if len(c.Allow()) != 0 {
		t.Errorf("Allow() = %v without private", c.Allow())
	}
}

func TestDefaultPort(t *testing.T) {
	t.Parallel()
	s, err := New(Config{}, newSite(t, true).atURL("https://gate.example.com:443/oauth"))
	if err != nil || s.host != "gate.example.com" || s.origin != "https://gate.example.com" {
		t.Errorf("host %q, origin %q, %v: browsers leave the default port out", s.host, s.origin, err)
	}
}
