// Package signals exchanges revocations with others (control JIT-04).
//
// In: identity providers push Security Event Tokens (RFC 8417) as RFC 8935 describes, with the events of
// CAEP 1.0 and RISC 1.0 about subjects in the formats of RFC 9493, or logout tokens of OpenID Connect
// Back-Channel Logout 1.0. Whoever sends one is configured, with its keys; the token says what happened,
// the configuration what it may happen to.
//
//	inbox, err := signals.NewInbox(ctx, cfg.Transmitters, signals.Deps{Revocations: set, State: db.State()})
//	mux.Handle("/signals/", http.StripPrefix("/signals", inbox.Handler())) // POST /events and /logout
//
// Out: what is revoked here is told to configured receivers, signed, and again until they have it.
//
//	outbox, err := signals.NewOutbox(ctx, cfg.Receivers, signals.OutboxDeps{…})
//	set, err := revocation.New(ctx, revocation.Deps{…, Attach: outbox.Attach})
//	go outbox.Run(ctx)
package signals

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/revocation"
)

// Config says with whom revocations are exchanged. The zero value exchanges none.
type Config struct {
	Transmitters []Transmitter `yaml:"transmitters"` // who may tell Warder that something is revoked
	Receivers    []Receiver    `yaml:"receivers"`    // whom Warder tells what was revoked here
}

// A Transmitter is an identity provider whose signals count.
type Transmitter struct {
	Issuer         string        `yaml:"issuer"`          // the exact iss of its tokens
	Audience       string        `yaml:"audience"`        // the aud of security event tokens that are for Warder
	Client         string        `yaml:"client"`          // the aud of logout tokens: Warder's client id at the provider; empty: logout tokens are refused
	JWKSURL        string        `yaml:"jwks_url"`        // address of its keys; this or jwks_file
	JWKSFile       string        `yaml:"jwks_file"`       // file with its keys
	Algorithms     []string      `yaml:"algorithms"`      // signature algorithms it uses; empty: RS256, PS256 and ES256
	Token          secret.Ref    `yaml:"token"`           // bearer token it presents besides; empty: none is asked for
	SubjectIssuers []string      `yaml:"subject_issuers"` // issuers of the subjects it may speak about; empty: itself
	Keep           time.Duration `yaml:"keep"`            // how long a session that it ended stays revoked: longer than any session or credential lives; 0 means 30 days
}

// Bounds of what is received.
const (
	defaultKeep = 30 * 24 * time.Hour
	// maxAge is how old a token may be. A transmitter that could not reach us tries again for a while.
	maxAge   = 24 * time.Hour
	leeway   = time.Minute
	maxBody  = 32 << 10
	atOnce   = 16 // tokens judged at once
	seenKind = "signal.seen"
)

// Revocations is what signals change. A [revocation.Set] is one.
type Revocations interface {
	Revoke(ctx context.Context, e revocation.Entry) error
	Lift(ctx context.Context, kind revocation.Kind, value, by string) error
	Find(kind revocation.Kind, value string) (revocation.Entry, bool)
}

// A Device is what a device-compliance-change event says.
type Device struct {
	Issuer    string // transmitter
	ID        string // of the device, as the transmitter names it; empty if it only names the person
	Principal string // "issuer|subject" of the person; empty if it only names the device
	Compliant bool
	At        time.Time
}

// Deps are what an inbox needs.
type Deps struct {
	Revocations Revocations                               // required
	State       state.Store                               // remembers which tokens were received; required
	Record      func(context.Context, warder.Event) error // writes to the audit trail; required
	HTTP        *http.Client                              // fetches keys, guarded by internal/safedial; required for jwks_url
	// Principals returns the principals, as "issuer|subject", by which gateways know a person of the
	// transmitter. It serves where an authorization server federates logins. Nil: "issuer|subject" itself.
	Principals func(ctx context.Context, issuer, subject string) ([]string, error)
	// ByEmail returns the subjects with an email address at an issuer. Nil: signals that name people by
	// email are refused.
	ByEmail func(ctx context.Context, issuer, email string) ([]string, error)
	// Device is told of changes of devices. Nil: a device that is no longer compliant ends the sessions of
	// its person, and a signal without a person is refused.
	Device func(context.Context, Device) error
	Now    func() time.Time // nil for time.Now
}

// A transmitter is a Transmitter that is ready.
type transmitter struct {
	Transmitter
	keys  *jose.Source
	token []byte
}

func (t *transmitter) name() string { return revocation.Signal + t.Issuer }

// speaksOf reports whether the transmitter may speak about subjects of the issuer.
func (t *transmitter) speaksOf(issuer string) bool {
	if len(t.SubjectIssuers) == 0 {
		return issuer == t.Issuer
	}
	return slices.Contains(t.SubjectIssuers, issuer)
}

// Validate reports what makes no sense.
func (t Transmitter) Validate() error {
	var errs []error
	if t.Issuer == "" || t.Audience == "" && t.Client == "" {
		errs = append(errs, errors.New("issuer, or both audience and client, are missing"))
	}
	if (t.JWKSURL == "") == (t.JWKSFile == "") {
		errs = append(errs, errors.New("set exactly one of jwks_url and jwks_file"))
	}
	for _, alg := range t.Algorithms {
		if !slices.Contains(jose.Algorithms(), alg) {
			errs = append(errs, fmt.Errorf("algorithms: %.20q is not one of %v", alg, jose.Algorithms()))
		}
	}
	if !t.Token.IsZero() {
		if err := t.Token.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("token: %w", err))
		}
	}
	if t.Keep != 0 && t.Keep < time.Hour {
		errs = append(errs, errors.New("keep: less than an hour: credentials would outlive their revocation"))
	}
	return errors.Join(errs...)
}

func (t Transmitter) prepare(ctx context.Context, deps *Deps) (*transmitter, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if t.Keep == 0 {
		t.Keep = defaultKeep
	}
	if len(t.Algorithms) == 0 {
		t.Algorithms = []string{"RS256", "PS256", "ES256"}
	}
	p := &transmitter{Transmitter: t}
	if !t.Token.IsZero() {
		value, err := t.Token.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		p.token = value.Bytes()
	}
	fetch := jose.FromFile(t.JWKSFile)
	if t.JWKSURL != "" {
		if deps.HTTP == nil {
			return nil, errors.New("jwks_url: no client to fetch it with")
		}
		var err error
		if fetch, err = jose.FromURL(deps.HTTP, t.JWKSURL); err != nil {
			return nil, err
		}
	}
	p.keys = jose.NewSource(fetch, jose.Refresh{}, deps.Now)
	return p, nil
}
