package login

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/passkey"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/issuer/page"
)

//go:embed templates/*.html passkey.js
var files embed.FS

// Authentication context classes of local logins.
const (
	// ACRPasskey is phishing-resistant, as OpenID Connect Extended Authentication Profile ACR Values 1.0
	// section 2 names it.
	ACRPasskey = "phr"
	// ACRLink is the login with a one-time link.
	ACRLink = "urn:warder:acr:link"
)

// localProvider is the word for local accounts where others have the name of their provider.
const localProvider = "local"

// Deps is what the package needs. State, Box, HTTP, Record, Revoke and URL must be set.
type Deps struct {
	State state.Store
	Box   *seal.Box
	HTTP  *http.Client // for identity providers; judged by internal/safedial
	// Record writes an event to the audit trail. A login that cannot be recorded does not happen.
	Record func(context.Context, warder.Event) error
	// Revoke makes what was issued in a login session void on every replica.
	Revoke func(context.Context, issuer.Revocation) error
	// Withdraw ends what a client may do for a person who has taken consent back; nil: only the next request
	// of the client asks again, and what it has lives on.
	Withdraw func(ctx context.Context, subject, client string) error
	// Approvals are the calls that wait for a person; nil: there is no page for them.
	Approvals Approvals
	Mode      func(warder.ControlID) issuer.Mode // nil: every control is enforced
	Peer      func(*http.Request) string         // address of the browser, without port; nil: the connection's
	Now       func() time.Time                   // nil: time.Now
	Log       *slog.Logger                       // nil: slog.Default
	URL       string                             // issuer identifier of Warder's authorization server; pages are below it
}

// A Service logs people in. It is safe for concurrent use.
type Service struct {
	cfg       Config
	deps      Deps
	origin    string // scheme and host of the site
	host      string
	path      string // of the issuer, without trailing slash; "" at the root
	cookies   cookies
	site      *page.Site
	party     *passkey.Party // nil: no passkeys
	providers []*provider
	mux       *http.ServeMux
	routes    []string
	guard     *http.CrossOriginProtection
	limits    *limiter
	consent   *consents
}

var (
	_ issuer.Login   = (*Service)(nil)
	_ issuer.Consent = (*Service)(nil)
)

// New returns a service. Secrets of clients are read when they are needed.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	if deps.State == nil || deps.Box == nil || deps.HTTP == nil || deps.Record == nil || deps.Revoke == nil {
		return nil, errors.New("login: state, box, http client, record and revoke must be set")
	}
	if deps.Mode == nil {
		deps.Mode = func(warder.ControlID) issuer.Mode { return issuer.Enforce }
	}
	if deps.Peer == nil {
		deps.Peer = peer
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.Default()
	}
	u, err := url.Parse(deps.URL)
	if err != nil || u.Host == "" || !jose.SecureURL(u) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("login: issuer %q: want https, or http to a loopback address", deps.URL)
	}
	if port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]; strings.HasSuffix(u.Host, port) {
		u.Host = strings.TrimSuffix(u.Host, port) // browsers leave it out
	}
	s := &Service{
		cfg: cfg.WithDefaults(), deps: deps, host: u.Host, path: strings.TrimSuffix(u.EscapedPath(), "/"),
		origin: u.Scheme + "://" + u.Host, guard: http.NewCrossOriginProtection(), limits: newLimiter(deps.Now),
	}
	s.cookies = newCookies(u)
	s.consent = &consents{Service: s}
	if err := s.open(u); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	s.mount()
	return s, nil
}

// open makes what may fail.
func (s *Service) open(u *url.URL) error {
	var err error
	s.site, err = page.New(page.Config{
		Templates: files, Origin: s.origin, Home: s.path + "/account",
		Account: s.path + "/account", Approvals: s.approvalsPath(), Logout: s.path + "/logout",
	})
	if err != nil {
		return err
	}
	if s.cfg.Local.Enabled {
		s.party, err = passkey.New(passkey.Config{ID: u.Hostname(), Name: "Warder", Origins: []string{s.origin}})
		if err != nil && !errors.Is(err, passkey.ErrID) { // an address has no passkeys, but one-time links
			return err
		}
	}
	for _, p := range s.cfg.Providers {
		s.providers = append(s.providers, newProvider(p, s))
	}
	return nil
}

// Passkeys reports whether people can register passkeys. They cannot when the host of the site is an
// address: browsers bind passkeys to names, and "localhost" is one.
func (s *Service) Passkeys() bool { return s.party != nil }
