package issuer

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Errorf("no authorization server: %v", err)
	}
	good := Config{
		URL: "https://gate.example/issuer", CIMD: CIMD{Allow: []string{"*.example.com", "example.com"}},
		Clients: []ClientConfig{{ID: "app", RedirectURIs: []string{back}}},
		Trust:   []Trust{{Issuer: idp, Use: []string{UseIDJAG}, JWKSURI: "https://idp.example/jwks"}},
	}
	if err := good.Validate(); err != nil {
		t.Errorf("good: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"url:":                    func(c *Config) { c.URL = "http://gate.example" },
		"trailing slash":          func(c *Config) { c.URL = "https://gate.example/" },
		"lifetimes.access":        func(c *Config) { c.Lifetimes.Access = 16 * time.Minute },
		"lifetimes.code":          func(c *Config) { c.Lifetimes.Code = 2 * time.Minute },
		"lifetimes.refresh:":      func(c *Config) { c.Lifetimes.Refresh = time.Minute },
		"keys.publish":            func(c *Config) { c.Keys.Publish = time.Minute },
		"keys.rotate_every":       func(c *Config) { c.Keys.RotateEvery = time.Minute },
		"max_actors":              func(c *Config) { c.MaxActors = 9 },
		"clients[0].id":           func(c *Config) { c.Clients[0].ID = "https://app.example/x" },
		"used twice":              func(c *Config) { c.Clients = append(c.Clients, c.Clients[0]) },
		"redirect_uris":           func(c *Config) { c.Clients[0].RedirectURIs = []string{"http://app.example/cb"} },
		"redirect_uris: empty":    func(c *Config) { c.Clients[0].RedirectURIs = nil },
		"fragment":                func(c *Config) { c.Clients[0].RedirectURIs = []string{"https://app.example/#x"} },
		"legacy_secrets":          func(c *Config) { c.Clients[0].Secret.Env = "X" },
		"at most one":             func(c *Config) { c.Clients[0].JWKS, c.Clients[0].TLS.SANDNS = "{}", "x" },
		"clients[0].workload":     func(c *Config) { c.Clients[0].Workload = WorkloadConfig{Issuer: idp, Subject: "x"} },
		"dcr.mode":                func(c *Config) { c.DCR.Mode = "yes" },
		"dcr.token":               func(c *Config) { c.DCR.Mode = "token" },
		"cimd:":                   func(c *Config) { c.CIMD.Allow = []string{"https://x"} },
		"trust[0].use":            func(c *Config) { c.Trust[0].Use = []string{"all"} },
		"trust[0].use: empty":     func(c *Config) { c.Trust[0].Use = nil },
		"trust[0].issuer":         func(c *Config) { c.Trust[0].Issuer = c.URL },
		"jwks_uri and jwks_file":  func(c *Config) { c.Trust[0].JWKSFile = "x" },
		"trust[0].jwks_uri":       func(c *Config) { c.Trust[0].JWKSURI = "http://idp.example/jwks" },
		"trust[0].subject_prefix": func(c *Config) { c.Trust[0].SubjectPrefix = "local:" },
		"want a name of its own":  func(c *Config) { c.Trust[0].SubjectPrefix = "l" },
		"trust[0].algorithms":     func(c *Config) { c.Trust[0].Algorithms = []string{"HS256"} },
		"vault.address":           func(c *Config) { c.Keys.KMS.Vault = Vault{Address: "http://vault.example", Key: "k"} },
		"vault: key":              func(c *Config) { c.Keys.KMS.Vault = Vault{Address: "https://vault.example", Key: "a/b"} },
	} {
		c := good
		c.Clients = []ClientConfig{good.Clients[0]}
		c.Trust = []Trust{good.Trust[0]}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	two := good
	two.URL, two.MaxActors = "ftp://x", -1
	if err := two.Validate(); err == nil || !strings.Contains(err.Error(), "url:") || !strings.Contains(err.Error(), "max_actors") {
		t.Errorf("every fault at once: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	box, err := seal.New(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	m := state.NewMemory(nil)
	full := Deps{State: m, Replays: m, Box: box, Record: (&trail{}).record}
	cfg := Config{URL: "https://gate.example"}
	if _, err := New(t.Context(), cfg, full); err != nil {
		t.Errorf("all that is required: %v", err)
	}
	for name, change := range map[string]func(*Config, *Deps){
		"no url":      func(c *Config, _ *Deps) { c.URL = "" },
		"no store":    func(_ *Config, d *Deps) { d.State = nil },
		"no replays":  func(_ *Config, d *Deps) { d.Replays = nil },
		"no box":      func(_ *Config, d *Deps) { d.Box = nil },
		"no record":   func(_ *Config, d *Deps) { d.Record = nil },
		"no secret":   func(c *Config, _ *Deps) { c.DCR.Mode = "token" },
		"another key": func(_ *Config, d *Deps) { d.Box, _ = seal.New(seal.NewKey()) },
	} {
		c, d := cfg, full
		change(&c, &d)
		is, err := New(t.Context(), c, d)
		if name == "another key" {
			// The ring is there, but sealed with a key that this replica does not have: it cannot sign.
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			_, err = is.Mint(t.Context(), Claims{Subject: "a", Audience: notes})
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMintRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]Claims{
		"no subject":     {Audience: "a"},
		"no audience":    {Subject: "s"},
		"too long":       {Subject: "s", Audience: "a", TTL: 25 * time.Hour},
		"negative":       {Subject: "s", Audience: "a", TTL: -time.Second},
		"two in a scope": {Subject: "s", Audience: "a", Scopes: []string{"a b"}},
		"offline_access": {Subject: "s", Audience: "a", Scopes: []string{"offline_access"}},
		"many actors":    {Subject: "s", Audience: "a", Actors: strings.Fields("1 2 3 4 5 6 7 8 9")},
	} {
		if _, err := w.is.Mint(t.Context(), c); err == nil {
			t.Errorf("%s: token was minted", name)
		}
	}
	raw, err := w.is.Mint(t.Context(), Claims{Subject: "ada", Audience: notes, Agent: "bot", Actors: []string{"boss"}})
	if err != nil {
		t.Fatal(err)
	}
	s, f := w.is.verify(t.Context(), raw)
	if f != nil || strings.Join(s.principal.Actors, " ") != "bot boss" || s.principal.Agent != "bot" || s.principal.Client != "warder-local" {
		t.Errorf("%+v, %v", s, f)
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add("http://127.0.0.1:8080/cb")
	f.Add("http://127.0.0.1:8080@evil.example/cb")
	f.Add("http://127.0.0.1\\@evil.example/cb")
	f.Add("http://127.0.0.1:1/cb?x#y")
	c := &Client{meta: clientMeta{native: true, registration: registration{RedirectURIs: []string{"http://127.0.0.1/cb"}}}}
	f.Fuzz(func(t *testing.T, text string) {
		if !c.redirect(text) {
			return
		}
		// Whatever is let through goes to this computer's loopback address, and to the registered path.
		u, err := url.Parse(text)
		if err != nil || u.Hostname() != "127.0.0.1" || u.Path != "/cb" || u.User != nil || u.Scheme != "http" || u.Fragment != "" || u.RawQuery != "" {
			t.Errorf("%q was let through (%v)", text, err)
		}
	})
}

func FuzzRegistration(f *testing.F) {
	f.Add([]byte(`{"client_id":"https://a.example/x","redirect_uris":["https://a.example/cb"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRegistration(body)
		if err != nil {
			return
		}
		for _, u := range r.RedirectURIs {
			parsed, err := url.Parse(u)
			if err != nil || parsed.Scheme == "javascript" || parsed.Scheme == "data" || strings.Contains(u, "#") {
				t.Errorf("redirect URI %q was taken", u)
			}
		}
	})
}
