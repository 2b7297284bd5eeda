// Package passkey registers and verifies passkeys: WebAuthn credentials that the browser finds by
// itself, with the person verified by the authenticator (W3C Web Authentication Level 3).
//
//	party, err := passkey.New(passkey.Config{ID: "gate.example.com", Name: "Warder", Origins: []string{"https://gate.example.com"}})
//	options, ceremony, err := party.BeginLogin()      // options go to the browser, the ceremony stays here
//	account, key, err := party.FinishLogin(ceremony, response, find)
//
// The package keeps nothing. The caller keeps a ceremony for the browser it belongs to, uses it once, and
// stores the key that FinishLogin returns, whose counter has moved. Attestation is not asked for: a key is
// worth what the person vouches for when it is registered.
package passkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// Errors of the ceremonies.
var (
	// ErrRefused means that a response does not prove what it must. The wrapped cause is for operators.
	ErrRefused = errors.New("passkey refused")
	// ErrCloned means that the signature counter went back: two devices may hold the key
	// (WebAuthn section 6.1.1). The login fails.
	ErrCloned = errors.New("passkey refused: its counter went back, there may be a copy of it")
	// ErrID means that the host cannot be the id of a relying party: it is an address, not a name.
	ErrID = errors.New("passkeys need a host name, not an address")
)

// maxResponse bounds what a browser sends, in bytes.
const maxResponse = 64 << 10

// Timeout is how long a person has for one ceremony.
const Timeout = 5 * time.Minute

// A Config names the relying party.
type Config struct {
	ID      string   // host name; keys are bound to it and what is below it
	Name    string   // shown by browsers
	Origins []string // exact origins of the pages that may ask
}

// A Party is a relying party. It is safe for concurrent use.
type Party struct{ rp *webauthn.WebAuthn }

// A Key is one registered passkey. Data is only read by this package.
type Key struct {
	ID      []byte          `json:"id"`
	Data    json.RawMessage `json:"data"`
	Label   string          `json:"label,omitempty"` // the person's word for it
	Created time.Time       `json:"created"`         // when it was registered
	Used    time.Time       `json:"used,omitzero"`   // last login; zero: never
	Synced  bool            `json:"synced,omitempty"`
}

// An Account is whose keys they are.
type Account struct {
	Handle []byte // random, at most 64 bytes, tells nothing about the person
	Name   string // for the person to tell accounts apart
	Keys   []Key
}

// New returns a relying party. The error is ErrID for a host that is an address.
func New(cfg Config) (*Party, error) {
	if _, err := netip.ParseAddr(cfg.ID); err == nil || cfg.ID == "" {
		return nil, ErrID
	}
	limit := webauthn.TimeoutConfig{Enforce: true, Timeout: Timeout, TimeoutUVD: Timeout}
	rp, err := webauthn.New(&webauthn.Config{
		RPID: cfg.ID, RPDisplayName: cfg.Name, RPOrigins: cfg.Origins,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: limit, Registration: limit},
	})
	if err != nil {
		return nil, fmt.Errorf("relying party: %w", err)
	}
	return &Party{rp: rp}, nil
}

// BeginRegister starts a registration. options is the JSON of PublicKeyCredentialCreationOptions for the
// browser, ceremony what FinishRegister needs.
func (p *Party) BeginRegister(a Account) (options, ceremony []byte, err error) {
	u, err := userOf(a)
	if err != nil {
		return nil, nil, err
	}
	known := make([]protocol.CredentialDescriptor, 0, len(u.keys))
	for i := range u.keys {
		known = append(known, u.keys[i].Descriptor())
	}
	creation, session, err := p.rp.BeginRegistration(u, webauthn.WithExclusions(known))
	if err != nil {
		return nil, nil, fmt.Errorf("begin registration: %w", err)
	}
	return encode(creation.Response, session)
}

// FinishRegister returns the key that a browser made. Errors wrap ErrRefused.
func (p *Party) FinishRegister(a Account, ceremony, response []byte, now time.Time) (Key, error) {
	session, err := sessionOf(ceremony)
	if err != nil {
		return Key{}, err
	}
	if len(response) > maxResponse {
		return Key{}, fmt.Errorf("%w: response too large", ErrRefused)
	}
	u, err := userOf(a)
	if err != nil {
		return Key{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return Key{}, refused(err)
	}
	made, err := p.rp.CreateCredential(u, *session, parsed)
	if err != nil {
		return Key{}, refused(err)
	}
	for _, k := range a.Keys {
		if bytes.Equal(k.ID, made.ID) {
			return Key{}, fmt.Errorf("%w: registered before", ErrRefused)
		}
	}
	return keyOf(made, Key{Created: now})
}

// BeginLogin starts a login of whoever the browser has a passkey for.
func (p *Party) BeginLogin() (options, ceremony []byte, err error) {
	assertion, session, err := p.rp.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, nil, fmt.Errorf("begin login: %w", err)
	}
	return encode(assertion.Response, session)
}

// FinishLogin returns the account that find knows by its handle, and its key as it must be stored from now
// on. Errors wrap ErrRefused or ErrCloned, or are those of find.
func (p *Party) FinishLogin(ceremony, response []byte, find func(handle []byte) (Account, error), now time.Time) (Account, Key, error) {
	session, err := sessionOf(ceremony)
	if err != nil {
		return Account{}, Key{}, err
	}
	if len(response) > maxResponse {
		return Account{}, Key{}, fmt.Errorf("%w: response too large", ErrRefused)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Account{}, Key{}, refused(err)
	}
	var who Account
	var lookup error
	_, made, err := p.rp.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		if who, lookup = find(handle); lookup != nil {
			return nil, lookup
		}
		return userOf(who)
	}, *session, parsed)
	switch {
	case lookup != nil:
		return Account{}, Key{}, lookup
	case err != nil:
		return Account{}, Key{}, refused(err)
	case made.Authenticator.CloneWarning:
		return who, Key{}, ErrCloned
	}
	for _, k := range who.Keys {
		if bytes.Equal(k.ID, made.ID) {
			k.Used = now
			key, err := keyOf(made, k)
			return who, key, err
		}
	}
	return Account{}, Key{}, fmt.Errorf("%w: not a key of this account", ErrRefused)
}

func encode(options any, session *webauthn.SessionData) (o, s []byte, err error) {
	if o, err = json.Marshal(options); err != nil {
		return nil, nil, fmt.Errorf("encode options: %w", err)
	}
	if s, err = json.Marshal(session); err != nil {
		return nil, nil, fmt.Errorf("encode ceremony: %w", err)
	}
	return o, s, nil
}

func sessionOf(ceremony []byte) (*webauthn.SessionData, error) {
	var s webauthn.SessionData
	if err := json.Unmarshal(ceremony, &s); err != nil {
		return nil, fmt.Errorf("decode ceremony: %w", err)
	}
	if s.Challenge == "" || s.UserVerification != protocol.VerificationRequired {
		return nil, fmt.Errorf("%w: the ceremony is none of ours", ErrRefused)
	}
	return &s, nil
}

func keyOf(c *webauthn.Credential, k Key) (Key, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return Key{}, fmt.Errorf("encode key: %w", err)
	}
	k.ID, k.Data, k.Synced = c.ID, data, c.Flags.BackupState
	return k, nil
}

// refused keeps what the library says of a response for operators.
func refused(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return fmt.Errorf("%w: %s: %s", ErrRefused, e.Details, e.DevInfo)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// user is an account as the library wants it.
type user struct {
	Account
	keys []webauthn.Credential
}

var _ webauthn.User = (*user)(nil)

func userOf(a Account) (*user, error) {
	if len(a.Handle) == 0 || len(a.Handle) > 64 {
		return nil, errors.New("account handle: want 1 to 64 bytes")
	}
	u := &user{Account: a}
	for _, k := range a.Keys {
		var c webauthn.Credential
		if err := json.Unmarshal(k.Data, &c); err != nil {
			return nil, fmt.Errorf("decode key: %w", err)
		}
		u.keys = append(u.keys, c)
	}
	return u, nil
}

// WebAuthnID implements webauthn.User.
func (u *user) WebAuthnID() []byte { return u.Handle }

// WebAuthnName implements webauthn.User.
func (u *user) WebAuthnName() string { return u.Name }

// WebAuthnDisplayName implements webauthn.User.
func (u *user) WebAuthnDisplayName() string { return u.Name }

// WebAuthnCredentials implements webauthn.User.
func (u *user) WebAuthnCredentials() []webauthn.Credential { return u.keys }
