package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
)

// A Mode says what a control's refusal does.
type Mode string

// Modes of the controls of this package, the same words as in the controls section.
const (
	Enforce Mode = "enforce"
	Monitor Mode = "monitor" // record what would have been refused, and go on
	Off     Mode = "off"     // do not judge
)

// A Revocation ends something that was issued. Its fields are those of an entry of package revocation.
type Revocation struct {
	Kind     string    // token or issuer
	Value    string    // "issuer|jti", or the issuer
	At       time.Time // when it was revoked
	NotAfter time.Time // from then on the revocation is not needed any more
	Before   time.Time // only what was issued by then is dead; zero: all of it
	Renewed  bool      // Before counts from when a token was issued, even if it is known when the person logged in
	Reason   string
	By       string
}

// Deps are what the server needs of the rest of Warder. State, Replays, Box and Record must be set.
type Deps struct {
	State   state.Store
	Replays state.Replays
	Box     *seal.Box                                 // seals signing keys
	Record  func(context.Context, warder.Event) error // durable before it returns; an error denies

	Resources func() []Resource // servers that tokens can be issued for; nil: none
	Login     Login             // nil: nobody can log in, so there is no authorization endpoint
	Consent   Consent           // nil: the same
	HTTP      *http.Client      // for documents and key sets; must be safe to point anywhere. nil: none is fetched
	KMS       *http.Client      // for the key management system; nil: HTTP
	Nonces    *jose.Nonces      // proofs of possession must carry a nonce of these (RFC 9449 section 8); nil: none is asked for

	Revoke  func(context.Context, Revocation) error // nil: what was issued cannot be revoked, so asking for it fails
	Revoked func(*warder.Principal) bool            // nil: nothing is
	// Session returns the person of a login session as it is now, nil when it has ended. It is asked at each
	// code and refresh; nil: not asked.
	Session func(ctx context.Context, id string) (*User, error)

	Mode        func(warder.ControlID) Mode                                     // nil: every control is enforced
	Peer        func(*http.Request) string                                      // address of the client, without port; nil: the connection's
	Certificate func(*http.Request) (leaf *x509.Certificate, verified bool)     // client certificate; nil: the connection's
	Page        func(w http.ResponseWriter, status int, title, sentence string) // a page for people; nil: plain text
	Now         func() time.Time                                                // nil: time.Now
	Log         *slog.Logger                                                    // nil: slog.Default
}

// An Issuer is the authorization server. It is safe for concurrent use.
type Issuer struct {
	cfg  Config
	deps Deps
	base string // path of the URL, without trailing slash
	keys *Rotation

	registration *Registration
	enterprise   *Enterprise
	foreign      map[string]*foreign // by issuer identifier
	limits       limiters
}

// New opens the authorization server, and makes its first signing key if there is none. [Issuer.Run]
// must run for keys to rotate and to follow other replicas.
func New(ctx context.Context, cfg Config, deps Deps) (*Issuer, error) {
	if cfg.URL == "" {
		return nil, errors.New("issuer: no url")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if deps.State == nil || deps.Replays == nil || deps.Box == nil || deps.Record == nil {
		return nil, errors.New("issuer: state, replays, box and record are required")
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	is := &Issuer{cfg: cfg.withDefaults(), deps: deps.withDefaults(), base: u.EscapedPath()}
	if is.keys, err = newRotation(is.cfg, is.deps); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if err := is.keys.maintain(ctx); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if err := is.open(ctx); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return is, nil
}

// open prepares what the endpoints need.
func (is *Issuer) open(ctx context.Context) (err error) {
	is.limits = limiters{
		address: newLimiter(is.cfg.Limits.PerAddress), client: newLimiter(is.cfg.Limits.PerClient), register: newLimiter(is.cfg.Limits.Register),
	}
	is.enterprise = &Enterprise{is: is}
	if err := is.openForeign(); err != nil {
		return err
	}
	is.registration, err = newRegistration(ctx, is)
	return err
}

// newRotation prepares the signing keys.
func newRotation(cfg Config, deps Deps) (*Rotation, error) {
	const opened = 16
	r := &Rotation{
		cfg: cfg.Keys, url: cfg.URL, store: deps.State, now: deps.Now, mode: deps.Mode, record: deps.Record, revoke: deps.Revoke,
		log: deps.Log, signers: bounded.New[string, Signer](opened), noted: bounded.New[string, time.Time](2 * maxRetired),
		keeper: sealedKeeper{box: deps.Box, url: cfg.URL, now: deps.Now},
	}
	if v := cfg.Keys.KMS.Vault; v.set() {
		client := deps.KMS
		if client == nil {
			client = deps.HTTP
		}
		if client == nil {
			return nil, errors.New("keys.kms: no HTTP client")
		}
		r.keeper = newVaultKeeper(v, client)
	}
	return r, nil
}

func (d Deps) withDefaults() Deps {
	if d.Resources == nil {
		d.Resources = func() []Resource { return nil }
	}
	if d.Revoke == nil {
		d.Revoke = func(context.Context, Revocation) error { return errors.New("nothing can be revoked here") }
	}
	if d.Revoked == nil {
		d.Revoked = func(*warder.Principal) bool { return false }
	}
	if d.Mode == nil {
		d.Mode = func(warder.ControlID) Mode { return Enforce }
	}
	if d.Peer == nil {
		d.Peer = func(r *http.Request) string {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				return r.RemoteAddr
			}
			return host
		}
	}
	if d.Certificate == nil {
		d.Certificate = func(r *http.Request) (*x509.Certificate, bool) {
			if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
				return nil, false
			}
			return r.TLS.PeerCertificates[0], len(r.TLS.VerifiedChains) > 0
		}
	}
	if d.Page == nil {
		d.Page = plainPage
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	return d
}

// plainPage answers people without a look.
func plainPage(w http.ResponseWriter, status int, title, sentence string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "%s\n\n%s\n", title, sentence) // the browser may be gone
}

// URL is the issuer identifier.
func (is *Issuer) URL() string { return is.cfg.URL }

// Base is the path under which the endpoints and pages of the issuer are, without trailing slash.
func (is *Issuer) Base() string { return is.base }

// Keys are the issuer's keys for a verifier in the same process: retired ones verify nothing.
func (is *Issuer) Keys() *Rotation { return is.keys }

// Rotate makes the next signing key now instead of on schedule. by says who asked for it.
func (is *Issuer) Rotate(ctx context.Context, by string) error { return is.keys.Rotate(ctx, by) }

// Emergency kills every token issued so far, refresh tokens included. See [Rotation.Emergency].
func (is *Issuer) Emergency(ctx context.Context, reason, by string) error {
	return is.keys.Emergency(ctx, reason, by)
}

// Run keeps the signing keys current until ctx ends.
func (is *Issuer) Run(ctx context.Context) error { return is.keys.run(ctx) }

// Handler serves the metadata, the key set and the endpoints, at absolute paths under [Issuer.Base]
// and at the well-known places. Pages of login and consent are mounted beside it.
func (is *Issuer) Handler() (http.Handler, error) {
	mux := http.NewServeMux()
	if err := is.serveMetadata(mux); err != nil {
		return nil, err
	}
	post, get := http.MethodPost, http.MethodGet
	is.handle(mux, get, is.base+"/jwks.json", true, is.serveKeys)
	is.handle(mux, post, is.base+"/token", true, is.token)
	is.handle(mux, post, is.base+"/introspect", false, is.introspect)
	is.handle(mux, post, is.base+"/revoke", false, is.revoke)
	if is.interactive() {
		is.handle(mux, get, is.base+"/authorize", false, is.authorize)
		is.handle(mux, post, is.base+"/par", false, is.push)
	}
	if is.describe().Registration != "" {
		is.handle(mux, post, is.base+"/register", false, is.register)
	}
	return mux, nil
}
